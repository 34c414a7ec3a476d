"""Stripe's HTTP API: which address does what, who may, and what is answered twice.

Sole owner of authentication, idempotency and the shape of errors. Rules are in `stripe_checks`, effects in
`stripe_ledger` and `stripe_refunds`, reading in `stripe_reading`.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import parse_qsl

from smi_desktop.sandbox import stripe_objects as objects
from smi_desktop.sandbox.faults import Fault, FaultScript, Layer
from smi_desktop.sandbox.http_messages import (
    JSON_TYPE,
    HttpError,
    Reply,
    Request,
    json_reply,
)
from smi_desktop.sandbox.http_server import Route
from smi_desktop.sandbox.store import Json, ObjectStore
from smi_desktop.sandbox.stripe_checks import check_session
from smi_desktop.sandbox.stripe_ledger import StripeLedger
from smi_desktop.sandbox.stripe_params import invalid, read_params
from smi_desktop.sandbox.stripe_reading import StripeReader
from smi_desktop.sandbox.stripe_refunds import RefundDesk

_KEY_SECONDS: Final = 24 * 60 * 60
"""How long an idempotency key is kept: at least 24 h. https://docs.stripe.com/api/idempotent_requests"""
_KEY_LENGTH: Final = 255
_RATE_LIMITED: Final = 429
_SERVER_ERROR: Final = 500
_UNAUTHORIZED: Final = 401

Handler = Callable[[Request, Json], Json]


class StripeApi:
    """Answers what the official SDK asks.

    Args:
        secret_key: The only key that is accepted.
    """

    def __init__(
        self,
        store: ObjectStore,
        ledger: StripeLedger,
        refunds: RefundDesk,
        faults: FaultScript,
        secret_key: str,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._refunds = refunds
        self._faults = faults
        self._key = secret_key
        self._reader = StripeReader(store, ledger)

    def routes(self) -> Sequence[Route]:
        """Return every address of the API."""
        reader = self._reader
        sessions = "/v1/checkout/sessions"
        intents = "/v1/payment_intents"
        post, get = self._post, self._get
        return [
            post(sessions, "create_session", self._create_session),
            get(sessions, "list_sessions", reader.sessions, "list_sessions"),
            get(f"{sessions}/{{id}}", "retrieve_session", reader.session),
            get(
                f"{sessions}/{{id}}/line_items",
                "list_line_items",
                reader.line_items,
                "list_line_items",
            ),
            post(
                f"{sessions}/{{id}}/expire",
                "expire_session",
                self._expire,
                "expand_only",
            ),
            get(
                intents,
                "list_payment_intents",
                reader.payment_intents,
                "list_payment_intents",
            ),
            get(
                f"{intents}/{{id}}",
                "retrieve_payment_intent",
                reader.payment_intent,
            ),
            post(f"{intents}/{{id}}/capture", "capture_payment_intent", self._capture),
            post(f"{intents}/{{id}}/cancel", "cancel_payment_intent", self._cancel),
            get(
                "/v1/charges",
                "list_charges",
                reader.by_payment("charge"),
                "list_charges",
            ),
            get("/v1/charges/{id}", "retrieve_charge", reader.one("charge")),
            post("/v1/refunds", "create_refund", self._create_refund),
            get(
                "/v1/refunds",
                "list_refunds",
                reader.by_payment("refund"),
                "list_refunds",
            ),
            get("/v1/refunds/{id}", "retrieve_refund", reader.one("refund")),
            get(
                "/v1/disputes",
                "list_disputes",
                reader.by_payment("dispute"),
                "list_disputes",
            ),
            get("/v1/disputes/{id}", "retrieve_dispute", reader.one("dispute")),
            get(
                "/v1/balance_transactions/{id}",
                "retrieve_fee",
                reader.one("balance_transaction"),
            ),
            get("/v1/events", "list_events", reader.events, "list_events"),
            get("/v1/events/{id}", "retrieve_event", reader.event),
            get("/v1/balance", "retrieve_balance", reader.balance),
            get(
                "/v1/account",
                "retrieve_account",
                lambda _request, _params: objects.account(),
            ),
        ]

    def _get(
        self, path: str, operation: str, handler: Handler, params: str = "expand_only"
    ) -> Route:
        def answer(request: Request) -> Reply:
            self._authorize(request)
            given = read_params(params, request.query)
            return self._reply(self._reader.expand(handler(request, given), given.get("expand")))

        return Route("GET", path, operation, answer)

    def _post(self, path: str, operation: str, handler: Handler, params: str = "") -> Route:
        def answer(request: Request) -> Reply:
            self._authorize(request)
            pairs = parse_qsl(request.body.decode(), keep_blank_values=True)
            with self._store.transaction():
                known = self._known(request)
                if known is not None:
                    return known
                given = read_params(params or operation, pairs)
                script = self._faults.take(
                    "stripe", operation, Layer.KEPT, {"body": request.body.decode()}
                )
                if script is not None and not script.params.get("effect", True):
                    return self._remember(request, _stored_failure(script))
                value = self._reader.expand(handler(request, given), given.get("expand"))
                reply = self._reply(value) if script is None else _stored_failure(script)
                return self._remember(request, reply)

        return Route("POST", path, operation, answer)

    def _authorize(self, request: Request) -> None:
        if not request.bearer:
            raise invalid("You did not provide an API key.", status=_UNAUTHORIZED)
        if not hmac.compare_digest(request.bearer.encode(), self._key.encode()):
            shown = f"{request.bearer[:8]}****{request.bearer[-4:]}"
            raise invalid(f"Invalid API Key provided: {shown}", status=_UNAUTHORIZED)

    # --- idempotency

    def _known(self, request: Request) -> Reply | None:
        key = request.headers.get("idempotency-key", "")
        row = self._store.get("idempotency", key) if key else None
        if len(key) > _KEY_LENGTH:
            raise invalid(f"Idempotency keys can be up to {_KEY_LENGTH} characters.")
        if row is None or row["created"] < self._ledger.now() - _KEY_SECONDS:
            return None
        if row["asked"] != _fingerprint(request):
            message = (
                "Keys for idempotent requests can only be used with the same parameters they were first "
                f"used with. Try using a key other than '{key}' if you meant to execute a different request."
            )
            raise HttpError(400, message, {"type": "idempotency_error"})
        headers = {
            **row["headers"],
            "Idempotent-Replayed": "true",
            "Original-Request": row["headers"]["Request-Id"],
        }
        return Reply(row["status"], row["body"].encode(), headers)

    def _remember(self, request: Request, reply: Reply) -> Reply:
        key = request.headers.get("idempotency-key", "")
        headers = {"Request-Id": self._store.new_id("req_", 14), **reply.headers}
        if key and isinstance(reply.body, bytes):
            headers["Idempotency-Key"] = key
            row = {
                "id": key,
                "created": self._ledger.now(),
                "asked": _fingerprint(request),
                "status": reply.status,
                "body": reply.body.decode(),
                "headers": headers,
            }
            self._store.put("idempotency", row)
        return Reply(reply.status, reply.body, headers)

    def _reply(self, value: Json) -> Reply:
        body = json.dumps(value, indent=2).encode()
        headers = {"Content-Type": JSON_TYPE, "Stripe-Version": objects.API_VERSION}
        return Reply(200, body, headers)

    # --- effects

    def _create_session(self, _request: Request, params: Json) -> Json:
        total, currency = check_session(params, self._ledger.now())
        return self._ledger.open_session(params, total, currency)

    def _expire(self, request: Request, _params: Json) -> Json:
        session = self._ledger.session(request.names["id"])
        if session["status"] != "open":
            raise invalid(
                f'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session '
                f"has a status of {session['status']}."
            )
        return self._ledger.expire_session(session)

    def _capture(self, request: Request, params: Json) -> Json:
        intent = self._waiting_for_capture(request)
        amount = int(params.get("amount_to_capture") or intent["amount_capturable"])
        if not 0 < amount <= intent["amount_capturable"]:
            raise invalid("The amount to capture is not what is capturable.", "amount_to_capture")
        return self._ledger.capture(intent, amount)

    def _cancel(self, request: Request, params: Json) -> Json:
        return self._ledger.cancel(
            self._waiting_for_capture(request), params.get("cancellation_reason")
        )

    def _waiting_for_capture(self, request: Request) -> Json:
        intent = self._ledger.payment(request.names["id"])
        if intent["status"] != "requires_capture":
            raise invalid(
                f"This PaymentIntent has a status of {intent['status']}; requires_capture is needed.",
                code="payment_intent_unexpected_state",
            )
        return intent

    def _create_refund(self, _request: Request, params: Json) -> Json:
        return self._refunds.create(params)


def explain(error: HttpError) -> Reply:
    """Return an error in Stripe's shape.

    https://docs.stripe.com/api/errors
    """
    kind = "api_error" if error.status >= _SERVER_ERROR else "invalid_request_error"
    body: Json = {"type": kind, "message": error.message, **error.details}
    if error.status == _RATE_LIMITED:
        body.setdefault("code", "rate_limit")
    return json_reply({"error": body}, error.status, error.headers)


def _stored_failure(script: Fault) -> Reply:
    return explain(HttpError(script.number, "An unknown error occurred."))


def _fingerprint(request: Request) -> str:
    pairs = sorted(parse_qsl(request.body.decode(), keep_blank_values=True))
    return json.dumps([request.path, pairs])

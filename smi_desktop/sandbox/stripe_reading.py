"""Reads Stripe's objects: one by id, lists by page, and objects in the place of their ids (`expand`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from smi_desktop.sandbox.http_messages import Request
from smi_desktop.sandbox.store import Json, ObjectStore, Selection
from smi_desktop.sandbox.stripe_events import READABLE_SECONDS
from smi_desktop.sandbox.stripe_ledger import StripeLedger
from smi_desktop.sandbox.stripe_params import invalid, missing

_KINDS: Final = {
    "cs": "session", "pi": "payment_intent", "ch": "charge", "re": "refund", "txn": "balance_transaction",
    "dp": "dispute",
}  # fmt: skip
_WORDS: Final = {"session": "checkout.session"}
_LIST_FIELDS: Final = frozenset(
    {"created", "ending_before", "expand", "limit", "starting_after", "payment_intent", "charge", "status",
     "type", "types", "delivery_success", "customer_details"}
)  # fmt: skip
_DEFAULT_LIMIT: Final = 10
_LARGEST_LIMIT: Final = 100
_DEEPEST_EXPANSION: Final = 4
_MOST_TYPES: Final = 20


class StripeReader:
    """Answers questions without changing anything."""

    def __init__(self, store: ObjectStore, ledger: StripeLedger) -> None:
        self._store = store
        self._ledger = ledger

    def one(self, kind: str) -> Callable[[Request, Json], Json]:
        """Return a handler that reads one object of a kind."""

        def read(request: Request, _params: Json) -> Json:
            value = self._store.get(kind, request.names["id"])
            if value is None:
                raise missing(_WORDS.get(kind, kind), request.names["id"])
            return value

        return read

    def by_payment(self, kind: str) -> Callable[[Request, Json], Json]:
        """Return a handler that lists a kind of object, of one payment if asked so."""

        def read(request: Request, params: Json) -> Json:
            parent = params.get("payment_intent")
            if parent is not None and self._store.get("payment_intent", parent) is None:
                raise missing("payment_intent", parent, "payment_intent")
            if "charge" in params:
                parent = (self._store.get("charge", params["charge"]) or {}).get(
                    "payment_intent", "none"
                )
            return self._page(kind, request, params, Selection(parent=parent))

        return read

    def session(self, request: Request, _params: Json) -> Json:
        """Read a session."""
        return self._ledger.session(request.names["id"])

    def sessions(self, request: Request, params: Json) -> Json:
        """List sessions."""
        self._ledger.expire_due_sessions()
        status = (params["status"],) if "status" in params else ()
        selection = Selection(parent=params.get("payment_intent"), statuses=status)
        page = self._page("session", request, params, selection)
        email = params.get("customer_details", {}).get("email")
        if email is not None:
            page["data"] = [
                row for row in page["data"] if (row["customer_details"] or {}).get("email") == email
            ]
        return page

    def line_items(self, request: Request, _params: Json) -> Json:
        """List what a session sells."""
        session = self._ledger.session(request.names["id"])
        return self._line_items(session["id"])

    def payment_intent(self, request: Request, _params: Json) -> Json:
        """Read a payment intent."""
        return self._ledger.payment(request.names["id"])

    def payment_intents(self, request: Request, params: Json) -> Json:
        """List payment intents."""
        return self._page("payment_intent", request, params, Selection())

    def events(self, request: Request, params: Json) -> Json:
        """List events of the last 30 days."""
        kinds = [
            *params.get("types", []),
            *([params["type"]] if "type" in params else []),
        ]
        if len(kinds) > _MOST_TYPES:
            raise invalid(f"You may pass up to {_MOST_TYPES} types.", "types")
        status = []
        if "delivery_success" in params:
            status = ["delivered" if params["delivery_success"] else "undelivered"]
        return self._page("event", request, params, Selection(statuses=status, types=kinds))

    def event(self, request: Request, _params: Json) -> Json:
        """Read an event of the last 30 days."""
        event = self._store.get("event", request.names["id"])
        if event is None or event["created"] < self._ledger.now() - READABLE_SECONDS:
            raise missing("event", request.names["id"])
        return event

    def balance(self, _request: Request, _params: Json) -> Json:
        """Return the sums of all money lines, fees off."""
        sums = self._store.sums("balance_transaction", "net") or {"usd": 0}
        available = [
            {"amount": total, "currency": currency, "source_types": {"card": total}}
            for currency, total in sorted(sums.items())
        ]
        pending = [{**line, "amount": 0, "source_types": {"card": 0}} for line in available]
        return {
            "object": "balance",
            "available": available,
            "pending": pending,
            "livemode": False,
        }

    def _line_items(self, session_id: str) -> Json:
        items = self._ledger.plan(session_id)["items"]
        url = f"/v1/checkout/sessions/{session_id}/line_items"
        return {"object": "list", "data": items, "has_more": False, "url": url}

    # --- pages

    def _page(self, kind: str, request: Request, params: Json, selection: Selection) -> Json:
        unknown = set(params) - _LIST_FIELDS
        if unknown:
            raise invalid(
                f"The rehearsal does not filter by {min(unknown)}.",
                min(unknown),
            )
        limit = params.get("limit", _DEFAULT_LIMIT)
        if not 1 <= limit <= _LARGEST_LIMIT:
            raise invalid(f"Limit must be between 1 and {_LARGEST_LIMIT}", "limit")
        backwards = "ending_before" in params
        rows = self._store.rows(
            kind,
            Selection(
                parent=selection.parent,
                statuses=selection.statuses,
                types=selection.types,
                created=self._created(kind, params.get("created", {})),
                before_seq=self._seq(kind, params, "starting_after"),
                after_seq=self._seq(kind, params, "ending_before"),
                oldest_first=backwards,
                limit=limit + 1,
            ),
        )
        data = rows[:limit][::-1] if backwards else rows[:limit]
        return {
            "object": "list",
            "data": data,
            "has_more": len(rows) > limit,
            "url": request.path,
        }

    def _created(self, kind: str, given: dict[str, int] | int) -> dict[str, float]:
        limits: dict[str, float] = (
            dict(given) if isinstance(given, dict) else {"gte": given, "lte": given}
        )
        if kind == "event":
            oldest = self._ledger.now() - READABLE_SECONDS
            limits["gte"] = max(limits.get("gte", oldest), oldest)
        return limits

    def _seq(self, kind: str, params: Json, name: str) -> int | None:
        if name not in params:
            return None
        seq = self._store.seq(kind, params[name])
        if seq is None:
            raise missing(_WORDS.get(kind, kind), params[name], name)
        return seq

    # --- expansion

    def expand(self, value: Json, paths: Sequence[str] | None) -> Json:
        """Put objects in the place of their ids.

        https://docs.stripe.com/api/expanding_objects

        Raises:
            HttpError: A path that names nothing to expand, or is too deep.
        """
        for path in paths or ():
            steps = path.split(".")
            if steps[0] == "data" and value.get("object") == "list":
                for row in value["data"]:
                    self._expand(row, steps[1:], path)
            else:
                self._expand(value, steps, path)
        return value

    def _expand(self, value: Json, steps: Sequence[str], path: str) -> None:
        if len(steps) > _DEEPEST_EXPANSION:
            raise invalid(
                f"You cannot expand more than {_DEEPEST_EXPANSION} levels of a property: {path}",
                "expand",
            )
        if not steps:
            return
        step = steps[0]
        if step == "line_items" and value.get("object") == "checkout.session":
            value[step] = self._line_items(value["id"])
            return
        if step not in value:
            raise invalid(f"This property cannot be expanded ({path}).", "expand[]")
        inner = value[step]
        if isinstance(inner, str):
            kind = _KINDS.get(inner.partition("_")[0], "")
            inner = value[step] = self._store.get(kind, inner) or inner
        if isinstance(inner, dict):
            self._expand(inner, steps[1:], path)

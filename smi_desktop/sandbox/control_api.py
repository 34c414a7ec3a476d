"""The rehearsal's own controls, beside Stripe's API: clock, faults, endpoints, and what there is.

Not part of any provider: the shop never calls these; tests, the demo and the customer's robot do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from smi_desktop.sandbox.clock import SandboxClock
from smi_desktop.sandbox.courier import Courier
from smi_desktop.sandbox.faults import FAULT_KINDS, FaultScript, UnknownFaultError
from smi_desktop.sandbox.http_messages import HttpError, Reply, Request, json_reply
from smi_desktop.sandbox.http_server import Route
from smi_desktop.sandbox.smtp_server import Mailbox
from smi_desktop.sandbox.store import Json, ObjectStore, Selection
from smi_desktop.sandbox.stripe_events import EventBook
from smi_desktop.sandbox.stripe_ledger import StripeLedger
from smi_desktop.sandbox.stripe_params import missing
from smi_desktop.sandbox.stripe_refunds import RefundDesk
from smi_desktop.sandbox.upsampler_jobs import UpscaleJobs

_CHANGEABLE: Final = ("session", "payment_intent", "charge", "refund", "dispute", "job")
_LISTED: Final = 500
_SHOWN: Final = {
    "session": ("id", "status", "payment_status", "amount_total", "currency", "payment_intent",
                "client_reference_id", "url"),
    "payment_intent": ("id", "status", "amount", "amount_received", "currency", "latest_charge"),
    "refund": ("id", "status", "amount", "currency", "payment_intent", "metadata"),
    "dispute": ("id", "status", "amount", "payment_intent"),
    "event": ("id", "type", "created", "pending_webhooks"),
    "delivery": ("id", "about", "url", "tried", "attempts"),
    "job": ("id", "status", "creditCost", "factor", "webhook"),
}  # fmt: skip


class ControlApi:
    """Answers `/_sandbox/…`."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        clock: SandboxClock,
        faults: FaultScript,
        courier: Courier,
        events: EventBook,
        ledger: StripeLedger,
        refunds: RefundDesk,
        jobs: UpscaleJobs,
        mailbox: Mailbox,
    ) -> None:
        self._store = store
        self._clock = clock
        self._faults = faults
        self._courier = courier
        self._events = events
        self._ledger = ledger
        self._refunds = refunds
        self._jobs = jobs
        self._mailbox = mailbox

    def routes(self) -> Sequence[Route]:
        """Return the controls' addresses."""
        table: list[tuple[str, str, Callable[[Request], Any]]] = [
            ("GET", "state", self._state),
            ("GET", "clock", lambda _request: self._time()),
            ("POST", "clock", self._set_clock),
            ("GET", "faults", lambda _request: {"faults": self._faults.lines()}),
            ("POST", "faults", self._add_fault),
            ("DELETE", "faults", self._clear_faults),
            ("GET", "fault-names", lambda _request: _fault_names()),
            ("POST", "endpoints", self._add_endpoint),
            ("DELETE", "endpoints", self._clear_endpoints),
            ("POST", "events", self._emit),
            ("POST", "events/{id}/resend", self._resend),
            ("POST", "webhooks/release", self._release),
            ("POST", "sessions/{id}/settle", self._settle),
            ("POST", "payment_intents/{id}/expire", self._end_hold),
            ("POST", "refunds", lambda request: self._refunds.create(request.json())),
            ("POST", "refunds/{id}", self._change_refund),
            ("POST", "disputes", self._dispute),
            ("POST", "disputes/{id}", self._change_dispute),
            ("GET", "objects/{kind}/{id}", self._read_object),
            ("POST", "objects/{kind}/{id}", self._change_object),
            ("POST", "credits", self._set_credits),
        ]
        return [
            Route(method, f"/_sandbox/{path}", "", _answering(handler))
            for method, path, handler in table
        ]

    # --- clock, faults, webhooks

    def _time(self) -> Json:
        return {"now": self._clock.now(), "offset_seconds": self._clock.offset()}

    def _set_clock(self, request: Request) -> Json:
        given = request.json()
        if "offset_seconds" in given:
            self._clock.set_offset(float(given["offset_seconds"]))
        else:
            self._clock.advance(float(given["advance_seconds"]))
        return self._time()

    def _add_fault(self, request: Request) -> Json:
        fault = self._faults.add(request.json())
        return {"id": fault.id, "layer": str(fault.layer)}

    def _clear_faults(self, _request: Request) -> Json:
        self._faults.clear()
        return {"faults": []}

    def _add_endpoint(self, request: Request) -> Json:
        given = request.json()
        signing = given.get("secrets") or [given["secret"]]
        return self._events.register(
            str(given["url"]), list(signing), list(given.get("events", []))
        )

    def _clear_endpoints(self, _request: Request) -> Json:
        self._store.delete("endpoint")
        return {"endpoints": []}

    def _emit(self, request: Request) -> Json:
        given = request.json()
        about = given.get("object")
        if about is None:
            about = self._find(given["kind"], given["id"])
        return {"event": self._events.emit(str(given["type"]), about)}

    def _resend(self, request: Request) -> Json:
        if self._store.get("event", request.names["id"]) is None:
            raise missing("event", request.names["id"])
        return {"deliveries": self._courier.resend(request.names["id"])}

    def _release(self, request: Request) -> Json:
        given = request.json()
        at_once = bool(given.get("at_once", False))
        return {"deliveries": self._courier.release(given.get("ids"), at_once=at_once)}

    # --- money and jobs behind the shop's back

    def _settle(self, request: Request) -> Json:
        succeeded = request.json().get("outcome", "succeeded") == "succeeded"
        return self._ledger.settle_session(request.names["id"], succeeded=succeeded)

    def _end_hold(self, request: Request) -> Json:
        return self._ledger.end_hold(self._ledger.payment(request.names["id"]))

    def _change_refund(self, request: Request) -> Json:
        given = request.json()
        return self._refunds.change(
            request.names["id"], given["status"], given.get("failure_reason")
        )

    def _dispute(self, request: Request) -> Json:
        given = request.json()
        intent = self._find("payment_intent", given["payment_intent"])
        charge = self._find("charge", str(intent["latest_charge"]))
        return self._refunds.open_dispute(
            charge,
            str(given.get("reason", "fraudulent")),
            str(given.get("status", "needs_response")),
        )

    def _change_dispute(self, request: Request) -> Json:
        return self._refunds.change_dispute(request.names["id"], request.json()["status"])

    def _read_object(self, request: Request) -> Json:
        return self._find(request.names["kind"], request.names["id"])

    def _change_object(self, request: Request) -> Json:
        kind = request.names["kind"]
        if kind not in _CHANGEABLE:
            raise HttpError(400, f"Only {', '.join(_CHANGEABLE)} can be changed.")
        with self._store.transaction():
            changed = {**self._find(kind, request.names["id"]), **request.json()}
            self._store.put(kind, changed, status=changed.get("status"))
        return changed

    def _set_credits(self, request: Request) -> Json:
        self._jobs.set_credits(int(request.json()["credits"]))
        return {"credits": self._jobs.credits()}

    def _find(self, kind: str, object_id: str) -> Json:
        found = self._store.get(kind, object_id)
        if found is None:
            raise missing(kind, object_id)
        return found

    # --- what there is

    def _state(self, request: Request) -> Json:
        kinds = dict(request.query).get("kinds", ",".join([*_SHOWN, "mail"])).split(",")
        state: Json = {
            "clock": self._time(),
            "credits": self._jobs.credits(),
            "counts": {},
        }
        for kind in kinds:
            if kind in _SHOWN:
                state["counts"][kind] = self._store.counts(kind)
                rows = self._store.rows(kind, Selection(limit=_LISTED))
                state[f"{kind}s" if kind != "delivery" else "deliveries"] = [
                    {name: row.get(name) for name in _SHOWN[kind]} for row in rows
                ]
        for delivery in state.get("deliveries", []):
            delivery["status"] = self._store.status("delivery", delivery["id"])
        if "mail" in kinds:
            state["mails"] = self._mailbox.mails()
        state["endpoints"] = [row["url"] for row in self._store.rows("endpoint")]
        state["faults"] = self._faults.lines()
        return state


def _fault_names() -> Json:
    return {
        name: {"layer": str(kind.layer), "meaning": kind.meaning}
        for name, kind in FAULT_KINDS.items()
    }


def _answering(handler: Callable[[Request], Any]) -> Callable[[Request], Reply]:
    def answer(request: Request) -> Reply:
        try:
            return json_reply(handler(request))
        except UnknownFaultError as error:
            raise HttpError(400, str(error)) from error
        except (KeyError, TypeError, ValueError) as error:
            raise HttpError(400, f"{type(error).__name__}: {error}") from error

    return answer

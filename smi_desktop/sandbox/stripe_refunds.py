"""Money on its way back: refunds, how they end, and disputes. Every change comes with its events.

Decides alone when a dispute stands in the way of a refund.
"""

from __future__ import annotations

from typing import Final

from smi_desktop.sandbox import stripe_objects as objects
from smi_desktop.sandbox.clock import SandboxClock
from smi_desktop.sandbox.faults import FaultScript, Layer
from smi_desktop.sandbox.store import Json, ObjectStore, Selection
from smi_desktop.sandbox.stripe_checks import check_metadata, check_refund
from smi_desktop.sandbox.stripe_events import EventBook
from smi_desktop.sandbox.stripe_params import invalid, missing

_FAILED_STATES: Final = ("failed", "canceled")
_LOST: Final = "lost"
_CLOSED_STATES: Final = ("won", _LOST, "prevented", "warning_closed")
_INQUIRY: Final = "warning_"


class RefundDesk:
    """Gives money back. Safe to use from any thread."""

    def __init__(
        self,
        store: ObjectStore,
        clock: SandboxClock,
        faults: FaultScript,
        events: EventBook,
    ) -> None:
        self._store = store
        self._clock = clock
        self._faults = faults
        self._events = events

    def create(self, params: Json) -> Json:
        """Send money back as the API's parameters say: `payment_intent` or `charge`, `amount`, `metadata`.

        Raises:
            HttpError: There is no such payment, or Stripe's rules forbid it.
        """
        check_metadata(params.get("metadata"))
        charge_id = params.get("charge")
        if charge_id is not None:
            charge = self._store.get("charge", charge_id)
            if charge is None:
                raise missing("charge", charge_id, "charge")
            params = {**params, "payment_intent": charge["payment_intent"]}
        intent_id = params.get("payment_intent", "")
        if not intent_id:
            raise invalid(
                "One of the following params should be provided: charge or payment_intent."
            )
        with self._store.transaction():
            intent = self._store.get("payment_intent", intent_id)
            if intent is None:
                raise missing("payment_intent", intent_id, "payment_intent")
            charge = self._store.get("charge", str(intent["latest_charge"]))
            disputes = self._store.rows("dispute", Selection(parent=intent_id))
            amount = check_refund(
                intent,
                charge,
                params.get("amount"),
                self.refunded(intent_id),
                disputed=not all(dispute["is_charge_refundable"] for dispute in disputes),
            )
            return self.refund(charge or {}, amount, params)

    def release(self, charge: Json) -> Json:
        """Give held money back, as Stripe does: by a refund that moves nothing in the balance.

        https://docs.stripe.com/api/payment_intents/cancel: "the remaining amount_capturable is
        automatically refunded".
        """
        with self._store.transaction():
            amount = charge["amount"]
            made = objects.refund(
                self._store.new_id("re_"), charge, {}, now=self._now(), amount=amount
            )
            charge.update(refunded=True, amount_refunded=amount)
            self._store.put("charge", charge)
            intent_id = charge["payment_intent"]
            self._store.put("refund", made, parent=intent_id, status=made["status"])
            self._events.emit("refund.created", made)
            self._events.emit("charge.refunded", charge)
        return made

    def refund(self, charge: Json, amount: int, params: Json) -> Json:
        """Send `amount` minor units of a charge back; a script or the card decides how that ends."""
        with self._store.transaction():
            refund = objects.refund(
                self._store.new_id("re_"),
                charge,
                params,
                now=self._now(),
                amount=amount,
            )
            facts = {"id": charge["payment_intent"]}
            script = self._faults.take("stripe", "create_refund", Layer.REFUND, facts)
            ends = (self._store.get("card", charge["id"]) or {}).get("refund_ends", "")
            if script is not None:
                refund["status"] = script.params.get("status", "pending")
                refund["failure_reason"] = script.params.get("failure_reason")
                ends = ""
            elif ends == "succeeded":
                refund["status"] = "pending"
            refund["balance_transaction"] = self._book(refund, -amount, "refund")
            self._file(refund)
            self._events.emit("refund.created", refund)
            self._events.emit("charge.refunded", self._store.get("charge", charge["id"]))
            if ends:
                self.change(refund["id"], ends, None)
        return refund

    def change(self, refund_id: str, status: str, failure_reason: str | None) -> Json:
        """Let a refund go on to another status, and tell; a failed one brings the money back to the shop.

        Raises:
            HttpError: There is no such refund.
        """
        with self._store.transaction():
            refund = self._store.get("refund", refund_id)
            if refund is None:
                raise missing("refund", refund_id)
            refund["status"] = status
            if status in _FAILED_STATES and refund["failure_balance_transaction"] is None:
                refund["failure_reason"] = failure_reason or "unknown"
                line = self._book(refund, refund["amount"], "refund_failure")
                refund["failure_balance_transaction"] = line
            self._file(refund)
            if status == "failed":
                self._events.emit("refund.failed", refund)
            self._events.emit("refund.updated", refund)
            self._events.emit("charge.refund.updated", refund)
        return refund

    def refunded(self, intent_id: str) -> int:
        """Return how much of a payment has gone back, in minor units; failed refunds do not count."""
        refunds = self._store.rows("refund", Selection(parent=intent_id))
        return sum(row["amount"] for row in refunds if row["status"] not in _FAILED_STATES)

    def open_dispute(self, charge: Json, reason: str, status: str = "needs_response") -> Json:
        """Let the customer's bank take the money back for now, and tell.

        A status that begins with `warning_` makes it an inquiry, which takes nothing yet.
        """
        with self._store.transaction():
            dispute = objects.dispute(
                self._store.new_id("dp_"), charge, now=self._now(), reason=reason, status=status
            )
            inquiry = status.startswith(_INQUIRY)
            dispute["is_charge_refundable"] = inquiry
            charge["disputed"] = True
            self._store.put("charge", charge)
            self._store.put(
                "dispute",
                dispute,
                parent=charge["payment_intent"],
                status=dispute["status"],
            )
            self._events.emit("charge.dispute.created", dispute)
            if not inquiry:
                self._events.emit("charge.dispute.funds_withdrawn", dispute)
        return dispute

    def change_dispute(self, dispute_id: str, status: str) -> Json:
        """Let a dispute go on (`under_review`) or end (`won`, `lost`, …), and tell.

        Once it has ended well for the shop the charge may be refunded again.

        Raises:
            HttpError: There is no such dispute.
        """
        with self._store.transaction():
            dispute = self._store.get("dispute", dispute_id)
            if dispute is None:
                raise missing("dispute", dispute_id)
            dispute["status"] = status
            closed = status in _CLOSED_STATES
            if closed:
                dispute["is_charge_refundable"] = status != _LOST
            self._store.put("dispute", dispute, status=status)
            self._events.emit(
                "charge.dispute.closed" if closed else "charge.dispute.updated", dispute
            )
            if status == "won":
                self._events.emit("charge.dispute.funds_reinstated", dispute)
        return dispute

    def _now(self) -> int:
        return int(self._clock.now())

    def _book(self, refund: Json, amount: int, kind: str) -> str:
        line = objects.balance_transaction(
            self._store.new_id("txn_"), refund, now=self._now(), amount=amount, fee=0
        )
        self._store.put("balance_transaction", {**line, "type": kind})
        return str(line["id"])

    def _file(self, refund: Json) -> None:
        intent_id = refund["payment_intent"]
        self._store.put("refund", refund, parent=intent_id, status=refund["status"])
        charge = self._store.get("charge", refund["charge"])
        if charge is not None:
            charge["amount_refunded"] = self.refunded(intent_id)
            charge["refunded"] = charge["amount_refunded"] >= charge["amount_captured"]
            self._store.put("charge", charge)

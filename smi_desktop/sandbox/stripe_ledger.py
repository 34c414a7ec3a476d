"""What happens to a checkout and its money: sessions are opened, paid, declined, expired, captured.

Sole owner of those changes and of the events that tell of them. Each change and its events are one
transaction, so a killed rehearsal never has one without the other.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

from smi_desktop.sandbox import stripe_objects as objects
from smi_desktop.sandbox.clock import SandboxClock
from smi_desktop.sandbox.faults import FaultScript, Layer
from smi_desktop.sandbox.store import Json, ObjectStore, Selection
from smi_desktop.sandbox.stripe_cards import TEST_CARDS, decline_error
from smi_desktop.sandbox.stripe_events import EventBook
from smi_desktop.sandbox.stripe_params import invalid, missing
from smi_desktop.sandbox.stripe_refunds import RefundDesk

_EXPIRIES_A_ROUND: Final = 200
_COMPLETED: Final = "checkout.session.completed"
_HOLD_SECONDS: Final = 7 * 86_400
"""How long a card's money is held, mostly. https://docs.stripe.com/payments/place-a-hold-on-a-payment-method"""


@dataclass(frozen=True, slots=True)
class CardPayment:
    """What the customer typed on the checkout page, already found well-formed."""

    email: str
    name: str
    card: str


class StripeLedger:
    """Stripe's books of sessions and payments. Safe to use from any thread.

    Attributes:
        base_url: Where the hosted pages are served; set once the port is known.
    """

    def __init__(
        self,
        store: ObjectStore,
        clock: SandboxClock,
        faults: FaultScript,
        events: EventBook,
        refunds: RefundDesk,
    ) -> None:
        self._store = store
        self._clock = clock
        self._faults = faults
        self._events = events
        self._refunds = refunds
        self.base_url = ""

    def now(self) -> int:
        """Return the rehearsal's time in whole seconds."""
        return int(self._clock.now())

    # --- sessions

    def open_session(self, params: Json, total: int, currency: str) -> Json:
        """Make an open session of checked parameters."""
        with self._store.transaction():
            session_id = self._store.new_id("cs_test_", 58)
            given = params["line_items"]
            session = objects.session(
                session_id,
                params,
                now=self.now(),
                url=f"{self.base_url}/c/pay/{session_id}",
                total=total,
                currency=currency,
            )
            plan = {
                "id": session_id,
                "items": [objects.line_item(self._store.new_id("li_"), item) for item in given],
                "product": given[0]["price_data"].get("product_data", {}),
                "intent": {
                    **params.get("payment_intent_data", {}),
                    "payment_method_options": params.get("payment_method_options", {}),
                },
            }
            self._store.put("plan", plan)
            self._file_session(session)
        return session

    def session(self, session_id: str) -> Json:
        """Return a session, expired if its time has come.

        Raises:
            HttpError: There is none.
        """
        with self._store.transaction():
            session = self._store.get("session", session_id)
            if session is None:
                raise missing("checkout.session", session_id)
            if session["status"] == "open" and session["expires_at"] <= self.now():
                return self.expire_session(session)
        return session

    def expire_session(self, session: Json) -> Json:
        """Close an open session and tell."""
        session.update(status="expired", url=None)
        with self._store.transaction():
            self._file_session(session)
            self._events.emit("checkout.session.expired", session)
        return session

    def expire_due_sessions(self) -> int:
        """Close open sessions whose time has come; return how many."""
        due = self._store.due("session", "open", self.now(), _EXPIRIES_A_ROUND)
        for row in due:
            self.session(row["id"])
        return len(due)

    def plan(self, session_id: str) -> Json:
        """Return what a session was made of: `items`, `product`, `intent`."""
        return self._store.get("plan", session_id) or {
            "items": [],
            "product": {},
            "intent": {},
        }

    # --- payments

    def pay_session(self, session_id: str, payment: CardPayment) -> tuple[Json, str]:
        """Charge the card for an open session.

        Returns:
            The session, and the decline's message or an empty text. A session that is not open is
            returned as it is.
        """
        with self._store.transaction():
            session = self.session(session_id)
            if session["status"] != "open":
                return session, ""
            intent = self._intent(session)
            script = self._faults.take("stripe", "pay", Layer.PAYMENT, {"id": session_id})
            decline = TEST_CARDS[payment.card].decline_code
            if script is not None and script.name == "decline":
                decline = str(script.params.get("decline_code", "generic_decline"))
            if decline:
                return session, self._decline(intent, decline)
            session.update(
                status="complete",
                url=None,
                payment_intent=intent["id"],
                customer_details=objects.customer_details(payment.email, payment.name),
            )
            if script is not None and script.name == "async_payment":
                intent["status"] = "processing"
                self._file_intent(intent)
                self._store.put("plan", {**self.plan(session_id), "waiting": asdict(payment)})
                self._file_session(session)
                self._events.emit(_COMPLETED, session)
            else:
                self._charge(session, intent, payment, _COMPLETED)
            return session, ""

    def settle_session(self, session_id: str, *, succeeded: bool) -> Json:
        """End a delayed payment, well or badly, and tell.

        Raises:
            HttpError: The session waits for no money.
        """
        with self._store.transaction():
            session = self.session(session_id)
            intent = self._intent(session)
            waiting = self.plan(session_id).get("waiting")
            if waiting is None or intent["status"] != "processing":
                raise invalid("This session waits for no money.")
            if succeeded:
                event = "checkout.session.async_payment_succeeded"
                self._charge(session, intent, CardPayment(**waiting), event)
            else:
                self._decline(intent, "generic_decline")
                self._events.emit("checkout.session.async_payment_failed", session)
        return session

    def _charge(self, session: Json, intent: Json, payment: CardPayment, event: str) -> None:
        card = TEST_CARDS[payment.card]
        details = objects.customer_details(payment.email, payment.name)
        intent["payment_method"] = self._store.new_id("pm_")
        charge = objects.charge(
            self._store.new_id("ch_"),
            intent,
            now=self.now(),
            details=details,
            card=payment.card,
        )
        intent["latest_charge"] = charge["id"]
        intent["last_payment_error"] = None
        self._store.put(
            "card", {"id": charge["id"], "refund_ends": card.refund_ends, "disputed": card.disputed}
        )
        if self._holds(session, intent):
            intent.update(status="requires_capture", amount_capturable=intent["amount"])
            ends_at = self.now() + _HOLD_SECONDS
            charge["payment_method_details"]["card"]["capture_before"] = ends_at
            self._file_charge(charge)
            self._file_intent(intent, due=ends_at)
            self._events.emit("payment_intent.amount_capturable_updated", intent)
        else:
            session["payment_status"] = "paid"
            self._settle(intent, charge, intent["amount"])
            self._events.emit("payment_intent.succeeded", intent)
        self._events.emit("charge.succeeded", charge)
        self._file_session(session)
        self._events.emit(event, session)
        self._dispute_if_scripted(charge)

    def _holds(self, session: Json, intent: Json) -> bool:
        """Tell whether the money is only held: asked of the whole payment, or of cards and it is one."""
        if intent["capture_method"] == "manual":
            return True
        slow_method = "waiting" in self.plan(session["id"])
        asked_of_cards = intent["payment_method_options"]["card"].get("capture_method")
        return asked_of_cards == "manual" and not slow_method

    def _dispute_if_scripted(self, charge: Json) -> None:
        card = self._store.get("card", charge["id"]) or {}
        if charge["captured"] and card.get("disputed"):
            self._refunds.open_dispute(charge, "fraudulent")

    def payment(self, intent_id: str) -> Json:
        """Return a payment intent, let go if the money has been held for too long.

        Raises:
            HttpError: There is none.
        """
        with self._store.transaction():
            intent = self._store.get("payment_intent", intent_id)
            if intent is None:
                raise missing("payment_intent", intent_id)
            if intent["status"] == "requires_capture":
                card = self._charge_of(intent)["payment_method_details"]["card"]
                if card["capture_before"] <= self.now():
                    return self.end_hold(intent)
        return intent

    def release_due_holds(self) -> int:
        """Let money go that has been held for too long; return how many payments."""
        due = self._store.due("payment_intent", "requires_capture", self.now(), _EXPIRIES_A_ROUND)
        for row in due:
            self.payment(row["id"])
        return len(due)

    def end_hold(self, intent: Json) -> Json:
        """Let the card's bank end a hold, and tell.

        Raises:
            HttpError: Nothing is held.
        """
        if intent["status"] != "requires_capture":
            raise invalid("This payment holds no money.")
        with self._store.transaction():
            self._events.emit("charge.expired", self._charge_of(intent))
            return self.cancel(intent, "automatic")

    def capture(self, intent: Json, amount: int) -> Json:
        """Take authorised money, all or part of it, in minor units."""
        with self._store.transaction():
            charge = self._charge_of(intent)
            self._settle(intent, charge, amount)
            for session in self._store.rows("session", Selection(parent=intent["id"])):
                self._file_session({**session, "payment_status": "paid"})
            self._events.emit("charge.captured", charge)
            self._events.emit("payment_intent.succeeded", intent)
            self._dispute_if_scripted(charge)
        return intent

    def cancel(self, intent: Json, reason: str | None) -> Json:
        """Let authorised money go."""
        with self._store.transaction():
            self._refunds.release(self._charge_of(intent))
            intent.update(
                status="canceled",
                amount_capturable=0,
                canceled_at=self.now(),
                cancellation_reason=reason,
            )
            self._file_intent(intent)
            self._events.emit("payment_intent.canceled", intent)
        return intent

    def _settle(self, intent: Json, charge: Json, amount: int) -> None:
        line = objects.balance_transaction(
            self._store.new_id("txn_"),
            charge,
            now=self.now(),
            amount=amount,
            fee=objects.stripe_fee(amount),
        )
        charge.update(captured=True, amount_captured=amount, balance_transaction=line["id"])
        intent.update(status="succeeded", amount_received=amount, amount_capturable=0)
        self._store.put("balance_transaction", line)
        self._file_charge(charge)
        self._file_intent(intent)

    def _decline(self, intent: Json, code: str) -> str:
        error = decline_error(code)
        intent.update(status="requires_payment_method", last_payment_error=error)
        self._file_intent(intent)
        self._events.emit("payment_intent.payment_failed", intent)
        return error["message"]

    def _intent(self, session: Json) -> Json:
        for known in self._store.rows("payment_intent", Selection(parent=session["id"], limit=1)):
            return known
        intent = objects.payment_intent(
            self._store.new_id("pi_"),
            self.plan(session["id"])["intent"],
            now=self.now(),
            amount=session["amount_total"],
            currency=session["currency"],
        )
        self._store.put("payment_intent", intent, parent=session["id"])
        return intent

    def _charge_of(self, intent: Json) -> Json:
        charge = self._store.get("charge", str(intent["latest_charge"]))
        if charge is None:
            raise invalid(
                "This PaymentIntent has no charge.",
                code="payment_intent_unexpected_state",
            )
        return charge

    # --- filing

    def _file_session(self, session: Json) -> None:
        status = session["status"]
        due = float(session["expires_at"]) if status == "open" else None
        intent_id = session["payment_intent"] or ""
        self._store.put("session", session, parent=intent_id, status=status, due=due)

    def _file_intent(self, intent: Json, due: float | None = None) -> None:
        self._store.put("payment_intent", intent, status=intent["status"], due=due)

    def _file_charge(self, charge: Json) -> None:
        intent_id = charge["payment_intent"]
        self._store.put("charge", charge, parent=intent_id, status=charge["status"])

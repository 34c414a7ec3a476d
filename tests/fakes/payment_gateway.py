"""A payment provider in memory, with a customer who pays when the test says so."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from smi_desktop.domain.errors import NotFoundError, RejectedError
from smi_desktop.domain.money import Money
from smi_desktop.services.ports import (
    CheckoutRequest,
    CheckoutSession,
    Clock,
    Dispute,
    Payment,
    PaymentRefund,
)
from tests.fakes.clock import FakeClock
from tests.fakes.scripted import Scripted

_GIVEN_BACK_NOT = ("failed", "canceled")
_TAKEN_BACK_NOT = ("won", "prevented")


class FakePaymentGateway(Scripted):
    """Implements PaymentGateway.

    Attributes:
        sessions, payments, refunds, disputes: What exists, by id.
        requests: What each session was made from.
        next_refund_status: The status of refunds made from now on; `settle_refund` changes one.
        fees_known: Whether money that is taken from now on has its fee at once; see `tell_fee`.
    """

    def __init__(self, clock: Clock | None = None, *, livemode: bool = False) -> None:
        super().__init__()
        self._clock = clock or FakeClock()
        self._livemode = livemode
        self._by_key: dict[str, tuple[str, str]] = {}
        self.sessions: dict[str, CheckoutSession] = {}
        self.payments: dict[str, Payment] = {}
        self.refunds: dict[str, PaymentRefund] = {}
        self.disputes: dict[str, Dispute] = {}
        self.requests: dict[str, CheckoutRequest] = {}
        self.next_refund_status = "succeeded"
        self.fees_known = True

    # What the port promises

    def create_session(self, request: CheckoutRequest, *, idempotency_key: str) -> CheckoutSession:
        """Make an open session."""
        self._begin("create_session")
        known = self._known(idempotency_key, request)
        if known is None:
            known = f"cs_test_{len(self.sessions) + 1}"
            self._by_key[idempotency_key] = (repr(request), known)
            self.requests[known] = request
            self.sessions[known] = CheckoutSession(
                id=known,
                url=f"https://checkout.example/{known}",
                status="open",
                payment_status="unpaid",
                amount_total=request.amount,
                client_reference_id=request.order_id,
                metadata=dict(request.metadata),
                payment_intent_id=None,
                customer_email=request.customer_email,
                customer_name=None,
                livemode=self._livemode,
                expires_at=request.expires_at,
            )
        self._end("create_session")
        return self.sessions[known]

    def retrieve_session(self, session_id: str) -> CheckoutSession:
        """Read a session; one whose time has ended is expired."""
        self._begin("retrieve_session")
        session = self._session(session_id)
        self._end("retrieve_session")
        return session

    def expire_session(self, session_id: str) -> CheckoutSession:
        """Close an open session."""
        self._begin("expire_session")
        session = self._session(session_id)
        if session.status != "open":
            raise RejectedError(f"The session is {session.status} and cannot be expired.")
        self.sessions[session_id] = replace(session, status="expired", url=None)
        self._end("expire_session")
        return self.sessions[session_id]

    def retrieve_payment(self, payment_intent_id: str) -> Payment:
        """Read a payment intent."""
        self._begin("retrieve_payment")
        payment = self._payment(payment_intent_id)
        self._end("retrieve_payment")
        return payment

    def capture_payment(self, payment_intent_id: str, *, idempotency_key: str) -> Payment:
        """Take what is held."""
        self._begin("capture_payment")
        asked = ("capture", payment_intent_id)
        if self._known(idempotency_key, asked) is None:
            self._held(payment_intent_id)
            self._by_key[idempotency_key] = (repr(asked), payment_intent_id)
            self._take(payment_intent_id)
        self._end("capture_payment")
        return self.payments[payment_intent_id]

    def cancel_payment(self, payment_intent_id: str, *, idempotency_key: str) -> Payment:
        """Let go what is held."""
        self._begin("cancel_payment")
        asked = ("cancel", payment_intent_id)
        if self._known(idempotency_key, asked) is None:
            self.expire_authorization(payment_intent_id)
            self._by_key[idempotency_key] = (repr(asked), payment_intent_id)
        self._end("cancel_payment")
        return self.payments[payment_intent_id]

    def create_refund(
        self,
        payment_intent_id: str,
        amount: Money,
        *,
        metadata: Mapping[str, str],
        idempotency_key: str,
    ) -> PaymentRefund:
        """Refund what is left at most."""
        self._begin("create_refund")
        asked = (payment_intent_id, amount, json.dumps(dict(metadata), sort_keys=True))
        known = self._known(idempotency_key, asked)
        if known is None:
            known = self._refund(payment_intent_id, amount, metadata).id
            self._by_key[idempotency_key] = (repr(asked), known)
        self._end("create_refund")
        return self.refunds[known]

    def list_refunds(self, payment_intent_id: str) -> Sequence[PaymentRefund]:
        """List refunds, newest first."""
        self._begin("list_refunds")
        self._payment(payment_intent_id)
        found = [r for r in self.refunds.values() if r.payment_intent_id == payment_intent_id]
        self._end("list_refunds")
        return found[::-1]

    def list_disputes(self, payment_intent_id: str) -> Sequence[Dispute]:
        """List disputes, newest first."""
        self._begin("list_disputes")
        self._payment(payment_intent_id)
        found = [d for d in self.disputes.values() if d.payment_intent_id == payment_intent_id]
        self._end("list_disputes")
        return found[::-1]

    # What a test does in place of customer, bank and dashboard

    def pay(
        self,
        session_id: str,
        *,
        amount: Money | None = None,
        email: str = "buyer@example.com",
        name: str = "Ada Buyer",
        payment_status: str = "paid",
    ) -> CheckoutSession:
        """Complete an open session, by a card whose money is held if the shop asked for that.

        `payment_status="unpaid"` stands for a slow method such as a bank debit, which cannot hold
        money: see `settle`.
        """
        session = self._session(session_id)
        if session.status != "open":
            raise RejectedError(f"The session is {session.status}.")
        paid = amount or session.amount_total
        assert paid is not None
        intent = f"pi_{len(self.payments) + 1}"
        self.payments[intent] = Payment(
            id=intent,
            status="processing",
            amount=paid,
            amount_received=Money(0, paid.currency),
            metadata=session.metadata,
            livemode=self._livemode,
            charge_id=None,
            amount_capturable=Money(0, paid.currency),
        )
        self.sessions[session_id] = replace(
            session,
            url=None,
            status="complete",
            amount_total=paid,
            payment_intent_id=intent,
            customer_email=session.customer_email or email,
            customer_name=name,
        )
        if payment_status == "paid" and self.requests[session_id].capture_when_ready:
            self._hold(intent)
        elif payment_status == "paid":
            self.settle(session_id)
        return self.sessions[session_id]

    def authorize(self, session_id: str) -> CheckoutSession:
        """Complete an open session by a card whose money is only held, whatever the shop asked for."""
        session = self.pay(session_id, payment_status="unpaid")
        assert session.payment_intent_id is not None
        self._hold(session.payment_intent_id)
        return session

    def expire_authorization(self, payment_intent_id: str) -> Payment:
        """Let the customer's bank end a hold."""
        payment = self._held(payment_intent_id)
        nothing = Money(0, payment.amount.currency)
        self.payments[payment.id] = replace(payment, status="canceled", amount_capturable=nothing)
        return self.payments[payment.id]

    def tell_fee(self, payment_intent_id: str) -> Payment:
        """Let the fee of money that was taken become known: 2.9 % and 30 minor units."""
        payment = self.payments[payment_intent_id]
        received = payment.amount_received
        fee = Money((received.amount_minor * 29 + 500) // 1000 + 30, received.currency)
        self.payments[payment.id] = replace(payment, fee=fee)
        return self.payments[payment.id]

    def settle(self, session_id: str) -> CheckoutSession:
        """Let the money of a completed session arrive."""
        session = self.sessions[session_id]
        assert session.payment_intent_id is not None
        self._take(session.payment_intent_id)
        return self.sessions[session_id]

    def settle_refund(
        self, refund_id: str, status: str, *, failure_reason: str | None = None
    ) -> PaymentRefund:
        """Change how a refund stands."""
        changed = replace(self.refunds[refund_id], status=status, failure_reason=failure_reason)
        self.refunds[refund_id] = changed
        self._count_refunds(changed.payment_intent_id)
        return changed

    def refund_in_dashboard(self, payment_intent_id: str, amount: Money) -> PaymentRefund:
        """Send money back behind the shop's back."""
        return self._refund(payment_intent_id, amount, {})

    def open_dispute(
        self,
        payment_intent_id: str,
        *,
        reason: str = "fraudulent",
        status: str = "needs_response",
    ) -> Dispute:
        """Let the customer complain at his bank; with a status `warning_…` he only asks."""
        payment = self.payments[payment_intent_id]
        now = self._clock.now()
        dispute = Dispute(
            id=f"dp_{len(self.disputes) + 1}",
            payment_intent_id=payment.id,
            amount=payment.amount,
            status=status,
            reason=reason,
            due_by=now + timedelta(days=7),
            created_at=now,
        )
        self.disputes[dispute.id] = dispute
        self.payments[payment.id] = replace(payment, disputed=True)
        return dispute

    def close_dispute(self, dispute_id: str, status: str) -> Dispute:
        """Change how a dispute stands."""
        self.disputes[dispute_id] = replace(self.disputes[dispute_id], status=status)
        return self.disputes[dispute_id]

    def refunded_minor(self, payment_intent_id: str) -> int:
        """Return what has gone back or is on its way, in minor units."""
        return sum(
            refund.amount.amount_minor
            for refund in self.refunds.values()
            if refund.payment_intent_id == payment_intent_id
            and refund.status not in _GIVEN_BACK_NOT
        )

    def _session(self, session_id: str) -> CheckoutSession:
        session = self.sessions.get(session_id)
        if session is None:
            raise NotFoundError(f"There is no checkout session '{session_id}'.")
        ended = session.expires_at is not None and session.expires_at <= self._clock.now()
        if session.status == "open" and ended:
            session = replace(session, status="expired", url=None)
            self.sessions[session_id] = session
        return session

    def _payment(self, payment_intent_id: str) -> Payment:
        payment = self.payments.get(payment_intent_id)
        if payment is None:
            raise NotFoundError(f"There is no payment '{payment_intent_id}'.")
        return payment

    def _held(self, payment_intent_id: str) -> Payment:
        payment = self._payment(payment_intent_id)
        if payment.status != "requires_capture":
            raise RejectedError(f"The payment is {payment.status} and holds no money.")
        return payment

    def _hold(self, payment_intent_id: str) -> None:
        payment = self.payments[payment_intent_id]
        self.payments[payment.id] = replace(
            payment,
            status="requires_capture",
            amount_capturable=payment.amount,
            charge_id=payment.id.replace("pi_", "ch_"),
        )

    def _take(self, payment_intent_id: str) -> None:
        payment = self.payments[payment_intent_id]
        self.payments[payment.id] = replace(
            payment,
            status="succeeded",
            amount_received=payment.amount,
            amount_capturable=Money(0, payment.amount.currency),
            charge_id=payment.id.replace("pi_", "ch_"),
        )
        if self.fees_known:
            self.tell_fee(payment.id)
        for session in self.sessions.values():
            if session.payment_intent_id == payment.id:
                self.sessions[session.id] = replace(session, payment_status="paid")

    def _refund(
        self, payment_intent_id: str, amount: Money, metadata: Mapping[str, str]
    ) -> PaymentRefund:
        payment = self._payment(payment_intent_id)
        self._refuse_disputed(payment)
        self._refuse_too_much(payment, amount)
        made = PaymentRefund(
            id=f"re_{len(self.refunds) + 1}",
            payment_intent_id=payment_intent_id,
            amount=amount,
            status=self.next_refund_status,
            failure_reason=None,
            metadata=dict(metadata),
            created_at=self._clock.now(),
        )
        self.refunds[made.id] = made
        self._count_refunds(payment_intent_id)
        return made

    def _count_refunds(self, payment_intent_id: str) -> None:
        self.payments[payment_intent_id] = replace(
            self.payments[payment_intent_id],
            amount_refunded_minor=self.refunded_minor(payment_intent_id),
        )

    def _refuse_disputed(self, payment: Payment) -> None:
        for dispute in self.disputes.values():
            harmless = dispute.status in _TAKEN_BACK_NOT or dispute.status.startswith("warning_")
            if dispute.payment_intent_id == payment.id and not harmless:
                raise RejectedError("The payment is disputed and cannot be refunded.")

    def _known(self, key: str, asked: object) -> str | None:
        if key not in self._by_key:
            return None
        before, known = self._by_key[key]
        if before != repr(asked):
            raise RejectedError("This idempotency key was used with other parameters.")
        return known

    def _refuse_too_much(self, payment: Payment, amount: Money) -> None:
        left = payment.amount_received.amount_minor - self.refunded_minor(payment.id)
        if amount.currency != payment.amount.currency or not 0 < amount.amount_minor <= left:
            raise RejectedError(f"{amount} cannot be refunded: {left} minor units are left.")

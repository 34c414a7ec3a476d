"""A payment provider in memory, with a customer who pays when the test says so."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from smi_desktop.domain.errors import NotFoundError, RejectedError
from smi_desktop.domain.money import Money
from smi_desktop.services.ports import (
    CheckoutRequest,
    CheckoutSession,
    Clock,
    Payment,
    PaymentRefund,
)
from tests.fakes.clock import FakeClock
from tests.fakes.scripted import Scripted


class FakePaymentGateway(Scripted):
    """Implements PaymentGateway.

    Attributes:
        sessions, payments, refunds: What exists, by id.
        requests: What each session was made from.
        next_refund_status: The status of refunds made from now on; `settle_refund` changes one.
    """

    def __init__(self, clock: Clock | None = None, *, livemode: bool = False) -> None:
        super().__init__()
        self._clock = clock or FakeClock()
        self._livemode = livemode
        self._by_key: dict[str, tuple[str, str]] = {}
        self.sessions: dict[str, CheckoutSession] = {}
        self.payments: dict[str, Payment] = {}
        self.refunds: dict[str, PaymentRefund] = {}
        self.requests: dict[str, CheckoutRequest] = {}
        self.next_refund_status = "succeeded"

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
            self._refuse_too_much(self._payment(payment_intent_id), amount)
            known = f"re_{len(self.refunds) + 1}"
            self._by_key[idempotency_key] = (repr(asked), known)
            self.refunds[known] = PaymentRefund(
                id=known,
                payment_intent_id=payment_intent_id,
                amount=amount,
                status=self.next_refund_status,
                failure_reason=None,
                metadata=dict(metadata),
                created_at=self._clock.now(),
            )
        self._end("create_refund")
        return self.refunds[known]

    def list_refunds(self, payment_intent_id: str) -> Sequence[PaymentRefund]:
        """List refunds, newest first."""
        self._begin("list_refunds")
        self._payment(payment_intent_id)
        found = [r for r in self.refunds.values() if r.payment_intent_id == payment_intent_id]
        self._end("list_refunds")
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
        """Complete an open session.

        `payment_status="unpaid"` stands for a slow method such as a bank debit: see `settle`.
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
        if payment_status == "paid":
            self.settle(session_id)
        return self.sessions[session_id]

    def settle(self, session_id: str) -> CheckoutSession:
        """Let the money of a completed session arrive."""
        session = self.sessions[session_id]
        assert session.payment_intent_id is not None
        payment = self.payments[session.payment_intent_id]
        self.payments[payment.id] = replace(
            payment,
            status="succeeded",
            amount_received=payment.amount,
            charge_id=payment.id.replace("pi_", "ch_"),
        )
        self.sessions[session_id] = replace(session, payment_status="paid")
        return self.sessions[session_id]

    def settle_refund(
        self, refund_id: str, status: str, *, failure_reason: str | None = None
    ) -> PaymentRefund:
        """Change how a refund stands."""
        changed = replace(self.refunds[refund_id], status=status, failure_reason=failure_reason)
        self.refunds[refund_id] = changed
        return changed

    def refunded_minor(self, payment_intent_id: str) -> int:
        """Return what has gone back or is on its way, in minor units."""
        return sum(
            refund.amount.amount_minor
            for refund in self.refunds.values()
            if refund.payment_intent_id == payment_intent_id
            and refund.status not in {"failed", "canceled"}
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

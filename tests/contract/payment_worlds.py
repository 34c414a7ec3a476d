"""The two worlds in which a payment gateway is tried: the fake, and the real one against the rehearsal."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

import pytest

from smi_desktop.adapters.stripe_gateway import StripeGateway
from smi_desktop.domain.errors import TransientError
from smi_desktop.domain.money import Money
from smi_desktop.sandbox.constants import STRIPE_SECRET_KEY
from smi_desktop.services.ports import (
    CheckoutRequest,
    CheckoutSession,
    PaymentGateway,
    PaymentRefund,
)
from tests.contract.rehearsal import Rehearsal
from tests.fakes import FakeClock, FakePaymentGateway

PRICE = Money(480, "usd")
EMAIL, NAME = "jo@customer.example", "Jo Winter"


class PaymentWorld(Protocol):
    """A gateway, and what its customers, banks and owners do."""

    @property
    def gateway(self) -> PaymentGateway: ...

    def pay(self, session: CheckoutSession) -> None: ...

    def pay_slowly(self, session: CheckoutSession) -> None: ...

    def settle(self, session_id: str) -> None: ...

    def advance(self, seconds: float) -> None: ...

    def break_next(self, method: str) -> None: ...

    def change_refund(self, refund_id: str, status: str, reason: str) -> None: ...

    def refund_in_dashboard(self, intent: str, minor: int) -> None: ...

    def end_hold(self, intent: str) -> None: ...

    def open_dispute(self, intent: str, status: str) -> None: ...

    def close_dispute(self, dispute_id: str, status: str) -> None: ...


@dataclass
class FakeWorld:
    clock: FakeClock
    gateway: FakePaymentGateway

    def pay(self, session: CheckoutSession) -> None:
        self.gateway.pay(session.id, email=EMAIL, name=NAME)

    def pay_slowly(self, session: CheckoutSession) -> None:
        self.gateway.pay(session.id, email=EMAIL, name=NAME, payment_status="unpaid")

    def settle(self, session_id: str) -> None:
        self.gateway.settle(session_id)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def break_next(self, method: str) -> None:
        self.gateway.fail_next(TransientError("away"), method=method)

    def change_refund(self, refund_id: str, status: str, reason: str) -> None:
        self.gateway.settle_refund(refund_id, status, failure_reason=reason)

    def refund_in_dashboard(self, intent: str, minor: int) -> None:
        self.gateway.refund_in_dashboard(intent, Money(minor, "usd"))

    def end_hold(self, intent: str) -> None:
        self.gateway.expire_authorization(intent)

    def open_dispute(self, intent: str, status: str) -> None:
        self.gateway.open_dispute(intent, status=status)

    def close_dispute(self, dispute_id: str, status: str) -> None:
        self.gateway.close_dispute(dispute_id, status)


@dataclass
class RealWorld:
    rehearsal: Rehearsal
    gateway: StripeGateway

    def pay(self, session: CheckoutSession) -> None:
        assert session.url is not None
        self.rehearsal.pay(session.url, EMAIL, NAME)

    def pay_slowly(self, session: CheckoutSession) -> None:
        self.rehearsal.fault("stripe", "*", "async_payment")
        self.pay(session)

    def settle(self, session_id: str) -> None:
        self.rehearsal.control(f"sessions/{session_id}/settle", {})

    def advance(self, seconds: float) -> None:
        self.rehearsal.control("clock", {"advance_seconds": seconds})

    def break_next(self, method: str) -> None:
        # 429 is the one that the SDK does not try again by itself.
        self.rehearsal.fault("stripe", "*", "http_429")

    def change_refund(self, refund_id: str, status: str, reason: str) -> None:
        body = {"status": status, "failure_reason": reason}
        self.rehearsal.control(f"refunds/{refund_id}", body)

    def refund_in_dashboard(self, intent: str, minor: int) -> None:
        self.rehearsal.control("refunds", {"payment_intent": intent, "amount": minor})

    def end_hold(self, intent: str) -> None:
        self.rehearsal.control(f"payment_intents/{intent}/expire", {})

    def open_dispute(self, intent: str, status: str) -> None:
        self.rehearsal.control("disputes", {"payment_intent": intent, "status": status})

    def close_dispute(self, dispute_id: str, status: str) -> None:
        self.rehearsal.control(f"disputes/{dispute_id}", {"status": status})


def payment_world(request: pytest.FixtureRequest) -> PaymentWorld:
    """Return the world that a fixture's parameter names, `fake` or `real`."""
    if request.param == "fake":
        clock = FakeClock(datetime.now(UTC))
        return FakeWorld(clock, FakePaymentGateway(clock))
    rehearsal: Rehearsal = request.getfixturevalue("rehearsal")
    return RealWorld(rehearsal, StripeGateway(STRIPE_SECRET_KEY, api_base=rehearsal.stripe_url))


def checkout_request() -> CheckoutRequest:
    """Return what every test here sells."""
    return CheckoutRequest(
        order_id="order-1",
        title="Espresso, 4x",
        description="2400 x 1600 pixels",
        amount=PRICE,
        success_url="https://studio.example/done?s={CHECKOUT_SESSION_ID}",
        cancel_url="https://studio.example/",
        expires_at=datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1),
        metadata={"order_id": "order-1", "mode": "test"},
    )


_keys = iter(range(10**6))


def new_key() -> str:
    """Return an idempotency key of its own."""
    return f"contract:{datetime.now(UTC).isoformat()}:{next(_keys)}"


def opened(world: PaymentWorld, checkout: CheckoutRequest) -> CheckoutSession:
    """Make an open session."""
    return world.gateway.create_session(checkout, idempotency_key=new_key())


def paid(world: PaymentWorld, checkout: CheckoutRequest) -> str:
    """Make a session, pay it, and return its payment."""
    session = opened(world, checkout)
    world.pay(session)
    intent = world.gateway.retrieve_session(session.id).payment_intent_id
    assert intent is not None
    return intent


def held(world: PaymentWorld, checkout: CheckoutRequest) -> tuple[CheckoutSession, str]:
    """Make a session whose card's money is held; return it and its payment."""
    session = opened(world, replace(checkout, capture_when_ready=True))
    world.pay(session)
    done = world.gateway.retrieve_session(session.id)
    assert done.payment_intent_id is not None
    return done, done.payment_intent_id


def refund(world: PaymentWorld, intent: str, minor: int, key: str = "") -> PaymentRefund:
    """Send money back."""
    return world.gateway.create_refund(
        intent,
        Money(minor, "usd"),
        metadata={"order_id": "order-1"},
        idempotency_key=key or new_key(),
    )

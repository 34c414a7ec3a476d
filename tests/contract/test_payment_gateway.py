"""What every payment gateway does: the fake, and the real one against the rehearsal's Stripe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

import pytest

from smi_desktop.adapters.stripe_gateway import StripeGateway
from smi_desktop.domain.errors import (
    NotFoundError,
    ProviderAccountError,
    RejectedError,
    TransientError,
)
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


@pytest.fixture(params=["fake", "real"])
def world(request: pytest.FixtureRequest) -> Iterator[PaymentWorld]:
    if request.param == "fake":
        clock = FakeClock(datetime.now(UTC))
        yield FakeWorld(clock, FakePaymentGateway(clock))
    else:
        rehearsal: Rehearsal = request.getfixturevalue("rehearsal")
        yield RealWorld(rehearsal, StripeGateway(STRIPE_SECRET_KEY, api_base=rehearsal.stripe_url))


@pytest.fixture
def checkout() -> CheckoutRequest:
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
    return f"contract:{datetime.now(UTC).isoformat()}:{next(_keys)}"


def opened(world: PaymentWorld, checkout: CheckoutRequest) -> CheckoutSession:
    return world.gateway.create_session(checkout, idempotency_key=new_key())


def paid(world: PaymentWorld, checkout: CheckoutRequest) -> str:
    session = opened(world, checkout)
    world.pay(session)
    intent = world.gateway.retrieve_session(session.id).payment_intent_id
    assert intent is not None
    return intent


def refund(world: PaymentWorld, intent: str, minor: int, key: str = "") -> PaymentRefund:
    return world.gateway.create_refund(
        intent,
        Money(minor, "usd"),
        metadata={"order_id": "order-1"},
        idempotency_key=key or new_key(),
    )


def test_a_new_session_is_open_and_says_what_was_agreed(
    world: PaymentWorld, checkout: CheckoutRequest
) -> None:
    session = opened(world, checkout)
    assert (session.status, session.payment_status) == ("open", "unpaid")
    assert session.url is not None
    assert session.url.startswith("http")
    assert session.amount_total == PRICE
    assert session.client_reference_id == "order-1"
    assert session.metadata == checkout.metadata
    assert session.expires_at == checkout.expires_at
    assert session.payment_intent_id is None
    assert session.livemode is False
    assert world.gateway.retrieve_session(session.id) == session


def test_the_same_key_returns_the_same_session(
    world: PaymentWorld, checkout: CheckoutRequest
) -> None:
    key = new_key()
    first = world.gateway.create_session(checkout, idempotency_key=key)
    again = world.gateway.create_session(checkout, idempotency_key=key)
    other = opened(world, checkout)
    assert first.id == again.id
    assert other.id != first.id


def test_a_key_cannot_stand_for_two_requests(
    world: PaymentWorld, checkout: CheckoutRequest
) -> None:
    key = new_key()
    world.gateway.create_session(checkout, idempotency_key=key)
    dearer = replace(checkout, amount=Money(481, "usd"))
    with pytest.raises(RejectedError):
        world.gateway.create_session(dearer, idempotency_key=key)


def test_an_address_that_is_given_stays(world: PaymentWorld, checkout: CheckoutRequest) -> None:
    session = opened(world, replace(checkout, customer_email="given@customer.example"))
    assert session.customer_email == "given@customer.example"


def test_a_paid_session_names_its_payment_and_its_customer(
    world: PaymentWorld, checkout: CheckoutRequest
) -> None:
    session = opened(world, checkout)
    world.pay(session)
    done = world.gateway.retrieve_session(session.id)
    assert (done.status, done.payment_status, done.url) == ("complete", "paid", None)
    assert (done.customer_email, done.customer_name) == (EMAIL, NAME)
    assert done.amount_total == PRICE
    assert done.payment_intent_id is not None
    payment = world.gateway.retrieve_payment(done.payment_intent_id)
    assert payment.status == "succeeded"
    assert payment.amount == payment.amount_received == PRICE
    assert payment.metadata == checkout.metadata
    assert payment.charge_id is not None
    assert payment.livemode is False


def test_a_slow_method_completes_first_and_pays_later(
    world: PaymentWorld, checkout: CheckoutRequest
) -> None:
    session = opened(world, checkout)
    world.pay_slowly(session)
    waiting = world.gateway.retrieve_session(session.id)
    assert (waiting.status, waiting.payment_status) == ("complete", "unpaid")
    assert waiting.payment_intent_id is not None
    payment = world.gateway.retrieve_payment(waiting.payment_intent_id)
    assert (payment.status, payment.amount_received.amount_minor) == ("processing", 0)
    world.settle(session.id)
    assert world.gateway.retrieve_session(session.id).payment_status == "paid"
    assert world.gateway.retrieve_payment(payment.id).amount_received == PRICE


def test_an_open_session_can_be_closed_once(world: PaymentWorld, checkout: CheckoutRequest) -> None:
    session = opened(world, checkout)
    closed = world.gateway.expire_session(session.id)
    assert (closed.status, closed.url) == ("expired", None)
    assert world.gateway.retrieve_session(session.id).status == "expired"
    with pytest.raises(RejectedError):
        world.gateway.expire_session(session.id)


def test_a_paid_session_cannot_be_closed(world: PaymentWorld, checkout: CheckoutRequest) -> None:
    session = opened(world, checkout)
    world.pay(session)
    with pytest.raises(RejectedError):
        world.gateway.expire_session(session.id)


def test_a_session_ends_with_its_time(world: PaymentWorld, checkout: CheckoutRequest) -> None:
    session = opened(world, checkout)
    world.advance(3601)
    ended = world.gateway.retrieve_session(session.id)
    assert (ended.status, ended.url) == ("expired", None)


def test_what_does_not_exist_is_not_found(world: PaymentWorld) -> None:
    with pytest.raises(NotFoundError):
        world.gateway.retrieve_session("cs_test_nothing")
    with pytest.raises(NotFoundError):
        world.gateway.expire_session("cs_test_nothing")
    with pytest.raises(NotFoundError):
        world.gateway.retrieve_payment("pi_nothing")
    with pytest.raises(NotFoundError):
        refund(world, "pi_nothing", 1)


def test_a_refund_gives_back_what_it_says(world: PaymentWorld, checkout: CheckoutRequest) -> None:
    intent = paid(world, checkout)
    assert world.gateway.list_refunds(intent) == []
    made = refund(world, intent, 480)
    assert (made.amount, made.payment_intent_id, made.status) == (PRICE, intent, "succeeded")
    assert made.metadata == {"order_id": "order-1"}
    assert made.failure_reason is None
    assert world.gateway.list_refunds(intent) == [made]


def test_the_same_key_gives_money_back_once(world: PaymentWorld, checkout: CheckoutRequest) -> None:
    intent, key = paid(world, checkout), new_key()
    assert refund(world, intent, 480, key).id == refund(world, intent, 480, key).id
    assert len(world.gateway.list_refunds(intent)) == 1


def test_more_than_was_paid_is_never_given_back(
    world: PaymentWorld, checkout: CheckoutRequest
) -> None:
    intent = paid(world, checkout)
    with pytest.raises(RejectedError):
        refund(world, intent, 481)
    first = refund(world, intent, 300)
    with pytest.raises(RejectedError):
        refund(world, intent, 181)
    second = refund(world, intent, 180)
    with pytest.raises(RejectedError):
        refund(world, intent, 1)
    listed = world.gateway.list_refunds(intent)
    assert [each.id for each in listed] == [second.id, first.id], "newest first"


def test_what_was_not_received_cannot_be_given_back(
    world: PaymentWorld, checkout: CheckoutRequest
) -> None:
    session = opened(world, checkout)
    world.pay_slowly(session)
    intent = world.gateway.retrieve_session(session.id).payment_intent_id
    assert intent is not None
    with pytest.raises(RejectedError):
        refund(world, intent, 480)


def test_a_refund_that_fails_later_may_be_made_again(
    world: PaymentWorld, checkout: CheckoutRequest
) -> None:
    intent = paid(world, checkout)
    first = refund(world, intent, 480)
    world.change_refund(first.id, "failed", "lost_or_stolen_card")
    (seen,) = world.gateway.list_refunds(intent)
    assert (seen.status, seen.failure_reason) == ("failed", "lost_or_stolen_card")
    assert refund(world, intent, 480).id != first.id


@pytest.mark.parametrize("method", ["create_session", "retrieve_payment", "create_refund"])
def test_after_a_passing_fault_the_same_call_goes_through(
    world: PaymentWorld, checkout: CheckoutRequest, method: str
) -> None:
    intent, key = paid(world, checkout), new_key()
    calls: dict[str, Callable[[], object]] = {
        "create_session": lambda: world.gateway.create_session(checkout, idempotency_key=key),
        "retrieve_payment": lambda: world.gateway.retrieve_payment(intent),
        "create_refund": lambda: refund(world, intent, 480, key),
    }
    world.break_next(method)
    with pytest.raises(TransientError):
        calls[method]()
    assert calls[method]() is not None


def test_a_key_that_stripe_does_not_know_is_an_error_of_the_account(rehearsal: Rehearsal) -> None:
    stranger = StripeGateway("sk_test_stranger", api_base=rehearsal.stripe_url)
    with pytest.raises(ProviderAccountError):
        stranger.retrieve_session("cs_test_1")

"""What every payment gateway does: the fake, and the real one against the rehearsal's Stripe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

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
from smi_desktop.services.ports import CheckoutRequest
from tests.contract.payment_worlds import (
    EMAIL,
    NAME,
    PRICE,
    PaymentWorld,
    RealWorld,
    checkout_request,
    held,
    new_key,
    opened,
    paid,
    payment_world,
    refund,
)
from tests.contract.rehearsal import Rehearsal


@pytest.fixture(params=["fake", "real"])
def world(request: pytest.FixtureRequest) -> PaymentWorld:
    return payment_world(request)


@pytest.fixture
def checkout() -> CheckoutRequest:
    return checkout_request()


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
    calls: list[Callable[[], object]] = [
        lambda: refund(world, "pi_nothing", 1),
        lambda: world.gateway.capture_payment("pi_nothing", idempotency_key=new_key()),
        lambda: world.gateway.cancel_payment("pi_nothing", idempotency_key=new_key()),
        lambda: world.gateway.list_refunds("pi_nothing"),
        lambda: world.gateway.list_disputes("pi_nothing"),
    ]
    for call in calls:
        with pytest.raises(NotFoundError):
            call()


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


def test_a_payment_tells_its_fee_and_what_has_gone_back(
    world: PaymentWorld, checkout: CheckoutRequest
) -> None:
    intent = paid(world, checkout)
    payment = world.gateway.retrieve_payment(intent)
    assert payment.fee == Money(44, "usd"), "2.9 % of 480 and 30"
    assert (payment.amount_refunded_minor, payment.disputed) == (0, False)
    assert payment.amount_capturable == Money(0, "usd")
    first = refund(world, intent, 180)
    world.refund_in_dashboard(intent, 100)
    assert world.gateway.retrieve_payment(intent).amount_refunded_minor == 280
    newest = world.gateway.list_refunds(intent)[0]
    assert (newest.amount, newest.metadata) == (Money(100, "usd"), {})
    world.change_refund(first.id, "failed", "declined")
    assert world.gateway.retrieve_payment(intent).amount_refunded_minor == 100


_FAULTY = ["create_session", "retrieve_payment", "create_refund", "capture_payment",
           "cancel_payment", "list_disputes"]  # fmt: skip


@pytest.mark.parametrize("method", _FAULTY)
def test_after_a_passing_fault_the_same_call_goes_through(
    world: PaymentWorld, checkout: CheckoutRequest, method: str
) -> None:
    intent, key = paid(world, checkout), new_key()
    _, waiting = held(world, checkout)
    calls: dict[str, Callable[[], object]] = {
        "create_session": lambda: world.gateway.create_session(checkout, idempotency_key=key),
        "retrieve_payment": lambda: world.gateway.retrieve_payment(intent),
        "create_refund": lambda: refund(world, intent, 480, key),
        "capture_payment": lambda: world.gateway.capture_payment(waiting, idempotency_key=key),
        "cancel_payment": lambda: world.gateway.cancel_payment(waiting, idempotency_key=key),
        "list_disputes": lambda: world.gateway.list_disputes(intent),
    }
    world.break_next(method)
    with pytest.raises(TransientError):
        calls[method]()
    assert calls[method]() is not None


@pytest.mark.parametrize(("effect", "made"), [(True, 1), (False, 0)])
def test_an_error_that_stripe_keeps_under_a_key_is_told_by_the_list_alone(
    rehearsal: Rehearsal, effect: bool, made: int
) -> None:
    world = RealWorld(rehearsal, StripeGateway(STRIPE_SECRET_KEY, api_base=rehearsal.stripe_url))
    intent, key = paid(world, checkout_request()), new_key()
    rehearsal.fault("stripe", "create_refund", "stored_500", effect=effect)
    for _ in range(2):
        with pytest.raises(TransientError):
            refund(world, intent, 480, key)
    assert len(world.gateway.list_refunds(intent)) == made
    assert world.gateway.retrieve_payment(intent).amount_refunded_minor == 480 * made
    if not effect:
        assert refund(world, intent, 480).amount == PRICE


def test_a_key_that_stripe_does_not_know_is_an_error_of_the_account(rehearsal: Rehearsal) -> None:
    stranger = StripeGateway("sk_test_stranger", api_base=rehearsal.stripe_url)
    with pytest.raises(ProviderAccountError):
        stranger.retrieve_session("cs_test_1")

"""Held money and disputes, on every payment gateway: the fake, and the real one against the rehearsal."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from smi_desktop.domain.errors import RejectedError
from smi_desktop.domain.money import Money
from smi_desktop.services.ports import CheckoutRequest, Dispute
from tests.contract.payment_worlds import (
    PRICE,
    PaymentWorld,
    checkout_request,
    held,
    new_key,
    opened,
    paid,
    payment_world,
    refund,
)


@pytest.fixture(params=["fake", "real"])
def world(request: pytest.FixtureRequest) -> PaymentWorld:
    return payment_world(request)


@pytest.fixture
def checkout() -> CheckoutRequest:
    return checkout_request()


def only_dispute(world: PaymentWorld, intent: str) -> Dispute:
    (dispute,) = world.gateway.list_disputes(intent)
    return dispute


def test_a_cards_money_is_held_until_the_shop_takes_it(
    world: PaymentWorld, checkout: CheckoutRequest
) -> None:
    session, intent = held(world, checkout)
    assert (session.status, session.payment_status) == ("complete", "unpaid")
    waiting = world.gateway.retrieve_payment(intent)
    assert waiting.status == "requires_capture"
    assert (waiting.amount_capturable, waiting.amount_received) == (PRICE, Money(0, "usd"))
    assert waiting.charge_id is not None
    assert waiting.fee is None
    with pytest.raises(RejectedError):
        refund(world, intent, 480)
    taken = world.gateway.capture_payment(intent, idempotency_key=new_key())
    assert (taken.status, taken.amount_received) == ("succeeded", PRICE)
    assert (taken.amount_capturable, taken.fee) == (Money(0, "usd"), Money(44, "usd"))
    assert world.gateway.retrieve_payment(intent) == taken
    assert world.gateway.retrieve_session(session.id).payment_status == "paid"
    assert refund(world, intent, 480).amount == PRICE


def test_held_money_is_taken_once(world: PaymentWorld, checkout: CheckoutRequest) -> None:
    _, intent = held(world, checkout)
    key = new_key()
    first = world.gateway.capture_payment(intent, idempotency_key=key)
    assert world.gateway.capture_payment(intent, idempotency_key=key) == first
    with pytest.raises(RejectedError):
        world.gateway.capture_payment(intent, idempotency_key=new_key())
    with pytest.raises(RejectedError):
        world.gateway.cancel_payment(intent, idempotency_key=new_key())


def test_held_money_that_is_let_go_was_never_paid(
    world: PaymentWorld, checkout: CheckoutRequest
) -> None:
    """Stripe itself calls it refunded, and lists a refund."""
    session, intent = held(world, checkout)
    key = new_key()
    let_go = world.gateway.cancel_payment(intent, idempotency_key=key)
    assert (let_go.status, let_go.amount_capturable) == ("canceled", Money(0, "usd"))
    assert (let_go.amount_received, let_go.amount_refunded_minor) == (Money(0, "usd"), 0)
    assert let_go.fee is None
    assert world.gateway.cancel_payment(intent, idempotency_key=key) == let_go
    assert world.gateway.list_refunds(intent) == []
    assert world.gateway.retrieve_session(session.id).payment_status == "unpaid"
    with pytest.raises(RejectedError):
        world.gateway.capture_payment(intent, idempotency_key=new_key())
    with pytest.raises(RejectedError):
        world.gateway.cancel_payment(intent, idempotency_key=new_key())


def test_a_hold_that_ran_out_is_seen_and_cannot_be_taken(
    world: PaymentWorld, checkout: CheckoutRequest
) -> None:
    _, intent = held(world, checkout)
    world.end_hold(intent)
    ended = world.gateway.retrieve_payment(intent)
    assert (ended.status, ended.amount_received.amount_minor) == ("canceled", 0)
    with pytest.raises(RejectedError):
        world.gateway.capture_payment(intent, idempotency_key=new_key())


def test_a_method_that_cannot_hold_money_is_taken_at_once(
    world: PaymentWorld, checkout: CheckoutRequest
) -> None:
    session = opened(world, replace(checkout, capture_when_ready=True))
    world.pay_slowly(session)
    world.settle(session.id)
    done = world.gateway.retrieve_session(session.id)
    assert done.payment_status == "paid"
    assert done.payment_intent_id is not None
    payment = world.gateway.retrieve_payment(done.payment_intent_id)
    assert (payment.status, payment.amount_received) == ("succeeded", PRICE)
    with pytest.raises(RejectedError):
        world.gateway.capture_payment(payment.id, idempotency_key=new_key())


def test_a_dispute_is_told_and_bars_refunds_until_it_is_won(
    world: PaymentWorld, checkout: CheckoutRequest
) -> None:
    intent = paid(world, checkout)
    assert world.gateway.list_disputes(intent) == []
    world.open_dispute(intent, "needs_response")
    dispute = only_dispute(world, intent)
    assert (dispute.payment_intent_id, dispute.amount) == (intent, PRICE)
    assert (dispute.status, dispute.reason) == ("needs_response", "fraudulent")
    assert dispute.due_by is not None
    assert timedelta(days=6) < dispute.due_by - dispute.created_at < timedelta(days=8)
    for barred in ("needs_response", "under_review", "lost"):
        world.close_dispute(dispute.id, barred)
        assert only_dispute(world, intent).status == barred
        with pytest.raises(RejectedError):
            refund(world, intent, 480)
    world.close_dispute(dispute.id, "won")
    assert world.gateway.retrieve_payment(intent).disputed is True
    assert refund(world, intent, 480).amount == PRICE


def test_a_mere_question_of_the_bank_does_not_bar_a_refund(
    world: PaymentWorld, checkout: CheckoutRequest
) -> None:
    intent = paid(world, checkout)
    world.open_dispute(intent, "warning_needs_response")
    assert only_dispute(world, intent).status == "warning_needs_response"
    assert refund(world, intent, 480).amount == PRICE

"""Refunds, fees, disputes, delayed and authorised payments, and calls that are made twice."""

from __future__ import annotations

import pytest
import stripe
from sandbox_running import Receiver, Sandbox, session_params, wait_for


def refund(sandbox: Sandbox, intent: object, key: str = "", **params: object) -> stripe.Refund:
    """Send money back through the SDK."""
    options = {"idempotency_key": key} if key else {}
    return sandbox.sdk.v1.refunds.create({"payment_intent": str(intent), **params}, options)  # type: ignore[typeddict-item]


def test_the_same_key_gives_the_same_session_and_says_so(sandbox: Sandbox) -> None:
    create = sandbox.sdk.v1.checkout.sessions.create
    first = create(session_params(), {"idempotency_key": "session:1"})
    second = create(session_params(), {"idempotency_key": "session:1"})
    assert first.id == second.id
    assert second.last_response.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.last_response.headers


def test_the_same_key_with_other_parameters_is_an_error(sandbox: Sandbox) -> None:
    create = sandbox.sdk.v1.checkout.sessions.create
    create(session_params(), {"idempotency_key": "session:2"})
    with pytest.raises(stripe.IdempotencyError) as refused:
        create(session_params(client_reference_id="another"), {"idempotency_key": "session:2"})
    assert refused.value.http_status == 400


def test_a_key_is_forgotten_after_a_day(sandbox: Sandbox) -> None:
    create = sandbox.sdk.v1.checkout.sessions.create
    first = create(session_params(), {"idempotency_key": "session:3"})
    sandbox.control("clock", {"advance_seconds": 86_500})
    second = create(session_params(), {"idempotency_key": "session:3"})
    assert first.id != second.id


def test_a_refused_call_does_not_use_its_key_up(sandbox: Sandbox) -> None:
    create = sandbox.sdk.v1.checkout.sessions.create
    with pytest.raises(stripe.InvalidRequestError):
        create(session_params(mode="setup"), {"idempotency_key": "session:4"})
    assert create(session_params(), {"idempotency_key": "session:4"}).status == "open"


def test_a_refund_goes_back_once_and_tells(hooked: Receiver, sandbox: Sandbox) -> None:
    paid = sandbox.paid()
    made = refund(sandbox, paid.payment_intent, "refund:1", metadata={"order": "1"})
    assert (made.status, made.amount, made.currency) == ("succeeded", 480, "usd")
    assert refund(sandbox, paid.payment_intent, "refund:1", metadata={"order": "1"}).id == made.id
    with pytest.raises(stripe.InvalidRequestError) as refused:
        refund(sandbox, paid.payment_intent)
    assert refused.value.code == "charge_already_refunded"
    listed = sandbox.sdk.v1.refunds.list({"payment_intent": str(paid.payment_intent)})
    assert [(row.id, row.metadata and row.metadata["order"]) for row in listed.data] == [
        (made.id, "1")
    ]
    wait_for(lambda: {"refund.created", "charge.refunded"} <= set(hooked.types()))
    charge = sandbox.sdk.v1.charges.retrieve(str(made.charge))
    assert (charge.refunded, charge.amount_refunded) == (True, 480)


def test_parts_can_go_back_but_never_more_than_was_paid(sandbox: Sandbox) -> None:
    paid = sandbox.paid()
    assert refund(sandbox, paid.payment_intent, amount=180).amount == 180
    with pytest.raises(stripe.InvalidRequestError) as refused:
        refund(sandbox, paid.payment_intent, amount=301)
    assert refused.value.param == "amount"
    assert refund(sandbox, paid.payment_intent).amount == 300


def test_an_unpaid_or_unknown_payment_cannot_be_refunded(sandbox: Sandbox) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        refund(sandbox, "pi_none")
    assert refused.value.code == "resource_missing"
    with pytest.raises(stripe.InvalidRequestError):
        sandbox.sdk.v1.refunds.create({"amount": 100})


def test_a_refund_can_wait_and_then_fail(hooked: Receiver, sandbox: Sandbox) -> None:
    sandbox.fault("stripe", "create_refund", "refund_status", params={"status": "pending"})
    paid = sandbox.paid()
    made = refund(sandbox, paid.payment_intent)
    assert made.status == "pending"
    failed = {"status": "failed", "failure_reason": "expired_or_canceled_card"}
    sandbox.control(f"refunds/{made.id}", failed)
    wait_for(lambda: "refund.failed" in hooked.types())
    found = sandbox.sdk.v1.refunds.retrieve(made.id)
    assert (found.status, found.failure_reason) == ("failed", "expired_or_canceled_card")
    assert refund(sandbox, paid.payment_intent).amount == 480


def test_stripes_test_cards_for_slow_and_failing_refunds_work(
    hooked: Receiver, sandbox: Sandbox
) -> None:
    slow = sandbox.paid(card_number="4000 0000 0000 7726")
    made = refund(sandbox, slow.payment_intent)
    assert sandbox.sdk.v1.refunds.retrieve(made.id).status == "succeeded"
    failing = refund(sandbox, sandbox.paid(card_number="4000 0000 0000 5126").payment_intent)
    assert sandbox.sdk.v1.refunds.retrieve(failing.id).status == "failed"
    wait_for(lambda: "refund.failed" in hooked.types())


def test_the_balance_is_what_was_paid_without_fees_and_refunds(sandbox: Sandbox) -> None:
    def euros() -> int:
        lines = sandbox.sdk.v1.balance.retrieve().available
        return sum(line.amount for line in lines if line.currency == "eur")

    price = {"currency": "eur", "unit_amount": 1000, "product_data": {"name": "x"}}
    before = euros()
    made = sandbox.session(line_items=[{"quantity": 1, "price_data": price}])
    sandbox.pay(str(made.url))
    assert euros() - before == 1000 - 59
    paid = sandbox.sdk.v1.checkout.sessions.retrieve(made.id)
    refund(sandbox, paid.payment_intent)
    assert euros() - before == -59


def test_a_delayed_payment_completes_unpaid_and_is_settled_later(
    hooked: Receiver, sandbox: Sandbox
) -> None:
    sandbox.fault("stripe", "pay", "async_payment", times=2)
    good, bad = sandbox.paid(), sandbox.paid()
    assert (good.status, good.payment_status) == ("complete", "unpaid")
    sandbox.control(f"sessions/{good.id}/settle", {"outcome": "succeeded"})
    sandbox.control(f"sessions/{bad.id}/settle", {"outcome": "failed"})
    wait_for(lambda: "checkout.session.async_payment_failed" in hooked.types())
    wait_for(lambda: "checkout.session.async_payment_succeeded" in hooked.types())
    retrieve = sandbox.sdk.v1.checkout.sessions.retrieve
    assert [retrieve(each.id).payment_status for each in (good, bad)] == ["paid", "unpaid"]


def test_an_authorised_payment_is_captured_or_let_go(hooked: Receiver, sandbox: Sandbox) -> None:
    def authorised() -> stripe.checkout.Session:
        made = sandbox.session(payment_intent_data={"capture_method": "manual"})
        sandbox.pay(str(made.url))
        return sandbox.sdk.v1.checkout.sessions.retrieve(made.id)

    taken, let_go = authorised(), authorised()
    intents = sandbox.sdk.v1.payment_intents
    assert intents.retrieve(str(taken.payment_intent)).status == "requires_capture"
    assert intents.capture(str(taken.payment_intent)).amount_received == 480
    assert intents.cancel(str(let_go.payment_intent)).status == "canceled"
    assert sandbox.sdk.v1.checkout.sessions.retrieve(taken.id).payment_status == "paid"
    with pytest.raises(stripe.InvalidRequestError):
        intents.capture(str(let_go.payment_intent))
    wait_for(lambda: {"charge.captured", "payment_intent.canceled"} <= set(hooked.types()))


def test_a_disputed_payment_cannot_be_refunded_until_it_is_won(
    hooked: Receiver, sandbox: Sandbox
) -> None:
    paid = sandbox.paid(card_number="4000 0000 0000 0259")
    wait_for(lambda: "charge.dispute.created" in hooked.types())
    with pytest.raises(stripe.InvalidRequestError) as refused:
        refund(sandbox, paid.payment_intent)
    assert refused.value.code == "charge_disputed"
    disputes = sandbox.sdk.v1.disputes.list({"payment_intent": str(paid.payment_intent)})
    assert [row.status for row in disputes.data] == ["needs_response"]
    sandbox.control(f"disputes/{disputes.data[0].id}", {"status": "won"})
    wait_for(lambda: "charge.dispute.funds_reinstated" in hooked.types())
    assert sandbox.sdk.v1.disputes.retrieve(disputes.data[0].id).status == "won"


def test_a_payment_can_be_changed_behind_the_shops_back(sandbox: Sandbox) -> None:
    paid = sandbox.paid()
    sandbox.control(f"objects/session/{paid.id}", {"amount_total": 1})
    assert sandbox.sdk.v1.checkout.sessions.retrieve(paid.id).amount_total == 1


def test_a_path_that_names_nothing_cannot_be_expanded(sandbox: Sandbox) -> None:
    paid = sandbox.paid()
    with pytest.raises(stripe.InvalidRequestError, match="cannot be expanded"):
        sandbox.sdk.v1.checkout.sessions.retrieve(paid.id, {"expand": ["colour"]})


def test_the_account_is_told(sandbox: Sandbox) -> None:
    account = sandbox.sdk.v1.accounts.retrieve_current()
    assert account.charges_enabled is True

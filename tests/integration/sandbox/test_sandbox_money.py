"""Refunds, fees, disputes, delayed and authorised payments, and calls that are made twice."""

from __future__ import annotations

import pytest
import stripe
from sandbox_running import Receiver, Sandbox, session_params, wait_for


def refund(sandbox: Sandbox, intent: object, key: str = "", **params: object) -> stripe.Refund:
    """Send money back through the SDK."""
    options = {"idempotency_key": key} if key else {}
    return sandbox.sdk.v1.refunds.create({"payment_intent": str(intent), **params}, options)  # type: ignore[typeddict-item]


def held(sandbox: Sandbox, **fields: str) -> stripe.checkout.Session:
    """Pay a session whose cards shall only be held."""
    options = {"card": {"capture_method": "manual"}}
    made = sandbox.session(payment_method_options=options)
    assert sandbox.pay(str(made.url), **fields).status_code == 303
    return sandbox.sdk.v1.checkout.sessions.retrieve(made.id)


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


def test_a_card_is_held_and_its_payment_taken_with_its_fee(
    hooked: Receiver, sandbox: Sandbox
) -> None:
    done = held(sandbox)
    intents, intent = sandbox.sdk.v1.payment_intents, str(done.payment_intent)
    assert (done.status, done.payment_status) == ("complete", "unpaid")
    waiting = intents.retrieve(intent, {"expand": ["latest_charge.balance_transaction"]})
    assert (waiting.status, waiting.amount_capturable) == ("requires_capture", 480)
    assert waiting.capture_method == "automatic_async"
    charge = waiting.latest_charge
    assert isinstance(charge, stripe.Charge)
    assert (charge.captured, charge.balance_transaction) == (False, None)
    taken = intents.capture(intent, {"expand": ["latest_charge.balance_transaction"]})
    assert isinstance(taken.latest_charge, stripe.Charge)
    line = taken.latest_charge.balance_transaction
    assert isinstance(line, stripe.BalanceTransaction)
    assert (line.amount, line.fee, line.net, line.currency) == (480, 44, 436, "usd")
    wait_for(lambda: {"charge.captured", "payment_intent.succeeded"} <= set(hooked.types()))
    assert "payment_intent.amount_capturable_updated" in hooked.types()


def test_a_method_that_cannot_be_held_is_taken_when_it_settles(sandbox: Sandbox) -> None:
    sandbox.fault("stripe", "pay", "async_payment")
    done = held(sandbox)
    sandbox.control(f"sessions/{done.id}/settle", {})
    intent = sandbox.sdk.v1.payment_intents.retrieve(str(done.payment_intent))
    assert (intent.status, intent.amount_received) == ("succeeded", 480)


def test_money_that_is_let_go_is_a_refund_that_moves_nothing(
    hooked: Receiver, sandbox: Sandbox
) -> None:
    intent = str(held(sandbox).payment_intent)
    before = sandbox.control(f"objects/payment_intent/{intent}")["latest_charge"]
    sandbox.sdk.v1.payment_intents.cancel(intent)
    (made,) = sandbox.sdk.v1.refunds.list({"payment_intent": intent}).data
    assert (made.amount, made.balance_transaction, made.charge) == (480, None, before)
    charge = sandbox.sdk.v1.charges.retrieve(before)
    assert (charge.captured, charge.refunded, charge.amount_refunded) == (False, True, 480)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        refund(sandbox, intent)
    assert "does not have a successful charge" in str(refused.value)
    wait_for(lambda: {"payment_intent.canceled", "charge.refunded"} <= set(hooked.types()))


def test_a_hold_ends_by_itself_after_seven_days(hooked: Receiver, sandbox: Sandbox) -> None:
    intent = str(held(sandbox).payment_intent)
    sandbox.control("clock", {"advance_seconds": 7 * 86_400 - 60})
    assert sandbox.sdk.v1.payment_intents.retrieve(intent).status == "requires_capture"
    sandbox.control("clock", {"advance_seconds": 120})
    wait_for(lambda: {"payment_intent.canceled", "charge.expired"} <= set(hooked.types()))
    ended = sandbox.sdk.v1.payment_intents.retrieve(intent)
    assert (ended.status, ended.cancellation_reason) == ("canceled", "automatic")
    with pytest.raises(stripe.InvalidRequestError) as refused:
        sandbox.sdk.v1.payment_intents.capture(intent)
    assert refused.value.code == "payment_intent_unexpected_state"


def test_a_hold_can_be_ended_by_the_bank_once(sandbox: Sandbox) -> None:
    intent = str(held(sandbox).payment_intent)
    ended = sandbox.control(f"payment_intents/{intent}/expire", {})
    assert ended["status"] == "canceled"
    again = sandbox.http.post(
        f"{sandbox.stripe_url}/_sandbox/payment_intents/{intent}/expire", json={}
    )
    assert again.status_code == 400


def test_the_dashboard_can_send_money_back_behind_the_shops_back(
    hooked: Receiver, sandbox: Sandbox
) -> None:
    paid = sandbox.paid()
    intent = str(paid.payment_intent)
    made = sandbox.control("refunds", {"payment_intent": intent, "amount": 180})
    assert (made["status"], made["amount"], made["metadata"]) == ("succeeded", 180, {})
    assert sandbox.control("refunds", {"payment_intent": intent})["amount"] == 300
    wait_for(lambda: hooked.types().count("charge.refunded") == 2)
    url = f"{sandbox.stripe_url}/_sandbox/refunds"
    assert sandbox.http.post(url, json={"payment_intent": intent}).status_code == 400


@pytest.mark.parametrize(("effect", "made"), [(True, 1), (False, 0)])
def test_a_refund_under_a_stored_500_is_made_or_not_and_its_key_is_spent(
    sandbox: Sandbox, effect: bool, made: int
) -> None:
    """The caller sees the same either way: only the list tells, and only another key helps."""
    intent = str(sandbox.paid().payment_intent)
    sandbox.fault("stripe", "create_refund", "stored_500", params={"effect": effect})
    for _ in range(2):
        with pytest.raises(stripe.APIError) as refused:
            refund(sandbox, intent, f"stored:{intent}", metadata={"order": "1"})
        assert refused.value.http_status == 500
    assert len(sandbox.sdk.v1.refunds.list({"payment_intent": intent}).data) == made
    if not effect:
        assert refund(sandbox, intent, f"stored:{intent}:2").amount == 480


def test_a_warning_of_fraud_can_be_told(hooked: Receiver, sandbox: Sandbox) -> None:
    paid = sandbox.paid()
    warning = {
        "id": "issfr_1",
        "object": "radar.early_fraud_warning",
        "payment_intent": paid.payment_intent,
        "actionable": True,
        "fraud_type": "made_with_stolen_card",
    }
    sandbox.control("events", {"type": "radar.early_fraud_warning.created", "object": warning})
    wait_for(lambda: "radar.early_fraud_warning.created" in hooked.types())
    (event,) = [e for e in hooked.events() if e.type == "radar.early_fraud_warning.created"]
    assert event.data.object["payment_intent"] == paid.payment_intent


def test_an_inquiry_takes_nothing_and_bars_no_refund(hooked: Receiver, sandbox: Sandbox) -> None:
    intent = str(sandbox.paid().payment_intent)
    asked = {"payment_intent": intent, "reason": "general", "status": "warning_needs_response"}
    inquiry = sandbox.control("disputes", asked)
    assert inquiry["is_charge_refundable"] is True
    sandbox.control(f"disputes/{inquiry['id']}", {"status": "warning_under_review"})
    wait_for(lambda: "charge.dispute.updated" in hooked.types())
    assert "charge.dispute.funds_withdrawn" not in hooked.types()
    assert refund(sandbox, intent).amount == 480


def test_a_disputed_cards_held_money_is_disputed_once_it_is_taken(sandbox: Sandbox) -> None:
    intent = str(held(sandbox, card_number="4000 0000 0000 0259").payment_intent)
    assert sandbox.sdk.v1.disputes.list({"payment_intent": intent}).data == []
    sandbox.sdk.v1.payment_intents.capture(intent)
    (dispute,) = sandbox.sdk.v1.disputes.list({"payment_intent": intent}).data
    assert dispute.status == "needs_response"


def test_a_list_of_an_unknown_payment_is_refused(sandbox: Sandbox) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        sandbox.sdk.v1.disputes.list({"payment_intent": "pi_none"})
    assert refused.value.code == "resource_missing"


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
    assert refund(sandbox, paid.payment_intent).amount == 480


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

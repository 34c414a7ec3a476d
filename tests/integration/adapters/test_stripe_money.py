"""How payments, refunds and disputes are read: fees, money that was let go, fields that cannot be."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from urllib.parse import parse_qs, unquote

import pytest

from smi_desktop.domain.errors import SmiError, TransientError
from smi_desktop.domain.money import Money
from tests.integration.adapters.loopback import serving
from tests.integration.adapters.stripe_samples import (
    CHARGE,
    DISPUTE,
    PAYMENT,
    REFUND,
    answer,
    gateway_for,
)


def test_all_pages_of_refunds_are_read() -> None:
    first = {"object": "list", "url": "/v1/refunds", "has_more": True, "data": [REFUND]}
    older = {**REFUND, "id": "re_0", "status": None, "payment_intent": {"id": "pi_1"}}
    second = {**first, "has_more": False, "data": [older]}
    with serving(answer(first), answer(second)) as server:
        found = gateway_for(server.url).list_refunds("pi_1")
    assert [(refund.id, refund.status) for refund in found] == [
        ("re_1", "succeeded"),
        ("re_0", "pending"),
    ]
    assert "starting_after=re_1" in server.requests[1].target


def test_a_payment_is_read_in_full() -> None:
    with serving(answer(PAYMENT)) as server:
        payment = gateway_for(server.url).retrieve_payment("pi_1")
    assert (payment.status, payment.charge_id, payment.livemode) == ("succeeded", "ch_1", True)
    assert payment.amount == payment.amount_received == Money(199, "usd")
    assert (payment.fee, payment.amount_refunded_minor, payment.disputed) == (None, 0, False)


def test_a_payments_charge_tells_fee_refunds_and_disputes() -> None:
    """The fee comes in the currency of the shop's account, which need not be the customer's."""
    charge = {**CHARGE, "amount_refunded": 99, "disputed": True}
    found = {**PAYMENT, "amount_capturable": 0, "latest_charge": charge}
    with serving(answer(found)) as server:
        payment = gateway_for(server.url).retrieve_payment("pi_1")
    assert "expand[0]=latest_charge.balance_transaction" in unquote(server.requests[0].target)
    assert (payment.charge_id, payment.fee) == ("ch_1", Money(41, "eur"))
    assert (payment.amount_refunded_minor, payment.disputed) == (99, True)
    assert payment.amount_capturable == Money(0, "usd")


@pytest.mark.parametrize("line", [None, "txn_1"])
def test_a_fee_that_is_not_booked_yet_is_unknown(line: str | None) -> None:
    found = {**PAYMENT, "latest_charge": {**CHARGE, "balance_transaction": line}}
    with serving(answer(found)) as server:
        assert gateway_for(server.url).retrieve_payment("pi_1").fee is None


def test_held_money_that_was_let_go_does_not_count_as_refunded() -> None:
    charge = {**CHARGE, "captured": False, "amount_refunded": 199, "balance_transaction": None}
    gone = {**PAYMENT, "status": "canceled", "amount_received": 0, "latest_charge": charge}
    release = {**REFUND, "charge": charge}
    listed = {"object": "list", "url": "/v1/refunds", "has_more": False, "data": [release]}
    with serving(answer(gone), answer(listed)) as server:
        payment = gateway_for(server.url).retrieve_payment("pi_1")
        assert gateway_for(server.url).list_refunds("pi_1") == []
    assert (payment.status, payment.amount_refunded_minor) == ("canceled", 0)
    assert "expand[0]=data.charge" in unquote(server.requests[1].target)


def test_a_refund_of_money_that_was_taken_is_listed_with_its_charge_or_without() -> None:
    rows = [{**REFUND, "charge": CHARGE}, {**REFUND, "charge": "ch_1"}, {**REFUND, "charge": None}]
    listed = {"object": "list", "url": "/v1/refunds", "has_more": False, "data": rows}
    with serving(answer(listed)) as server:
        assert len(gateway_for(server.url).list_refunds("pi_1")) == 3


@pytest.mark.parametrize("verb", ["capture", "cancel"])
def test_held_money_is_taken_or_let_go_under_a_key(verb: str) -> None:
    with serving(answer(PAYMENT)) as server:
        gateway = gateway_for(server.url)
        call = gateway.capture_payment if verb == "capture" else gateway.cancel_payment
        assert call("pi_1", idempotency_key=f"{verb}:order-1:1").id == "pi_1"
    sent = server.requests[0]
    assert sent.target == f"/v1/payment_intents/pi_1/{verb}"
    assert sent.headers["idempotency-key"] == f"{verb}:order-1:1"
    assert parse_qs(sent.body.decode()) == {"expand[0]": ["latest_charge.balance_transaction"]}


def test_a_dispute_is_read_in_full() -> None:
    open_end = {**DISPUTE, "id": "dp_0", "evidence_details": {"due_by": None}, "status": "new"}
    page = {"object": "list", "url": "/v1/disputes", "has_more": False, "data": [DISPUTE, open_end]}
    with serving(answer(page)) as server:
        first, second = gateway_for(server.url).list_disputes("pi_1")
    assert "payment_intent=pi_1" in server.requests[0].target
    assert (first.id, first.payment_intent_id, first.amount) == ("dp_1", "pi_1", Money(199, "usd"))
    assert (first.status, first.reason) == ("needs_response", "product_not_received")
    assert first.due_by == datetime(2026, 1, 15, 13, tzinfo=UTC)
    assert first.created_at == datetime(2026, 1, 15, 12, tzinfo=UTC)
    assert (second.id, second.status, second.due_by) == ("dp_0", "new", None)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("captured", None),
        ("captured", "true"),
        ("amount_refunded", None),
        ("amount_refunded", 1.5),
        ("disputed", None),
        ("balance_transaction", {"id": "txn_1", "fee": None, "currency": "eur"}),
        ("balance_transaction", {"id": "txn_1", "fee": 41, "currency": "euros"}),
    ],
)
def test_a_charge_with_a_field_that_cannot_be_is_not_believed(field: str, value: object) -> None:
    found = {**PAYMENT, "latest_charge": {**CHARGE, field: value}}
    with serving(answer(found)) as server, pytest.raises(TransientError):
        gateway_for(server.url).retrieve_payment("pi_1")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("payment_intent", None),
        ("amount", "199"),
        ("status", None),
        ("reason", 7),
        ("evidence_details", "soon"),
        ("evidence_details", {"due_by": "soon"}),
        ("created", None),
    ],
)
def test_a_dispute_with_a_field_that_cannot_be_is_not_believed(field: str, value: object) -> None:
    row = {**DISPUTE, field: value}
    page = {"object": "list", "url": "/v1/disputes", "has_more": False, "data": [row]}
    with serving(answer(page)) as server, pytest.raises(TransientError):
        gateway_for(server.url).list_disputes("pi_1")


def test_no_payment_whatever_makes_anything_but_an_error_of_ours() -> None:
    """A seeded storm of charges and intents with fields of any shape."""
    draw = random.Random(20261124)
    shapes: list[object] = [None, 0, -1, 10**30, 1.5, True, "", "x", [], [1], {}, {"id": 3}]
    scripted = []
    for _ in range(200):
        charge, payment = dict(CHARGE), dict(PAYMENT)
        charge[draw.choice(sorted(charge))] = draw.choice(shapes)
        payment["latest_charge"] = charge
        payment[draw.choice(sorted(payment))] = draw.choice(shapes)
        scripted.append(answer(payment))
    refused = 0
    with serving(*scripted) as server:
        gateway = gateway_for(server.url)
        for _ in scripted:
            try:
                gateway.retrieve_payment("pi_1")
            except SmiError:
                refused += 1
    assert 50 < refused < 200

"""The table of transitions, arrow by arrow."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smi_desktop.domain.errors import IllegalTransitionError
from smi_desktop.domain.orders import (
    ORDER_TRANSITIONS,
    PAYMENT_TRANSITIONS,
    OrderStatus,
    PaymentStatus,
    check_order_transition,
    check_payment_transition,
)

# Written out a second time on purpose: a change of the table must be meant.
ORDER_ARROWS = {
    ("awaiting_payment", "pending"),
    ("awaiting_payment", "abandoned"),
    ("abandoned", "pending"),
    ("pending", "processing"),
    ("pending", "failed"),
    ("pending", "refunded"),
    ("processing", "completed"),
    ("processing", "failed"),
    ("processing", "refunded"),
    ("completed", "refunded"),
    ("failed", "refunded"),
    ("failed", "pending"),
    ("refunded", "completed"),
    ("refunded", "failed"),
}
PAYMENT_ARROWS = {
    ("pending", "authorized"),
    ("pending", "paid"),
    ("pending", "failed"),
    ("pending", "canceled"),
    ("authorized", "paid"),
    ("authorized", "canceled"),
    ("authorized", "failed"),
    ("paid", "partially_refunded"),
    ("paid", "refunded"),
    ("paid", "disputed"),
    ("partially_refunded", "refunded"),
    ("partially_refunded", "disputed"),
    ("partially_refunded", "paid"),
    ("refunded", "partially_refunded"),
    ("refunded", "paid"),
    ("refunded", "disputed"),
    ("failed", "paid"),
    ("failed", "authorized"),
    ("canceled", "paid"),
    ("canceled", "authorized"),
    ("disputed", "paid"),
    ("disputed", "partially_refunded"),
    ("disputed", "refunded"),
}


@pytest.mark.parametrize(("before", "after"), list(itertools.product(OrderStatus, OrderStatus)))
def test_an_order_moves_along_the_arrows_alone(before: OrderStatus, after: OrderStatus) -> None:
    if (before.value, after.value) in ORDER_ARROWS:
        check_order_transition(before, after, PaymentStatus.PAID)
        assert after in ORDER_TRANSITIONS[before]
    else:
        with pytest.raises(IllegalTransitionError, match=f"'{before}' cannot become '{after}'"):
            check_order_transition(before, after, PaymentStatus.PAID)


@pytest.mark.parametrize(("before", "after"), list(itertools.product(PaymentStatus, PaymentStatus)))
def test_a_payment_moves_along_the_arrows_alone(
    before: PaymentStatus, after: PaymentStatus
) -> None:
    if (before.value, after.value) in PAYMENT_ARROWS:
        check_payment_transition(before, after)
        assert after in PAYMENT_TRANSITIONS[before]
    else:
        with pytest.raises(IllegalTransitionError, match=f"'{before}' cannot become '{after}'"):
            check_payment_transition(before, after)


@pytest.mark.parametrize("payment", list(PaymentStatus))
def test_a_failed_order_is_tried_again_only_while_the_money_is_here(payment: PaymentStatus) -> None:
    if payment in {PaymentStatus.PAID, PaymentStatus.AUTHORIZED}:
        check_order_transition(OrderStatus.FAILED, OrderStatus.PENDING, payment)
        return
    with pytest.raises(IllegalTransitionError, match="money is here"):
        check_order_transition(OrderStatus.FAILED, OrderStatus.PENDING, payment)


def test_every_state_has_its_row_in_the_tables() -> None:
    assert set(ORDER_TRANSITIONS) == set(OrderStatus)
    assert set(PAYMENT_TRANSITIONS) == set(PaymentStatus)


@given(st.lists(st.sampled_from(OrderStatus), max_size=12))
def test_nothing_leads_from_refunded_back_to_work_while_the_money_is_gone(
    wishes: list[OrderStatus],
) -> None:
    """A refund that came to nothing leads to what was before it, and to no new picture."""
    ended = {OrderStatus.REFUNDED, OrderStatus.COMPLETED, OrderStatus.FAILED}
    status = OrderStatus.REFUNDED
    for wish in wishes:
        try:
            check_order_transition(status, wish, PaymentStatus.REFUNDED)
        except IllegalTransitionError:
            continue
        status = wish
        assert status in ended

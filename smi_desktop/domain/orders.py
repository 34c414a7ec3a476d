"""The states of an order and of its payment, and the one table of changes that are legal.

`held` (a person must look) and `disputed` are marks on an order, not states of it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from smi_desktop.domain.errors import IllegalTransitionError


class OrderStatus(StrEnum):
    """The words of the storefront's contract."""

    AWAITING_PAYMENT = "awaiting_payment"
    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    REFUNDED = "refunded"
    ABANDONED = "abandoned"


class PaymentStatus(StrEnum):
    """The words of the storefront's contract for the money."""

    PENDING = "pending"
    AUTHORIZED = "authorized"
    PAID = "paid"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"
    FAILED = "failed"
    CANCELED = "canceled"
    DISPUTED = "disputed"


ORDER_TRANSITIONS: Final[dict[OrderStatus, frozenset[OrderStatus]]] = {
    OrderStatus.AWAITING_PAYMENT: frozenset({OrderStatus.PENDING, OrderStatus.ABANDONED}),
    # A payment that arrives late revives an abandoned order.
    OrderStatus.ABANDONED: frozenset({OrderStatus.PENDING}),
    OrderStatus.PENDING: frozenset(
        {OrderStatus.PROCESSING, OrderStatus.FAILED, OrderStatus.REFUNDED}
    ),
    OrderStatus.PROCESSING: frozenset(
        {OrderStatus.COMPLETED, OrderStatus.FAILED, OrderStatus.REFUNDED}
    ),
    OrderStatus.COMPLETED: frozenset({OrderStatus.REFUNDED}),
    # A retry, only while the shop still has the money.
    OrderStatus.FAILED: frozenset({OrderStatus.REFUNDED, OrderStatus.PENDING}),
    # A refund that fails later brings the money back: the link lives again, or the order is a failed one.
    OrderStatus.REFUNDED: frozenset({OrderStatus.COMPLETED, OrderStatus.FAILED}),
}

PAYMENT_TRANSITIONS: Final[dict[PaymentStatus, frozenset[PaymentStatus]]] = {
    PaymentStatus.PENDING: frozenset(
        {
            PaymentStatus.AUTHORIZED,
            PaymentStatus.PAID,
            PaymentStatus.FAILED,
            PaymentStatus.CANCELED,
        }
    ),
    PaymentStatus.AUTHORIZED: frozenset(
        {PaymentStatus.PAID, PaymentStatus.CANCELED, PaymentStatus.FAILED}
    ),
    PaymentStatus.PAID: frozenset(
        {PaymentStatus.PARTIALLY_REFUNDED, PaymentStatus.REFUNDED, PaymentStatus.DISPUTED}
    ),
    PaymentStatus.PARTIALLY_REFUNDED: frozenset(
        {PaymentStatus.REFUNDED, PaymentStatus.DISPUTED, PaymentStatus.PAID}
    ),
    # A refund that fails later gives the money back to the shop.
    PaymentStatus.REFUNDED: frozenset(
        {PaymentStatus.PARTIALLY_REFUNDED, PaymentStatus.PAID, PaymentStatus.DISPUTED}
    ),
    # Another card on the same page may still go through.
    PaymentStatus.FAILED: frozenset({PaymentStatus.PAID, PaymentStatus.AUTHORIZED}),
    PaymentStatus.CANCELED: frozenset({PaymentStatus.PAID, PaymentStatus.AUTHORIZED}),
    # A dispute won.
    PaymentStatus.DISPUTED: frozenset(
        {PaymentStatus.PAID, PaymentStatus.PARTIALLY_REFUNDED, PaymentStatus.REFUNDED}
    ),
}

RETRYABLE_PAYMENTS: Final = frozenset({PaymentStatus.PAID, PaymentStatus.AUTHORIZED})


def check_order_transition(before: OrderStatus, after: OrderStatus, payment: PaymentStatus) -> None:
    """Refuse a change of an order's state that the table does not allow.

    Raises:
        IllegalTransitionError: The table has no such arrow, or a retry is asked for without money.
    """
    if after not in ORDER_TRANSITIONS[before]:
        raise IllegalTransitionError(f"An order that is '{before}' cannot become '{after}'.")
    if (
        before is OrderStatus.FAILED
        and after is OrderStatus.PENDING
        and payment not in RETRYABLE_PAYMENTS
    ):
        raise IllegalTransitionError(
            f"A failed order is tried again only while its money is here; the payment is '{payment}'."
        )


def check_payment_transition(before: PaymentStatus, after: PaymentStatus) -> None:
    """Refuse a change of a payment's state that the table does not allow.

    Raises:
        IllegalTransitionError: The table has no such arrow.
    """
    if after not in PAYMENT_TRANSITIONS[before]:
        raise IllegalTransitionError(f"A payment that is '{before}' cannot become '{after}'.")

"""What the payment provider's books say of an order's money, written into ours. The only writer of both ledgers.

Refunds and disputes are mirrored whoever made them, and the order's payment, mark and link follow from the
whole of them: whatever the order in which we hear of things, the same books give the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy.orm import Session

from smi_desktop.domain.holds import HoldKind
from smi_desktop.domain.money import Money
from smi_desktop.domain.orders import OrderStatus, PaymentStatus
from smi_desktop.services.emails import queue_refund_mail, wake_failed_mail
from smi_desktop.services.order_states import hold_order, move_order, move_payment, release_order
from smi_desktop.services.ports import CheckoutSession, Dispute, Payment, PaymentRefund
from smi_desktop.services.shop import Shop
from smi_desktop.store import alerts, refunds, timeline
from smi_desktop.store.models import Dispute as DisputeRow
from smi_desktop.store.models import Order, Refund

REFUND_KEY: Final = "smi_refund"
"""The metadata by which a refund at the provider is known as one that we asked for."""

# Money that went back, or that will unless the bank says no.
_COUNTS: Final = frozenset({"pending", "requires_action", "succeeded"})
# https://docs.stripe.com/api/disputes/object: ended in our favour, or never begun.
_DISPUTE_OVER: Final = frozenset({"won", "warning_closed", "prevented"})
_PAID: Final = frozenset(
    {
        PaymentStatus.PAID,
        PaymentStatus.PARTIALLY_REFUNDED,
        PaymentStatus.REFUNDED,
        PaymentStatus.DISPUTED,
    }
)


@dataclass(frozen=True, slots=True)
class MoneyFacts:
    """Everything that the provider says of one checkout, read at one time.

    Attributes:
        payment: None while the session names none.
    """

    checkout: CheckoutSession
    payment: Payment | None
    refunds: Sequence[PaymentRefund] = ()
    disputes: Sequence[Dispute] = ()


def mirror(shop: Shop, session: Session, order: Order, facts: MoneyFacts) -> None:
    """Write refunds and disputes down and let the order follow. The order is locked and its payment recorded."""
    if PaymentStatus(order.payment_status) not in _PAID or facts.payment is None:
        return
    if facts.payment.id != order.payment_intent_id:
        # A payment that bought another order has its refunds there.
        return
    now = shop.now()
    if facts.payment.fee is not None:
        order.fee_minor = facts.payment.fee.amount_minor
        order.fee_currency = facts.payment.fee.currency
    for told in reversed(facts.refunds):
        _mirror_refund(shop, session, order, told, now)
    for dispute in facts.disputes:
        _mirror_dispute(session, order, dispute, now)
    session.flush()
    _follow(session, order, facts, now)


def record_refund(shop: Shop, session: Session, order: Order, told: PaymentRefund) -> None:
    """Write one refund down that was just made, and let the order follow."""
    now = shop.now()
    _mirror_refund(shop, session, order, told, now)
    session.flush()
    _follow_refunds(session, order, now)


def _mirror_refund(
    shop: Shop, session: Session, order: Order, told: PaymentRefund, now: datetime
) -> None:
    row = _row_of(session, order, told)
    before = row.state
    row.stripe_refund_id = told.id
    row.amount_minor, row.currency = told.amount.amount_minor, told.amount.currency
    row.state, row.failure_reason = told.status, told.failure_reason
    if before == told.status:
        return
    row.updated_at = now
    words = {
        "pending": "is on its way",
        "requires_action": "needs something of the customer",
        "succeeded": "went back",
        "failed": "could not be sent back",
        "canceled": "was not sent back after all",
    }
    timeline.add(
        session,
        order.id,
        "refund",
        f"{told.amount} {words.get(told.status, told.status)}.",
        at=now,
        actor="stripe",
        facts={"refund_id": told.id, "status": told.status, "reason": told.failure_reason},
    )
    wake_failed_mail(session, order, now)
    queue_refund_mail(shop, session, order, row, before=before)
    if told.status in {"failed", "canceled"}:
        why = told.failure_reason or "no reason given"
        reason = f"The refund of {told.amount} failed ({why})."
        hold_order(session, order, HoldKind.REFUND_FAILED, reason, at=now)
    elif told.status != "succeeded":
        text = f"Order {order.number}: a refund of {told.amount} waits at the bank."
        alerts.raise_once(session, f"refund:{row.id}", text, at=now, order_id=order.id)
    else:
        alerts.resolve(session, f"refund:{row.id}", at=now)


def _row_of(session: Session, order: Order, told: PaymentRefund) -> Refund:
    """Return our line for a refund: by its id, by our own mark on it, or a new one for the dashboard's."""
    now_known = refunds.of_order(session, order.id)
    for row in now_known:
        if row.stripe_refund_id == told.id:
            return row
    mark = told.metadata.get(REFUND_KEY)
    for row in now_known:
        if row.stripe_refund_id is None and mark == refund_key(row):
            return row
    row = Refund(
        order_id=order.id,
        cause=f"stripe:{told.id}",
        amount_minor=told.amount.amount_minor,
        currency=told.amount.currency,
        state="",
        created_at=told.created_at,
        updated_at=told.created_at,
    )
    session.add(row)
    session.flush()
    return row


def refund_key(row: Refund) -> str:
    """Return the mark that a refund of ours carries at the provider."""
    return f"{row.order_id}:{row.cause}"


def _mirror_dispute(session: Session, order: Order, told: Dispute, now: datetime) -> None:
    row = session.get(DisputeRow, told.id)
    if row is None:
        row = DisputeRow(
            id=told.id,
            order_id=order.id,
            reason=told.reason,
            status="",
            amount_minor=told.amount.amount_minor,
            currency=told.amount.currency,
            created_at=told.created_at,
        )
        session.add(row)
    row.due_by = told.due_by
    if row.status == told.status:
        return
    row.status, row.updated_at = told.status, now
    timeline.add(
        session,
        order.id,
        "dispute",
        f"The payment is disputed ({told.reason}): {told.status.replace('_', ' ')}.",
        at=now,
        actor="stripe",
        facts={"dispute_id": told.id, "status": told.status},
    )


def _follow(session: Session, order: Order, facts: MoneyFacts, now: datetime) -> None:
    disputed = [row for row in facts.disputes if row.status not in _DISPUTE_OVER]
    if disputed and order.disputed_at is None:
        order.disputed_at = now
        text = "The payment is disputed; its link is closed."
        move_payment(session, order, PaymentStatus.DISPUTED, text, at=now)
        if order.status != OrderStatus.REFUNDED:
            due = disputed[0].due_by
            until = f" Answer in Stripe's dashboard until {due:%Y-%m-%d}." if due else ""
            reason = f"The customer's bank disputes the payment ({disputed[0].reason}).{until}"
            hold_order(session, order, HoldKind.DISPUTED, reason, at=now)
    elif not disputed and order.disputed_at is not None:
        order.disputed_at = None
        move_payment(session, order, _after_dispute(order), "The dispute is over.", at=now)
        if order.held_kind == HoldKind.DISPUTED:
            release_order(session, order, "The dispute was won.", at=now)
    _follow_refunds(session, order, now)


def _after_dispute(order: Order) -> PaymentStatus:
    return PaymentStatus.PARTIALLY_REFUNDED if order.refunded_minor else PaymentStatus.PAID


def _follow_refunds(session: Session, order: Order, now: datetime) -> None:
    """Bring the sum, the payment and the order to what the refunds add up to."""
    rows = refunds.of_order(session, order.id)
    back = sum(row.amount_minor for row in rows if row.state in _COUNTS)
    order.refunded_minor = back
    whole = back >= (order.paid_minor or 0) > 0
    # A dispute keeps its word on the payment; what is whole has gone back all the same.
    if order.payment_status != PaymentStatus.DISPUTED:
        _follow_payment(session, order, whole, now)
    if whole and order.status != OrderStatus.REFUNDED:
        move_order(session, order, OrderStatus.REFUNDED, "Refunded; its link is closed.", at=now)
        if order.held_kind != HoldKind.REFUND_FAILED:
            release_order(session, order, "The money went back.", at=now)
    elif not whole and order.status == OrderStatus.REFUNDED:
        # The bank gave the money back to us: what was delivered lives again, else a person decides.
        again = OrderStatus.COMPLETED if order.completed_at else OrderStatus.FAILED
        move_order(session, order, again, "The refund came to nothing.", at=now)


def _follow_payment(session: Session, order: Order, whole: bool, now: datetime) -> None:
    """Give the payment the word that its refunds add up to."""
    back = order.refunded_minor
    target = (
        PaymentStatus.REFUNDED
        if whole
        else PaymentStatus.PARTIALLY_REFUNDED
        if back
        else PaymentStatus.PAID
    )
    if target != order.payment_status:
        sent = Money(back, order.paid_currency or order.currency)
        text = (
            f"{sent} of the payment went back or is on its way." if back else "Nothing went back."
        )
        move_payment(session, order, target, text, at=now)

"""Sending money back, once. Sole owner of when a refund is asked for and of how it is asked.

A refund is a row before it is a call. Before every call the provider's own list is read: what is there
already is taken over, also after a lost answer, after the key's 24 hours, and after a refund by hand.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Final

from sqlalchemy.orm import Session

from smi_desktop.domain.errors import IllegalTransitionError, InvalidInputError, RejectedError
from smi_desktop.domain.holds import HoldKind
from smi_desktop.domain.money import Money
from smi_desktop.domain.orders import OrderStatus, PaymentStatus
from smi_desktop.services.emails import queue_failed_mail
from smi_desktop.services.ledger import REFUND_KEY, record_refund, refund_key
from smi_desktop.services.order_states import hold_order, lock_order, move_order
from smi_desktop.services.ports import PaymentRefund
from smi_desktop.services.shop import Shop
from smi_desktop.services.work import Done, Later, Outcome, TaskKind
from smi_desktop.store import alerts, orders, refunds, tasks, timeline
from smi_desktop.store.models import Order, Refund
from smi_desktop.store.tasks import Claim

FAILURE: Final = "failure"
_NOT_BACK: Final = frozenset({"failed", "canceled"})
# A stored 500 is repeated under its key for a day, so after some tries the key is another one; by then the
# first call has ended, and the list shows what it did.
_TRIES_PER_KEY: Final = 3
_PAUSE: Final = timedelta(minutes=10)


def plan_refund(
    session: Session,
    order: Order,
    *,
    cause: str,
    shop: Shop,
    amount_minor: int | None = None,
    reason: str | None = None,
    actor: str = "system",
) -> Refund | None:
    """Write down that money goes back, and have it sent. The order is locked.

    Args:
        session: A writing transaction.
        order: A paid order.
        cause: Why; each cause has one refund.
        shop: The open shop.
        amount_minor: Minor units; all that is left if None.
        reason: For the customer, in plain words.
        actor: Who asked.

    Returns:
        The refund, or None if nothing is left to send back.

    Raises:
        IllegalTransitionError: The money is not here.
        InvalidInputError: More than is left.
    """
    known = refunds.find_by_cause(session, order.id, cause)
    if known is not None:
        return known
    if order.payment_status not in {PaymentStatus.PAID, PaymentStatus.PARTIALLY_REFUNDED}:
        raise IllegalTransitionError(
            f"The payment is '{order.payment_status}': there is nothing to send back."
        )
    left = left_to_refund(session, order)
    if left.amount_minor <= 0:
        return None
    amount = Money(left.amount_minor if amount_minor is None else amount_minor, left.currency)
    if not 0 < amount.amount_minor <= left.amount_minor:
        raise InvalidInputError(f"{amount} cannot be sent back: {left} is left of the payment.")
    now = shop.now()
    refund = Refund(
        order_id=order.id,
        cause=cause,
        amount_minor=amount.amount_minor,
        currency=amount.currency,
        state="planned",
        reason=reason,
        created_at=now,
        updated_at=now,
    )
    session.add(refund)
    session.flush()
    timeline.add(
        session,
        order.id,
        "refund_planned",
        f"{amount} is to go back.",
        at=now,
        actor=actor,
        facts={"cause": cause, "amount_minor": amount.amount_minor},
    )
    tasks.add_once(
        session,
        TaskKind.SEND_REFUND,
        f"refund:{refund.id}",
        now=now,
        order_id=order.id,
        payload={"refund_id": refund.id},
    )
    return refund


def left_to_refund(session: Session, order: Order) -> Money:
    """Return what of a payment has not gone back and is not about to."""
    gone = sum(
        row.amount_minor
        for row in refunds.of_order(session, order.id)
        if row.state not in _NOT_BACK
    )
    return Money(max(0, (order.paid_minor or 0) - gone), order.paid_currency or order.currency)


def send_refund(shop: Shop, task: Claim) -> Outcome:
    """Send one refund, unless the provider has it already.

    Raises:
        TransientError, ProviderAccountError: Try again later.
    """
    with shop.database.read() as session:
        refund = refunds.get(session, int(task.payload["refund_id"]))
        order = orders.get(session, task.order_id or "")
    if refund is None or order is None or refund.state != "planned":
        return Done()
    if order.payment_intent_id is None:
        text = "The provider names no payment that could go back."
        return Done(partial(_give_up, shop, refund_id=refund.id, text=text))
    if refund.cause == FAILURE and _too_many(shop):
        return Later(shop.now() + _PAUSE, partial(_tell_of_pause, shop))
    gateway = shop.payments(shop.settings())
    there = gateway.list_refunds(order.payment_intent_id)
    for told in there:
        if told.metadata.get(REFUND_KEY) == refund_key(refund):
            return Done(partial(_record, shop, refund_id=refund.id, told=told), called=True)
    taken = sum(told.amount.amount_minor for told in there if told.status not in _NOT_BACK)
    left = (order.paid_minor or 0) - taken
    amount = min(refund.amount_minor, left)
    if amount <= 0:
        text = "All of the money had gone back already."
        return Done(partial(_cancel, shop, refund_id=refund.id, text=text), called=True)
    metadata = {"job_id": order.id, "order_number": order.number, REFUND_KEY: refund_key(refund)}
    try:
        told = gateway.create_refund(
            order.payment_intent_id,
            Money(amount, refund.currency),
            metadata=metadata,
            idempotency_key=f"refund:{refund_key(refund)}:{amount}:{task.failures // _TRIES_PER_KEY}",
        )
    except RejectedError as error:
        return Done(partial(_give_up, shop, refund_id=refund.id, text=error.message), called=True)
    return Done(partial(_record, shop, refund_id=refund.id, told=told), called=True)


def _too_many(shop: Shop) -> bool:
    with shop.database.read() as session:
        sent = refunds.automatic_since(session, shop.now() - timedelta(hours=1))
    return sent >= shop.settings().refunds_per_hour


def _tell_of_pause(shop: Shop, session: Session) -> None:
    text = (
        "Many pictures failed within an hour. Further refunds wait; look at what is wrong, or raise "
        "refunds_per_hour."
    )
    alerts.raise_once(session, "refunds-paused", text, at=shop.now())


def _record(shop: Shop, session: Session, *, refund_id: int, told: PaymentRefund) -> None:
    refund = session.get_one(Refund, refund_id)
    order = lock_order(session, refund.order_id)
    record_refund(shop, session, order, told)
    alerts.resolve(session, "refunds-paused", at=shop.now())


def _cancel(shop: Shop, session: Session, *, refund_id: int, text: str) -> None:
    """Close a refund that is not needed; what is at the provider is mirrored by a look at the books."""
    refund = session.get_one(Refund, refund_id)
    order = lock_order(session, refund.order_id)
    refund.state, refund.failure_reason, refund.updated_at = "canceled", text, shop.now()
    timeline.add(session, order.id, "refund", text, at=shop.now())
    tasks.add_once(
        session,
        TaskKind.SETTLE_ORDER,
        f"settle:{order.id}:refund:{refund_id}",
        now=shop.now(),
        order_id=order.id,
    )


def _give_up(shop: Shop, session: Session, *, refund_id: int, text: str) -> None:
    """The provider says no for good: a person must look; the books are read again, they may say why."""
    _cancel(shop, session, refund_id=refund_id, text=text)
    refund = session.get_one(Refund, refund_id)
    refund.state = "failed"
    order = lock_order(session, refund.order_id)
    reason = f"The refund was refused. {text}"
    hold_order(session, order, HoldKind.REFUND_FAILED, reason, at=shop.now())


def fail_order(
    shop: Shop, session: Session, order: Order, reason: str, *, for_customer: str
) -> None:
    """End an order whose picture cannot be made, and give the customer his money back.

    Args:
        shop: The open shop.
        session: A writing transaction; the order is locked in it and not yet at an end.
        order: The order.
        reason: What happened, for the studio.
        for_customer: The same in words that the customer may read.
    """
    now = shop.now()
    move_order(
        session, order, OrderStatus.FAILED, "The picture could not be made.", at=now,
        facts={"reason": reason},
    )  # fmt: skip
    order.failure_reason = for_customer
    if order.payment_status == PaymentStatus.AUTHORIZED:
        release_money(shop, session, order)
    elif shop.settings().refund_on_failure:
        planned = plan_refund(session, order, cause=FAILURE, shop=shop, reason=for_customer)
        if planned is not None and planned.state in _NOT_BACK:
            # An earlier failure's refund came to nothing; the same would happen again.
            why = f"{reason} An earlier refund has failed, so none was tried again."
            hold_order(session, order, HoldKind.REFUND_FAILED, why, at=now)
    else:
        hold_order(session, order, HoldKind.FAILED, reason, at=now)
    queue_failed_mail(shop, session, order)


def release_money(shop: Shop, session: Session, order: Order) -> None:
    """Have the reservation of an order's money let go."""
    tasks.add_once(
        session,
        TaskKind.TAKE_MONEY,
        f"release:{order.id}:{order.attempt}",
        now=shop.now(),
        order_id=order.id,
        payload={"take": False},
    )

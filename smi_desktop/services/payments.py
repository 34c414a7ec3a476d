"""Turning what the payment provider says into orders that are paid. Holds the one `fulfil` of the program.

A webhook is a trigger, not the truth: the session is read again from the provider. The webhook, the success
page and the sweep all end here; being called many times and at once changes nothing after the first time.
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Final

from sqlalchemy.orm import Session

from smi_desktop.domain.errors import NotFoundError, RejectedError, TransientError
from smi_desktop.domain.holds import HoldKind
from smi_desktop.domain.money import Money
from smi_desktop.domain.orders import OrderStatus, PaymentStatus
from smi_desktop.services.attempts import go_on
from smi_desktop.services.emails import (
    queue_failed_mail,
    queue_payment_failed_mail,
    wake_failed_mail,
)
from smi_desktop.services.ledger import MoneyFacts, mirror
from smi_desktop.services.order_states import hold_order, lock_order, move_order, move_payment
from smi_desktop.services.ports import CheckoutSession, PaymentGateway
from smi_desktop.services.shop import Shop
from smi_desktop.services.work import Done, Outcome, TaskKind
from smi_desktop.store import alerts, inbox, orders, tasks, timeline
from smi_desktop.store.models import InboxEntry, Order
from smi_desktop.store.tasks import Claim

_SESSION_EVENTS: Final = frozenset(
    {
        "checkout.session.completed",
        "checkout.session.async_payment_succeeded",
        "checkout.session.async_payment_failed",
        "checkout.session.expired",
    }
)
_MONEY_EVENTS: Final = frozenset(
    {
        "payment_intent.canceled",
        "charge.refunded",
        "charge.refund.updated",
        "refund.created",
        "refund.updated",
        "refund.failed",
        "charge.dispute.created",
        "charge.dispute.updated",
        "charge.dispute.closed",
        "charge.dispute.funds_withdrawn",
        "charge.dispute.funds_reinstated",
        "radar.early_fraud_warning.created",
    }
)
# https://docs.stripe.com/payments/paymentintents/lifecycle: back to the start, or ended.
_FAILED_PAYMENTS: Final = frozenset({"requires_payment_method", "canceled"})
_UNPAID_STATES: Final = frozenset(
    {PaymentStatus.PENDING, PaymentStatus.FAILED, PaymentStatus.CANCELED}
)
_OPEN_ORDERS: Final = frozenset({OrderStatus.AWAITING_PAYMENT, OrderStatus.ABANDONED})
# An event may overtake the commit of its order; after so many tries it belongs to nothing that we know.
_TRIES_UNKNOWN: Final = 4


def apply_event(shop: Shop, task: Claim) -> Outcome:
    """Apply one stored event. Repeatable: it reads the present state and records what follows from it.

    Raises:
        TransientError, ProviderAccountError: The provider could not be asked.
        NotFoundError: No order is known for it yet; after some tries it is set aside with an alert.
    """
    inbox_id = int(task.payload["inbox_id"])
    with shop.database.read() as session:
        entry = inbox.get(session, inbox_id)
    if entry is None or entry.state in {"applied", "ignored"}:
        return Done()
    try:
        facts = read_event(shop, entry)
        if facts is None:
            return Done(partial(_mark_ignored, inbox_id=inbox_id, at=shop.now()))
        with shop.database.read() as session:
            find_order(session, facts.checkout)
    except NotFoundError as error:
        if task.failures < _TRIES_UNKNOWN:
            raise
        return Done(partial(_set_aside, shop, inbox_id=inbox_id, why=error.message), called=True)

    def record(session: Session) -> None:
        order = fulfil(shop, session, facts)
        if entry.type == "radar.early_fraud_warning.created":
            text = (
                f"Order {order.number}: the card's bank warns of fraud. A refund avoids a dispute."
            )
            key = f"fraud:{order.id}"
            alerts.raise_once(session, key, text, at=shop.now(), order_id=order.id)
        inbox.mark(session, inbox_id, "applied", at=shop.now(), order_id=order.id)

    return Done(record, called=True)


def read_event(shop: Shop, entry: InboxEntry) -> MoneyFacts | None:
    """Read what the provider says today of what an event is about, or None if nothing follows from it.

    Raises:
        NotFoundError: It is about a checkout that is not one of ours.
        TransientError, ProviderAccountError: The provider could not be asked.
    """
    about = json.loads(entry.body)["data"]["object"]
    gateway = shop.payments(shop.settings())
    if entry.type in _SESSION_EVENTS and isinstance(about.get("id"), str):
        return read_money(gateway, about["id"], everything=False)
    if entry.type not in _MONEY_EVENTS:
        return None
    intent = about.get("id" if entry.type.startswith("payment_intent.") else "payment_intent")
    if not isinstance(intent, str):
        return None
    with shop.database.read() as session:
        order = orders.find_by_payment_intent(session, intent)
        if order is None:
            named = gateway.retrieve_payment(intent).metadata.get("job_id", "")
            order = orders.get(session, named)
    if order is None or order.stripe_session_id is None:
        raise NotFoundError(f"No order of this shop belongs to the payment {intent}.")
    return read_money(gateway, order.stripe_session_id, everything=True)


def read_money(gateway: PaymentGateway, session_id: str, *, everything: bool) -> MoneyFacts:
    """Read a checkout with its payment, refunds and disputes.

    Args:
        gateway: The payment provider.
        session_id: The checkout's.
        everything: Ask for refunds and disputes also where the payment shows none: one that failed is
            no longer seen there.

    Raises:
        NotFoundError, TransientError, ProviderAccountError: See the port.
    """
    checkout = gateway.retrieve_session(session_id)
    intent = checkout.payment_intent_id
    if intent is None or checkout.status != "complete":
        return MoneyFacts(checkout, None)
    payment = gateway.retrieve_payment(intent)
    return MoneyFacts(
        checkout,
        payment,
        gateway.list_refunds(intent) if everything or payment.amount_refunded_minor else (),
        gateway.list_disputes(intent) if everything or payment.disputed else (),
    )


def settle_order(shop: Shop, task: Claim) -> Outcome:
    """Read an order's money at the provider and record what follows."""
    with shop.database.read() as session:
        order = orders.get(session, task.order_id or "")
    if order is None:
        return Done()
    if order.stripe_session_id is None:
        # The address of its page was never handed out, so nobody can have paid there.
        return Done(partial(_abandon, shop, order_id=order.id, at=shop.now()))
    everything = order.paid_at is not None
    gateway = shop.payments(shop.settings())
    facts = read_money(gateway, order.stripe_session_id, everything=everything)

    def record(session: Session) -> None:
        fulfil(shop, session, facts)

    return Done(record, called=True)


def ask_to_settle(shop: Shop, order: Order) -> None:
    """Have an unpaid order looked up at the provider soon, at most once a minute."""
    now = shop.now()
    with shop.database.write() as session:
        key = f"settle:{order.id}:{int(now.timestamp()) // 60}"
        tasks.add_once(session, TaskKind.SETTLE_ORDER, key, now=now, order_id=order.id)


def fulfil(shop: Shop, session: Session, facts: MoneyFacts) -> Order:
    """Bring an order to what the provider says of its checkout. Safe many times and at once.

    Args:
        shop: The open shop.
        session: A writing transaction; the order is locked in it.
        facts: What the provider says now.

    Raises:
        NotFoundError: No order belongs to this session.
    """
    checkout, payment = facts.checkout, facts.payment
    order = find_order(session, checkout)
    now = shop.now()
    if order.stripe_session_id is None:
        order.stripe_session_id = checkout.id
    said = payment.status if payment else ""
    if checkout.payment_status in {"paid", "no_payment_required"}:
        _record_payment(shop, session, order, facts, PaymentStatus.PAID)
    elif said == "requires_capture":
        _record_payment(shop, session, order, facts, PaymentStatus.AUTHORIZED)
    elif order.payment_status == PaymentStatus.AUTHORIZED:
        if said == "canceled":
            _record_end_of_hold(shop, session, order, now)
    elif checkout.status == "complete" and said in _FAILED_PAYMENTS:
        _record_failed_payment(shop, session, order, now)
    elif checkout.status == "expired":
        _abandon(shop, session, order_id=order.id, at=now)
    elif checkout.status == "complete":
        _note_once(session, order, "awaiting_funds", "Ordered; the money is on its way.", now)
    mirror(shop, session, order, facts)
    go_on(shop, session, order)
    return order


def find_order(session: Session, checkout: CheckoutSession) -> Order:
    """Match by session, else by our metadata, else by our reference; and lock."""
    found = orders.find_by_session(session, checkout.id)
    candidates = [
        found.id if found else None,
        checkout.metadata.get("job_id"),
        checkout.client_reference_id,
    ]
    for order_id in candidates:
        order = orders.get_locked(session, order_id) if order_id else None
        if order is not None and order.stripe_session_id in {None, checkout.id}:
            return order
    raise NotFoundError(f"No order of this shop belongs to the checkout session {checkout.id}.")


def _record_payment(
    shop: Shop, session: Session, order: Order, facts: MoneyFacts, arrived: PaymentStatus
) -> None:
    """Write down that the money came, or that it is reserved; and, once, start the work."""
    now = shop.now()
    before = PaymentStatus(order.payment_status)
    checkout = facts.checkout
    if before is PaymentStatus.AUTHORIZED and arrived is PaymentStatus.PAID:
        order.paid_at = now
        move_payment(session, order, arrived, "The reserved money was taken.", at=now)
        return
    if before not in _UNPAID_STATES or order.status not in _OPEN_ORDERS:
        return
    other = _bought_before(session, order, checkout)
    doubt = _find_doubt(order, facts, other)
    # What the payment itself says, since that is what can go back.
    paid = facts.payment.amount if facts.payment else checkout.amount_total
    order.paid_minor = paid.amount_minor if paid else 0
    order.paid_currency = paid.currency if paid else order.currency
    if other is None:
        # Also of a payment in doubt: it must be able to go back, and must not buy another order.
        order.payment_intent_id = checkout.payment_intent_id
    order.customer_name = checkout.customer_name
    order.email = order.email or checkout.customer_email
    references = {"payment_intent_id": checkout.payment_intent_id, "session_id": checkout.id}
    if arrived is PaymentStatus.PAID:
        order.paid_at = now
        text = f"Paid {paid}."
    else:
        order.authorized_at = now
        text = f"{paid} is reserved on the card."
    move_payment(session, order, arrived, text, at=now, facts=references)
    move_order(session, order, OrderStatus.PENDING, "The payment arrived.", at=now)
    if doubt is not None:
        kind, why = doubt
        hold_order(session, order, kind, why, at=now)


def _bought_before(session: Session, order: Order, checkout: CheckoutSession) -> Order | None:
    """Return the other order that this payment has bought, if there is one."""
    if checkout.payment_intent_id is None:
        return None
    found = orders.find_by_payment_intent(session, checkout.payment_intent_id)
    return found if found is not None and found.id != order.id else None


def _find_doubt(
    order: Order, facts: MoneyFacts, other: Order | None
) -> tuple[HoldKind, str] | None:
    """Return why this payment must not buy this order, or None."""
    checkout, payment = facts.checkout, facts.payment
    expected = Money(order.amount_minor, order.currency)
    if other is not None:
        why = f"The same payment has bought order {other.number} already."
        return HoldKind.PAYMENT_REUSED, why
    text: str | None = None
    if checkout.amount_total != expected:
        text = f"Paid {checkout.amount_total}, but the price is {expected}."
    elif payment is None:
        text = "Stripe names no payment for this session."
    elif payment.amount != expected:
        text = f"The payment is of {payment.amount}, but the price is {expected}."
    elif checkout.livemode is not order.livemode or payment.livemode is not order.livemode:
        text = "The payment is of another mode (live or test) than the order."
    elif any(
        named not in {None, order.id}
        for named in (checkout.metadata.get("job_id"), payment.metadata.get("job_id"))
    ):
        text = "The payment names another order."
    return (HoldKind.PAYMENT_DIFFERS, text) if text else None


def _record_failed_payment(shop: Shop, session: Session, order: Order, now: datetime) -> None:
    if order.payment_status == PaymentStatus.PENDING:
        move_payment(session, order, PaymentStatus.FAILED, "The payment failed.", at=now)
    _abandon(shop, session, order_id=order.id, at=now)


def _record_end_of_hold(shop: Shop, session: Session, order: Order, now: datetime) -> None:
    """The reservation of the money is gone: let go by us after a failure, else by the bank or by hand."""
    move_payment(session, order, PaymentStatus.CANCELED, "The reservation was let go.", at=now)
    wake_failed_mail(session, order, now)
    if order.status in {OrderStatus.PENDING, OrderStatus.PROCESSING}:
        reason = "The reserved money was let go before the picture was ready."
        order.failure_reason = "The reservation on your card ended before the picture was ready."
        move_order(session, order, OrderStatus.FAILED, reason, at=now)
        hold_order(session, order, HoldKind.CAPTURE_FAILED, reason, at=now)
        queue_failed_mail(shop, session, order)


def _abandon(shop: Shop, session: Session, *, order_id: str, at: datetime) -> None:
    order = lock_order(session, order_id)
    if order.status == OrderStatus.AWAITING_PAYMENT:
        move_order(session, order, OrderStatus.ABANDONED, "Not paid in time.", at=at)
        queue_payment_failed_mail(shop, session, order)


def _note_once(session: Session, order: Order, kind: str, text: str, now: datetime) -> None:
    if all(entry.kind != kind for entry in timeline.of_order(session, order.id)):
        timeline.add(session, order.id, kind, text, at=now, actor="stripe")


def _mark_ignored(session: Session, *, inbox_id: int, at: datetime) -> None:
    inbox.mark(session, inbox_id, "ignored", at=at, note="Nothing follows from this kind of event.")


def _set_aside(shop: Shop, session: Session, *, inbox_id: int, why: str) -> None:
    now = shop.now()
    inbox.mark(session, inbox_id, "unknown", at=now, note=why)
    text = (
        f"{why} If it was bought at this shop, find out which order it is and replay event "
        f"{inbox_id}; if another product of yours took it, dismiss it."
    )
    alerts.raise_once(session, f"unknown:{inbox_id}", text, at=now)


def take_money(shop: Shop, task: Claim) -> Outcome:
    """Take reserved money whose picture is ready, or let it go; what happened is then read from the books.

    Raises:
        TransientError, ProviderAccountError: Try again later.
    """
    with shop.database.read() as session:
        order = orders.get(session, task.order_id or "")
    if order is None or order.payment_status != PaymentStatus.AUTHORIZED:
        return Done()
    gateway = shop.payments(shop.settings())
    intent, session_id = order.payment_intent_id or "", order.stripe_session_id or ""
    take = bool(task.payload["take"])
    if gateway.retrieve_payment(intent).status == "requires_capture":
        with suppress(RejectedError):  # The books, read below, say what has become of it.
            if take:
                gateway.capture_payment(intent, idempotency_key=f"capture:{order.id}")
            else:
                gateway.cancel_payment(intent, idempotency_key=f"release:{order.id}")
    facts = read_money(gateway, session_id, everything=False)
    if facts.payment is not None and facts.payment.status == "requires_capture":
        raise TransientError("Stripe has neither taken nor let go the reserved money yet.")

    def record(session: Session) -> None:
        fulfil(shop, session, facts)

    return Done(record, called=True)

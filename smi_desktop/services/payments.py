"""Turning what the payment provider says into orders that are paid. Holds the one `fulfil` of the program.

A webhook is a trigger, not the truth: the session is read again from the provider. The webhook, the success
page and the sweep all end here; being called many times and at once changes nothing after the first time.
"""

from __future__ import annotations

import json
from datetime import datetime
from functools import partial
from typing import Final

from sqlalchemy.orm import Session

from smi_desktop.domain.errors import NotFoundError
from smi_desktop.domain.money import Money
from smi_desktop.domain.orders import OrderStatus, PaymentStatus
from smi_desktop.services.attempts import ask_for_attempt
from smi_desktop.services.order_states import hold_order, lock_order, move_order, move_payment
from smi_desktop.services.ports import CheckoutSession, PaymentGateway
from smi_desktop.services.shop import Shop
from smi_desktop.services.work import Done, Outcome, TaskKind
from smi_desktop.store import inbox, orders, tasks, timeline
from smi_desktop.store.models import Order
from smi_desktop.store.tasks import Claim

_SESSION_EVENTS: Final = frozenset(
    {
        "checkout.session.completed",
        "checkout.session.async_payment_succeeded",
        "checkout.session.async_payment_failed",
        "checkout.session.expired",
    }
)
# https://docs.stripe.com/payments/paymentintents/lifecycle: back to the start, or ended.
_FAILED_PAYMENTS: Final = frozenset({"requires_payment_method", "canceled"})
_UNPAID_STATES: Final = frozenset(
    {PaymentStatus.PENDING, PaymentStatus.FAILED, PaymentStatus.CANCELED}
)


def apply_event(shop: Shop, task: Claim) -> Outcome:
    """Apply one stored event. Repeatable: it reads the present state and records what follows from it.

    Raises:
        TransientError, ProviderAccountError: The provider could not be asked.
        NotFoundError: The session is not one of ours; the engine gives up after some tries.
    """
    inbox_id = int(task.payload["inbox_id"])
    with shop.database.read() as session:
        entry = inbox.get(session, inbox_id)
    if entry is None or entry.state in {"applied", "ignored"}:
        return Done()
    event = json.loads(entry.body)
    session_id = event["data"]["object"].get("id")
    if entry.type not in _SESSION_EVENTS or not isinstance(session_id, str):
        return Done(partial(_mark_ignored, inbox_id=inbox_id, at=shop.now()))
    checkout = shop.payments(shop.settings()).retrieve_session(session_id)

    def record(session: Session) -> None:
        order = fulfil(shop, session, checkout, failed="async_payment_failed" in entry.type)
        inbox.mark(session, inbox_id, "applied", at=shop.now(), order_id=order.id)

    return Done(record)


def settle_order(shop: Shop, task: Claim) -> Outcome:
    """Ask the provider about an order whose payment we have not heard of, and record what follows."""
    with shop.database.read() as session:
        order = orders.get(session, task.order_id or "")
    if order is None or order.status != OrderStatus.AWAITING_PAYMENT:
        return Done()
    if order.stripe_session_id is None:
        # The address of its page was never handed out, so nobody can have paid there.
        return Done(partial(_abandon, order_id=order.id, at=shop.now()))
    payments = shop.payments(shop.settings())
    checkout = payments.retrieve_session(order.stripe_session_id)
    failed = _has_failed(payments, checkout)

    def record(session: Session) -> None:
        fulfil(shop, session, checkout, failed=failed)

    return Done(record)


def _has_failed(payments: PaymentGateway, checkout: CheckoutSession) -> bool:
    """Tell whether a slow payment came to nothing; its session stays `complete` and `unpaid` for ever."""
    waiting = checkout.status == "complete" and checkout.payment_status == "unpaid"
    if not waiting or checkout.payment_intent_id is None:
        return False
    return payments.retrieve_payment(checkout.payment_intent_id).status in _FAILED_PAYMENTS


def ask_to_settle(shop: Shop, order: Order) -> None:
    """Have an unpaid order looked up at the provider soon, at most once a minute."""
    now = shop.now()
    with shop.database.write() as session:
        key = f"settle:{order.id}:{int(now.timestamp()) // 60}"
        tasks.add_once(session, TaskKind.SETTLE_ORDER, key, now=now, order_id=order.id)


def fulfil(
    shop: Shop, session: Session, checkout: CheckoutSession, *, failed: bool = False
) -> Order:
    """Bring an order to what its checkout session says. Safe many times and at once.

    Args:
        shop: The open shop.
        session: A writing transaction; the order is locked in it.
        checkout: The session as the provider tells it now.
        failed: The event said that a delayed payment failed; a session that is paid wins over it.

    Raises:
        NotFoundError: No order belongs to this session.
    """
    order = _find_order(session, checkout)
    now = shop.now()
    if order.stripe_session_id is None:
        order.stripe_session_id = checkout.id
    match checkout.payment_status:
        case "paid" | "no_payment_required":
            _record_payment(session, order, checkout, now)
        case _ if failed:
            _record_failed_payment(session, order, now)
        case _ if checkout.status == "expired":
            _abandon(session, order_id=order.id, at=now)
        case _ if checkout.status == "complete":
            _note_once(session, order, "awaiting_funds", "Ordered; the money is on its way.", now)
        case _:
            pass  # Still open: the customer may yet pay.
    return order


def _find_order(session: Session, checkout: CheckoutSession) -> Order:
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
    session: Session, order: Order, checkout: CheckoutSession, now: datetime
) -> None:
    if PaymentStatus(order.payment_status) not in _UNPAID_STATES:
        return
    other = _bought_before(session, order, checkout)
    doubt = _find_doubt(order, checkout, other)
    paid = checkout.amount_total
    order.paid_minor = paid.amount_minor if paid else 0
    order.paid_currency = paid.currency if paid else order.currency
    order.paid_at = now
    if other is None:
        # Also of a payment in doubt: it must be able to go back, and must not buy another order.
        order.payment_intent_id = checkout.payment_intent_id
    order.customer_name = checkout.customer_name
    order.email = order.email or checkout.customer_email
    facts = {"payment_intent_id": checkout.payment_intent_id, "session_id": checkout.id}
    move_payment(session, order, PaymentStatus.PAID, f"Paid {paid}.", at=now, facts=facts)
    move_order(session, order, OrderStatus.PENDING, "The payment arrived.", at=now)
    if doubt is not None:
        hold_order(session, order, doubt, at=now)
        return
    ask_for_attempt(session, order, now=now)


def _bought_before(session: Session, order: Order, checkout: CheckoutSession) -> Order | None:
    """Return the other order that this payment has bought, if there is one."""
    if checkout.payment_intent_id is None:
        return None
    found = orders.find_by_payment_intent(session, checkout.payment_intent_id)
    return found if found is not None and found.id != order.id else None


def _find_doubt(order: Order, checkout: CheckoutSession, other: Order | None) -> str | None:
    """Return why this payment must not buy this order, or None."""
    expected = Money(order.amount_minor, order.currency)
    if checkout.amount_total != expected:
        return f"Paid {checkout.amount_total}, but the price is {expected}."
    if checkout.livemode is not order.livemode:
        return "The payment is of another mode (live or test) than the order."
    named = checkout.metadata.get("job_id")
    if named is not None and named != order.id:
        return "The payment names another order."
    if checkout.payment_intent_id is None:
        return "Stripe names no payment for this session."
    if other is not None:
        return f"The same payment has bought order {other.number} already."
    return None


def _record_failed_payment(session: Session, order: Order, now: datetime) -> None:
    if order.payment_status == PaymentStatus.PENDING:
        move_payment(session, order, PaymentStatus.FAILED, "The payment failed.", at=now)
    _abandon(session, order_id=order.id, at=now)


def _abandon(session: Session, *, order_id: str, at: datetime) -> None:
    order = lock_order(session, order_id)
    if order.status == OrderStatus.AWAITING_PAYMENT:
        move_order(session, order, OrderStatus.ABANDONED, "Not paid in time.", at=at)


def _note_once(session: Session, order: Order, kind: str, text: str, now: datetime) -> None:
    if all(entry.kind != kind for entry in timeline.of_order(session, order.id)):
        timeline.add(session, order.id, kind, text, at=now, actor="stripe")


def _mark_ignored(session: Session, *, inbox_id: int, at: datetime) -> None:
    inbox.mark(session, inbox_id, "ignored", at=at, note="Nothing follows from this kind of event.")

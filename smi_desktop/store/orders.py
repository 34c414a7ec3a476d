"""Queries about orders. Says nothing about which change is legal: that is services/order_states."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, func, or_, select, tuple_
from sqlalchemy.orm import Session

from smi_desktop.domain.orders import OrderStatus
from smi_desktop.store.models import Order, PlainText, UtcDateTime


@dataclass(frozen=True, slots=True)
class OrderTotals:
    """What one currency's orders add up to, in minor units and millionths of a US dollar."""

    status: str
    currency: str
    count: int
    paid_minor: int
    cost_micro_usd: int


def get(session: Session, order_id: str) -> Order | None:
    """Return an order by its id."""
    return session.get(Order, order_id)


def get_locked(session: Session, order_id: str) -> Order | None:
    """Return an order and keep others from changing it until the transaction ends."""
    return session.get(Order, order_id, with_for_update=True, populate_existing=True)


def find_by_session(session: Session, stripe_session_id: str) -> Order | None:
    """Return the order of a checkout session."""
    return session.scalar(select(Order).where(Order.stripe_session_id == stripe_session_id))


def find_by_payment_intent(session: Session, payment_intent_id: str) -> Order | None:
    """Return the order that a payment intent has paid."""
    return session.scalar(select(Order).where(Order.payment_intent_id == payment_intent_id))


def find_by_token(session: Session, token_sha256: str) -> Order | None:
    """Return the order whose present link has this hash."""
    return session.scalar(select(Order).where(Order.token_sha256 == token_sha256))


def find_by_number(session: Session, number: str) -> Order | None:
    """Return an order by the number that people spell."""
    return session.scalar(select(Order).where(Order.number == number))


def paid_by_email(session: Session, email: str, *, limit: int) -> Sequence[Order]:
    """Return an address's paid orders, newest first; upper and lower case are the same.

    Databases fold ASCII alone, Python folds every letter: an address with others must be spelt as it was.
    """
    folded = func.lower(Order.email, type_=PlainText) == email.lower()
    return session.scalars(
        select(Order)
        .where(or_(folded, Order.email == email), Order.paid_at.is_not(None))
        .order_by(Order.created_at.desc())
        .limit(limit)
    ).all()


def numbers(session: Session, order_ids: Iterable[str]) -> dict[str, str]:
    """Return orders' numbers by their ids."""
    rows = session.execute(select(Order.id, Order.number).where(Order.id.in_(list(order_ids))))
    return dict(rows.all())


def first_unused_number(session: Session, candidates: Iterable[str]) -> str:
    """Return the first of the numbers that no order has yet."""
    return next(number for number in candidates if find_by_number(session, number) is None)


def list_page(
    session: Session,
    *,
    status: str | None = None,
    before: tuple[datetime, str] | None = None,
    limit: int = 100,
) -> Sequence[Order]:
    """Return a page of orders, newest first; `before` is (created_at, id) of the last one seen."""
    query = select(Order).order_by(Order.created_at.desc(), Order.id.desc()).limit(limit)
    if status is not None:
        query = query.where(Order.status == status)
    if before is not None:
        query = query.where(tuple_(Order.created_at, Order.id) < before)
    return session.scalars(query).all()


def unpaid_since(session: Session, *, expired_before: datetime, limit: int) -> Sequence[Order]:
    """Return orders that still await a payment although their checkout page has ended; held ones are a person's."""
    return session.scalars(
        select(Order)
        .where(
            Order.status == OrderStatus.AWAITING_PAYMENT,
            Order.checkout_expires_at < expired_before,
            Order.held_at.is_(None),
        )
        .order_by(Order.checkout_expires_at)
        .limit(limit)
    ).all()


def list_held(session: Session, *, limit: int) -> Sequence[Order]:
    """Return orders that wait for a person, longest first; what was refunded is settled."""
    return session.scalars(
        select(Order)
        .where(Order.held_at.is_not(None), Order.status != OrderStatus.REFUNDED)
        .order_by(Order.held_at)
        .limit(limit)
    ).all()


def ending_unfetched(
    session: Session, *, now: datetime, before: datetime, limit: int
) -> Sequence[Order]:
    """Return delivered orders whose link ends before a moment and whose file nobody has downloaded."""
    return session.scalars(
        select(Order)
        .where(
            Order.status == OrderStatus.COMPLETED,
            Order.expires_at > now,
            Order.expires_at < before,
            Order.downloaded_at.is_(None),
            Order.disputed_at.is_(None),
            Order.email.is_not(None),
        )
        .order_by(Order.expires_at)
        .limit(limit)
    ).all()


def in_work_since(session: Session, *, paid_before: datetime, limit: int) -> Sequence[Order]:
    """Return orders whose money came before a moment and whose picture is not there yet."""
    return session.scalars(
        select(Order)
        .where(
            Order.status.in_((OrderStatus.PENDING, OrderStatus.PROCESSING)),
            func.coalesce(Order.paid_at, Order.authorized_at, type_=UtcDateTime) < paid_before,
            Order.email.is_not(None),
        )
        .order_by(Order.created_at)
        .limit(limit)
    ).all()


def with_file_due(session: Session, *, ended_before: datetime, limit: int) -> Sequence[Order]:
    """Return delivered orders whose link ended before a moment and whose file is still there."""
    return session.scalars(
        select(Order)
        .where(
            Order.expires_at < ended_before,
            Order.file_key.is_not(None),
            Order.file_removed_at.is_(None),
            or_(
                and_(Order.status == OrderStatus.COMPLETED, Order.held_at.is_(None)),
                Order.status == OrderStatus.REFUNDED,
            ),
        )
        .order_by(Order.expires_at)
        .limit(limit)
    ).all()


def source_keys_in_use(session: Session, *, abandoned_after: datetime) -> set[str]:
    """Return the snapshots of sources that an order may still need.

    An abandoned order keeps its snapshot if it was abandoned after the given moment.
    """
    return set(
        session.scalars(
            select(Order.source_key)
            .where(
                Order.status != OrderStatus.REFUNDED,
                Order.file_removed_at.is_(None),
                or_(Order.status != OrderStatus.ABANDONED, Order.updated_at > abandoned_after),
            )
            .distinct()
        )
    )


def file_keys_in_use(session: Session) -> set[str]:
    """Return the results that belong to an order and have not been removed."""
    keys = session.scalars(select(Order.file_key).where(Order.file_removed_at.is_(None)))
    return {key for key in keys if key is not None}


def totals(session: Session) -> Sequence[OrderTotals]:
    """Return counts and sums per status and currency."""
    rows = session.execute(
        select(
            Order.status,
            Order.currency,
            func.count(),
            func.sum(func.coalesce(Order.paid_minor, 0)),
            func.sum(Order.cost_micro_usd),
        )
        .group_by(Order.status, Order.currency)
        .order_by(Order.status, Order.currency)
    )
    # PostgreSQL adds up to a Decimal, SQLite to an int.
    return [
        OrderTotals(status, currency, count, int(paid), int(cost))
        for status, currency, count, paid, cost in rows
    ]

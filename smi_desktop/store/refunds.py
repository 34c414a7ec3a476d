"""Queries about money that went back, or is on its way, and about disputed payments."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from smi_desktop.store.models import Dispute, Order, Refund

_OPEN = ("planned", "pending", "requires_action")


def get(session: Session, refund_id: int) -> Refund | None:
    """Return a refund."""
    return session.get(Refund, refund_id)


def of_order(session: Session, order_id: str) -> Sequence[Refund]:
    """Return an order's refunds, oldest first."""
    return session.scalars(
        select(Refund).where(Refund.order_id == order_id).order_by(Refund.id)
    ).all()


def latest(session: Session, order_id: str) -> Refund | None:
    """Return the refund that was begun last."""
    return session.scalar(
        select(Refund).where(Refund.order_id == order_id).order_by(Refund.id.desc()).limit(1)
    )


def succeeded_minor(session: Session, order_id: str) -> int:
    """Return what of an order's payment has arrived back, in minor units."""
    query = select(func.sum(Refund.amount_minor)).where(
        Refund.order_id == order_id, Refund.state == "succeeded"
    )
    return int(session.scalar(query) or 0)


def find_by_cause(session: Session, order_id: str, cause: str) -> Refund | None:
    """Return the one refund of an order that this cause has."""
    return session.scalar(select(Refund).where(Refund.order_id == order_id, Refund.cause == cause))


def automatic_since(session: Session, moment: datetime) -> int:
    """Return how many refunds for failures have left since a moment."""
    query = select(func.count()).where(
        Refund.cause == "failure",
        Refund.stripe_refund_id.is_not(None),
        Refund.updated_at > moment,
    )
    return session.scalar(query) or 0


def orders_to_look_at(session: Session, *, limit: int) -> Sequence[Order]:
    """Return orders with a refund that has not come to its end."""
    return session.scalars(
        select(Order)
        .where(Order.id.in_(select(Refund.order_id).where(Refund.state.in_(_OPEN))))
        .order_by(Order.created_at)
        .limit(limit)
    ).all()


def disputes_of(session: Session, order_id: str) -> Sequence[Dispute]:
    """Return an order's disputes, oldest first."""
    return session.scalars(
        select(Dispute).where(Dispute.order_id == order_id).order_by(Dispute.created_at)
    ).all()

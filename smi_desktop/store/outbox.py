"""Queries about mails to customers."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from smi_desktop.store.models import OutboxMail


def get(session: Session, mail_id: int) -> OutboxMail | None:
    """Return a mail."""
    return session.get(OutboxMail, mail_id)


def find_by_key(session: Session, key: str) -> OutboxMail | None:
    """Return the mail of this key."""
    return session.scalar(select(OutboxMail).where(OutboxMail.key == key))


def of_order(session: Session, order_id: str) -> Sequence[OutboxMail]:
    """Return an order's mails, oldest first."""
    return session.scalars(
        select(OutboxMail).where(OutboxMail.order_id == order_id).order_by(OutboxMail.id)
    ).all()


def is_waiting(session: Session, kind: str) -> bool:
    """Tell whether a mail of this kind is still to be sent."""
    query = select(OutboxMail.id).where(
        OutboxMail.kind == kind, OutboxMail.state.in_(("queued", "sending"))
    )
    return session.scalar(query.limit(1)) is not None

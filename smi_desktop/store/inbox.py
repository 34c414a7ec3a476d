"""Queries about received webhooks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from smi_desktop.store import inserting
from smi_desktop.store.models import InboxEntry


def insert_once(session: Session, values: dict[str, Any]) -> int | None:
    """Insert an entry unless the provider has sent this event before.

    Returns:
        The new entry's id, or None for a duplicate.
    """
    return inserting.insert_once(session, InboxEntry, ("provider", "event_id"), values)


def get(session: Session, inbox_id: int) -> InboxEntry | None:
    """Return an entry."""
    return session.get(InboxEntry, inbox_id)


def mark(
    session: Session,
    inbox_id: int,
    state: str,
    *,
    at: datetime,
    note: str | None = None,
    order_id: str | None = None,
) -> None:
    """Write down what became of an entry."""
    entry = session.get_one(InboxEntry, inbox_id)
    entry.state = state
    entry.note = note
    entry.applied_at = at
    if order_id is not None:
        entry.order_id = order_id


def list_page(
    session: Session, *, state: str | None = None, limit: int = 100
) -> Sequence[InboxEntry]:
    """Return entries, newest first."""
    query = select(InboxEntry).order_by(InboxEntry.id.desc()).limit(limit)
    if state is not None:
        query = query.where(InboxEntry.state == state)
    return session.scalars(query).all()


def last_received_at(session: Session, provider: str) -> datetime | None:
    """Return when a provider was last heard of."""
    return session.scalar(
        select(InboxEntry.received_at)
        .where(InboxEntry.provider == provider)
        .order_by(InboxEntry.id.desc())
        .limit(1)
    )


def count_by_state(session: Session) -> dict[str, int]:
    """Return how many entries there are in each state."""
    rows = session.execute(
        select(InboxEntry.state, func.count()).group_by(InboxEntry.state).order_by(InboxEntry.state)
    )
    return dict(rows.all())

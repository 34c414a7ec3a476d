"""Queries about what the owner must know, and about providers that refuse the shop's account."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from smi_desktop.store import inserting
from smi_desktop.store.models import Alert, Circuit


def raise_once(
    session: Session, key: str, text: str, *, at: datetime, order_id: str | None = None
) -> None:
    """Tell the owner, unless he is being told the same already; what was over and is back is told anew."""
    values = {"key": key, "text": text, "order_id": order_id, "at": at}
    if inserting.insert_once(session, Alert, ("key",), values) is not None:
        return
    session.execute(
        update(Alert)
        .where(Alert.key == key, Alert.resolved_at.is_not(None))
        .values(text=text, at=at, resolved_at=None, mailed_at=None)
        .execution_options(synchronize_session=False)
    )


def resolve(session: Session, key: str, *, at: datetime) -> None:
    """Note that the owner need not look any more."""
    session.execute(
        update(Alert)
        .where(Alert.key == key, Alert.resolved_at.is_(None))
        .values(resolved_at=at)
        .execution_options(synchronize_session=False)
    )


def list_open(session: Session, *, limit: int = 100) -> Sequence[Alert]:
    """Return what the owner must still look at, oldest first."""
    return session.scalars(
        select(Alert).where(Alert.resolved_at.is_(None)).order_by(Alert.at, Alert.id).limit(limit)
    ).all()


def circuit(session: Session, name: str, *, lock: bool = False) -> Circuit | None:
    """Return what is known of a provider that has refused our account."""
    return session.get(Circuit, name, with_for_update=True if lock else None)


def circuits(session: Session) -> Sequence[Circuit]:
    """Return all of them."""
    return session.scalars(select(Circuit).order_by(Circuit.name)).all()

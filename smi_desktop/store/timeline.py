"""Queries about what happened to an order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from smi_desktop.store.models import TimelineEntry


def add(
    session: Session,
    order_id: str,
    kind: str,
    text: str,
    *,
    at: datetime,
    actor: str = "system",
    facts: dict[str, Any] | None = None,
    personal: dict[str, Any] | None = None,
) -> None:
    """Add an entry.

    The actor is `system`, `customer`, `owner` or a provider's name. Facts may stay for ever; addresses and
    the like go into `personal`, which is erased on request.
    """
    session.add(
        TimelineEntry(
            order_id=order_id,
            at=at,
            kind=kind,
            actor=actor,
            text=text,
            facts=facts or {},
            personal=personal,
        )
    )


def of_order(session: Session, order_id: str) -> Sequence[TimelineEntry]:
    """Return everything that touched an order, oldest first."""
    return session.scalars(
        select(TimelineEntry).where(TimelineEntry.order_id == order_id).order_by(TimelineEntry.id)
    ).all()

"""Queries about clicks."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from smi_desktop.store.models import Click


def add(
    session: Session, *, at: datetime, attachment_id: int, post_id: int | None, bot: bool
) -> None:
    """Count a click."""
    session.execute(
        insert(Click).values(at=at, attachment_id=attachment_id, post_id=post_id, bot=bot)
    )


def count(session: Session, *, bots: bool = False) -> int:
    """Return how many clicks there were, of people or of bots."""
    return session.scalar(select(func.count()).select_from(Click).where(Click.bot == bots)) or 0

"""Queries about requests for files, and what they add up to."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from smi_desktop.store.models import Download


def of_order(session: Session, order_id: str) -> Sequence[Download]:
    """Return an order's requests, oldest first."""
    return session.scalars(
        select(Download).where(Download.order_id == order_id).order_by(Download.id)
    ).all()


def is_covered(session: Session, order_id: str, generation: int, total: int) -> bool:
    """Tell whether the finished requests of a delivery cover every byte of its file."""
    rows = session.execute(
        select(Download.first_byte, Download.bytes_sent)
        .where(
            Download.order_id == order_id,
            Download.generation == generation,
            Download.finished,
            Download.bytes_total == total,
        )
        .order_by(Download.first_byte)
    )
    reached = 0
    for first, count in rows:
        if first > reached:
            return False
        reached = max(reached, first + count)
    return reached >= total

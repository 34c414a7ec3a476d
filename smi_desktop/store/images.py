"""Queries about the catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from smi_desktop.store.models import Image


def get(session: Session, attachment_id: int) -> Image | None:
    """Return a picture of the catalogue."""
    return session.get(Image, attachment_id)


def get_many(session: Session, attachment_ids: Iterable[int]) -> Sequence[Image]:
    """Return those of the pictures that are in the catalogue."""
    return session.scalars(select(Image).where(Image.attachment_id.in_(list(attachment_ids)))).all()


def find_by_source(session: Session, kind: str, source: str) -> Image | None:
    """Return the picture that was catalogued from this file or address."""
    return session.scalar(select(Image).where(Image.source_kind == kind, Image.source == source))


def next_attachment_id(session: Session) -> int:
    """Return a number that no picture has yet."""
    return (session.scalar(select(func.max(Image.attachment_id))) or 0) + 1


def list_page(session: Session, *, after: int = 0, limit: int = 100) -> Sequence[Image]:
    """Return a page of the catalogue by number; `after` is the last one seen."""
    return session.scalars(
        select(Image).where(Image.attachment_id > after).order_by(Image.attachment_id).limit(limit)
    ).all()


def count(session: Session) -> int:
    """Return how many pictures there are."""
    return session.scalar(select(func.count()).select_from(Image)) or 0

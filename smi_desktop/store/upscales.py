"""Queries about attempts at making a picture."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from smi_desktop.store.models import Upscale


def get(session: Session, upscale_id: int) -> Upscale | None:
    """Return an attempt."""
    return session.get(Upscale, upscale_id)


def of_order(session: Session, order_id: str) -> Sequence[Upscale]:
    """Return an order's attempts, first one first."""
    return session.scalars(
        select(Upscale).where(Upscale.order_id == order_id).order_by(Upscale.attempt)
    ).all()


def find_attempt(session: Session, order_id: str, attempt: int) -> Upscale | None:
    """Return one attempt of an order."""
    return session.scalar(
        select(Upscale).where(Upscale.order_id == order_id, Upscale.attempt == attempt)
    )


def find_by_callback(session: Session, callback_sha256: str) -> Upscale | None:
    """Return the attempt whose callback secret has this hash."""
    return session.scalar(select(Upscale).where(Upscale.callback_sha256 == callback_sha256))


def find_by_job(session: Session, provider: str, job_id: str) -> Upscale | None:
    """Return the attempt that a provider knows under this id."""
    return session.scalar(
        select(Upscale).where(Upscale.provider == provider, Upscale.provider_job_id == job_id)
    )

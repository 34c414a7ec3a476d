"""Queries about settings and signs of life. Reading is cheap on purpose: settings are read for each piece of work."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from smi_desktop.config import ShopSettings, validate_settings
from smi_desktop.store.inserting import insert
from smi_desktop.store.models import Heartbeat, Setting


def load(session: Session) -> ShopSettings:
    """Return the shop's settings.

    Raises:
        ConfigurationError: A stored value cannot be used, for example one of a newer version.
    """
    return validate_settings(dict(session.execute(select(Setting.key, Setting.value)).all()))


def save(session: Session, changes: Mapping[str, Any], *, now: datetime) -> ShopSettings:
    """Change settings; None takes one back to its default. Nothing is stored unless the whole is valid.

    Raises:
        ConfigurationError: A value cannot be used.
    """
    stored: dict[str, Any] = dict(session.execute(select(Setting.key, Setting.value)).all())
    wanted = {**stored, **changes}
    settings = validate_settings({key: value for key, value in wanted.items() if value is not None})
    plain = settings.model_dump(mode="json")
    for key, value in changes.items():
        if value is None:
            session.execute(delete(Setting).where(Setting.key == key))
        else:
            values = {"value": plain[key], "updated_at": now}
            session.execute(
                insert(session, Setting)
                .values(key=key, **values)
                .on_conflict_do_update(index_elements=["key"], set_=values)
            )
    return settings


def beat(session: Session, name: str, *, now: datetime, facts: dict[str, Any]) -> None:
    """Write down a sign of life; engines that start together may write the same one."""
    values = {"at": now, "facts": facts}
    session.execute(
        insert(session, Heartbeat)
        .values(name=name, **values)
        .on_conflict_do_update(index_elements=["name"], set_=values)
    )


def heartbeats(session: Session) -> dict[str, Heartbeat]:
    """Return the last sign of life of each part."""
    return {row.name: row for row in session.scalars(select(Heartbeat))}

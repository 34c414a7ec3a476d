"""INSERT with ON CONFLICT, which both databases speak and SQLAlchemy keeps in two dialects."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningInsert

from smi_desktop.store.models import Base


def insert(session: Session, table: type[Base]) -> sqlite.Insert | postgresql.Insert:
    """Return an INSERT that knows `on_conflict_do_nothing` and `on_conflict_do_update`."""
    if session.get_bind().dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)


def insert_once(
    session: Session, table: type[Base], unique: tuple[str, ...], values: dict[str, Any]
) -> int | None:
    """Insert a row unless there is one with the same values of its unique columns.

    A webhook does this twice, so the statement is built once and sent straight to the table: handing the
    values over in the statement would have it built and read anew each time, at twice the whole cost.

    Returns:
        The new row's id, or None where there was one.
    """
    statement = _insert_once(session.get_bind().dialect.name, table, unique)
    return session.connection().execute(statement, values).scalar()


@cache
def _insert_once(dialect: str, table: type[Base], unique: tuple[str, ...]) -> ReturningInsert[int]:
    rows = table.__table__
    assert isinstance(rows, Table)
    made = sqlite.insert(rows) if dialect == "sqlite" else postgresql.insert(rows)
    return made.on_conflict_do_nothing(index_elements=list(unique)).returning(rows.c.id)

"""Queries about work to be done. A task is claimed with one conditional UPDATE, so two engines never do one twice.

A claim is a lease: whoever holds it renews it, and whoever lost it cannot finish, because finishing names
the holder. `finish` and its kin therefore belong into the same transaction as the result that they record.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, case, func, or_, select, text, update
from sqlalchemy.orm import Session

from smi_desktop.domain.errors import SmiError
from smi_desktop.store import inserting
from smi_desktop.store.models import Task

# Word for word the condition of the index of open work: with bound values SQLite's planner cannot tell
# that the index holds every row that is asked for, and looks through all that was ever done.
_IS_OPEN: Final = text("tasks.state IN ('ready', 'leased')")


class LeaseLostError(SmiError):
    """Somebody else has taken this task over; what was about to be recorded must not be."""

    title = "Another engine has taken this over"


@dataclass(frozen=True, slots=True)
class Claim:
    """A task that we hold.

    Attributes:
        attempts: How often it was claimed, this time included.
        failures: How often it failed before.
        deaths: How many engines died while they worked on it.
    """

    id: int
    kind: str
    key: str
    order_id: str | None
    payload: dict[str, Any]
    attempts: int
    failures: int
    owner: str
    deaths: int = 0


def add_once(
    session: Session,
    kind: str,
    key: str,
    *,
    now: datetime,
    order_id: str | None = None,
    run_at: datetime | None = None,
    payload: dict[str, Any] | None = None,
) -> bool:
    """Ask for work, once for each key.

    Returns:
        False if this was asked for before, done or not.
    """
    values = {
        "kind": kind,
        "key": key,
        "order_id": order_id,
        "payload": payload or {},
        "state": "ready",
        "run_at": run_at or now,
        "created_at": now,
    }
    return inserting.insert_once(session, Task, ("key",), values) is not None


def is_due(
    session: Session, kinds: Collection[str], now: datetime, held: Collection[int] = ()
) -> bool:
    """Tell whether there is anything to claim, without asking for the write lock."""
    query = select(Task.id).where(_claimable(kinds, now, held)).limit(1)
    return session.scalar(query) is not None


def claim(
    session: Session,
    kinds: Collection[str],
    *,
    owner: str,
    now: datetime,
    lease: timedelta,
    held: Collection[int] = (),
) -> Claim | None:
    """Take the task that has been due the longest, or None if nothing is due.

    What the caller is working on already (`held`) is left out: after a sleep of the machine those leases
    look ended to himself too.
    """
    candidate = (
        select(Task.id)
        .where(_claimable(kinds, now, held))
        .order_by(Task.run_at, Task.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    row = session.execute(
        update(Task)
        .where(Task.id == candidate, _claimable(kinds, now, held))
        .values(
            state="leased",
            lease_owner=owner,
            lease_until=now + lease,
            attempts=Task.attempts + 1,
            # A lease that ended by itself was held by an engine that is gone.
            deaths=Task.deaths + case((Task.state == "leased", 1), else_=0),
        )
        .returning(
            Task.id,
            Task.kind,
            Task.key,
            Task.order_id,
            Task.payload,
            Task.attempts,
            Task.failures,
            Task.deaths,
        )
        .execution_options(synchronize_session=False)
    ).first()
    if row is None:
        return None
    task_id, kind, key, order_id, payload, attempts, failures, deaths = row
    return Claim(task_id, kind, key, order_id, payload, attempts, failures, owner, deaths)


def renew(session: Session, task_ids: Collection[int], *, owner: str, until: datetime) -> None:
    """Hold on to tasks that are still being worked on."""
    session.execute(
        update(Task)
        .where(Task.id.in_(list(task_ids)), Task.lease_owner == owner, Task.state == "leased")
        .values(lease_until=until)
        .execution_options(synchronize_session=False)
    )


def release_owner(session: Session, owner_prefix: str, now: datetime) -> int:
    """Give back every task of a holder that is known to be dead; return how many there were."""
    result = session.execute(
        update(Task)
        .where(
            _IS_OPEN,
            Task.state == "leased",
            Task.lease_owner.startswith(owner_prefix, autoescape=True),
        )
        .values(
            state="ready",
            run_at=now,
            lease_owner=None,
            lease_until=None,
            deaths=Task.deaths + 1,
        )
        .returning(Task.id)
        .execution_options(synchronize_session=False)
    )
    return len(result.all())


def finish(session: Session, task: Claim, *, now: datetime) -> None:
    """Write down that a task is done.

    Raises:
        LeaseLostError: It is no longer ours; the caller's transaction must be rolled back.
    """
    _settle(session, task, state="done", finished_at=now, last_error=None)


def postpone(
    session: Session,
    task: Claim,
    *,
    run_at: datetime,
    error: str | None = None,
    counts: bool = True,
) -> None:
    """Put a task back for later; with `error` this is a failure, which counts unless told otherwise.

    Raises:
        LeaseLostError: It is no longer ours.
    """
    failed: dict[str, object] = {} if error is None else {"last_error": error}
    if error is not None and counts:
        failed["failures"] = Task.failures + 1
    _settle(session, task, state="ready", run_at=run_at, **failed)


def bury(session: Session, task: Claim, *, error: str, now: datetime) -> None:
    """Give a task up for a person to look at.

    Raises:
        LeaseLostError: It is no longer ours.
    """
    _settle(
        session, task, state="dead", last_error=error, finished_at=now, failures=Task.failures + 1
    )


def wake(session: Session, key: str, now: datetime) -> None:
    """Make a waiting task due at once; one that is being worked on is not disturbed."""
    session.execute(
        update(Task)
        .where(Task.key == key, Task.state == "ready", Task.run_at > now)
        .values(run_at=now)
        .execution_options(synchronize_session=False)
    )


def get_locked(session: Session, task_id: int) -> Task | None:
    """Return a task and keep others from changing it until the transaction ends."""
    return session.get(Task, task_id, with_for_update=True)


def revive(session: Session, order_id: str, now: datetime) -> None:
    """Begin an order's given-up work anew."""
    session.execute(
        update(Task)
        .where(Task.order_id == order_id, Task.state == "dead")
        .values(state="ready", run_at=now, failures=0, deaths=0, finished_at=None)
        .execution_options(synchronize_session=False)
    )


def is_any_open(session: Session, order_id: str, kinds: Collection[str]) -> bool:
    """Tell whether work of one of these kinds is still to be done for an order."""
    query = select(Task.id).where(
        Task.order_id == order_id, Task.kind.in_(list(kinds)), Task.state.in_(("ready", "leased"))
    )
    return session.scalar(query.limit(1)) is not None


def list_page(
    session: Session, *, state: str | None = None, order_id: str | None = None, limit: int = 100
) -> Sequence[Task]:
    """Return tasks, newest first."""
    query = select(Task).order_by(Task.id.desc()).limit(limit)
    if state is not None:
        query = query.where(Task.state == state)
    if order_id is not None:
        query = query.where(Task.order_id == order_id)
    return session.scalars(query).all()


def count_by_state(session: Session) -> dict[str, int]:
    """Return how many tasks there are in each state."""
    rows = session.execute(
        select(Task.state, func.count()).group_by(Task.state).order_by(Task.state)
    )
    return dict(rows.all())


def worst_error(session: Session, *, failures: int) -> str | None:
    """Return what the open task said that has failed most often, if it failed so many times at least."""
    return session.scalar(
        select(Task.last_error)
        .where(Task.state.in_(("ready", "leased")), Task.failures >= failures)
        .order_by(Task.failures.desc())
        .limit(1)
    )


def _claimable(kinds: Collection[str], now: datetime, held: Collection[int]) -> ColumnElement[bool]:
    return and_(
        Task.kind.in_(list(kinds)),
        Task.id.not_in(list(held)),
        Task.run_at <= now,
        _IS_OPEN,
        or_(Task.state == "ready", and_(Task.state == "leased", Task.lease_until < now)),
    )


def _settle(session: Session, task: Claim, **values: object) -> None:
    settled = session.execute(
        update(Task)
        .where(Task.id == task.id, Task.lease_owner == task.owner, Task.state == "leased")
        .values(lease_owner=None, lease_until=None, **values)
        .returning(Task.id)
        .execution_options(synchronize_session=False)
    ).first()
    if settled is None:
        raise LeaseLostError(f"Task {task.id} is held by somebody else by now.")

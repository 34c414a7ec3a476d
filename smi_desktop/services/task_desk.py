"""What the owner does about single pieces of work."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy.orm import Session

from smi_desktop.domain.errors import IllegalTransitionError, NotFoundError
from smi_desktop.domain.holds import HoldKind
from smi_desktop.services.order_states import hold_order, lock_order
from smi_desktop.services.shop import Shop
from smi_desktop.store import alerts, orders, tasks
from smi_desktop.store.models import Task


def retry_task(shop: Shop, task_id: int) -> None:
    """Make a piece of work due now; what was given up begins anew.

    Raises:
        NotFoundError: There is none.
        IllegalTransitionError: It is done, or being worked on.
    """
    now = shop.now()
    with shop.database.write() as session:
        task = _open_or_dead(session, task_id)
        task.state, task.run_at = "ready", now
        task.failures = task.deaths = 0
        task.finished_at = None
        alerts.resolve(session, f"task:{task.id}", at=now)


def give_up_task(shop: Shop, task_id: int, reason: str) -> None:
    """Never do a piece of work; its order is held for a person.

    Raises:
        NotFoundError: There is none.
        IllegalTransitionError: It is done, given up, or being worked on.
    """
    now = shop.now()
    with shop.database.write() as session:
        task = _open_or_dead(session, task_id)
        if task.state == "dead":
            raise IllegalTransitionError("This work is given up already.")
        task.state, task.finished_at, task.last_error = "dead", now, reason
        if task.order_id is not None:
            order = lock_order(session, task.order_id)
            hold_order(session, order, HoldKind.GIVEN_UP, reason, at=now, actor="owner")


def order_numbers(session: Session, found: Iterable[Task]) -> dict[str, str]:
    """Return the orders' numbers by their ids: an id is its buyer's secret."""
    ids = {task.order_id for task in found if task.order_id}
    return orders.numbers(session, ids)


def _open_or_dead(session: Session, task_id: int) -> Task:
    task = tasks.get_locked(session, task_id)
    if task is None:
        raise NotFoundError(f"There is no work {task_id}. See: smi-desktop tasks list")
    if task.state in {"done", "leased"}:
        state = "done" if task.state == "done" else "being worked on"
        raise IllegalTransitionError(f"This work is {state}.")
    return task

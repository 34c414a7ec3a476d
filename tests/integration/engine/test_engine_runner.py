"""How one task ends, whatever its handler does: retries, giving up, and what an order costs in commits."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from smi_desktop.config import UpscalerChoice
from smi_desktop.domain.errors import ProviderAccountError, RejectedError, TransientError
from smi_desktop.engine.runner import run_task
from smi_desktop.services.webhooks import receive_upsampler_callback
from smi_desktop.services.work import TaskKind
from smi_desktop.store import alerts, inbox, orders, tasks
from smi_desktop.store.database import Database
from smi_desktop.store.models import Task
from tests.world import LEASE, World

AWAY = TransientError("The provider is away.")
REFUSED = ProviderAccountError("The key was revoked.")


def failing(world: World, *errors: Exception) -> str:
    """Buy something whose payment cannot be looked up for as long as the errors last."""
    order_id = world.buy()
    world.payments.fail_next(*errors, method="retrieve_session")
    return order_id


def run_out(world: World, times: int) -> None:
    """Run what is due so many times, each a quarter of an hour and some later."""
    for _ in range(times):
        world.run_due([TaskKind.APPLY_EVENT])
        world.clock.advance(1200)


def the_task(world: World) -> Task:
    (task,) = (task for task in world.tasks() if task.kind == TaskKind.APPLY_EVENT)
    return task


def test_a_provider_that_is_away_is_asked_again_with_growing_waits(world: World) -> None:
    failing(world, *[AWAY] * 12)
    waits = []
    for _ in range(12):
        world.run_due([TaskKind.APPLY_EVENT])
        waits.append((the_task(world).run_at - world.clock.now()).total_seconds())
        world.clock.set(the_task(world).run_at)
    assert 1.5 <= waits[0] <= 2.5
    assert 675 <= waits[-1] <= 1125
    assert all(later > earlier for earlier, later in pairwise(waits[:8]))
    assert world.run_due([TaskKind.APPLY_EVENT]) == ["apply_event"]
    assert the_task(world).state == "done"


def test_the_wait_that_a_provider_asks_for_is_never_undercut(world: World) -> None:
    failing(world, TransientError("Slower, please.", retry_after=3600))
    world.run_due([TaskKind.APPLY_EVENT])
    assert the_task(world).run_at == world.clock.now() + timedelta(hours=1)


def test_a_provider_that_stays_away_ends_with_a_person_and_not_in_silence(world: World) -> None:
    failing(world, *[AWAY] * 36)
    run_out(world, 35)
    assert the_task(world).state == "ready"
    run_out(world, 1)
    task = the_task(world)
    assert (task.state, task.failures, task.last_error) == ("dead", 36, AWAY.message)
    with world.database.read() as session:
        assert inbox.count_by_state(session) == {"dead": 1}
        (alert,) = alerts.list_open(session)
    assert alert.text == f"Work was given up. Given up after 36 tries: {AWAY.message}"


def test_a_bug_of_ours_is_tried_a_few_times_and_its_order_held(world: World) -> None:
    world.set(upscaler=UpscalerChoice.EMBEDDED)
    order_id = world.buy()
    world.images.fail_next(*[ZeroDivisionError("a bug")] * 5, method="finish_result")
    for _ in range(5):
        assert world.tasks("dead") == []
        world.run_due()
        world.clock.advance(60)
    dead = world.tasks("dead")
    assert [(task.kind, task.last_error) for task in dead] == [
        ("upscale_here", "ZeroDivisionError: a bug")
    ]
    order = world.order(order_id)
    assert (order.held_at is not None, order.held_kind) == (True, "given_up")
    assert "a bug" in (order.held_reason or "")
    assert world.local_upscaler.calls == ["upscale"]


def test_a_refused_account_waits_for_its_owner_without_end_and_uses_nothing_up(
    world: World,
) -> None:
    """Mended after hours, the first hiccup that follows must not be the last straw."""
    order_id = failing(world, *[REFUSED] * 60, AWAY)
    run_out(world, 60)
    assert (the_task(world).state, the_task(world).last_error) == ("ready", REFUSED.message)
    assert the_task(world).failures == 0
    with world.database.read() as session:
        assert [alert.key for alert in alerts.list_open(session)] == ["circuit:stripe"]
    run_out(world, 1)
    assert the_task(world).state == "ready"
    run_out(world, 1)
    assert the_task(world).state == "done"
    assert world.order(order_id).status == "pending"
    with world.database.read() as session:
        assert alerts.list_open(session) == []


def test_a_result_of_who_lost_the_lease_is_not_recorded(world: World) -> None:
    order_id = world.buy()
    with world.database.write() as session:
        slow = tasks.claim(
            session, list(TaskKind), owner="slow", now=world.clock.now(), lease=LEASE
        )
    assert slow is not None
    world.clock.advance(61)
    quick = world.claim([TaskKind.APPLY_EVENT])
    assert quick is not None
    run_task(world.shop, slow)
    assert world.order(order_id).status == "awaiting_payment"
    with world.database.read() as session:
        assert inbox.count_by_state(session) == {"new": 1}
    run_task(world.shop, quick)
    assert world.order(order_id).status == "pending"


def test_work_of_a_kind_that_nobody_knows_does_not_end_the_worker(world: World) -> None:
    now = world.clock.now()
    with world.database.write() as session:
        tasks.add_once(session, "print_poster", "print:1", now=now)
        task = tasks.claim(
            session, ["print_poster"], owner="world", now=now, lease=timedelta(seconds=60)
        )
    assert task is not None
    run_task(world.shop, task)
    assert [(task.state, task.failures) for task in world.tasks()] == [("ready", 1)]


@pytest.mark.parametrize("odd", ["\x00", "\ud800", "\u2028", "🚢"])
def test_odd_text_from_the_providers_is_stored_on_both_databases(
    database: Database, tmp_path: Path, odd: str
) -> None:
    world = World(tmp_path, database)
    order_id = world.buy()
    started = world.start_checkout()
    session_id = world.pay(started.order_id, name=f"Ada {odd}")
    receipt = world.deliver(f"x{odd}", session_id, event_id=f"evt_{odd}")
    assert receipt.inbox_id is not None
    assert world.deliver(f"x{odd}", session_id, event_id=f"evt_{odd}").inbox_id is None
    world.deliver("checkout.session.completed", session_id)
    world.upscaler.fail_next(RejectedError(f"No {odd}."), method="submit")
    world.run_due()
    assert world.order(started.order_id).customer_name is not None
    assert {task.state for task in world.tasks()} <= {"done", "ready"}
    for upscale_order in (order_id, started.order_id):
        secret = world.shop.token("callback", upscale_order, 1)
        body = f'{{"id": "job{odd.encode("unicode_escape").decode()}", "status": "\\u0000"}}'
        receive_upsampler_callback(world.shop, secret, body.encode())


class CommitCounter:
    """Counts the commits that changed something: each costs a write that waits for the disk."""

    def __init__(self, database: Database) -> None:
        self.count = 0
        self._changes: dict[int, int] = {}
        event.listen(database.engine, "begin", self._begun)
        event.listen(database.engine, "commit", self._committed)

    def _begun(self, connection: Any) -> None:
        raw: sqlite3.Connection = connection.connection.dbapi_connection
        self._changes[id(raw)] = raw.total_changes

    def _committed(self, connection: Any) -> None:
        raw: sqlite3.Connection = connection.connection.dbapi_connection
        self.count += raw.total_changes > self._changes[id(raw)]


def test_an_order_through_the_remote_upscaler_costs_so_many_commits(world: World) -> None:
    """From the click to the mail. Each is a wait for the disk, so one more is a decision."""
    number = world.add_image()
    counter = CommitCounter(world.database)
    started = world.start_checkout(number)
    at_checkout = counter.count
    session_id = world.pay(started.order_id)
    world.deliver("checkout.session.completed", session_id)
    at_receipt = counter.count
    world.run_due()
    world.finish_upscale(started.order_id)
    world.clock.advance(31)
    world.run_due()
    assert len(world.mailer.outbox) == 1
    assert (at_checkout, at_receipt - at_checkout) == (2, 1)
    assert counter.count <= 16


def test_an_order_made_on_this_machine_costs_so_many_commits(world: World) -> None:
    world.set(upscaler=UpscalerChoice.EMBEDDED)
    number = world.add_image()
    counter = CommitCounter(world.database)
    order_id = world.start_checkout(number).order_id
    world.deliver("checkout.session.completed", world.pay(order_id))
    world.run_due()
    assert len(world.mailer.outbox) == 1
    with world.database.read() as session:
        order = orders.get(session, order_id)
    assert order is not None
    assert order.status == "completed"
    # The fake upscaler tells its progress twice; a real one more often.
    assert counter.count <= 13

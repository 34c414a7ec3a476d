"""One claimed task, settled whatever happens."""

from __future__ import annotations

from datetime import timedelta

import pytest

from smi_desktop.domain.errors import ConfigurationError, ProviderAccountError, TransientError
from smi_desktop.engine.handlers import HANDLERS
from smi_desktop.engine.runner import run_task
from smi_desktop.services.cleanup import sweep
from smi_desktop.services.work import IMAGE_KINDS, NETWORK_KINDS, TaskKind
from smi_desktop.store import alerts, inbox, tasks, timeline
from smi_desktop.store.models import Order, Task
from smi_desktop.store.tasks import Claim
from tests.world import World

MONEY = [TaskKind.APPLY_EVENT]


def paid(world: World) -> str:
    """Bring an order to the moment at which its picture is asked for."""
    order_id = world.buy()
    world.run_due(MONEY)
    return order_id


def latest(world: World) -> Task:
    return world.tasks()[0]


def held_reason(world: World, order_id: str) -> str | None:
    return world.order(order_id).held_reason


def test_every_kind_of_work_has_its_handler_and_one_lane() -> None:
    assert set(HANDLERS) == set(TaskKind)
    assert set(TaskKind) == IMAGE_KINDS | NETWORK_KINDS
    assert not IMAGE_KINDS & NETWORK_KINDS


def test_a_finished_task_is_done_and_its_result_is_recorded_with_it(world: World) -> None:
    order_id = paid(world)
    (task,) = [task for task in world.tasks() if task.kind == "apply_event"]
    assert (task.state, task.lease_owner, task.last_error) == ("done", None, None)
    assert task.finished_at == world.clock.now()
    assert world.order(order_id).payment_status == "paid"


def test_the_outside_world_is_tried_again_with_growing_waits(world: World) -> None:
    world.buy()
    waits = []
    for _ in range(5):
        world.payments.fail_next(TransientError("away"), method="retrieve_session")
        before = world.clock.now()
        world.run_due()
        waits.append((latest(world).run_at - before).total_seconds())
        world.clock.set(latest(world).run_at)
    assert all(0.75 * 2 ** (n + 1) <= wait <= 1.25 * 2 ** (n + 1) for n, wait in enumerate(waits))
    assert latest(world).failures == 5
    assert latest(world).last_error == "away"


def test_a_wait_that_the_other_side_names_is_kept(world: World) -> None:
    world.buy()
    world.payments.fail_next(TransientError("slow", retry_after=3600), method="retrieve_session")
    world.run_due()
    assert latest(world).run_at - world.clock.now() == timedelta(hours=1)


@pytest.mark.parametrize("error", [ProviderAccountError("key"), ConfigurationError("none")])
def test_an_account_of_ours_waits_however_long(world: World, error: Exception) -> None:
    order_id = world.buy()
    world.payments.fail_next(*[error] * 50, method="retrieve_session")
    for _ in range(50):
        world.run_due()
        world.clock.advance(300)
    assert world.tasks("dead") == []
    world.run_due(MONEY)
    assert world.order(order_id).payment_status == "paid"


def test_hours_of_an_absent_world_end_with_a_person(world: World) -> None:
    order_id = world.buy()
    world.payments.fail_next(*[TransientError("away")] * 100, method="retrieve_session")
    began = world.clock.now()
    while not world.tasks("dead"):
        world.run_due()
        world.clock.advance(300)
    assert timedelta(hours=5) < world.clock.now() - began < timedelta(hours=10)
    with world.database.read() as session:
        entry = inbox.get(session, 1)
    assert entry is not None
    assert (entry.state, entry.note) == ("dead", "away")
    assert world.order(order_id).payment_status == "pending"


def test_a_bug_of_ours_is_tried_a_few_times_and_then_the_order_is_held(world: World) -> None:
    order_id = paid(world)
    world.upscaler.fail_next(*[ZeroDivisionError("a bug")] * 9, method="submit")
    world.files.fail_next(*[ZeroDivisionError("a bug")] * 9, method="put")
    world.set(upscaler="embedded")
    other = world.buy(attachment_id=1)
    for _ in range(10):
        world.run_due()
        world.clock.advance(60)
    (task,) = world.tasks("dead")
    assert task.kind == "upscale_here"
    assert task.failures == 5
    assert task.last_error == "ZeroDivisionError: a bug"
    assert "Given up after 5 tries: ZeroDivisionError" in (held_reason(world, other) or "")
    assert world.order(other).status == "processing"
    # What happened at a remote upscaler after a bug is unknown, so nothing is sent twice in a hurry.
    assert world.upscaler.calls.count("submit") == 1
    assert held_reason(world, order_id) is None


def test_a_passing_bug_holds_nobody(world: World) -> None:
    world.set(upscaler="embedded")
    order_id = world.buy()
    world.images.fail_next(ZeroDivisionError("a bug"), method="finish_result")
    world.run_due()
    world.clock.advance(60)
    world.run_due()
    assert world.order(order_id).status == "completed"
    assert held_reason(world, order_id) is None


def test_work_without_an_order_holds_none_and_tells_the_owner_when_it_is_given_up(
    world: World,
) -> None:
    order_id = world.buy()
    world.payments.fail_next(*[ZeroDivisionError("a bug")] * 9, method="retrieve_session")
    for _ in range(8):
        world.run_due()
        world.clock.advance(60)
    (task,) = world.tasks("dead")
    assert task.order_id is None
    assert held_reason(world, order_id) is None
    with world.database.read() as session:
        (alert,) = alerts.list_open(session)
    assert alert.key == f"task:{task.id}"
    assert "Given up after 5 tries: ZeroDivisionError: a bug" in alert.text


def test_whoever_lost_the_lease_records_nothing(world: World) -> None:
    order_id = paid(world)
    slow = world.claim()
    assert slow is not None
    world.clock.advance(61)
    quick = world.claim()
    assert quick is not None
    assert quick.id == slow.id
    stolen = Claim(**{name: getattr(quick, name) for name in Claim.__slots__} | {"owner": "other"})
    with world.database.write() as session:
        session.get_one(Task, quick.id).lease_owner = "other"
    run_task(world.shop, slow)
    assert latest_of(world, quick.id).state == "leased"
    assert kinds(world, order_id).count("submitted") == 0
    with world.database.write() as session:
        tasks.finish(session, stolen, now=world.clock.now())
    assert latest_of(world, quick.id).state == "done"


def latest_of(world: World, task_id: int) -> Task:
    with world.database.read() as session:
        return session.get_one(Task, task_id)


def kinds(world: World, order_id: str) -> list[str]:
    with world.database.read() as session:
        return [entry.kind for entry in timeline.of_order(session, order_id)]


def test_whoever_lost_the_lease_settles_no_failure_either(world: World) -> None:
    world.buy()
    task = world.claim()
    assert task is not None
    with world.database.write() as session:
        session.get_one(Task, task.id).lease_owner = "other"
    world.payments.fail_next(TransientError("away"), method="retrieve_session")
    run_task(world.shop, task)
    found = latest_of(world, task.id)
    assert (found.state, found.failures, found.lease_owner) == ("leased", 0, "other")


def test_tidying_up_that_fails_changes_nothing(world: World) -> None:
    order = world.complete(world.buy())
    world.clock.advance(97 * 3600)
    world.files.fail_next(OSError("busy"), method="delete")
    sweep(world.shop)
    world.run_due()
    assert world.order(order.id).file_removed_at is not None
    assert world.tasks("dead") == []


def test_a_database_that_is_away_leaves_the_task_to_its_lease(world: World) -> None:
    world.buy()
    task = world.claim()
    assert task is not None
    world.payments.fail_next(TransientError("away"), method="retrieve_session")
    path = world.folder / "shop.db"
    away = world.folder / "away"
    world.database.close()
    for file in world.folder.glob("shop.db*"):
        file.rename(away.with_name(file.name.replace("shop", "away")))
    path.mkdir()
    run_task(world.shop, task)
    path.rmdir()
    for file in world.folder.glob("away.db*"):
        file.rename(file.with_name(file.name.replace("away", "shop")))
    assert latest_of(world, task.id).state == "leased"
    world.clock.advance(61)
    world.payments.calls.clear()
    assert "apply_event" in world.run_due(MONEY)
    assert world.payments.calls == ["retrieve_session"]


def test_an_order_that_is_gone_does_not_stop_the_worker(world: World) -> None:
    order_id = world.buy()
    world.run_due(MONEY)
    task = world.claim()
    assert task is not None
    with world.database.write() as session:
        for entry in timeline.of_order(session, order_id):
            session.delete(entry)
        session.flush()
        session.delete(session.get_one(Order, order_id))
    run_task(world.shop, task)
    assert latest_of(world, task.id).failures == 1

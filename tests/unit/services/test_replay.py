"""Applying a stored event again, dry and for real, and what the owner does about single pieces of work."""

from __future__ import annotations

import pytest

from smi_desktop.domain.errors import IllegalTransitionError, NotFoundError
from smi_desktop.services import replay, task_desk
from smi_desktop.services.work import TaskKind
from smi_desktop.store import inbox
from smi_desktop.store.models import InboxEntry
from tests.world import World


def entries(world: World, state: str | None = None) -> list[InboxEntry]:
    with world.database.read() as session:
        return list(inbox.list_page(session, state=state))


def test_a_dry_run_tells_what_would_change_and_changes_nothing(world: World) -> None:
    order_id = world.buy()
    (entry,) = entries(world)
    changes = {change.what: change for change in replay.dry_run(world.shop, entry.id)}
    assert changes["order: status"].before == "awaiting_payment"
    assert changes["order: status"].after == "pending"
    assert any(what.startswith("work: submit_upscale") for what in changes)
    assert world.order(order_id).status == "awaiting_payment"
    assert [task.kind for task in world.tasks()] == ["apply_event"]


def test_replaying_an_applied_event_changes_nothing_more(world: World) -> None:
    order_id = world.buy()
    world.complete(order_id)
    entry = entries(world, "applied")[-1]
    assert replay.dry_run(world.shop, entry.id) == []
    replay.replay(world.shop, entry.id)
    world.run_due()
    assert len(world.upscaler.jobs) == 1
    assert len(world.mails(order_id)) == 1
    assert not entries(world, "new")


def test_an_event_that_is_about_to_be_applied_is_not_replayed(world: World) -> None:
    world.buy()
    (entry,) = entries(world)
    with pytest.raises(IllegalTransitionError):
        replay.replay(world.shop, entry.id)
    with pytest.raises(NotFoundError):
        replay.replay(world.shop, 99)


def test_an_event_of_nobody_is_dismissed_with_its_alert(world: World) -> None:
    order_id = world.start_checkout().order_id
    session_id = world.pay(order_id)
    world.payments.sessions["cs_other"] = world.payments.sessions.pop(session_id)
    world.deliver("checkout.session.completed", "cs_missing")
    for _ in range(8):
        world.later(900)
    (entry,) = entries(world, "unknown")
    assert any(alert.key == f"unknown:{entry.id}" for alert in world.alerts())
    replay.dismiss(world.shop, entry.id)
    assert not any(alert.key == f"unknown:{entry.id}" for alert in world.alerts())
    with pytest.raises(IllegalTransitionError):
        replay.dismiss(world.shop, entry.id)


def test_work_that_is_given_up_holds_its_order_and_can_be_begun_again(world: World) -> None:
    order_id = world.buy()
    world.run_due([TaskKind.APPLY_EVENT])
    (task,) = world.tasks("ready")
    task_desk.give_up_task(world.shop, task.id, "Not this one.")
    assert world.order(order_id).held_kind == "given_up"
    with pytest.raises(IllegalTransitionError):
        task_desk.give_up_task(world.shop, task.id, "Again.")
    task_desk.retry_task(world.shop, task.id)
    assert [row.state for row in world.tasks() if row.id == task.id] == ["ready"]
    with pytest.raises(NotFoundError):
        task_desk.retry_task(world.shop, 999)


def test_work_that_is_done_is_not_done_again(world: World) -> None:
    world.buy()
    world.run_due([TaskKind.APPLY_EVENT])
    (done,) = world.tasks("done")
    with pytest.raises(IllegalTransitionError):
        task_desk.retry_task(world.shop, done.id)

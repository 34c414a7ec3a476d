"""Providers that refuse our account: orders wait behind one alert, and go on when the account is mended."""

from __future__ import annotations

import pytest

from smi_desktop.domain.errors import BadResultError, ProviderAccountError
from smi_desktop.services.circuits import MAIL, STRIPE, UPSAMPLER, is_open
from smi_desktop.services.work import TaskKind
from tests.world import World

REVOKED = ProviderAccountError("The key was revoked.")
ORDERS = 50


def refuse(count: int = 1000) -> list[Exception]:
    return [REVOKED] * count


def statuses(world: World, ordered: list[str]) -> set[str]:
    return {world.order(order_id).status for order_id in ordered}


def deliver_all(world: World) -> None:
    """Let the upscaler finish whatever it has, and deliver it."""
    for job_id, request in list(world.upscaler.requests.items()):
        assert request.factor == 4
        world.upscaler.succeed(job_id, b"IMAGE png 1600x1200 result\n")
    for _ in range(3):
        world.later(61)


def test_a_revoked_key_holds_fifty_orders_back_and_refunds_none(world: World) -> None:
    world.set(upscaler="upsampler")
    image = world.add_image()
    world.upscaler.fail_next(*refuse(), method="submit")
    ordered = [world.buy(attachment_id=image) for _ in range(ORDERS)]
    for _ in range(20):
        world.run_due()
        world.clock.advance(301)

    assert is_open(world.shop, UPSAMPLER)
    assert [alert.key for alert in world.alerts()] == ["circuit:upsampler"]
    assert "key was revoked" in world.alerts()[0].text
    assert statuses(world, ordered) == {"processing"}
    assert not any(world.refunds(order_id) for order_id in ordered)
    assert world.upscaler.calls.count("submit") <= 3 + 20, "one try a round once it is open"
    assert all(world.order(order_id).held_at is None for order_id in ordered)

    world.upscaler._ordered.clear()
    for _ in range(3):
        world.later(301)
    deliver_all(world)

    assert not is_open(world.shop, UPSAMPLER)
    assert statuses(world, ordered) == {"completed"}
    assert len(world.upscaler.jobs) == ORDERS
    assert not world.alerts()


def test_two_refusals_and_a_success_open_nothing(world: World) -> None:
    world.set(upscaler="upsampler")
    world.upscaler.fail_next(*refuse(2), method="submit")
    order_id = world.buy()
    for _ in range(3):
        world.run_due()
        world.clock.advance(301)

    assert not is_open(world.shop, UPSAMPLER)
    assert not world.alerts()
    assert len(world.upscaler.jobs) == 1
    assert world.order(order_id).status == "processing"


def test_where_the_route_has_another_upscaler_it_is_taken_at_once(world: World) -> None:
    world.upscaler.fail_next(*refuse(), method="submit")
    waiting = [world.buy() for _ in range(3)]
    world.run_due()
    assert is_open(world.shop, UPSAMPLER)
    moment = world.clock.now()

    order_id = world.buy()
    world.run_due()

    assert world.order(order_id).status == "completed"
    assert world.clock.now() == moment
    world.later(301)
    assert statuses(world, waiting) == {"completed"}, "and whoever waited takes it too"
    assert not world.upscaler.jobs


def test_a_picture_that_fails_elsewhere_while_a_key_is_revoked_is_refunded(world: World) -> None:
    world.upscaler.fail_next(*refuse(), method="submit")
    world.local_upscaler.fail_next(BadResultError("Not enough memory."))
    for _ in range(3):
        world.buy()
    world.run_due()
    order_id = world.buy()
    world.local_upscaler._ordered.clear()
    world.local_upscaler.fail_next(BadResultError("Not enough memory."))
    world.run_due()

    assert world.order(order_id).status == "refunded"
    assert len(world.payments.refunds) == 1


def test_a_revoked_stripe_key_holds_events_back_and_loses_none(world: World) -> None:
    methods = ("retrieve_session", "retrieve_payment", "list_refunds", "list_disputes")
    for method in methods:
        world.payments.fail_next(*refuse(), method=method)
    image = world.add_image()
    ordered = [world.buy(attachment_id=image) for _ in range(10)]
    for _ in range(3):
        world.run_due()
        world.clock.advance(301)

    assert is_open(world.shop, STRIPE)
    assert [alert.key for alert in world.alerts()] == ["circuit:stripe"]
    assert statuses(world, ordered) == {"awaiting_payment"}
    world.payments._ordered.clear()
    for _ in range(3):
        world.later(301)
    deliver_all(world)

    assert statuses(world, ordered) == {"completed"}
    assert not is_open(world.shop, STRIPE)
    assert not world.alerts()


def test_a_mail_server_that_refuses_us_keeps_every_mail(world: World) -> None:
    world.mailer.fail_next(*refuse(), method="send")
    image = world.add_image()
    ordered = [world.buy(attachment_id=image) for _ in range(6)]
    world.run_due()
    deliver_all(world)
    assert statuses(world, ordered) == {"completed"}
    for _ in range(12):
        world.later(301)

    assert is_open(world.shop, MAIL)
    assert [alert.key for alert in world.alerts()] == ["circuit:mail"]
    assert not world.mailer.outbox
    assert all(world.order(order_id).held_at is None for order_id in ordered)
    world.mailer._ordered.clear()
    for _ in range(3):
        world.later(301)

    ready = [world.mails(order_id, "ready")[0] for order_id in ordered]
    assert {mail.state for mail in ready} == {"sent"}
    assert len(world.mailer.outbox) == len(ordered)
    assert not world.alerts()


@pytest.mark.parametrize("refusals", [1, 2, 5])
def test_the_owner_sets_how_many_refusals_stop_the_work(world: World, refusals: int) -> None:
    world.set(upscaler="upsampler", account_failures=refusals)
    world.upscaler.fail_next(*refuse(), method="submit")
    world.buy()
    for tried in range(1, refusals + 1):
        assert not is_open(world.shop, UPSAMPLER)
        world.run_due()
        assert world.upscaler.calls.count("submit") == tried
        world.clock.advance(301)

    assert is_open(world.shop, UPSAMPLER)
    ready = [task for task in world.tasks("ready") if task.kind == TaskKind.SUBMIT_UPSCALE]
    assert [task.failures for task in ready] == [0], "our account is not the order's failure"

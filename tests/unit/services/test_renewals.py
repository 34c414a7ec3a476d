"""Links that have ended, the customer who has not fetched his picture, and the owner who must be told."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import inspect

from smi_desktop.domain.errors import IllegalTransitionError, NotFoundError
from smi_desktop.services import remedies
from smi_desktop.services.cleanup import sweep
from smi_desktop.services.delivery import LinkEndedError, find_download, record_download
from smi_desktop.services.renewals import can_renew, has_ended, renew_link
from smi_desktop.store import outbox
from smi_desktop.store.models import OutboxMail
from tests.world import World

HOUR = 3600.0


def delivered(world: World) -> str:
    order_id = world.buy()
    world.complete(order_id)
    return order_id


def token(world: World, order_id: str) -> str:
    return world.shop.token("download", order_id, world.order(order_id).generation)


def row(world: World, order_id: str) -> dict[str, Any]:
    order = world.order(order_id)
    return {column.key: getattr(order, column.key) for column in inspect(type(order)).columns}


def fetch(world: World, order_id: str) -> None:
    """Let the customer download the whole picture."""
    ticket = find_download(world.shop, token(world, order_id))
    record_download(
        world.shop, ticket, first_byte=0, bytes_sent=ticket.bytes, finished=True,
        agent="Mozilla/5.0", address="203.0.113.7",
    )  # fmt: skip


def sweep_and_send(world: World, times: int = 1) -> None:
    for _ in range(times):
        sweep(world.shop)
        world.run_due()


def test_renewing_a_link_that_lives_changes_nothing(world: World) -> None:
    order_id = delivered(world)
    before = row(world, order_id)

    for _ in range(10):
        renew_link(world.shop, order_id)

    assert row(world, order_id) == before
    assert not has_ended(world.shop, world.order(order_id))


def test_a_link_that_has_ended_lives_again_under_the_same_address(world: World) -> None:
    order_id = delivered(world)
    link = token(world, order_id)
    world.clock.advance(24 * HOUR + 1)
    with pytest.raises(LinkEndedError):
        find_download(world.shop, link)
    assert can_renew(world.shop, world.order(order_id))

    renew_link(world.shop, order_id)
    renew_link(world.shop, order_id)

    assert find_download(world.shop, link).order_id == order_id
    order = world.order(order_id)
    assert order.renewals == 1
    assert order.expires_at is not None
    assert (order.expires_at - world.clock.now()).total_seconds() == 24 * HOUR


def test_a_customer_renews_as_often_as_the_owner_allows(world: World) -> None:
    world.set(renewals_allowed=2)
    order_id = delivered(world)
    for _ in range(2):
        world.clock.advance(24 * HOUR + 1)
        renew_link(world.shop, order_id)
    world.clock.advance(24 * HOUR + 1)
    before = row(world, order_id)

    assert not can_renew(world.shop, world.order(order_id))
    with pytest.raises(IllegalTransitionError, match="write to us"):
        renew_link(world.shop, order_id)
    assert row(world, order_id) == before

    renew_link(world.shop, order_id, actor="owner")
    assert find_download(world.shop, token(world, order_id)).bytes > 0
    assert world.order(order_id).renewals == 2


def test_a_link_whose_file_is_gone_cannot_be_renewed(world: World) -> None:
    order_id = delivered(world)
    world.clock.advance((24 + 72) * HOUR + 2)
    sweep_and_send(world)
    order = world.order(order_id)
    assert order.file_removed_at is not None

    assert not can_renew(world.shop, order)
    with pytest.raises(IllegalTransitionError, match="not kept"):
        renew_link(world.shop, order_id)


def test_a_renewed_file_is_kept_for_the_new_time(world: World) -> None:
    order_id = delivered(world)
    world.clock.advance((24 + 71) * HOUR)
    renew_link(world.shop, order_id)
    world.clock.advance(2 * HOUR)
    sweep_and_send(world)

    assert find_download(world.shop, token(world, order_id)).bytes > 0


def test_money_that_went_back_cannot_be_renewed(world: World) -> None:
    order_id = delivered(world)
    link = token(world, order_id)
    remedies.refund(world.shop, order_id)
    world.run_due()
    world.clock.advance(25 * HOUR)

    with pytest.raises(IllegalTransitionError):
        renew_link(world.shop, order_id)
    with pytest.raises(NotFoundError):
        find_download(world.shop, link)


def test_an_unknown_order_has_no_link_to_renew(world: World) -> None:
    with pytest.raises(NotFoundError):
        renew_link(world.shop, "nobody")

    assert not world.tasks()


def test_a_picture_that_nobody_has_fetched_is_reminded_of_once(world: World) -> None:
    order_id = delivered(world)
    world.clock.advance(19 * HOUR)
    sweep_and_send(world)
    assert not world.mails(order_id, "reminder")
    world.clock.advance(1.5 * HOUR)
    sweep_and_send(world, 3)

    (mail,) = world.mails(order_id, "reminder")
    assert mail.state == "sent"
    assert token(world, order_id) in world.mailer.outbox[-1].text
    assert len(world.mailer.outbox) == 2


def test_a_picture_that_was_fetched_is_not_reminded_of(world: World) -> None:
    order_id = delivered(world)
    fetch(world, order_id)
    world.clock.advance(21 * HOUR)
    sweep_and_send(world)

    assert not world.mails(order_id, "reminder")


def test_a_reminder_that_is_late_by_then_is_not_sent(world: World) -> None:
    order_id = delivered(world)
    world.clock.advance(21 * HOUR)
    sweep(world.shop)
    fetch(world, order_id)
    world.run_due()

    assert [mail.state for mail in world.mails(order_id, "reminder")] == ["failed"]
    assert len(world.mailer.outbox) == 1


def test_reminders_can_be_turned_off(world: World) -> None:
    world.set(reminder_hours=0, delayed_minutes=0)
    waiting = world.buy()
    order_id = delivered(world)
    world.clock.advance(23 * HOUR)
    sweep_and_send(world)

    assert not world.mails(order_id, "reminder")
    assert not world.mails(waiting, "delayed")


def test_who_waits_long_is_told_once(world: World) -> None:
    world.set(upscaler="upsampler", upsampler_deadline_seconds=24 * 3600)
    order_id = world.buy()
    world.run_due()
    world.clock.advance(59 * 60)
    sweep_and_send(world)
    assert not world.mails(order_id)
    world.clock.advance(2 * 60)
    sweep_and_send(world, 2)
    world.clock.advance(5 * HOUR)
    sweep_and_send(world, 2)

    assert [mail.kind for mail in world.mails(order_id)] == ["delayed"]
    assert len(world.mailer.outbox) == 1


def test_the_owner_gets_one_mail_about_all_that_he_was_not_told(world: World) -> None:
    world.set(alert_email="owner@studio.example", refund_on_failure=False)
    ordered = [world.buy() for _ in range(3)]
    for order_id in ordered:
        world.run_due()
        remedies.hold(world.shop, order_id, f"Reason of {order_id[:6]}.")
    sweep_and_send(world, 3)

    (mail,) = world.mailer.sent_to("owner@studio.example")
    for order_id in ordered:
        assert f"Reason of {order_id[:6]}." in mail.text
        assert order_id not in mail.text, "an order's id is its buyer's secret"
    assert all(alert.mailed_at is not None for alert in world.alerts())

    last = delivered(world)
    remedies.hold(world.shop, last, "Something new.")
    world.clock.advance(60)
    sweep_and_send(world, 3)
    told = world.mailer.sent_to("owner@studio.example")
    assert len(told) == 2
    assert "Something new." in told[1].text
    assert f"Reason of {ordered[0][:6]}." not in told[1].text


def test_an_owner_without_an_address_is_not_written_to(world: World) -> None:
    order_id = delivered(world)
    remedies.hold(world.shop, order_id, "Look.")
    sweep_and_send(world)

    with world.database.read() as session:
        assert not [m for m in session.query(OutboxMail) if m.kind == "alert"]
        assert not outbox.is_waiting(session, "alert")
    assert len(world.alerts()) == 1


def test_an_alert_that_is_over_and_back_is_told_again(world: World) -> None:
    world.set(alert_email="owner@studio.example")
    order_id = delivered(world)
    for reason in ("First time.", "Second time."):
        remedies.hold(world.shop, order_id, reason)
        sweep_and_send(world)
        world.clock.advance(60)
        remedies.release(world.shop, order_id)

    texts = [mail.text for mail in world.mailer.sent_to("owner@studio.example")]
    assert len(texts) == 2
    assert "Second time." in texts[1]
    assert not world.alerts()

"""What the owner can do about an order in each of its states: all of it, or nothing and a sentence why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect

from smi_desktop.domain.errors import (
    BadResultError,
    IllegalTransitionError,
    InvalidInputError,
    NotFoundError,
    TransientError,
)
from smi_desktop.domain.holds import HoldKind, Remedy
from smi_desktop.domain.holds import remedies as known_remedies
from smi_desktop.domain.money import Money
from smi_desktop.domain.tokens import hash_token
from smi_desktop.services import remedies
from smi_desktop.services.delivery import find_download
from smi_desktop.services.order_states import hold_order, lock_order
from smi_desktop.services.work import TaskKind
from smi_desktop.store import timeline
from tests.fakes.image_reader import fake_image
from tests.world import PICTURE_KINDS, World

Made = Callable[[World], str]
MAIL = [TaskKind.SEND_MAIL]


def awaiting_payment(world: World) -> str:
    return world.start_checkout().order_id


def abandoned(world: World) -> str:
    order_id = awaiting_payment(world)
    session_id = world.order(order_id).stripe_session_id or ""
    world.payments.expire_session(session_id)
    world.deliver("checkout.session.expired", session_id)
    world.run_due([TaskKind.APPLY_EVENT])
    return order_id


def pending(world: World) -> str:
    order_id = world.buy()
    world.run_due([TaskKind.APPLY_EVENT])
    return order_id


def processing(world: World) -> str:
    order_id = world.buy()
    world.run_due(PICTURE_KINDS)
    return order_id


def processing_held(world: World) -> str:
    order_id = processing(world)
    remedies.hold(world.shop, order_id, "Let me see.")
    return order_id


def quality_held(world: World) -> str:
    order_id = world.buy()
    world.run_due(PICTURE_KINDS)
    order = world.order(order_id)
    blank = fake_image(order.output_width, order.output_height, content="blank")
    world.upscaler.succeed(list(world.upscaler.jobs)[-1], blank)
    world.set(quality_max_delta_e=8.0)
    world.local_upscaler.fail_next(BadResultError("Not enough memory."))
    world.clock.advance(31)
    world.run_due(PICTURE_KINDS)
    return order_id


def completed(world: World) -> str:
    order_id = world.buy()
    world.complete(order_id)
    return order_id


def failed_held(world: World) -> str:
    world.set(refund_on_failure=False)
    order_id = world.buy()
    world.fail_picture(order_id)
    return order_id


def failed_going_back(world: World) -> str:
    order_id = world.buy()
    world.fail_picture(order_id)
    return order_id


def refunded(world: World) -> str:
    order_id = failed_going_back(world)
    world.run_due([TaskKind.SEND_REFUND])
    return order_id


def disputed(world: World) -> str:
    order_id = completed(world)
    world.payments.open_dispute(world.intent(order_id))
    world.tell("charge.dispute.created", order_id)
    world.run_due()
    return order_id


STATES: tuple[Made, ...] = (
    awaiting_payment,
    abandoned,
    pending,
    processing,
    processing_held,
    completed,
    failed_held,
    failed_going_back,
    refunded,
    disputed,
)


def own_file(world: World, order_id: str) -> Path:
    order = world.order(order_id)
    path = world.folder / "own.png"
    path.write_bytes(fake_image(order.output_width, order.output_height, content="by hand"))
    return path


ACTIONS: dict[str, Callable[[World, str], object]] = {
    "hold": lambda world, order_id: remedies.hold(world.shop, order_id, "Wait."),
    "release": lambda world, order_id: remedies.release(world.shop, order_id),
    "retry": lambda world, order_id: remedies.retry(world.shop, order_id),
    "refund": lambda world, order_id: remedies.refund(world.shop, order_id),
    "replace": lambda world, order_id: remedies.replace(
        world.shop, order_id, own_file(world, order_id)
    ),
    "resend": lambda world, order_id: remedies.resend(world.shop, order_id),
}

# What each state allows; everything else is refused with a sentence.
ALLOWED: dict[Made, set[str]] = {
    awaiting_payment: {"hold"},
    abandoned: set(),
    pending: {"hold", "refund", "replace"},
    processing: {"hold", "refund", "replace"},
    processing_held: {"release", "retry", "refund", "replace"},
    completed: {"hold", "refund", "replace", "resend"},
    failed_held: {"release", "retry", "refund", "replace"},
    failed_going_back: {"hold"},
    refunded: set(),
    disputed: set(),
}


def row(world: World, order_id: str) -> dict[str, Any]:
    order = world.order(order_id)
    return {column.key: getattr(order, column.key) for column in inspect(type(order)).columns}


def everything(world: World, order_id: str) -> object:
    """Return all that a remedy could have changed."""
    with world.database.read() as session:
        lines = [entry.id for entry in timeline.of_order(session, order_id)]
    tasks = sorted((task.id, task.state) for task in world.tasks())
    mails = [mail.id for mail in world.mails(order_id)]
    refunds = [(refund.id, refund.state) for refund in world.refunds(order_id)]
    return row(world, order_id), lines, tasks, mails, refunds


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("made", STATES, ids=lambda made: made.__name__)
def test_a_remedy_does_all_of_its_work_or_none(world: World, made: Made, action: str) -> None:
    order_id = made(world)
    before = everything(world, order_id)

    if action in ALLOWED[made]:
        ACTIONS[action](world, order_id)
        assert everything(world, order_id) != before
        return
    with pytest.raises(IllegalTransitionError) as refused:
        ACTIONS[action](world, order_id)

    assert refused.value.message.endswith("."), "a sentence"
    assert refused.value.message[0].isupper()
    assert everything(world, order_id) == before


@pytest.mark.parametrize("action", ACTIONS)
def test_a_remedy_for_an_unknown_order_finds_none(world: World, action: str) -> None:
    order_id = pending(world)
    path = own_file(world, order_id)
    actions = ACTIONS | {"replace": lambda w, o: remedies.replace(w.shop, o, path)}

    with pytest.raises(NotFoundError):
        actions[action](world, "nobody")

    assert world.order(order_id).status == "pending"


def test_releasing_a_doubtful_picture_delivers_the_file_that_was_kept(world: World) -> None:
    world.set(upscaler="upsampler")
    order_id = quality_held(world)
    held = world.order(order_id)
    assert (held.status, held.held_kind) == ("processing", "quality")
    assert held.file_key is not None

    remedies.release(world.shop, order_id)
    world.run_due()

    order = world.order(order_id)
    assert (order.status, order.held_at) == ("completed", None)
    assert order.file_key == held.file_key
    token = world.shop.token("download", order_id, order.generation)
    assert find_download(world.shop, token).path.is_file()
    assert len(world.mails(order_id, "ready")) == 1
    assert not world.alerts()


def given_up(world: World, kinds: list[TaskKind], errors: int = 36) -> None:
    for _ in range(errors):
        world.clock.advance(3601)
        world.run_due(kinds)


def test_releasing_work_that_was_given_up_lets_it_go_on(world: World) -> None:
    order_id = world.buy()
    world.run_due(PICTURE_KINDS)
    world.finish_upscale(order_id)
    world.images.fail_next(*[RuntimeError("a bug") for _ in range(5)], method="finish_result")
    given_up(world, list(PICTURE_KINDS), 6)
    assert world.order(order_id).held_kind == "given_up"

    remedies.release(world.shop, order_id)
    world.run_due()
    world.later(60)

    assert world.order(order_id).status == "completed"
    assert len(world.upscaler.jobs) == 1, "the picture that is made need not be bought again"
    assert len(world.mails(order_id, "ready")) == 1


def test_releasing_a_refund_that_was_given_up_sends_it(world: World) -> None:
    order_id = failed_going_back(world)
    errors = [TransientError("Stripe is away.") for _ in range(40)]
    world.payments.fail_next(*errors, method="list_refunds")
    given_up(world, [TaskKind.SEND_REFUND], 40)
    assert world.order(order_id).held_kind == "given_up"
    world.payments._ordered.clear()

    remedies.release(world.shop, order_id)
    world.run_due()

    assert world.order(order_id).status == "refunded"
    assert len(world.payments.refunds) == 1


def test_releasing_money_that_could_not_be_taken_takes_it(world: World) -> None:
    world.set(capture_when_ready=True)
    order_id = processing(world)
    world.finish_upscale(order_id)
    errors = [TransientError("Stripe is away.") for _ in range(40)]
    world.payments.fail_next(*errors, method="capture_payment")
    world.clock.advance(31)
    world.run_due(PICTURE_KINDS)
    given_up(world, [TaskKind.TAKE_MONEY], 40)
    assert world.order(order_id).held_kind == "given_up"
    world.payments._ordered.clear()

    remedies.release(world.shop, order_id)
    world.run_due()

    order = world.order(order_id)
    assert (order.status, order.payment_status) == ("completed", "paid")


def test_a_release_while_the_order_is_held_by_the_owner_begins_the_picture_once(
    world: World,
) -> None:
    order_id = pending(world)
    remedies.hold(world.shop, order_id, "Is this picture ours to sell?")
    world.run_due()
    assert not world.upscaler.jobs

    remedies.release(world.shop, order_id)
    world.complete(order_id)

    assert world.order(order_id).status == "completed"
    assert len(world.upscaler.jobs) == 1


def test_sending_again_makes_a_new_link_and_ends_the_old_one(world: World) -> None:
    order_id = completed(world)
    old = world.shop.token("download", order_id, 1)
    assert find_download(world.shop, old).order_id == order_id

    remedies.resend(world.shop, order_id, email="correct@example.com")
    world.run_due()

    with pytest.raises(NotFoundError):
        find_download(world.shop, old)
    new = world.shop.token("download", order_id, 2)
    assert world.order(order_id).token_sha256 == hash_token(new)
    assert find_download(world.shop, new).order_id == order_id
    (mail,) = world.mailer.sent_to("correct@example.com")
    assert new in mail.text
    assert old not in mail.text
    assert world.order(order_id).email == "correct@example.com"


@pytest.mark.parametrize("address", ["", "nobody", "a@b@c", "a@b.c\r\nBcc: x@y.z", "a@b, c@d"])
def test_sending_again_takes_one_address(world: World, address: str) -> None:
    order_id = completed(world)

    with pytest.raises(InvalidInputError):
        remedies.resend(world.shop, order_id, email=address)

    assert world.order(order_id).generation == 1


def test_an_undeliverable_mail_is_mended_by_another_address(world: World) -> None:
    world.mailer.refused.add("jo@example.com")
    order_id = completed(world)
    assert world.order(order_id).held_kind == "mail_undeliverable"

    remedies.resend(world.shop, order_id, email="jo@example.net")
    world.run_due()

    assert world.order(order_id).held_at is None
    assert len(world.mailer.sent_to("jo@example.net")) == 1
    assert not world.alerts()


def test_a_retry_of_a_failed_picture_makes_it_with_the_upscaler_that_is_named(
    world: World,
) -> None:
    order_id = failed_held(world)
    with pytest.raises(InvalidInputError, match="nobody"):
        remedies.retry(world.shop, order_id, provider="nobody")

    remedies.retry(world.shop, order_id, provider="embedded")
    world.run_due()

    order = world.order(order_id)
    assert (order.status, order.held_at, order.failure_reason) == ("completed", None, None)
    assert len(world.upscaler.jobs) == 1


def test_an_own_file_takes_the_place_of_a_picture_that_failed(world: World) -> None:
    order_id = failed_held(world)
    path = world.folder / "wrong.png"
    path.write_bytes(fake_image(10, 10))
    before = everything(world, order_id)
    with pytest.raises(BadResultError, match="10x10"):
        remedies.replace(world.shop, order_id, path)
    assert everything(world, order_id) == before

    remedies.replace(world.shop, order_id, own_file(world, order_id))
    world.run_due()

    order = world.order(order_id)
    assert (order.status, order.held_at) == ("completed", None)
    assert len(world.mails(order_id, "ready")) == 1


def test_a_late_result_does_not_take_the_place_of_the_owners_file(world: World) -> None:
    order_id = processing(world)
    remedies.replace(world.shop, order_id, own_file(world, order_id))
    key = world.order(order_id).file_key
    world.finish_upscale(order_id)
    world.later(31)

    order = world.order(order_id)
    assert (order.status, order.file_key, order.generation) == ("completed", key, 1)
    assert len(world.mails(order_id, "ready")) == 1


def test_a_missing_file_is_brought_back_under_a_new_link(world: World) -> None:
    order_id = completed(world)
    world.files.delete(world.order(order_id).file_key or "")
    token = world.shop.token("download", order_id, 1)
    with pytest.raises(TransientError):
        find_download(world.shop, token)
    assert world.order(order_id).held_kind == "file_missing"

    remedies.replace(world.shop, order_id, own_file(world, order_id))

    assert world.order(order_id).held_at is None
    assert find_download(world.shop, world.shop.token("download", order_id, 2)).bytes > 0


def test_a_part_that_goes_back_leaves_the_hold_and_the_work_alone(world: World) -> None:
    order_id = processing_held(world)

    remedies.refund(world.shop, order_id, amount=Money(10, world.order(order_id).currency))
    world.run_due([TaskKind.SEND_REFUND])

    order = world.order(order_id)
    assert (order.status, order.payment_status) == ("processing", "partially_refunded")
    assert order.held_kind == "owner"
    remedies.release(world.shop, order_id)
    world.finish_upscale(order_id)
    world.later(31)
    assert world.order(order_id).status == "completed"


@pytest.mark.parametrize("kind", HoldKind)
def test_every_kind_of_hold_names_what_can_be_done(world: World, kind: HoldKind) -> None:
    order_id = processing(world)
    with world.database.write() as session:
        hold_order(session, lock_order(session, order_id), kind, "Why.", at=world.clock.now())

    offered = known_remedies(kind)

    assert bool(offered) is (kind is not HoldKind.DISPUTED)
    if Remedy.RELEASE in offered:
        remedies.release(world.shop, order_id)
        assert world.order(order_id).held_at is None


def test_a_hold_of_a_newer_version_offers_nothing() -> None:
    assert known_remedies("from_the_future") == ()
    assert known_remedies(None) == ()

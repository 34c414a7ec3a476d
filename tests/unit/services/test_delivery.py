"""From a finished picture to a live link, and what the link's holder gets."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smi_desktop.config import DeliveredFormat, UpscalerChoice
from smi_desktop.domain.errors import (
    BadResultError,
    NotFoundError,
    RejectedError,
    TransientError,
)
from smi_desktop.domain.orders import OrderStatus, PaymentStatus
from smi_desktop.services.delivery import (
    LinkEndedError,
    NotReadyError,
    Ticket,
    collect_result,
    download_url,
    find_download,
    record_download,
    work_folder,
)
from smi_desktop.services.order_states import move_order, move_payment
from smi_desktop.services.work import Done, TaskKind
from smi_desktop.store import downloads, refunds, timeline, upscales
from smi_desktop.store.models import Order
from smi_desktop.store.tasks import Claim
from tests.fakes.image_reader import fake_image
from tests.fakes.upscaler import FakeLocalUpscaler
from tests.world import World

HERE = UpscalerChoice.EMBEDDED


@pytest.fixture
def remote(world: World) -> World:
    """A shop whose orders go to the remote upscaler alone."""
    world.set(upscaler=UpscalerChoice.UPSAMPLER)
    return world


def ready(world: World, **fields: Any) -> str:
    """Bring an order to the moment at which its result lies at the upscaler's."""
    order_id = world.buy(**fields)
    world.run_due()
    world.finish_upscale(order_id)
    world.clock.advance(31)
    return order_id


def go_on(world: World, seconds: float, step: float = 60.0) -> None:
    for _ in range(int(seconds / step)):
        world.clock.advance(step)
        world.run_due()


def states(world: World, order_id: str) -> list[tuple[str, str]]:
    with world.database.read() as session:
        return [(row.provider, row.state) for row in upscales.of_order(session, order_id)]


def kinds(world: World, order_id: str) -> list[str]:
    with world.database.read() as session:
        return [entry.kind for entry in timeline.of_order(session, order_id)]


def change(world: World, order_id: str, **values: Any) -> None:
    with world.database.write() as session:
        order = session.get_one(Order, order_id)
        for name, value in values.items():
            setattr(order, name, value)


def refund(world: World, order_id: str) -> None:
    with world.database.write() as session:
        order = session.get_one(Order, order_id)
        now = world.clock.now()
        move_payment(session, order, PaymentStatus.REFUNDED, "Refunded.", at=now)
        move_order(session, order, OrderStatus.REFUNDED, "Refunded.", at=now)


def token(world: World, order_id: str) -> str:
    return world.shop.token("download", order_id, world.order(order_id).generation)


def open_link(world: World, order_id: str) -> Ticket:
    return find_download(world.shop, token(world, order_id))


# --- the file ---------------------------------------------------------------------------------------


def test_a_delivery_stores_the_file_and_tells_what_it_is(remote: World) -> None:
    order = remote.complete(remote.buy())
    assert (order.status, order.generation, order.progress) == ("completed", 1, 1.0)
    path = remote.files.path(order.file_key or "")
    content = path.read_bytes()
    assert content == fake_image(1600, 1200, content="finished")
    assert order.file_bytes == len(content)
    assert order.file_sha256 == hashlib.sha256(content).hexdigest()
    assert order.file_format == "png"
    assert order.completed_at == remote.clock.now()
    assert states(remote, order.id) == [("upsampler", "succeeded")]
    assert not (remote.folder / "work" / "upscale-1").exists()


def test_the_link_is_known_by_its_hash_alone(remote: World) -> None:
    order = remote.complete(remote.buy())
    link = download_url(remote.shop, remote.shop.settings(), order)
    assert link == f"https://shop.example/smi/v1/download/{token(remote, order.id)}"
    assert order.token_sha256 == hashlib.sha256(token(remote, order.id).encode()).hexdigest()


@pytest.mark.parametrize(
    ("setting", "source", "expected"),
    [
        (DeliveredFormat.AUTO, "png", ("png", "image/png")),
        (DeliveredFormat.AUTO, "jpeg", ("jpg", "image/jpeg")),
        (DeliveredFormat.AUTO, "webp", ("png", "image/png")),
        (DeliveredFormat.JPEG, "png", ("jpg", "image/jpeg")),
        (DeliveredFormat.PNG, "jpeg", ("png", "image/png")),
    ],
)
def test_the_customer_gets_the_type_that_the_shop_promises(
    remote: World, setting: DeliveredFormat, source: str, expected: tuple[str, str]
) -> None:
    remote.set(delivered_format=setting, jpeg_quality=90)
    number = remote.add_image(format=source)
    order = remote.complete(remote.buy(attachment_id=number))
    ticket = open_link(remote, order.id)
    assert (ticket.name.rpartition(".")[2], ticket.media_type) == expected
    if expected[0] == "jpg":
        assert b"quality 90" in ticket.path.read_bytes()


def test_a_live_link_opens_the_file_under_a_readable_name(remote: World) -> None:
    order = remote.complete(remote.buy())
    ticket = open_link(remote, order.id)
    assert ticket.name == f"Harbour_4x_1600x1200_{order.number}.png"
    assert ticket.bytes == order.file_bytes
    assert ticket.etag == f'"{order.file_sha256}"'
    assert ticket.modified_at == order.completed_at
    assert ticket.path.is_file()


def test_reading_consumes_nothing(remote: World) -> None:
    order = remote.complete(remote.buy())
    first = open_link(remote, order.id)
    assert all(open_link(remote, order.id) == first for _ in range(20))


# --- results that are not what was ordered ----------------------------------------------------------


def spoil(world: World, content: bytes) -> str:
    order_id = world.buy()
    world.run_due()
    world.upscaler.succeed("job-1", content)
    go_on(world, 120)
    return order_id


def errors(world: World, order_id: str) -> list[str | None]:
    with world.database.read() as session:
        return [row.error for row in upscales.of_order(session, order_id)]


def assert_money_went_back(world: World, order_id: str) -> None:
    """The one end of an order whose picture nobody can make."""
    order = world.order(order_id)
    assert (order.status, order.payment_status) == ("refunded", "refunded")
    assert (order.held_at, order.token_sha256) == (None, None)
    with world.database.read() as session:
        rows = [(row.cause, row.state) for row in refunds.of_order(session, order_id)]
    assert rows == [("failure", "succeeded")]
    assert world.payments.refunded_minor(order.payment_intent_id or "") == order.paid_minor
    (mail,) = world.mailer.outbox
    assert "/smi/v1/download/" not in mail.text + mail.html


UNUSABLE = [
    b"<html>502</html>",
    b"",
    fake_image(400, 300),
    fake_image(1, 1),
    fake_image(1200, 1600),
]
DOUBTFUL = [fake_image(1600, 1200, content="blank"), fake_image(1600, 1200, content="tinted")]


@pytest.mark.parametrize("content", UNUSABLE)
def test_an_unusable_result_goes_to_the_routes_next_upscaler(world: World, content: bytes) -> None:
    order_id = spoil(world, content)
    assert world.order(order_id).status == "completed"
    assert states(world, order_id) == [("upsampler", "failed"), ("embedded", "succeeded")]


@pytest.mark.parametrize("content", DOUBTFUL)
def test_a_doubtful_result_goes_to_the_routes_next_upscaler(world: World, content: bytes) -> None:
    order_id = spoil(world, content)
    assert world.order(order_id).status == "completed"
    assert states(world, order_id) == [("upsampler", "doubtful"), ("embedded", "succeeded")]


@pytest.mark.parametrize("content", UNUSABLE)
def test_an_unusable_result_is_never_delivered_and_the_money_goes_back(
    remote: World, content: bytes
) -> None:
    order_id = spoil(remote, content)
    assert_money_went_back(remote, order_id)
    assert remote.order(order_id).file_key is None
    assert list(remote.files.files("results/")) == []


@pytest.mark.parametrize("content", DOUBTFUL)
def test_a_doubtful_result_that_nobody_makes_better_is_kept_for_a_person_and_not_delivered(
    remote: World, content: bytes
) -> None:
    order_id = spoil(remote, content)
    order = remote.order(order_id)
    assert (order.status, order.payment_status) == ("processing", "paid")
    assert (order.token_sha256, order.held_kind) == (None, "quality")
    assert order.held_reason == errors(remote, order_id)[0]
    assert [file.key for file in remote.files.files("results/")] == [order.file_key]
    assert remote.files.path(order.file_key or "").stat().st_size == order.file_bytes
    assert remote.mailer.outbox == []
    assert remote.payments.refunds == {}


def test_a_result_that_is_too_large_or_forbidden_is_refused(remote: World) -> None:
    order_id = ready(remote)
    remote.fetcher.fail_next(RejectedError("The address is not allowed."), method="fetch")
    remote.run_due()
    assert errors(remote, order_id) == ["The address is not allowed."]
    assert_money_went_back(remote, order_id)


def test_a_cut_download_is_tried_again(remote: World) -> None:
    order_id = ready(remote)
    remote.fetcher.fail_next(TransientError("cut"), TransientError("cut"), method="fetch")
    remote.run_due()
    go_on(remote, 120)
    assert remote.order(order_id).status == "completed"


def test_a_result_that_was_fetched_is_not_fetched_again(remote: World) -> None:
    order_id = ready(remote)
    remote.images.fail_next(TransientError("killed"), method="finish_result")
    remote.run_due()
    go_on(remote, 60)
    assert remote.order(order_id).status == "completed"
    assert len([url for url in remote.fetcher.fetched if "results.example" in url]) == 1


def test_an_address_that_has_ended_is_asked_for_anew(remote: World) -> None:
    order_id = ready(remote)
    remote.upscaler.expire_result("job-1")
    remote.run_due()
    assert remote.order(order_id).status == "processing"
    remote.finish_upscale(order_id)
    go_on(remote, 60)
    assert remote.order(order_id).status == "completed"


def test_a_result_that_the_upscaler_has_thrown_away_is_a_failed_attempt(world: World) -> None:
    order_id = ready(world)
    world.upscaler.expire_result("job-1")
    world.run_due()
    go_on(world, 1200)
    assert states(world, order_id) == [("upsampler", "failed"), ("embedded", "succeeded")]
    assert world.order(order_id).status == "completed"


def test_a_disk_without_space_makes_an_order_wait(remote: World) -> None:
    order_id = ready(remote)
    remote.files.fail_next(*[TransientError("no space")] * 5, method="put")
    remote.run_due()
    assert remote.order(order_id).status == "processing"
    go_on(remote, 300)
    assert remote.order(order_id).status == "completed"


def test_a_work_folder_that_cannot_be_made_makes_an_order_wait(remote: World) -> None:
    order_id = ready(remote)
    folder = remote.folder / "work"
    for entry in folder.iterdir():
        entry.rmdir()
    folder.rmdir()
    folder.write_text("a file where the folder should be")
    remote.run_due()
    go_on(remote, 3600)
    assert remote.order(order_id).held_at is None
    folder.unlink()
    go_on(remote, 1200)
    assert remote.order(order_id).status == "completed"


def test_a_file_is_stored_before_any_row_names_it(remote: World) -> None:
    order_id = ready(remote)
    remote.files.lose_reply(KeyboardInterrupt(), method="put")  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        remote.run_due()
    assert remote.order(order_id).file_key is None
    assert list(remote.files.files("results/"))
    go_on(remote, 120)
    assert remote.order(order_id).status == "completed"
    assert len(list(remote.files.files("results/"))) == 1


def test_a_collection_whose_attempt_is_over_ends(remote: World) -> None:
    order = remote.complete(remote.buy())
    for upscale_id in (1, 99):
        task = Claim(
            1, TaskKind.COLLECT_RESULT, "c", order.id, {"upscale_id": upscale_id}, 1, 0, "x"
        )
        assert isinstance(collect_result(remote.shop, task), Done)


# --- on this machine --------------------------------------------------------------------------------


def test_a_picture_is_made_on_this_machine(world: World) -> None:
    world.set(upscaler=HERE)
    order_id = world.buy()
    world.run_due()
    order = world.order(order_id)
    assert (order.status, order.progress) == ("completed", 1.0)
    assert states(world, order_id) == [("embedded", "succeeded")]
    assert world.upscaler.calls == []


def test_work_that_was_killed_begins_again(world: World) -> None:
    world.set(upscaler=HERE)
    order_id = world.buy()
    world.local_upscaler.fail_next(TransientError("killed"), method="upscale")
    world.run_due()
    assert world.order(order_id).status == "processing"
    go_on(world, 60)
    assert world.order(order_id).status == "completed"
    assert states(world, order_id) == [("embedded", "succeeded")]


def test_a_picture_that_kills_every_try_is_given_up_and_its_money_goes_back(world: World) -> None:
    world.set(upscaler=HERE)
    order_id = world.buy()
    world.local_upscaler.fail_next(*[TransientError("killed")] * 50, method="upscale")
    world.run_due()
    go_on(world, 7200)
    assert errors(world, order_id) == ["killed"]
    assert_money_went_back(world, order_id)
    assert world.local_upscaler.calls.count("upscale") <= 11


def test_some_minutes_of_trouble_on_this_machine_do_not_fail_the_order(world: World) -> None:
    world.set(upscaler=HERE)
    order_id = world.buy()
    world.local_upscaler.fail_next(*[TransientError("no space")] * 6, method="upscale")
    world.run_due()
    go_on(world, 600)
    assert world.order(order_id).status == "completed"


def test_an_enlarged_picture_is_not_enlarged_again(world: World) -> None:
    world.set(upscaler=HERE)
    order_id = world.buy()
    world.files.fail_next(TransientError("no space"), method="put")
    world.run_due()
    go_on(world, 60)
    assert world.order(order_id).status == "completed"
    assert world.local_upscaler.calls == ["upscale"]


@pytest.mark.parametrize("step", ["upscale", "finish_result"])
def test_a_picture_that_cannot_be_enlarged_here_is_refunded(world: World, step: str) -> None:
    world.set(upscaler=HERE)
    part = world.local_upscaler if step == "upscale" else world.images
    part.fail_next(BadResultError("It cannot be read."), method=step)
    order_id = world.buy()
    world.run_due()
    assert errors(world, order_id) == ["It cannot be read."]
    assert_money_went_back(world, order_id)


def test_an_order_that_is_held_before_its_turn_is_not_made_here(world: World) -> None:
    world.set(upscaler=HERE)
    order_id = world.buy()
    world.run_due([TaskKind.APPLY_EVENT])
    change(world, order_id, held_at=world.clock.now())
    world.run_due()
    assert world.local_upscaler.calls == []


def test_progress_is_told_while_a_picture_is_made(world: World) -> None:
    world.set(upscaler=HERE)
    order_id = world.buy()
    world.local_upscaler.lose_reply(TransientError("killed"), method="upscale")
    world.run_due()
    assert world.order(order_id).progress == 1.0
    go_on(world, 60)
    assert world.order(order_id).status == "completed"


def test_an_order_that_is_refunded_while_it_is_made_here_is_stopped(world: World) -> None:
    world.set(upscaler=HERE)
    order_id = world.buy()
    world.run_due([TaskKind.APPLY_EVENT])
    inside = world.local_upscaler.upscale

    def upscale(*given: Any, **named: Any) -> None:
        refund(world, order_id)
        inside(*given, **named)

    world.local_upscaler.upscale = upscale  # type: ignore[method-assign]
    world.run_due()
    go_on(world, 60)
    order = world.order(order_id)
    assert (order.status, order.file_key) == ("refunded", None)
    assert world.local_upscaler.calls == ["upscale"]


def test_progress_of_work_that_nobody_waits_for_is_not_told(world: World) -> None:
    world.set(upscaler=HERE)
    order_id = world.buy()
    world.run_due([TaskKind.APPLY_EVENT])

    class Hasty(FakeLocalUpscaler):
        def upscale(
            self, source: Path, destination: Path, *, on_progress: Any, **named: Any
        ) -> None:
            refund(world, order_id)
            on_progress(0.5)
            raise TransientError("The upscaling was stopped.")

    world.shop = replace(world.shop, local_upscaler=Hasty())
    world.run_due()
    assert world.order(order_id).progress is None


# --- orders that change meanwhile -------------------------------------------------------------------


def test_an_order_refunded_while_its_picture_was_made_is_not_delivered(remote: World) -> None:
    order_id = ready(remote)
    refund(remote, order_id)
    remote.run_due()
    order = remote.order(order_id)
    assert (order.status, order.token_sha256, order.generation) == ("refunded", None, 0)
    assert "not_delivered" in kinds(remote, order_id)
    assert remote.mailer.outbox == []


@pytest.mark.parametrize("status", ["refunded", "failed", "disputed", "canceled", "pending"])
def test_an_order_whose_money_is_not_here_is_not_delivered(remote: World, status: str) -> None:
    order_id = ready(remote)
    change(remote, order_id, payment_status=status)
    remote.run_due()
    assert remote.order(order_id).token_sha256 is None
    assert remote.mailer.outbox == []


def test_a_dispute_while_the_picture_is_made_gives_no_link(remote: World) -> None:
    order_id = ready(remote)
    change(remote, order_id, disputed_at=remote.clock.now())
    remote.run_due()
    assert remote.mailer.outbox == []
    with pytest.raises(NotFoundError):
        open_link(remote, order_id)


# --- the link ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "x", "0" * 64, "A" * 64, "../" * 21 + "x", "é" * 64])
def test_an_unknown_link_is_unknown(remote: World, text: str) -> None:
    remote.complete(remote.buy())
    with pytest.raises(NotFoundError, match="no such download"):
        find_download(remote.shop, text)


def test_a_link_ends_by_the_clock(remote: World) -> None:
    order_id = remote.complete(remote.buy()).id
    remote.clock.advance(24 * 3600 - 1)
    assert open_link(remote, order_id)
    remote.clock.advance(1)
    with pytest.raises(LinkEndedError) as caught:
        open_link(remote, order_id)
    assert caught.value.order.id == order_id


def test_a_link_whose_file_was_removed_has_ended(remote: World) -> None:
    order_id = remote.complete(remote.buy()).id
    change(remote, order_id, file_removed_at=remote.clock.now())
    with pytest.raises(LinkEndedError):
        open_link(remote, order_id)


@pytest.mark.parametrize("how", ["refunded", "disputed"])
def test_a_link_of_money_that_went_back_cannot_be_told_from_an_unknown_one(
    remote: World, how: str
) -> None:
    order_id = remote.complete(remote.buy()).id
    if how == "refunded":
        refund(remote, order_id)
    else:
        change(remote, order_id, disputed_at=remote.clock.now())
    with pytest.raises(NotFoundError) as ended:
        open_link(remote, order_id)
    with pytest.raises(NotFoundError) as unknown:
        find_download(remote.shop, "0" * 64)
    assert ended.value.message == unknown.value.message


def test_a_link_whose_order_is_being_made_anew_says_so(remote: World) -> None:
    order_id = remote.complete(remote.buy()).id
    change(remote, order_id, status="processing")
    with pytest.raises(NotReadyError):
        open_link(remote, order_id)


def test_a_new_generation_ends_the_old_link(remote: World) -> None:
    order_id = remote.complete(remote.buy()).id
    old, new = (remote.shop.token("download", order_id, number) for number in (1, 2))
    hashed = hashlib.sha256(new.encode()).hexdigest()
    change(remote, order_id, generation=2, token_sha256=hashed)
    assert find_download(remote.shop, new).generation == 2
    with pytest.raises(NotFoundError):
        find_download(remote.shop, old)


@pytest.mark.parametrize("content", [None, b"", fake_image(1600, 1200, content="longer" * 5)])
def test_a_file_that_is_missing_or_damaged_is_being_restored(
    remote: World, content: bytes | None
) -> None:
    order = remote.complete(remote.buy())
    path = remote.files.path(order.file_key or "")
    path.unlink() if content is None else path.write_bytes(content)
    for _ in range(3):
        with pytest.raises(TransientError, match="being restored") as caught:
            open_link(remote, order.id)
        assert caught.value.retry_after == 3600
    assert "missing or damaged" in (remote.order(order.id).held_reason or "")
    assert kinds(remote, order.id).count("held") == 1


# --- counting ---------------------------------------------------------------------------------------


def sent(world: World, ticket: Ticket, first: int, count: int, *, finished: bool = True) -> None:
    record_download(
        world.shop,
        ticket,
        first_byte=first,
        bytes_sent=count,
        finished=finished,
        agent="Firefox",
        address="192.0.2.1",
    )


def downloaded(world: World, ticket: Ticket) -> bool:
    return world.order(ticket.order_id).downloaded_at is not None


def test_a_whole_download_counts_once(remote: World) -> None:
    ticket = open_link(remote, remote.complete(remote.buy()).id)
    sent(remote, ticket, 0, ticket.bytes)
    first = remote.order(ticket.order_id).downloaded_at
    assert first == remote.clock.now()
    remote.clock.advance(60)
    sent(remote, ticket, 0, ticket.bytes)
    assert remote.order(ticket.order_id).downloaded_at == first
    assert kinds(remote, ticket.order_id).count("downloaded") == 1
    with remote.database.read() as session:
        assert len(downloads.of_order(session, ticket.order_id)) == 2


def test_an_aborted_download_never_counts(remote: World) -> None:
    ticket = open_link(remote, remote.complete(remote.buy()).id)
    for _ in range(3):
        sent(remote, ticket, 0, ticket.bytes - 1, finished=False)
    sent(remote, ticket, 0, ticket.bytes, finished=False)
    assert not downloaded(remote, ticket)


def test_parts_count_once_they_cover_the_whole_file(remote: World) -> None:
    ticket = open_link(remote, remote.complete(remote.buy()).id)
    sent(remote, ticket, 20, ticket.bytes - 20)
    assert not downloaded(remote, ticket)
    sent(remote, ticket, 0, 10)
    assert not downloaded(remote, ticket)
    sent(remote, ticket, 5, 15)
    assert downloaded(remote, ticket)


def test_a_download_of_an_older_file_does_not_count_for_the_new_one(remote: World) -> None:
    ticket = open_link(remote, remote.complete(remote.buy()).id)
    change(remote, ticket.order_id, generation=2)
    sent(remote, ticket, 0, ticket.bytes)
    assert not downloaded(remote, ticket)


def test_another_shop_of_the_same_orders_gives_other_links(remote: World, tmp_path: Path) -> None:
    order = remote.complete(remote.buy())
    other = replace(remote.shop, secrets=type(remote.secrets)({"token_key": "00" * 32}))
    assert other.token("download", order.id, 1) != token(remote, order.id)
    assert work_folder(other, 7).is_dir()

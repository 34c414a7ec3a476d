"""What is removed, when, and what never is."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smi_desktop.adapters.file_store import LocalFileStore
from smi_desktop.domain.errors import NotFoundError, ProviderAccountError, TransientError
from smi_desktop.services.cleanup import SweepReport, remove_file, sweep
from smi_desktop.services.delivery import LinkEndedError, find_download
from smi_desktop.services.work import Done, TaskKind
from smi_desktop.store import timeline
from smi_desktop.store.models import Order
from smi_desktop.store.tasks import Claim
from tests.world import World

HOUR = 3600
LINK_AND_GRACE = (24 + 72) * HOUR
ALL_BUT_MAIL = [kind for kind in TaskKind if kind is not TaskKind.SEND_MAIL]


@pytest.fixture
def world(world: World) -> World:
    """A shop whose files have true ages on a real disk."""
    world.files = LocalFileStore(world.folder / "real-files")  # type: ignore[assignment]
    world.shop = replace(world.shop, files=world.files)
    world.fetcher.shop = world.shop
    return world


def change(world: World, order_id: str, **values: Any) -> None:
    with world.database.write() as session:
        order = session.get_one(Order, order_id)
        for name, value in values.items():
            setattr(order, name, value)


def kinds(world: World, order_id: str) -> list[str]:
    with world.database.read() as session:
        return [entry.kind for entry in timeline.of_order(session, order_id)]


def clean(world: World) -> SweepReport:
    report = sweep(world.shop)
    world.run_due()
    return report


def age(path: Path, hours: float) -> None:
    moment = time.time() - hours * HOUR
    os.utime(path, (moment, moment))


def stored(world: World, key: str | None) -> bool:
    return key is not None and world.files.exists(key)


# --- delivered files --------------------------------------------------------------------------------


def test_a_file_outlives_its_link_by_the_grace_and_its_order_for_ever(world: World) -> None:
    order = world.complete(world.buy())
    world.clock.advance(24 * HOUR + 1)
    assert clean(world).files_to_remove == 0
    with pytest.raises(LinkEndedError):
        find_download(world.shop, world.shop.token("download", order.id, 1))
    world.clock.advance(72 * HOUR - 10)
    assert clean(world).files_to_remove == 0
    assert stored(world, order.file_key)
    world.clock.advance(20)
    assert clean(world).files_to_remove == 1
    assert not stored(world, order.file_key)
    after = world.order(order.id)
    assert after.file_removed_at == world.clock.now()
    assert (after.status, after.file_key) == ("completed", order.file_key)
    assert "file_removed" in kinds(world, order.id)
    assert clean(world).files_to_remove == 0


def test_a_held_order_loses_nothing_however_old(world: World) -> None:
    order = world.complete(world.buy())
    change(world, order.id, held_at=world.clock.now(), held_reason="A person looks.")
    world.clock.advance(10 * 365 * 24 * HOUR)
    assert clean(world).files_to_remove == 0
    assert stored(world, order.file_key)


def test_an_order_that_is_held_after_its_removal_was_asked_for_loses_nothing(
    world: World,
) -> None:
    order = world.complete(world.buy())
    world.clock.advance(LINK_AND_GRACE + 1)
    assert sweep(world.shop).files_to_remove == 1
    change(world, order.id, held_at=world.clock.now(), held_reason="A person looks.")
    world.run_due()
    assert stored(world, order.file_key)
    assert world.order(order.id).file_removed_at is None
    change(world, order.id, held_at=None, held_reason=None)
    world.clock.advance(HOUR)
    clean(world)
    assert not stored(world, order.file_key)


def test_an_order_that_is_held_while_its_file_is_being_removed_loses_nothing(
    world: World,
) -> None:
    order = world.complete(world.buy())
    world.clock.advance(LINK_AND_GRACE + 1)
    sweep(world.shop)
    task = world.claim([TaskKind.REMOVE_FILE])
    assert task is not None
    outcome = remove_file(world.shop, task)
    change(world, order.id, held_at=world.clock.now())
    assert isinstance(outcome, Done)
    with world.database.write() as session:
        outcome.record(session)
    assert outcome.afterwards is not None
    outcome.afterwards()
    assert stored(world, order.file_key)
    assert world.order(order.id).file_removed_at is None


def test_a_file_whose_mail_has_not_left_is_kept(world: World) -> None:
    """A machine that slept for a week still owes its customer the mail."""
    order_id = world.buy()
    world.run_due(ALL_BUT_MAIL)
    world.finish_upscale(order_id)
    world.clock.advance(31)
    world.run_due(ALL_BUT_MAIL)
    order = world.order(order_id)
    world.clock.advance(7 * 24 * HOUR)
    sweep(world.shop)
    world.run_due(ALL_BUT_MAIL)
    assert stored(world, order.file_key)
    world.run_due()
    assert len(world.mailer.outbox) == 1
    assert find_download(world.shop, world.shop.token("download", order_id, 1))
    world.clock.advance(LINK_AND_GRACE + 1)
    clean(world)
    assert not stored(world, order.file_key)


def test_a_link_that_was_renewed_meanwhile_keeps_its_file(world: World) -> None:
    order = world.complete(world.buy())
    world.clock.advance(LINK_AND_GRACE + 1)
    sweep(world.shop)
    change(world, order.id, expires_at=world.clock.now())
    world.run_due()
    assert stored(world, order.file_key)


def test_a_file_that_was_replaced_meanwhile_is_kept(world: World) -> None:
    order = world.complete(world.buy())
    world.clock.advance(LINK_AND_GRACE + 1)
    sweep(world.shop)
    change(world, order.id, generation=2)
    world.run_due()
    assert stored(world, order.file_key)


def test_a_file_that_is_replaced_while_it_is_being_removed_is_kept(world: World) -> None:
    order = world.complete(world.buy())
    world.clock.advance(LINK_AND_GRACE + 1)
    sweep(world.shop)
    task = world.claim([TaskKind.REMOVE_FILE])
    assert task is not None
    outcome = remove_file(world.shop, task)
    assert isinstance(outcome, Done)
    change(world, order.id, generation=2)
    with world.database.write() as session:
        outcome.record(session)
    assert outcome.afterwards is not None
    outcome.afterwards()
    assert stored(world, order.file_key)
    assert world.order(order.id).file_removed_at is None


def test_a_crash_between_row_and_file_leaves_no_file_behind(world: World) -> None:
    order = world.complete(world.buy())
    change(world, order.id, file_removed_at=world.clock.now())
    age(world.files.path(order.file_key or ""), 25)
    assert clean(world).unused_files_removed == 1
    assert not stored(world, order.file_key)


@pytest.mark.parametrize("order_id", ["", "nobody"])
def test_the_removal_of_nothing_ends(world: World, order_id: str) -> None:
    task = Claim(1, TaskKind.REMOVE_FILE, "r", order_id, {"generation": 1}, 1, 0, "x")
    assert isinstance(remove_file(world.shop, task), Done)


def test_a_refunded_orders_file_goes_too(world: World) -> None:
    order = world.complete(world.buy())
    change(world, order.id, status="refunded", payment_status="refunded")
    world.clock.advance(LINK_AND_GRACE + 1)
    clean(world)
    assert not stored(world, order.file_key)


def test_one_sweep_plans_two_hundred_at_most(world: World) -> None:
    order = world.complete(world.buy())
    columns = {c.key: getattr(order, c.key) for c in Order.__mapper__.column_attrs}
    unique = {"stripe_session_id": None, "payment_intent_id": None, "token_sha256": None}
    with world.database.write() as session:
        for number in range(250):
            session.add(Order(**{**columns, **unique, "id": f"o{number}", "number": f"N{number}"}))
    world.clock.advance(10 * 365 * 24 * HOUR)
    assert sweep(world.shop).files_to_remove == 200
    assert len(world.tasks("ready")) == 200


# --- unpaid orders ----------------------------------------------------------------------------------


def test_an_unpaid_order_is_asked_about_at_the_provider_before_it_is_abandoned(
    world: World,
) -> None:
    order_id = world.start_checkout().order_id
    world.clock.advance(61 * 60)
    assert clean(world).unpaid_to_check == 0
    world.clock.advance(2 * 60)
    assert clean(world).unpaid_to_check == 1
    assert world.order(order_id).status == "abandoned"
    assert world.payments.calls.count("retrieve_session") == 1


def test_a_payment_whose_every_event_was_lost_is_found(world: World) -> None:
    order_id = world.start_checkout().order_id
    world.pay(order_id)
    world.clock.advance(63 * 60)
    clean(world)
    assert world.order(order_id).payment_status == "paid"
    assert world.order(order_id).status == "processing"


@pytest.mark.parametrize("error", [TransientError("away"), ProviderAccountError("key")])
def test_a_provider_that_is_away_abandons_nobody(world: World, error: Exception) -> None:
    order_id = world.start_checkout().order_id
    world.pay(order_id)
    world.payments.fail_next(error, method="retrieve_session")
    world.clock.advance(63 * 60)
    clean(world)
    assert world.order(order_id).status == "awaiting_payment"
    world.clock.advance(301)
    world.run_due()
    assert world.order(order_id).payment_status == "paid"


def test_an_order_is_asked_about_once_an_hour(world: World) -> None:
    order_id = world.start_checkout().order_id
    world.pay(order_id, payment_status="unpaid")
    world.clock.advance(63 * 60)
    for _ in range(5):
        clean(world)
    assert world.payments.calls.count("retrieve_session") == 1
    world.clock.advance(HOUR)
    clean(world)
    assert world.payments.calls.count("retrieve_session") == 2
    assert world.order(order_id).status == "awaiting_payment"


def test_a_session_that_the_provider_does_not_know_is_told_once(world: World) -> None:
    order_id = world.start_checkout().order_id
    world.payments.sessions.clear()
    for _ in range(6):
        world.clock.advance(HOUR)
        for _ in range(8):
            clean(world)
            world.clock.advance(60)
    order = world.order(order_id)
    assert order.held_at is not None
    assert kinds(world, order_id).count("held") == 1
    assert len(world.tasks("dead")) == 1


# --- temporary and unused files ---------------------------------------------------------------------


def test_old_temporary_files_go_and_young_ones_stay(world: World) -> None:
    work = world.shop.work_dir
    old_folder, young_folder, old_file = work / "upscale-1", work / "upscale-2", work / "x.part"
    for folder in (old_folder, young_folder):
        folder.mkdir(parents=True)
        (folder / "result").write_bytes(b"x")
    old_file.write_bytes(b"x")
    age(old_folder, 25)
    age(old_file, 25)
    assert clean(world).temporary_removed == 2
    assert [path.name for path in work.iterdir()] == ["upscale-2"]


def test_an_entry_that_is_gone_when_it_is_looked_at_is_passed_over(world: World) -> None:
    world.shop.work_dir.mkdir(parents=True)
    (world.shop.work_dir / "link").symlink_to(world.folder / "nowhere")
    assert sweep(world.shop).temporary_removed == 0


def test_a_shop_that_has_made_nothing_yet_is_swept_too(world: World) -> None:
    assert sweep(world.shop) == SweepReport(0, 0, 0, 0)


def put(world: World, key: str, hours: float) -> None:
    source = world.folder / "content"
    source.write_bytes(b"x")
    world.files.put(key, source)
    age(world.files.path(key), hours)


def test_files_beside_a_database_without_any_order_are_left_alone(world: World) -> None:
    """A shop that was pointed at the wrong database must not empty its folder."""
    put(world, "results/SMI-1/1.png", 2500)
    assert sweep(world.shop).unused_files_removed == 0
    assert stored(world, "results/SMI-1/1.png")


def test_files_that_no_order_needs_go_after_a_day(world: World) -> None:
    world.start_checkout()
    world.files.delete(next(world.files.files("sources/")).key)
    put(world, "results/SMI-1/1.png", 25)
    put(world, "results/SMI-1/2.png", 23)
    put(world, "sources/aa.png", 25)
    put(world, "previews/aa.jpg", 2500)
    assert clean(world).unused_files_removed == 2
    left = sorted(file.key for file in world.files.files() if "SMI" in file.key or "aa" in file.key)
    assert left == ["previews/aa.jpg", "results/SMI-1/2.png"]


def test_what_an_order_needs_stays_however_old(world: World) -> None:
    number = world.add_image()
    paid, unpaid = world.buy(attachment_id=number), world.start_checkout(number).order_id
    done = world.complete(world.buy(attachment_id=world.add_image(title="Sea")))
    for order_id in (paid, unpaid, done.id):
        age(world.files.path(world.order(order_id).source_key), 10_000)
    age(world.files.path(done.file_key or ""), 10_000)
    clean(world)
    for order_id in (paid, unpaid, done.id):
        assert stored(world, world.order(order_id).source_key)
    assert stored(world, done.file_key)


def test_an_abandoned_order_keeps_its_source_for_a_month(world: World) -> None:
    order_id = world.start_checkout().order_id
    key = world.order(order_id).source_key
    world.clock.advance(2 * HOUR)
    clean(world)
    assert world.order(order_id).status == "abandoned"
    age(world.files.path(key), 10_000)
    world.clock.advance(29 * 24 * HOUR)
    clean(world)
    assert stored(world, key)
    world.clock.advance(2 * 24 * HOUR)
    clean(world)
    assert not stored(world, key)


def test_a_clock_that_is_years_ahead_removes_no_file_by_its_age(world: World) -> None:
    put(world, "results/SMI-1/1.png", 1)
    world.shop.work_dir.mkdir(parents=True, exist_ok=True)
    (world.shop.work_dir / "young").mkdir()
    world.clock.advance(10 * 365 * 24 * HOUR)
    report = clean(world)
    assert (report.temporary_removed, report.unused_files_removed) == (0, 0)


def test_a_sweep_removes_two_hundred_unused_files_at_most(world: World) -> None:
    world.start_checkout()
    for number in range(205):
        put(world, f"results/SMI-{number}/1.png", 25)
    assert sweep(world.shop).unused_files_removed == 200
    assert sweep(world.shop).unused_files_removed == 5


def test_a_source_that_is_bought_while_a_sweep_looks_around_is_kept(world: World) -> None:
    number = world.add_image()
    first = world.start_checkout(number).order_id
    key = world.order(first).source_key
    change(world, first, status="refunded")
    age(world.files.path(key), 25)
    shop, files = world.shop, world.files
    bought: list[str] = []

    class Watching(LocalFileStore):
        """A customer buys after the sweep has looked which files are in use."""

        def files(self, prefix: str = "") -> Any:
            found = list(super().files(prefix))
            if prefix == "sources/" and not bought:
                bought.append(world.start_checkout(number).order_id)
            return iter(found)

    sweep(replace(shop, files=Watching(world.folder / "real-files")))
    assert bought
    assert files.exists(world.order(bought[0]).source_key)


def test_a_revived_order_whose_source_is_gone_is_held_and_not_silent(world: World) -> None:
    world.set(upscaler="embedded")
    order_id = world.buy()
    world.files.delete(world.order(order_id).source_key)
    for _ in range(8):
        world.run_due()
        world.clock.advance(60)
    assert world.order(order_id).held_at is not None
    with pytest.raises(NotFoundError):
        world.files.path(world.order(order_id).source_key)

"""Each check of the shop's health, good and bad."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import text

from smi_desktop.config import Mode, UpscalerChoice
from smi_desktop.domain.errors import (
    ConfigurationError,
    NewerDataError,
    ProviderAccountError,
    SmiError,
    TransientError,
)
from smi_desktop.services.health import Check, check_health, describe_space
from smi_desktop.store import settings as rows
from smi_desktop.store import tasks
from smi_desktop.store.models import Setting
from tests.world import World

GIB = 2**30


def checks(world: World) -> dict[str, Check]:
    return {check.name: check for check in check_health(world.shop)}


def beat(world: World) -> None:
    with world.database.write() as session:
        rows.beat(session, "engine", now=world.clock.now(), facts={})


@pytest.fixture
def healthy(world: World) -> World:
    """A shop that can sell."""
    world.shop.work_dir.mkdir()
    world.set(smtp_host="mail.example")
    world.add_image()
    beat(world)
    return world


def test_a_shop_that_can_sell_is_all_good(healthy: World) -> None:
    found = checks(healthy)
    assert [check.name for check in found.values() if not check.good] == []
    assert found["Mail"].text == "Mails leave through mail.example."
    assert found["Prices"].text == "A 4x of one megapixel costs $0.50 USD."
    assert found["Catalogue"].text == "1 pictures."
    assert found["Engine"].text == "Heard of 0 seconds ago."
    assert found["Work"].text == "0 pieces of work open."
    assert found["Database"].text == "SQLite in the data folder."
    assert found["Webhooks"].text == "None has arrived yet."
    assert found["Secrets"].text == "Kept in memory, for this test."
    assert found["Upscaler"].text == "Set to: upsampler, then embedded."


@pytest.mark.parametrize(
    ("mode", "words"),
    [(Mode.REHEARSAL, "no real money"), (Mode.TEST, "test cards"), (Mode.LIVE, "real money")],
)
def test_the_mode_is_told(healthy: World, mode: Mode, words: str) -> None:
    healthy.shop = replace(healthy.shop, mode=mode)
    assert words in checks(healthy)["Mode"].text


def test_a_locked_secret_store_is_told(healthy: World) -> None:
    healthy.secrets.locked = True
    found = checks(healthy)
    assert not found["Secrets"].good
    assert not found["Webhooks"].good


def refuse(_settings: object) -> None:
    raise ConfigurationError("It is not set up.")


@pytest.mark.parametrize(
    ("name", "door"), [("Stripe", "payments"), ("Upscaler", "remote_upscaler"), ("Mail", "mailer")]
)
def test_a_door_that_is_not_set_up_is_told(healthy: World, name: str, door: str) -> None:
    healthy.shop = replace(healthy.shop, **{door: refuse})  # type: ignore[arg-type]
    assert checks(healthy)[name] == Check(name, False, "It is not set up.")


def test_a_shop_that_makes_its_pictures_itself_needs_no_other_upscaler(healthy: World) -> None:
    healthy.set(upscaler=UpscalerChoice.EMBEDDED)
    healthy.shop = replace(healthy.shop, remote_upscaler=refuse)  # type: ignore[arg-type]
    assert checks(healthy)["Upscaler"] == Check(
        "Upscaler", True, "Pictures are made on this machine."
    )


def test_a_missing_signing_secret_is_told(healthy: World) -> None:
    del healthy.secrets.values["stripe_webhook_secret"]
    assert not checks(healthy)["Webhooks"].good


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(5, "5 seconds ago"), (60, "1 minute ago"), (7200, "2 hours ago"), (86_400, "1 day ago")],
)
def test_the_last_webhook_is_told(healthy: World, seconds: int, words: str) -> None:
    healthy.deliver("customer.created", "cs_1")
    healthy.clock.advance(seconds)
    assert words in checks(healthy)["Webhooks"].text


def test_prices_that_cannot_be_named_are_told(healthy: World) -> None:
    healthy.set(currency="eur")
    assert "exchange rate" in checks(healthy)["Prices"].text
    assert not checks(healthy)["Prices"].good
    healthy.set(usd_rate="0.92", usd_rate_as_of="2026-01-15")
    assert checks(healthy)["Prices"].good
    assert "at the exchange rate of 2026-01-15" in checks(healthy)["Prices"].text


def test_an_empty_catalogue_is_told(world: World) -> None:
    assert "There is no picture yet" in checks(world)["Catalogue"].text


def test_an_engine_that_is_away_is_told(world: World) -> None:
    assert "never ran" in checks(world)["Engine"].text
    beat(world)
    world.clock.advance(61)
    found = checks(world)["Engine"]
    assert not found.good
    assert "last heard of 1 minute ago" in found.text


def test_work_that_was_given_up_is_told(healthy: World) -> None:
    healthy.buy()
    assert "1 piece of work open" in checks(healthy)["Work"].text
    task = healthy.claim()
    assert task is not None
    with healthy.database.write() as session:
        tasks.bury(session, task, error="x", now=healthy.clock.now())
    found = checks(healthy)["Work"]
    assert not found.good
    assert found.text == "1 piece of work given up: a person must look."


@pytest.mark.parametrize(
    ("free", "total", "good"),
    [
        (100 * GIB, 200 * GIB, True),
        (4 * GIB, 20 * GIB, True),
        (6 * GIB, 500 * GIB, True),
        (1 * GIB, 500 * GIB, False),
        (0, 10 * GIB, False),
    ],
)
def test_little_space_is_told(free: int, total: int, good: bool) -> None:
    if good:
        assert describe_space(free, total) == f"{free / GIB:.1f} GiB are free."
        return
    with pytest.raises(ConfigurationError, match=r"Only \d\.\d GiB are free"):
        describe_space(free, total)


def test_a_work_folder_that_is_missing_is_told(world: World) -> None:
    found = checks(world)["Disk"]
    assert not found.good
    assert str(world.shop.work_dir) in found.text


def test_a_database_of_another_version_is_told(healthy: World) -> None:
    with healthy.database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    found = checks(healthy)["Database"]
    assert (found.good, "newer version" in found.text) == (False, True)
    with pytest.raises(NewerDataError):
        healthy.database.check_version()


def test_a_setting_of_a_newer_version_is_told_and_not_raised(healthy: World) -> None:
    with healthy.database.write() as session:
        session.add(Setting(key="hologram", value=True, updated_at=healthy.clock.now()))
    (found,) = check_health(healthy.shop)
    assert (found.name, found.good) == ("Settings", False)
    assert "hologram" in found.text


def test_paid_orders_that_are_held_are_told(healthy: World) -> None:
    assert checks(healthy)["Orders"] == Check("Orders", True, "None waits for a person.")
    order_id = healthy.buy()
    healthy.mailer.refused.add("jo@example.com")
    healthy.complete(order_id)
    found = checks(healthy)["Orders"]
    assert not found.good
    assert healthy.order(order_id).number in found.text


@pytest.mark.parametrize(
    ("error", "told_by"),
    [(ProviderAccountError("535 refused"), "Alerts"), (TransientError("timed out"), "Work")],
)
def test_mail_that_does_not_leave_is_told(healthy: World, error: SmiError, told_by: str) -> None:
    order_id = healthy.buy()
    healthy.mailer.fail_next(*[error] * 9, method="send")
    healthy.complete(order_id)
    for _ in range(3):
        healthy.clock.advance(300)
        healthy.run_due()
    found = checks(healthy)[told_by]
    assert not found.good
    assert error.message in found.text


@pytest.mark.parametrize(
    ("public_url", "words"),
    [
        ("http://127.0.0.1:8787", "cannot reach this machine's own address"),
        ("http://shop.example", "is not encrypted"),
    ],
)
def test_an_address_that_customers_cannot_use_safely_is_told(
    healthy: World, public_url: str, words: str
) -> None:
    healthy.set(public_url=public_url)
    found = checks(healthy)["Address"]
    assert not found.good
    assert words in found.text

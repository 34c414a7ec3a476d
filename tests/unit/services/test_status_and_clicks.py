"""What a customer may know of his order, and how clicks are counted."""

from __future__ import annotations

from typing import Any

import pytest

from smi_desktop.domain.errors import ConfigurationError, NotFoundError
from smi_desktop.services.clicks import count_click, is_bot
from smi_desktop.services.shop import TOKEN_KEY, ensure_token_key
from smi_desktop.services.status import find_order, job_status, mask_email, order_page_values
from smi_desktop.services.work import record_nothing
from smi_desktop.store import clicks
from smi_desktop.store.models import Order
from tests.fakes.secret_store import MemorySecretStore
from tests.world import World


def change(world: World, order_id: str, **values: Any) -> None:
    with world.database.write() as session:
        order = session.get_one(Order, order_id)
        for name, value in values.items():
            setattr(order, name, value)


@pytest.mark.parametrize("order_id", ["", "nobody", "x" * 65, "é", "a\x00b", "1"])
def test_an_order_opens_to_its_own_id_alone(world: World, order_id: str) -> None:
    world.start_checkout()
    with pytest.raises(NotFoundError, match="Job not found"):
        find_order(world.shop, order_id)


def test_an_orders_number_opens_nothing(world: World) -> None:
    order = world.order(world.start_checkout().order_id)
    with pytest.raises(NotFoundError):
        find_order(world.shop, order.number)


def test_the_status_has_the_contracts_fields(world: World) -> None:
    order_id = world.start_checkout().order_id
    assert job_status(world.shop, order_id) == {
        "job_id": order_id,
        "status": "awaiting_payment",
        "payment_status": "pending",
        "resolution": "4x",
        "created_at": "2026-01-15T12:00:00Z",
        "progress": None,
    }


def test_the_link_is_told_only_while_it_is_live(world: World) -> None:
    order_id = world.complete(world.buy()).id
    token = world.shop.token("download", order_id, 1)
    found = job_status(world.shop, order_id)
    assert found["download_url"] == f"https://shop.example/smi/v1/download/{token}"
    assert order_page_values(world.shop, world.order(order_id))["download_url"]
    for ended in ({"disputed_at": world.clock.now()}, {"file_removed_at": world.clock.now()}):
        change(world, order_id, **ended)
        assert "download_url" not in job_status(world.shop, order_id)
        change(world, order_id, **dict.fromkeys(ended))
    world.clock.advance(24 * 3600)
    assert "download_url" not in job_status(world.shop, order_id)
    assert order_page_values(world.shop, world.order(order_id))["download_url"] is None


def test_no_link_is_told_before_the_picture_is_there(world: World) -> None:
    order_id = world.buy()
    world.run_due()
    assert "download_url" not in job_status(world.shop, order_id)


def test_a_word_that_a_newer_version_wrote_is_shown_as_it_is(world: World) -> None:
    order_id = world.start_checkout().order_id
    change(world, order_id, status="teleported")
    assert job_status(world.shop, order_id)["status"] == "teleported"


@pytest.mark.parametrize(
    ("email", "masked"),
    [("jo@example.com", "j•••••@example.com"), ("x@y.example", "x•••••@y.example")],
)
def test_an_address_is_masked(email: str, masked: str) -> None:
    assert mask_email(email) == masked


def test_the_order_page_tells_what_its_buyer_may_know(world: World) -> None:
    world.set(site_origins=["https://studio.example"])
    page = "https://studio.example/sea/"
    waiting = world.start_checkout(page_url=page).order_id
    values = order_page_values(world.shop, world.order(waiting))
    assert values["checkout_url"] == "https://checkout.example/cs_test_1"
    assert values["email_masked"] == "j•••••@example.com"
    assert values["page_url"] == page
    assert values["picture_url"] == f"/order/{waiting}/picture.jpg"
    done = world.complete(world.buy(email=None))
    values = order_page_values(world.shop, done)
    assert (values["status"], values["file_format"]) == ("completed", "PNG")
    assert values["sha256"] == done.file_sha256
    assert values["checkout_url"] is None
    assert values["email_masked"] == "b•••••@example.com"
    assert "buyer@example.com" not in str(values)


def test_a_checkout_page_that_has_ended_is_not_linked(world: World) -> None:
    order_id = world.start_checkout().order_id
    world.clock.advance(3600)
    assert order_page_values(world.shop, world.order(order_id))["checkout_url"] is None


def test_an_order_without_preview_or_address_shows_none(world: World) -> None:
    order_id = world.start_checkout(email=None).order_id
    change(world, order_id, source_sha256="0" * 64)
    values = order_page_values(world.shop, world.order(order_id))
    assert (values["picture_url"], values["email_masked"]) == (None, None)


# --- clicks -----------------------------------------------------------------------------------------

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
CUBOT = "Mozilla/5.0 (Linux; Android 9; CUBOT_X18_Plus) AppleWebKit/537.36 Chrome/120.0 Mobile"


@pytest.mark.parametrize("agent", [FIREFOX, CUBOT, "Mozilla/5.0 (iPhone) Safari/604.1"])
def test_a_persons_browser_is_no_bot(agent: str) -> None:
    assert not is_bot(agent)


@pytest.mark.parametrize(
    "agent",
    [
        None, "", "Googlebot/2.1", "bingbot", "curl/8.0", "python-requests/2", "HeadlessChrome/120",
        "facebookexternalhit/1.1", "Chrome-Lighthouse", "SkypeUriPreview", "UptimeMonitor",
    ],
)  # fmt: skip
def test_what_calls_itself_a_machine_or_nothing_is_a_bot(agent: str | None) -> None:
    assert is_bot(agent)


def test_people_and_bots_are_counted_apart(world: World) -> None:
    count_click(world.shop, 1, 7, FIREFOX)
    count_click(world.shop, 1, None, FIREFOX)
    count_click(world.shop, 1, 7, None)
    with world.database.read() as session:
        assert (clicks.count(session), clicks.count(session, bots=True)) == (2, 1)


# --- the shop's key ---------------------------------------------------------------------------------


def test_the_token_key_is_made_once(world: World) -> None:
    secrets = MemorySecretStore()
    ensure_token_key(secrets, world.database)
    key = secrets.values[TOKEN_KEY]
    ensure_token_key(secrets, world.database)
    assert secrets.values[TOKEN_KEY] == key
    assert len(bytes.fromhex(key)) == 32


def test_a_lost_token_key_is_never_replaced_beside_orders_whose_links_it_made(world: World) -> None:
    world.start_checkout()
    secrets = MemorySecretStore()
    with pytest.raises(ConfigurationError, match="'token_key' is gone"):
        ensure_token_key(secrets, world.database)
    assert secrets.get(TOKEN_KEY) is None


def test_a_missing_secret_is_named_and_where_it_should_be(world: World) -> None:
    with pytest.raises(
        ConfigurationError, match="'stripe_x' is not set; secrets are kept in memory"
    ):
        world.shop.secret("stripe_x")


def test_recording_nothing_records_nothing(world: World) -> None:
    with world.database.write() as session:
        record_nothing(session)
        assert not session.new


def test_a_refund_that_is_only_on_its_way_is_not_called_sent_back(world: World) -> None:
    world.payments.next_refund_status = "pending"
    order_id = world.buy()
    world.fail_picture(order_id)
    world.run_due()
    values = order_page_values(world.shop, world.order(order_id))
    assert (values["refund_state"], values["refunded_amount"]) == ("pending", None)
    world.payments.settle_refund(next(iter(world.payments.refunds)), "succeeded")
    world.tell("refund.updated", order_id)
    world.run_due()
    values = order_page_values(world.shop, world.order(order_id))
    assert values["refund_state"] == "succeeded"
    assert values["refunded_amount"] == values["refund_amount"]

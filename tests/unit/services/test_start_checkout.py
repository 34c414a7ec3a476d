"""From the form to the checkout page: what is believed, what is charged, what is kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from smi_desktop.domain.errors import (
    InvalidInputError,
    NotForSaleError,
    NotFoundError,
    PriceChangedError,
    ProviderAccountError,
    TransientError,
)
from smi_desktop.domain.money import Money
from smi_desktop.domain.pricing import Resolution
from smi_desktop.services.catalogue import CatalogueEntry, add_picture
from smi_desktop.services.checkout import (
    CheckoutForm,
    TermsRequiredError,
    allowed_page,
    is_own_origin,
    page_from_referer,
    start_checkout,
)
from smi_desktop.services.ports import CheckoutRequest, CheckoutSession
from smi_desktop.services.prices import find_image, quote_prices
from smi_desktop.store import orders, timeline
from tests.fakes.file_store import FakeFileStore
from tests.fakes.image_reader import fake_image
from tests.fakes.payment_gateway import FakePaymentGateway
from tests.world import World

STANDARD, PREMIUM = Resolution.STANDARD, Resolution.PREMIUM
DOUBLED = Decimal(500)


def all_orders(world: World) -> list[str]:
    with world.database.read() as session:
        return [order.id for order in orders.list_page(session)]


def source(world: World, number: int) -> Path:
    return Path(find_image(world.shop, number).source)


def test_an_order_keeps_what_was_bought(world: World) -> None:
    number = world.add_image(2000, 1000, title="Falcon")
    started = world.start_checkout(number, terms_accepted=True)
    order = world.order(started.order_id)
    assert (order.status, order.payment_status) == ("awaiting_payment", "pending")
    assert (order.title, order.resolution, order.factor) == ("Falcon", "4x", 4)
    assert (order.source_width, order.source_height) == (2000, 1000)
    assert (order.output_width, order.output_height) == (8000, 4000)
    assert (order.amount_minor, order.currency, order.credits) == (96, "usd", 8)
    assert order.cost_micro_usd == 320_000
    assert order.upscaler_route == "upsampler,embedded"
    assert order.price_rule["markup_percentage"] == "200"
    assert order.post_id == 7
    assert order.email == "jo@example.com"
    assert order.terms_accepted_at == world.clock.now()
    assert not order.livemode
    assert started.amount == Money(96, "usd")
    assert world.files.path(order.source_key).read_bytes() == source(world, number).read_bytes()


def test_the_checkout_page_shows_and_carries_the_order(world: World) -> None:
    started = world.start_checkout(world.add_image(title="Falcon"), post_id=12)
    order = world.order(started.order_id)
    request = world.payments.requests[order.stripe_session_id or ""]
    assert request.title == "Falcon (4x)"
    assert request.amount == Money(50, "usd")
    assert order.number in request.description
    assert request.metadata == {
        "job_id": order.id,
        "order_number": order.number,
        "attachment_id": str(order.attachment_id),
        "post_id": "12",
        "resolution": "4x",
    }
    assert request.expires_at - world.clock.now() == timedelta(minutes=60)
    assert started.checkout_url == order.checkout_url


def test_a_picture_on_no_post_is_bought_too(world: World) -> None:
    path = world.folder / "plain.png"
    path.write_bytes(fake_image(10, 10))
    number = add_picture(world.shop, CatalogueEntry(path, "Plain")).attachment_id
    order = world.order(world.start_checkout(number).order_id)
    assert order.post_id is None
    assert world.payments.requests[order.stripe_session_id or ""].metadata["post_id"] == ""


# --- the price --------------------------------------------------------------------------------------


def test_a_price_that_was_shown_holds_while_its_quote_does(world: World) -> None:
    number = world.add_image(2000, 1000)
    quote = quote_prices(world.shop, number)
    world.set(markup_percentage=DOUBLED)
    world.clock.advance(14 * 60)
    started = world.start_checkout(number, quote_id=quote.quote_id)
    assert started.amount == Money(96, "usd")
    assert world.order(started.order_id).quote_id == quote.quote_id


def test_an_expired_quote_whose_price_is_another_is_refused_and_the_new_price_named(
    world: World,
) -> None:
    number = world.add_image(2000, 1000)
    quote = quote_prices(world.shop, number)
    world.set(markup_percentage=DOUBLED)
    world.clock.advance(15 * 60)
    with pytest.raises(PriceChangedError, match=r"\$1.92 USD now"):
        world.start_checkout(number, quote_id=quote.quote_id)
    assert all_orders(world) == []


def test_an_expired_quote_whose_price_is_the_same_still_buys(world: World) -> None:
    number = world.add_image(2000, 1000)
    quote = quote_prices(world.shop, number)
    world.clock.advance(3600)
    assert world.start_checkout(number, quote_id=quote.quote_id).amount == Money(96, "usd")


def test_a_quote_that_does_not_name_the_size_is_looked_at_again(world: World) -> None:
    world.set(embedded_max_output_pixels=50_000_000)
    number = world.add_image(2000, 1000)
    quote = quote_prices(world.shop, number)
    assert PREMIUM not in quote.offers
    world.set(embedded_max_output_pixels=None)
    with pytest.raises(PriceChangedError):
        world.start_checkout(number, size=PREMIUM, quote_id=quote.quote_id)


@pytest.mark.parametrize("end", ["x", "", ".", "é"])
def test_a_tampered_quote_buys_at_todays_price(world: World, end: str) -> None:
    number = world.add_image(2000, 1000)
    quote = quote_prices(world.shop, number)
    world.set(markup_percentage=DOUBLED)
    started = world.start_checkout(number, quote_id=quote.quote_id[:-1] + end)
    assert started.amount == Money(192, "usd")


def test_a_quote_of_another_picture_buys_at_todays_price(world: World) -> None:
    cheap = quote_prices(world.shop, world.add_image(100, 100, title="Cheap"))
    started = world.start_checkout(world.add_image(2000, 1000), quote_id=cheap.quote_id)
    assert started.amount == Money(96, "usd")


def test_a_quote_of_another_shop_buys_at_todays_price(world: World) -> None:
    number = world.add_image(2000, 1000)
    quote = quote_prices(world.shop, number)
    world.secrets.values["token_key"] = "00" * 32
    world.set(markup_percentage=DOUBLED)
    assert world.start_checkout(number, quote_id=quote.quote_id).amount == Money(192, "usd")


def test_a_price_is_never_charged_in_another_currency_than_the_one_shown(world: World) -> None:
    number = world.add_image(2000, 1000)
    quote = quote_prices(world.shop, number)
    world.set(currency="jpy", usd_rate=Decimal(150), usd_rate_as_of="2026-01-15")
    with pytest.raises(PriceChangedError, match="¥144 JPY now"):
        world.start_checkout(number, quote_id=quote.quote_id)
    assert not world.payments.sessions


def test_a_quote_holds_for_the_picture_that_was_shown_not_for_another_of_its_number(
    world: World,
) -> None:
    number = world.add_image(100, 100)
    quote = quote_prices(world.shop, number)
    path = source(world, number)
    path.write_bytes(fake_image(2000, 1000))
    add_picture(world.shop, CatalogueEntry(path, "Larger"))
    with pytest.raises(PriceChangedError):
        world.start_checkout(number, quote_id=quote.quote_id)


# --- the form ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("email", ["", "jo", "jo@example.com\r\nBcc: x@y.example", "a@b.c, d@e.f"])
def test_what_is_no_address_is_refused_before_anything_is_kept(world: World, email: str) -> None:
    with pytest.raises(InvalidInputError, match="e-mail address"):
        world.start_checkout(email=email)
    assert all_orders(world) == []


def test_an_address_is_optional(world: World) -> None:
    started = world.start_checkout(email=None)
    assert world.order(started.order_id).email is None


def test_terms_must_be_accepted_where_the_shop_asks_for_it(world: World) -> None:
    world.set(terms_required=True, terms_version="2026-01")
    with pytest.raises(TermsRequiredError):
        world.start_checkout()
    assert all_orders(world) == []
    order = world.order(world.start_checkout(terms_accepted=True).order_id)
    assert order.terms_version == "2026-01"
    assert order.terms_accepted_at == world.clock.now()


def test_terms_that_have_changed_since_the_page_was_shown_are_asked_for_again(world: World) -> None:
    world.set(terms_required=True, terms_version="2026-02")
    with pytest.raises(TermsRequiredError, match="have changed"):
        world.start_checkout(terms_accepted=True, terms_version="2026-01")
    order_id = world.start_checkout(terms_accepted=True, terms_version="2026-02").order_id
    assert world.order(order_id).terms_version == "2026-02"


def test_a_shop_without_terms_notes_none(world: World) -> None:
    order = world.order(world.start_checkout().order_id)
    assert (order.terms_accepted_at, order.terms_version) == (None, None)


# --- the picture ------------------------------------------------------------------------------------


def test_an_unknown_picture_cannot_be_bought(world: World) -> None:
    with pytest.raises(NotFoundError):
        world.start_checkout(999)


def test_a_size_that_nobody_can_make_cannot_be_bought(world: World) -> None:
    world.set(embedded_max_output_pixels=50_000_000)
    with pytest.raises(NotForSaleError, match="megapixels"):
        world.start_checkout(world.add_image(2000, 1000), size=PREMIUM)
    assert not world.payments.sessions


def test_a_source_that_is_gone_cannot_be_bought(world: World) -> None:
    number = world.add_image()
    source(world, number).unlink()
    with pytest.raises(NotForSaleError, match="not there"):
        world.start_checkout(number)
    assert all_orders(world) == []


def test_a_source_that_is_gone_after_an_earlier_sale_cannot_be_bought_either(world: World) -> None:
    number = world.add_image()
    world.start_checkout(number)
    source(world, number).unlink()
    with pytest.raises(NotForSaleError, match="not there"):
        world.start_checkout(number)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html>gone</html>", "cannot be read"),
        (b"", "cannot be read"),
        (fake_image(200, 150), "has changed"),
        (fake_image(300, 400), "has changed"),
        (fake_image(40_000, 30_000), "cannot be read"),
    ],
)
def test_a_source_that_is_no_longer_that_picture_cannot_be_bought(
    world: World, content: bytes, words: str
) -> None:
    number = world.add_image()
    source(world, number).write_bytes(content)
    with pytest.raises(NotForSaleError, match=words):
        world.start_checkout(number)
    assert all_orders(world) == []


def test_a_source_that_has_grown_beyond_the_limit_cannot_be_bought(world: World) -> None:
    number = world.add_image()
    world.set(source_max_bytes=100)
    source(world, number).write_bytes(fake_image(400, 300, content="x" * 200))
    with pytest.raises(NotForSaleError, match="too large"):
        world.start_checkout(number)


def test_a_retouched_source_of_the_same_size_is_bought_as_it_is_now(world: World) -> None:
    number = world.add_image()
    source(world, number).write_bytes(fake_image(400, 300, format="jpeg", content="retouched"))
    order = world.order(world.start_checkout(number).order_id)
    assert b"retouched" in world.files.path(order.source_key).read_bytes()
    assert order.source_format == "jpeg"
    assert order.source_key == f"sources/{order.source_sha256}.jpeg"


def test_what_was_bought_stays_whatever_happens_to_the_original(world: World) -> None:
    number = world.add_image()
    original = source(world, number).read_bytes()
    order = world.order(world.start_checkout(number).order_id)
    source(world, number).write_bytes(fake_image(1, 1))
    assert world.files.path(order.source_key).read_bytes() == original


def test_a_snapshot_is_kept_once_for_many_orders(world: World) -> None:
    number = world.add_image()
    world.start_checkout(number)
    world.start_checkout(number)
    assert len(list(world.files.files("sources/"))) == 1
    assert world.files.calls.count("put") == 2  # the preview and the snapshot


class Swept(FakeFileStore):
    """A store whose copies a sweep removes at once."""

    def put(self, key: str, source: Path) -> None:
        super().put(key, source)
        self.delete(key)


def test_a_copy_that_a_sweep_removes_at_that_moment_sells_nothing(world: World) -> None:
    number = world.add_image()
    shop = replace(world.shop, files=Swept(world.folder / "files", world.clock))
    with pytest.raises(TransientError, match="try again"):
        start_checkout(shop, CheckoutForm(number, STANDARD))
    assert all_orders(world) == []


# --- the payment provider ---------------------------------------------------------------------------


def test_a_provider_that_is_away_leaves_an_order_that_can_never_be_paid(world: World) -> None:
    world.payments.fail_next(TransientError("away"), method="create_session")
    with pytest.raises(TransientError):
        world.start_checkout()
    (order_id,) = all_orders(world)
    order = world.order(order_id)
    assert order.stripe_session_id is None
    assert order.checkout_url is None
    assert not world.payments.sessions


def test_a_lost_reply_leaves_one_session_whose_address_nobody_has(world: World) -> None:
    world.payments.lose_reply(TransientError("lost"), method="create_session")
    with pytest.raises(TransientError):
        world.start_checkout()
    assert len(world.payments.sessions) == 1
    (order_id,) = all_orders(world)
    assert world.order(order_id).checkout_url is None


def test_a_second_try_is_another_order_with_a_session_of_its_own(world: World) -> None:
    number = world.add_image()
    world.payments.lose_reply(TransientError("lost"), method="create_session")
    with pytest.raises(TransientError):
        world.start_checkout(number)
    started = world.start_checkout(number)
    assert len(world.payments.sessions) == 2
    named = {session.client_reference_id for session in world.payments.sessions.values()}
    assert named == set(all_orders(world))
    assert started.order_id in named


def test_a_key_that_the_provider_refuses_is_told(world: World) -> None:
    world.payments.fail_next(ProviderAccountError("key"), method="create_session")
    with pytest.raises(ProviderAccountError):
        world.start_checkout()


def test_a_checkout_page_that_has_ended_already_is_not_handed_out(world: World) -> None:
    class Ended(FakePaymentGateway):
        def create_session(
            self, request: CheckoutRequest, *, idempotency_key: str
        ) -> CheckoutSession:
            made = super().create_session(request, idempotency_key=idempotency_key)
            return replace(made, url=None, status="expired")

    gateway = Ended(world.clock)
    shop = replace(world.shop, payments=lambda _settings: gateway)
    with pytest.raises(InvalidInputError, match="ended already"):
        start_checkout(shop, CheckoutForm(world.add_image(), STANDARD))


def test_the_timeline_begins_with_the_order(world: World) -> None:
    started = world.start_checkout()
    with world.database.read() as session:
        (entry,) = timeline.of_order(session, started.order_id)
    assert (entry.kind, entry.actor) == ("created", "customer")
    assert entry.facts["amount_minor"] == 50


# --- the way back -----------------------------------------------------------------------------------

ORIGIN = "https://studio.example"


def returns(world: World, page_url: str | None) -> tuple[str, str, str]:
    """Return the order's id and both return addresses."""
    world.set(site_origins=[ORIGIN])
    started = world.start_checkout(page_url=page_url)
    order = world.order(started.order_id)
    request = world.payments.requests[order.stripe_session_id or ""]
    return order.id, request.success_url, request.cancel_url


def test_the_customer_goes_back_to_the_page_he_came_from(world: World) -> None:
    order_id, success, cancel = returns(world, f"{ORIGIN}/sea/")
    back = f"{ORIGIN}/sea/?smi_payment="
    assert success == f"{back}success&job_id={order_id}&session_id={{CHECKOUT_SESSION_ID}}"
    assert cancel == f"{back}cancelled&job_id={order_id}"


def test_a_pages_own_query_is_kept_and_its_fragment_is_not(world: World) -> None:
    order_id, success, _ = returns(world, f"{ORIGIN}/sea/?p=12&q=a%20b#top")
    assert success == (
        f"{ORIGIN}/sea/?p=12&q=a%20b&smi_payment=success&job_id={order_id}"
        "&session_id={CHECKOUT_SESSION_ID}"
    )


def test_a_page_that_is_named_by_its_query_alone_is_a_page(world: World) -> None:
    order_id, success, _ = returns(world, f"{ORIGIN}/?p=12")
    assert success.startswith(f"{ORIGIN}/?p=12&smi_payment=success&job_id={order_id}")


def test_what_an_earlier_purchase_left_in_the_address_is_taken_out(world: World) -> None:
    old = "smi_payment=success&job_id=old&session_id=cs_old"
    order_id, success, _ = returns(world, f"{ORIGIN}/sea/?p=12&{old}")
    assert success == (
        f"{ORIGIN}/sea/?p=12&smi_payment=success&job_id={order_id}"
        "&session_id={CHECKOUT_SESSION_ID}"
    )


def test_the_placeholder_of_the_session_is_left_as_stripe_wants_it(world: World) -> None:
    _, success, cancel = returns(world, f"{ORIGIN}/sea/")
    assert "{CHECKOUT_SESSION_ID}" in success
    assert "CHECKOUT_SESSION_ID" not in cancel


@pytest.mark.parametrize(
    "page_url", [f"{ORIGIN}/", f"{ORIGIN}/?p=12", f"{ORIGIN}/see bild/ä?x=a b"]
)
def test_a_front_page_that_the_script_names_is_returned_to(world: World, page_url: str) -> None:
    _, success, _ = returns(world, page_url)
    assert success.startswith(f"{ORIGIN}/")
    assert " " not in success
    assert "ä" not in success


@pytest.mark.parametrize(
    "page_url",
    [
        None,
        "",
        "https://evil.example/sea/",
        "https://studio.example.evil.example/",
        "https://studio.example@evil.example/sea/",
        "https://studio.example:8443/sea/",
        "http://studio.example/sea/",
        "https://sub.studio.example/sea/",
        "//studio.example/sea/",
        "javascript:alert(1)",
        "https://[studio.example/sea/",
        "https://studio.example/sea/\r\nX: 1",
        f"{ORIGIN}/" + "a" * 2000,
    ],
)
def test_every_other_customer_goes_to_his_order_page(world: World, page_url: str | None) -> None:
    order_id, success, cancel = returns(world, page_url)
    own = f"https://shop.example/order/{order_id}"
    assert success == f"{own}?smi_payment=success&session_id={{CHECKOUT_SESSION_ID}}"
    assert cancel == f"{own}?smi_payment=cancelled"


def test_the_shops_own_pages_are_the_studios(world: World) -> None:
    _, success, _ = returns(world, "https://shop.example/gallery/3")
    assert success.startswith("https://shop.example/gallery/3?smi_payment=success")


@pytest.mark.parametrize(
    ("page_url", "good"),
    [
        ("http://127.0.0.1:8000/a", True),
        ("http://localhost/a", True),
        ("https://[::1]:99/a", True),
        ("http://127.0.0.1.evil.example/a", False),
        ("http://user@127.0.0.1/a", False),
        ("ftp://127.0.0.1/a", False),
        ("http://[bad/a", False),
    ],
)
def test_a_rehearsal_shop_allows_every_page_of_this_machine(
    world: World, page_url: str, good: bool
) -> None:
    world.set(allow_loopback_origins=True)
    assert allowed_page(world.shop.settings(), page_url) == (page_url if good else None)
    world.set(allow_loopback_origins=False)
    assert allowed_page(world.shop.settings(), page_url) is None


@pytest.mark.parametrize("origin", ["http://[bad", "null", "", "https://evil.example"])
def test_an_origin_that_cannot_be_read_is_not_ours(world: World, origin: str) -> None:
    world.set(allow_loopback_origins=True)
    assert not is_own_origin(world.shop.settings(), origin)
    assert is_own_origin(world.shop.settings(), "http://127.0.0.1:8000")


@pytest.mark.parametrize(
    ("referer", "page"),
    [
        (None, None),
        ("https://[", None),
        (ORIGIN, None),
        (f"{ORIGIN}/", None),
        (f"{ORIGIN}/?p=12", f"{ORIGIN}/?p=12"),
        (f"{ORIGIN}/sea/", f"{ORIGIN}/sea/"),
    ],
)
def test_a_referer_without_a_page_names_none(referer: str | None, page: str | None) -> None:
    assert page_from_referer(referer) == page

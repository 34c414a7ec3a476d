"""Which sizes are offered, by whom they would be made, and for how long a price holds."""

from __future__ import annotations

from decimal import Decimal

import pytest

from smi_desktop.config import UpscalerChoice
from smi_desktop.domain.errors import NotForSaleError, NotFoundError
from smi_desktop.domain.money import Money
from smi_desktop.domain.pricing import Resolution
from smi_desktop.services.prices import (
    describe_images,
    find_image,
    make_offer,
    quote_prices,
    read_quote,
)
from smi_desktop.services.shop import UPSAMPLER_API_KEY
from smi_desktop.store import images
from tests.world import World

STANDARD, PREMIUM = Resolution.STANDARD, Resolution.PREMIUM


def route(world: World, width: int, height: int, size: Resolution) -> tuple[str, ...]:
    number = world.add_image(width, height, title=f"p{width}")
    image = find_image(world.shop, number)
    return make_offer(world.shop, world.shop.settings(), image, size).route


def withdraw(world: World, number: int) -> None:
    with world.database.write() as session:
        image = images.get(session, number)
        assert image is not None
        image.for_sale = False


def test_a_price_list_names_every_size_with_its_price(world: World) -> None:
    found = quote_prices(world.shop, world.add_image(2000, 1000))
    assert found.offers[STANDARD].price.price == Money(96, "usd")
    assert (found.image.width, found.image.height) == (2000, 1000)
    assert (found.expires_at - world.clock.now()).total_seconds() == 15 * 60


def test_what_the_upscaler_cannot_make_is_not_offered_and_the_reason_can_be_read(
    world: World,
) -> None:
    world.set(upscaler=UpscalerChoice.UPSAMPLER)
    found = quote_prices(world.shop, world.add_image(2000, 1000))
    assert set(found.offers) == {STANDARD}
    assert "128.0 megapixels" in found.unavailable[PREMIUM]
    assert "has 50" in found.unavailable[PREMIUM]


@pytest.mark.parametrize(
    ("choice", "width", "expected"),
    [
        (UpscalerChoice.UPSAMPLER, 1020, ("upsampler",)),
        (UpscalerChoice.EMBEDDED, 1020, ("embedded",)),
        (UpscalerChoice.UPSAMPLER_THEN_EMBEDDED, 1020, ("upsampler", "embedded")),
        # 8x of 1022 x 765 is 50,037,120 pixels: a little too much for Upsampler.
        (UpscalerChoice.UPSAMPLER_THEN_EMBEDDED, 1022, ("embedded",)),
        (UpscalerChoice.EMBEDDED, 1022, ("embedded",)),
    ],
)
def test_the_route_is_what_the_owner_chose_and_the_size_allows(
    world: World, choice: UpscalerChoice, width: int, expected: tuple[str, ...]
) -> None:
    world.set(upscaler=choice)
    assert route(world, width, 765, PREMIUM) == expected


def test_the_cap_itself_is_still_allowed(world: World) -> None:
    world.set(upscaler=UpscalerChoice.UPSAMPLER, upsampler_max_output_pixels=16 * 400 * 300)
    assert route(world, 400, 300, STANDARD) == ("upsampler",)
    with pytest.raises(NotForSaleError, match="largest picture"):
        route(world, 401, 300, STANDARD)


def test_without_a_key_the_remote_upscaler_is_left_out(world: World) -> None:
    del world.secrets.values[UPSAMPLER_API_KEY]
    assert route(world, 400, 300, STANDARD) == ("embedded",)
    world.set(upscaler=UpscalerChoice.UPSAMPLER)
    with pytest.raises(NotForSaleError, match="not set up yet"):
        route(world, 500, 300, STANDARD)


def test_a_locked_secret_store_leaves_the_remote_upscaler_out_too(world: World) -> None:
    number = world.add_image()
    image = find_image(world.shop, number)
    world.secrets.locked = True
    offer = make_offer(world.shop, world.shop.settings(), image, STANDARD)
    assert offer.route == ("embedded",)


def test_a_shop_without_an_exchange_rate_sells_nothing_and_says_why(world: World) -> None:
    world.set(currency="eur")
    found = quote_prices(world.shop, world.add_image())
    assert not found.offers
    assert "exchange rate" in found.unavailable[STANDARD]
    assert "exchange rate" in found.unavailable[PREMIUM]


def test_a_picture_that_is_unknown_or_withdrawn_has_no_price(world: World) -> None:
    with pytest.raises(NotFoundError):
        quote_prices(world.shop, 999)
    number = world.add_image()
    withdraw(world, number)
    with pytest.raises(NotForSaleError, match="not for sale"):
        quote_prices(world.shop, number)


def test_a_quote_says_what_was_shown(world: World) -> None:
    number = world.add_image(2000, 1000)
    listed = quote_prices(world.shop, number)
    quote = read_quote(world.shop, listed.quote_id)
    assert quote is not None
    assert quote.attachment_id == number
    assert quote.prices["4x"] == Money(96, "usd")
    assert quote.expires_at == listed.expires_at


def test_a_quote_that_is_not_ours_says_nothing(world: World) -> None:
    listed = quote_prices(world.shop, world.add_image())
    assert read_quote(world.shop, listed.quote_id[:-1] + "x") is None
    assert read_quote(world.shop, "") is None
    world.secrets.values["token_key"] = "00" * 32
    assert read_quote(world.shop, listed.quote_id) is None


def test_a_page_of_pictures_is_described_at_once(world: World) -> None:
    world.set(upscaler=UpscalerChoice.UPSAMPLER)
    small, large = world.add_image(400, 300), world.add_image(2000, 1000, title="Large")
    huge, withdrawn = world.add_image(9000, 9000, title="Huge"), world.add_image(500, 300)
    withdraw(world, withdrawn)
    found = describe_images(world.shop, [small, large, huge, withdrawn, 999])
    assert found[str(small)]["sizes"] == ["4x", "8x"]
    assert found[str(large)] == {
        "for_sale": True, "sizes": ["4x"], "width": 2000, "height": 1000, "title": "Large",
    }  # fmt: skip
    assert not found[str(huge)]["for_sale"]
    assert not found[str(withdrawn)]["for_sale"]
    assert found[str(withdrawn)]["sizes"] == []
    assert found["999"] == {"for_sale": False}


def test_every_constant_of_the_price_is_a_setting_and_counts_at_once(world: World) -> None:
    number = world.add_image(2000, 1000)
    world.set(markup_percentage=Decimal(300))
    assert quote_prices(world.shop, number).offers[STANDARD].price.price == Money(128, "usd")
    world.set(currency="eur", usd_rate=Decimal("0.5"), usd_rate_as_of="2026-01-15")
    assert quote_prices(world.shop, number).offers[STANDARD].price.price == Money(64, "eur")

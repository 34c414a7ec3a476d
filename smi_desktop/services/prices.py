"""Which sizes of a picture can be sold, for how much, and by whom they will be made.

Sole owner of the feasibility check: what cannot be delivered is never offered, so nobody pays for it.
A quote is a signed text that holds the prices for some minutes; nothing is stored for it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from smi_desktop.config import ShopSettings, UpscalerChoice
from smi_desktop.domain.errors import ConfigurationError, NotForSaleError, NotFoundError
from smi_desktop.domain.money import Money
from smi_desktop.domain.pricing import Price, Resolution, price_upscale
from smi_desktop.domain.tokens import read_signed_text, sign_text
from smi_desktop.services.shop import TOKEN_KEY, UPSAMPLER_API_KEY, Shop
from smi_desktop.store import images
from smi_desktop.store.models import Image

UPSAMPLER: Final = "upsampler"
EMBEDDED: Final = "embedded"
_QUOTE: Final = "quote"


@dataclass(frozen=True, slots=True)
class Offer:
    """One size that can be sold.

    Attributes:
        route: Upscalers in the order in which they are tried.
    """

    price: Price
    route: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PriceList:
    """Every size of one picture: what can be sold, and why the rest cannot."""

    image: Image
    offers: dict[Resolution, Offer]
    unavailable: dict[Resolution, str]
    quote_id: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Quote:
    """Prices that were shown to a customer, for a picture of this size."""

    attachment_id: int
    source_size: tuple[int, int]
    prices: dict[str, Money]
    expires_at: datetime


def find_image(shop: Shop, attachment_id: int) -> Image:
    """Return a picture that is for sale.

    Raises:
        NotFoundError: It is not in the catalogue.
        NotForSaleError: The studio has taken it out of sale.
    """
    with shop.database.read() as session:
        image = images.get(session, attachment_id)
    if image is None:
        raise NotFoundError("This picture is not in the shop.")
    if not image.for_sale:
        raise NotForSaleError("This picture is not for sale.")
    return image


def quote_prices(shop: Shop, attachment_id: int) -> PriceList:
    """Price every size of a picture.

    Raises:
        NotFoundError, NotForSaleError: As `find_image`.
    """
    settings = shop.settings()
    image = find_image(shop, attachment_id)
    offers: dict[Resolution, Offer] = {}
    unavailable: dict[Resolution, str] = {}
    for resolution in Resolution:
        try:
            offers[resolution] = make_offer(shop, settings, image, resolution)
        except NotForSaleError as error:
            unavailable[resolution] = error.message
    expires_at = (shop.now() + timedelta(minutes=settings.quote_minutes)).replace(microsecond=0)
    quote = {
        "i": attachment_id,
        "s": [image.width, image.height],
        "p": {size.value: offer.price.price.amount_minor for size, offer in offers.items()},
        "c": settings.currency,
        "e": int(expires_at.timestamp()),
    }
    text = json.dumps(quote, separators=(",", ":"))
    quote_id = sign_text(shop.secret(TOKEN_KEY), _QUOTE, text)
    return PriceList(image, offers, unavailable, quote_id, expires_at)


def read_quote(shop: Shop, quote_id: str) -> Quote | None:
    """Return what a quote of ours says, expired or not; None for anything that is not ours."""
    text = read_signed_text(shop.secret(TOKEN_KEY), _QUOTE, quote_id)
    if text is None:
        return None
    fields = json.loads(text)
    return Quote(
        attachment_id=fields["i"],
        source_size=tuple(fields["s"]),
        prices={size: Money(minor, fields["c"]) for size, minor in fields["p"].items()},
        expires_at=datetime.fromtimestamp(fields["e"], UTC),
    )


def describe_images(shop: Shop, attachment_ids: list[int]) -> dict[str, dict[str, Any]]:
    """Tell which pictures are for sale and in which sizes, keyed by their numbers as text."""
    settings = shop.settings()
    with shop.database.read() as session:
        known = {image.attachment_id: image for image in images.get_many(session, attachment_ids)}
    described: dict[str, dict[str, Any]] = {}
    for number in attachment_ids:
        image = known.get(number)
        if image is None:
            described[str(number)] = {"for_sale": False}
            continue
        sizes = []
        for resolution in Resolution:
            try:
                make_offer(shop, settings, image, resolution)
            except NotForSaleError:
                continue
            sizes.append(resolution.value)
        described[str(number)] = {
            "for_sale": image.for_sale and bool(sizes),
            "sizes": sizes if image.for_sale else [],
            "width": image.width,
            "height": image.height,
            "title": image.title,
        }
    return described


def make_offer(shop: Shop, settings: ShopSettings, image: Image, resolution: Resolution) -> Offer:
    """Price one size, if it can be made.

    Raises:
        NotForSaleError: It cannot; the message is fit for a customer.
    """
    price = price_upscale(
        image.width, image.height, resolution, settings.price_rule, settings.exchange_rate
    )
    return Offer(price, _find_route(shop, settings, price))


def _find_route(shop: Shop, settings: ShopSettings, price: Price) -> tuple[str, ...]:
    wanted = {
        UpscalerChoice.UPSAMPLER: (UPSAMPLER,),
        UpscalerChoice.EMBEDDED: (EMBEDDED,),
        UpscalerChoice.UPSAMPLER_THEN_EMBEDDED: (UPSAMPLER, EMBEDDED),
    }[settings.upscaler]
    caps = {
        UPSAMPLER: settings.upsampler_max_output_pixels,
        EMBEDDED: settings.embedded_max_output_pixels,
    }
    pixels = price.width * price.height
    route = tuple(name for name in wanted if pixels <= caps[name])
    if not route:
        largest = max(caps[name] for name in wanted)
        raise NotForSaleError(
            f"{price.width} × {price.height} pixels are {price.output_megapixels:.1f} megapixels; "
            f"the largest picture that can be made has {largest / 1_000_000:.0f}."
        )
    ready = tuple(name for name in route if name != UPSAMPLER or _has_upsampler_key(shop))
    if not ready:
        raise NotForSaleError("The studio's upscaler is not set up yet.")
    return ready


def _has_upsampler_key(shop: Shop) -> bool:
    try:
        return bool(shop.secrets.get(UPSAMPLER_API_KEY))
    except ConfigurationError:
        return False

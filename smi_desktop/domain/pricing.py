"""What an upscale costs the shop and what it costs the customer. Sole owner of the price formula.

`output MP = width x height x factor^2 / 1,000,000`; `credits = ceil(output MP x credits per MP)`;
`cost = credits x USD per credit`; `price = cost x (1 + markup/100)` in the shop's currency, rounded by
the shop's rule, never below Stripe's minimum. Every constant is a field of `PriceRule`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from enum import StrEnum
from typing import Final

from smi_desktop.domain.errors import NotForSaleError
from smi_desktop.domain.money import STRIPE_MINIMUM, Money, charge_step, minor_digits

_PIXELS_PER_MEGAPIXEL: Final = 1_000_000


class Rounding(StrEnum):
    """How a computed price becomes a price on the label."""

    NEAREST = "nearest"
    """To the nearest amount that can be charged, halves up."""
    UP = "up"
    """Up to the next amount that can be charged: the margin is never rounded away."""
    TENTHS = "tenths"
    """Up to the next tenth of a major unit: 0.96 becomes 1.00."""
    CHARM = "charm"
    """Up to the next amount that ends in 99 hundredths: 0.96 becomes 0.99 (whole units: ends in 99)."""


class Resolution(StrEnum):
    """The sizes for sale, by their enlargement."""

    STANDARD = "4x"
    PREMIUM = "8x"

    @property
    def factor(self) -> int:
        """How many times wider and higher the result is."""
        return int(self.value[:-1])

    @property
    def label(self) -> str:
        """The name that the customer reads."""
        return f"{'Standard' if self is Resolution.STANDARD else 'Premium'} quality ({self.value})"

    @property
    def description(self) -> str:
        """What the size is good for."""
        return (
            "Web and print ready" if self is Resolution.STANDARD else "Professional print quality"
        )


@dataclass(frozen=True, slots=True)
class PriceRule:
    """The shop's constants of the formula.

    Attributes:
        credits_per_megapixel: Provider credits for one megapixel of the result.
        usd_per_credit: What one credit costs the shop, in US dollars.
        markup_percentage: What is added to the cost, in percent; 200 makes the price three times the cost.
        minimum_minor: The shop's own floor in minor units of its currency; Stripe's floor holds besides.
        rounding: How the computed price is rounded.
        currency: The shop's currency.
    """

    credits_per_megapixel: Decimal
    usd_per_credit: Decimal
    markup_percentage: Decimal
    minimum_minor: int
    rounding: Rounding
    currency: str


@dataclass(frozen=True, slots=True)
class ExchangeRate:
    """How many units of the shop's currency one US dollar buys, and when that was so."""

    usd_rate: Decimal
    as_of: date


@dataclass(frozen=True, slots=True)
class Price:
    """One size of one picture with its cost and its price.

    Attributes:
        credits: What the provider takes, in its credits.
        cost_usd: The same in US dollars.
        price: What the customer pays.
        width, height: The result's size in pixels.
    """

    resolution: Resolution
    credits: int
    cost_usd: Decimal
    price: Money
    width: int
    height: int

    @property
    def output_megapixels(self) -> Decimal:
        """The result's size in millions of pixels."""
        return Decimal(self.width * self.height) / _PIXELS_PER_MEGAPIXEL


def price_upscale(
    width: int, height: int, resolution: Resolution, rule: PriceRule, rate: ExchangeRate | None
) -> Price:
    """Price one size of a picture of `width` x `height` pixels.

    Raises:
        NotForSaleError: The shop's currency is not USD and no exchange rate is known, or Stripe's
            minimum for the currency is unknown and the shop has set none of its own.
    """
    factor = resolution.factor
    out_width, out_height = width * factor, height * factor
    megapixels = Decimal(out_width * out_height) / _PIXELS_PER_MEGAPIXEL
    credit_count = max(
        1, int((megapixels * rule.credits_per_megapixel).to_integral_value(ROUND_CEILING))
    )
    cost_usd = credit_count * rule.usd_per_credit
    major = cost_usd * _usd_rate(rule.currency, rate) * (1 + rule.markup_percentage / 100)
    amount = max(_round_price(major, rule), _floor_minor(rule))
    return Price(
        resolution, credit_count, cost_usd, Money(amount, rule.currency), out_width, out_height
    )


def _usd_rate(currency: str, rate: ExchangeRate | None) -> Decimal:
    if currency == "usd":
        return Decimal(1)
    if rate is None:
        raise NotForSaleError(
            f"This shop has not set an exchange rate from USD to {currency.upper()} yet, "
            "so no price can be named."
        )
    return rate.usd_rate


def _floor_minor(rule: PriceRule) -> int:
    known = STRIPE_MINIMUM.get(rule.currency)
    if known is None and rule.minimum_minor <= 0:
        raise NotForSaleError(
            f"The smallest charge in {rule.currency.upper()} is not known: "
            "set the shop's own minimum price."
        )
    step = charge_step(rule.currency)
    return -(-max(known or 0, rule.minimum_minor) // step) * step


def _round_price(major: Decimal, rule: PriceRule) -> int:
    """Round to minor units, in the steps that can be charged: 0.96 of a króna is no price."""
    step = charge_step(rule.currency)
    scale: int = 10 ** minor_digits(rule.currency)
    minor = major * scale
    match rule.rounding:
        case Rounding.NEAREST:
            return int((minor / step).to_integral_value(ROUND_HALF_UP)) * step
        case Rounding.UP:
            return int((minor / step).to_integral_value(ROUND_CEILING)) * step
        case Rounding.TENTHS:
            tenth = max(step, scale // 10)
            return int((minor / tenth).to_integral_value(ROUND_CEILING)) * tenth
        case Rounding.CHARM:
            # 0.99 where the smallest step is a hundredth, 99 where it is a whole unit.
            whole = 100 * step
            return int(((minor + step) / whole).to_integral_value(ROUND_CEILING)) * whole - step

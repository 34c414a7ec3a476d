"""The price formula: the contract's check figures, every constant, every rounding rule."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import ROUND_CEILING, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smi_desktop.domain.errors import NotForSaleError
from smi_desktop.domain.money import STRIPE_MINIMUM, Money, charge_step, minor_digits
from smi_desktop.domain.pricing import (
    ExchangeRate,
    Price,
    PriceRule,
    Resolution,
    Rounding,
    price_upscale,
)

RULE = PriceRule(
    credits_per_megapixel=Decimal("0.25"),
    usd_per_credit=Decimal("0.04"),
    markup_percentage=Decimal(200),
    minimum_minor=0,
    rounding=Rounding.NEAREST,
    currency="usd",
)
STANDARD, PREMIUM = Resolution.STANDARD, Resolution.PREMIUM
TODAY = date(2026, 1, 15)


def rate(value: str) -> ExchangeRate:
    return ExchangeRate(Decimal(value), TODAY)


def price(
    rule: PriceRule = RULE, *, exchange: ExchangeRate | None = None, credits: int = 8
) -> Price:
    """Price a 4x that takes this many credits."""
    return price_upscale(credits * 500, 500, STANDARD, rule, exchange)


@pytest.mark.parametrize(
    ("width", "height", "size", "megapixels", "credits", "cost", "minor"),
    [
        (2000, 1000, STANDARD, "32", 8, "0.32", 96),
        (1000, 750, PREMIUM, "48", 12, "0.48", 144),
        (100, 100, STANDARD, "0.16", 1, "0.04", 50),
    ],
)
def test_the_contracts_check_figures(
    width: int, height: int, size: Resolution, megapixels: str, credits: int, cost: str, minor: int
) -> None:
    found = price_upscale(width, height, size, RULE, None)
    assert found.output_megapixels == Decimal(megapixels)
    assert found.credits == credits
    assert found.cost_usd == Decimal(cost)
    assert found.price == Money(minor, "usd")
    assert (found.width, found.height) == (width * size.factor, height * size.factor)


def test_credits_are_counted_up_at_the_first_pixel_beyond() -> None:
    assert price_upscale(500, 500, STANDARD, RULE, None).credits == 1
    assert price_upscale(501, 500, STANDARD, RULE, None).credits == 2


@pytest.mark.parametrize(
    ("changes", "minor"),
    [
        ({"credits_per_megapixel": Decimal("0.5")}, 192),
        ({"credits_per_megapixel": Decimal(1)}, 384),
        ({"usd_per_credit": Decimal("0.05")}, 120),
        ({"markup_percentage": Decimal(300)}, 128),
        ({"markup_percentage": Decimal("212.5")}, 100),
        ({"minimum_minor": 99}, 99),
        ({"minimum_minor": 95}, 96),
    ],
)
def test_every_constant_of_the_formula_is_the_shops(changes: dict[str, object], minor: int) -> None:
    assert price(replace(RULE, **changes)).price.amount_minor == minor  # type: ignore[arg-type]


def test_no_markup_sells_at_cost_but_never_below_stripes_minimum() -> None:
    free = replace(RULE, markup_percentage=Decimal(0))
    assert price(free, credits=20).price == Money(80, "usd")
    assert price(free, credits=8).price == Money(50, "usd")


@pytest.mark.parametrize(
    ("rounding", "markup", "minor"),
    [
        # cost 0.32 USD
        (Rounding.NEAREST, "200", 96),
        (Rounding.NEAREST, "201.5625", 97),  # 96.5 cents: halves go up
        (Rounding.NEAREST, "201.5", 96),
        (Rounding.UP, "200", 96),
        (Rounding.UP, "200.01", 97),
        (Rounding.TENTHS, "200", 100),
        (Rounding.TENTHS, "212.5", 100),
        (Rounding.TENTHS, "212.51", 110),
        (Rounding.CHARM, "200", 99),
        (Rounding.CHARM, "209.375", 99),
        (Rounding.CHARM, "209.38", 199),
        (Rounding.CHARM, "212.5", 199),
    ],
)
def test_each_rounding_rule_in_dollars(rounding: Rounding, markup: str, minor: int) -> None:
    rule = replace(RULE, rounding=rounding, markup_percentage=Decimal(markup))
    assert price(rule).price.amount_minor == minor


@pytest.mark.parametrize(
    ("currency", "usd_rate", "rounding", "minor"),
    [
        # 0.96 USD in each
        ("jpy", "150", Rounding.NEAREST, 144),
        ("jpy", "150.1", Rounding.UP, 145),
        ("jpy", "150", Rounding.TENTHS, 144),
        ("jpy", "150", Rounding.CHARM, 199),
        ("kwd", "0.307", Rounding.NEAREST, 290),
        ("kwd", "0.307", Rounding.UP, 300),
        ("kwd", "0.307", Rounding.TENTHS, 300),
        ("kwd", "0.307", Rounding.CHARM, 990),
        ("isk", "138.2", Rounding.NEAREST, 13_300),
        ("isk", "138.2", Rounding.UP, 13_300),
        ("isk", "138.2", Rounding.TENTHS, 13_300),
        ("isk", "138.2", Rounding.CHARM, 19_900),
        ("eur", "0.92", Rounding.NEAREST, 88),
        ("huf", "350", Rounding.CHARM, 33_699),
    ],
)
def test_each_rounding_rule_in_the_other_kinds_of_currencies(
    currency: str, usd_rate: str, rounding: Rounding, minor: int
) -> None:
    rule = replace(RULE, currency=currency, rounding=rounding, minimum_minor=1)
    assert price(rule, exchange=rate(usd_rate)).price == Money(minor, currency)


def test_a_missing_exchange_rate_means_not_for_sale_and_says_so() -> None:
    with pytest.raises(NotForSaleError, match="exchange rate from USD to EUR"):
        price(replace(RULE, currency="eur"))


def test_an_exchange_rate_changes_nothing_in_a_dollar_shop() -> None:
    assert price(exchange=rate("7")).price == Money(96, "usd")


def test_an_unknown_minimum_means_not_for_sale_until_the_shop_sets_its_own() -> None:
    rule = replace(RULE, currency="kwd")
    with pytest.raises(NotForSaleError, match="smallest charge in KWD is not known"):
        price(rule, exchange=rate("0.3"))
    assert price(replace(rule, minimum_minor=500), exchange=rate("0.3")).price.amount_minor == 500


def test_a_minimum_that_cannot_be_charged_is_raised_to_one_that_can() -> None:
    rule = replace(RULE, currency="isk", minimum_minor=15_001)
    assert price(rule, exchange=rate("138.2")).price.amount_minor == 15_100


@pytest.mark.parametrize("currency", sorted(STRIPE_MINIMUM))
def test_no_price_is_below_the_minimum_of_its_currency(currency: str) -> None:
    rule = replace(RULE, currency=currency)
    found = price(rule, exchange=rate("0.000001"), credits=1)
    expected = STRIPE_MINIMUM[currency] if currency != "usd" else 50
    assert found.price == Money(expected, currency)


def test_the_sizes_have_the_contracts_words() -> None:
    assert [size.value for size in Resolution] == ["4x", "8x"]
    assert (STANDARD.factor, PREMIUM.factor) == (4, 8)
    assert (STANDARD.label, STANDARD.description) == (
        "Standard quality (4x)",
        "Web and print ready",
    )
    assert (PREMIUM.label, PREMIUM.description) == (
        "Premium quality (8x)",
        "Professional print quality",
    )


RULES = st.builds(
    PriceRule,
    credits_per_megapixel=st.decimals("0.01", "5", places=2),
    usd_per_credit=st.decimals("0.001", "2", places=3),
    markup_percentage=st.decimals("0", "1000", places=1),
    minimum_minor=st.integers(1, 5000),
    rounding=st.sampled_from(Rounding),
    currency=st.sampled_from(["usd", "eur", "jpy", "kwd", "isk", "huf"]),
)
SIDES = st.integers(1, 20_000)
RATES = st.decimals("0.01", "1000", places=2).map(lambda value: ExchangeRate(value, TODAY))


@given(SIDES, SIDES, st.sampled_from(Resolution), RULES, RATES)
def test_every_price_can_be_charged_and_covers_its_cost(
    width: int, height: int, size: Resolution, rule: PriceRule, exchange: ExchangeRate
) -> None:
    found = price_upscale(width, height, size, rule, exchange)
    amount = found.price.amount_minor
    assert amount % charge_step(rule.currency) == 0
    assert amount >= max(rule.minimum_minor, STRIPE_MINIMUM.get(rule.currency, 0))
    value = Decimal(1) if rule.currency == "usd" else exchange.usd_rate
    exact = found.cost_usd * value * (1 + rule.markup_percentage / 100)
    scaled = exact * 10 ** minor_digits(rule.currency)
    if rule.rounding is Rounding.NEAREST:
        assert amount >= scaled - Decimal(charge_step(rule.currency)) / 2
    else:
        assert amount >= scaled.to_integral_value(ROUND_CEILING)


@given(SIDES, SIDES, RULES, RATES)
def test_a_larger_size_never_costs_less(
    width: int, height: int, rule: PriceRule, exchange: ExchangeRate
) -> None:
    standard = price_upscale(width, height, STANDARD, rule, exchange)
    premium = price_upscale(width, height, PREMIUM, rule, exchange)
    assert premium.price.amount_minor >= standard.price.amount_minor
    assert premium.credits >= standard.credits >= 1

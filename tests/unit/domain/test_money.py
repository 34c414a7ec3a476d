"""Money: integers of minor units, each currency with its own digits."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smi_desktop.domain.errors import InvalidInputError
from smi_desktop.domain.money import (
    STRIPE_MINIMUM,
    THREE_DECIMAL,
    WHOLE_UNITS_ONLY,
    ZERO_DECIMAL,
    Money,
    charge_step,
    minor_digits,
    normalize_currency,
)

AMOUNTS = st.integers(min_value=-(10**15), max_value=10**15)
CURRENCIES = st.sampled_from(
    sorted({"usd", "eur", "sek", *ZERO_DECIMAL, *THREE_DECIMAL, *WHOLE_UNITS_ONLY})
)


@pytest.mark.parametrize(
    ("money", "text"),
    [
        (Money(0, "usd"), "$0.00 USD"),
        (Money(96, "usd"), "$0.96 USD"),
        (Money(435, "usd"), "$4.35 USD"),
        (Money(-435, "eur"), "-€4.35 EUR"),
        (Money(123_456_789, "gbp"), "£1,234,567.89 GBP"),
        (Money(1500, "jpy"), "¥1,500 JPY"),
        (Money(1230, "kwd"), "1.230 KWD"),
        (Money(1230, "sek"), "12.30 SEK"),
        (Money(13_300, "isk"), "133.00 ISK"),
    ],
)
def test_money_is_written_with_its_symbol_its_digits_and_its_code(money: Money, text: str) -> None:
    assert str(money) == text


@pytest.mark.parametrize(
    ("currency", "digits", "step"),
    [("usd", 2, 1), ("jpy", 0, 1), ("kwd", 3, 10), ("isk", 2, 100), ("ugx", 2, 100)],
)
def test_each_kind_of_currency_has_its_digits_and_its_smallest_step(
    currency: str, digits: int, step: int
) -> None:
    assert (minor_digits(currency), charge_step(currency)) == (digits, step)


def test_the_kinds_of_currencies_do_not_overlap() -> None:
    assert not ZERO_DECIMAL & THREE_DECIMAL
    assert not (ZERO_DECIMAL | THREE_DECIMAL) & WHOLE_UNITS_ONLY


def test_every_minimum_can_be_charged() -> None:
    assert all(minimum % charge_step(code) == 0 for code, minimum in STRIPE_MINIMUM.items())


def test_the_minimum_of_a_dollar_shop_is_fifty_cents() -> None:
    assert str(Money(STRIPE_MINIMUM["usd"], "usd")) == "$0.50 USD"


@given(AMOUNTS, AMOUNTS, CURRENCIES)
def test_adding_and_taking_away_again_changes_nothing(one: int, two: int, currency: str) -> None:
    assert Money(one, currency) + Money(two, currency) - Money(two, currency) == Money(
        one, currency
    )


@given(AMOUNTS, CURRENCIES)
def test_major_units_are_exact(amount: int, currency: str) -> None:
    assert Money(amount, currency).major * 10 ** minor_digits(currency) == amount


@given(AMOUNTS, CURRENCIES)
def test_what_is_written_reads_back_as_the_same_amount(amount: int, currency: str) -> None:
    figure = "".join(mark for mark in str(Money(amount, currency)) if mark in "-.0123456789")
    assert Decimal(figure) == Money(amount, currency).major


@pytest.mark.parametrize("amount", [1.0, "1", None, True, Decimal(1)])
def test_an_amount_that_is_no_integer_is_refused(amount: object) -> None:
    with pytest.raises(InvalidInputError, match="integer"):
        Money(amount, "usd")  # type: ignore[arg-type]


@pytest.mark.parametrize("currency", ["USD", "us", "usdd", "", "us1", "usd\n"])
def test_a_code_that_is_not_three_small_letters_is_refused(currency: str) -> None:
    with pytest.raises(InvalidInputError, match="currency code"):
        Money(1, currency)


def test_two_currencies_are_never_added_up() -> None:
    with pytest.raises(InvalidInputError, match="USD and EUR"):
        Money(1, "usd") + Money(1, "eur")
    with pytest.raises(InvalidInputError, match="USD and EUR"):
        Money(1, "usd") - Money(1, "eur")


@pytest.mark.parametrize("code", ["USD", " usd ", "Usd"])
def test_a_code_is_taken_in_any_case(code: str) -> None:
    assert normalize_currency(code) == "usd"


@pytest.mark.parametrize("code", ["", "dollar", "u$d", "üsd"])
def test_what_is_no_code_is_refused_by_its_name(code: str) -> None:
    with pytest.raises(InvalidInputError, match="three letters"):
        normalize_currency(code)

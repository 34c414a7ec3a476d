"""Money as integer minor units and a currency. Sole owner of what a minor unit is.

Floats never touch money: they turn 4.35 into 434 cents.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

from smi_desktop.domain.errors import InvalidInputError

_CODE: Final = re.compile(r"[a-z]{3}")

# https://docs.stripe.com/currencies#zero-decimal
ZERO_DECIMAL: Final = frozenset(
    {"bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"}
)  # fmt: skip
# https://docs.stripe.com/currencies#three-decimal: the last digit must be 0 when charged.
THREE_DECIMAL: Final = frozenset({"bhd", "jod", "kwd", "omr", "tnd"})
# https://docs.stripe.com/currencies#special-cases: two decimals in the API, of which 00 alone is allowed
# (ISK and UGX became zero-decimal but kept their two-decimal form).
WHOLE_UNITS_ONLY: Final = frozenset({"isk", "ugx"})

# https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts, in minor units.
STRIPE_MINIMUM: Final[dict[str, int]] = {
    "usd": 50, "eur": 50, "gbp": 30, "cad": 50, "aud": 50, "nzd": 50, "chf": 50, "sgd": 50,
    "jpy": 50, "hkd": 400, "sek": 300, "nok": 300, "dkk": 250, "pln": 200, "mxn": 1000,
    "myr": 200, "thb": 1000, "aed": 200, "czk": 1500, "huf": 17500, "ron": 200, "bgn": 100,
    "inr": 50, "brl": 50,
}  # fmt: skip

_SYMBOLS: Final = {"usd": "$", "eur": "€", "gbp": "£", "jpy": "¥"}


def minor_digits(currency: str) -> int:
    """Return how many decimals the currency's minor unit has in Stripe's API (0, 2 or 3)."""
    if currency in ZERO_DECIMAL:
        return 0
    return 3 if currency in THREE_DECIMAL else 2


def charge_step(currency: str) -> int:
    """Return the smallest step, in minor units, in which Stripe takes an amount of this currency."""
    if currency in THREE_DECIMAL:
        return 10
    return 100 if currency in WHOLE_UNITS_ONLY else 1


def normalize_currency(code: str) -> str:
    """Return an ISO 4217 code in Stripe's lower case.

    Raises:
        InvalidInputError: The text is not three letters.
    """
    lowered = code.strip().lower()
    if not _CODE.fullmatch(lowered):
        raise InvalidInputError(f"'{code}' is not a currency code of three letters such as 'usd'.")
    return lowered


@dataclass(frozen=True, slots=True)
class Money:
    """An amount of one currency.

    Attributes:
        amount_minor: Integer minor units (cents for USD, yen for JPY, thousandths for KWD).
        currency: Lower-case ISO 4217 code.
    """

    amount_minor: int
    currency: str

    def __post_init__(self) -> None:
        if type(self.amount_minor) is not int:
            raise InvalidInputError("An amount of money is an integer of minor units.")
        if not _CODE.fullmatch(self.currency):
            raise InvalidInputError(f"'{self.currency}' is not a lower-case currency code.")

    @classmethod
    def from_major(cls, text: str, currency: str) -> Money:
        """Read an amount that a person wrote in major units, such as `2.50`.

        Raises:
            InvalidInputError: It is no amount, or finer than the currency.
        """
        try:
            minor = Decimal(text.strip()).scaleb(minor_digits(currency))
        except InvalidOperation as error:
            raise InvalidInputError(f"'{text}' is not an amount such as 2.50.") from error
        if not minor.is_finite() or minor != minor.to_integral_value():
            raise InvalidInputError(f"'{text}' is not an amount of {currency.upper()}.")
        return cls(int(minor), currency)

    @property
    def major(self) -> Decimal:
        """The amount in major units, exactly."""
        return Decimal(self.amount_minor).scaleb(-minor_digits(self.currency))

    def __add__(self, other: Money) -> Money:
        return Money(self.amount_minor + self._same(other), self.currency)

    def __sub__(self, other: Money) -> Money:
        return Money(self.amount_minor - self._same(other), self.currency)

    def _same(self, other: Money) -> int:
        if other.currency != self.currency:
            raise InvalidInputError(
                f"{self.currency.upper()} and {other.currency.upper()} cannot be added up."
            )
        return other.amount_minor

    def __str__(self) -> str:
        code = self.currency.upper()
        figure = f"{abs(self.major):,.{minor_digits(self.currency)}f}"
        sign = "-" if self.amount_minor < 0 else ""
        return f"{sign}{_SYMBOLS.get(self.currency, '')}{figure} {code}"

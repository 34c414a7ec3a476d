"""Stripe's rules for a checkout session and a refund, beyond the types of their parameters."""

from __future__ import annotations

import re
from typing import Final

from smi_desktop.domain.money import STRIPE_MINIMUM, Money
from smi_desktop.sandbox.store import Json
from smi_desktop.sandbox.stripe_params import invalid

_HALF_HOUR: Final = 30 * 60
_DAY: Final = 24 * 60 * 60
_ON_THE_ROAD: Final = 10
"""Seconds that a request may take to get here without making its `expires_at` illegal."""
_LARGEST_AMOUNT: Final = 99_999_999
_METADATA_PAIRS: Final = 50
_METADATA_KEY: Final = 40
_METADATA_VALUE: Final = 500
_REFERENCE_LENGTH: Final = 200
_URL_LENGTH: Final = 5_000
_EMAIL: Final = re.compile(r"[^@\s<>,;\"]+@[^@\s<>,;\".]+(\.[^@\s<>,;\".]+)+")
_EMAIL_LENGTH: Final = 254


def check_session(params: Json, now: int) -> tuple[int, str]:
    """Hold the parameters of a new session against Stripe's rules.

    Returns:
        The total in minor units and its currency.

    Raises:
        HttpError: 400 in Stripe's shape.
    """
    if params.get("mode") != "payment":
        raise invalid("The rehearsal serves sessions in mode 'payment' alone.", "mode")
    if params.get("ui_mode", "hosted_page") != "hosted_page":
        raise invalid("The rehearsal serves the hosted page alone.", "ui_mode")
    if "success_url" not in params:
        raise invalid("Missing required param: success_url.", "success_url", "parameter_missing")
    for name in ("success_url", "cancel_url"):
        if name in params and not _is_url(params[name]):
            raise invalid("Not a valid URL", name, "url_invalid")
    _check_reference(params)
    _check_expiry(params.get("expires_at"), now)
    check_metadata(params.get("metadata"))
    check_metadata(
        params.get("payment_intent_data", {}).get("metadata"),
        "payment_intent_data[metadata]",
    )
    return _total(params.get("line_items") or [])


def check_metadata(metadata: dict[str, str] | None, name: str = "metadata") -> None:
    """Refuse metadata beyond Stripe's limits.

    https://docs.stripe.com/metadata

    Raises:
        HttpError: Too many pairs, or a key or value that is too long.
    """
    if not metadata:
        return
    if len(metadata) > _METADATA_PAIRS:
        raise invalid(
            f"You can specify up to {_METADATA_PAIRS} keys; you passed {len(metadata)}.",
            name,
        )
    for key, value in metadata.items():
        if len(key) > _METADATA_KEY:
            raise invalid(f"Metadata keys must be under {_METADATA_KEY} characters long.", name)
        if len(str(value)) > _METADATA_VALUE:
            raise invalid(
                f"Metadata values can have up to {_METADATA_VALUE} characters.",
                f"{name}[{key}]",
            )


def is_email(text: str) -> bool:
    """Tell whether the text is one plausible e-mail address."""
    return len(text) <= _EMAIL_LENGTH and bool(_EMAIL.fullmatch(text))


def check_refund(
    intent: Json, charge: Json | None, amount: int | None, refunded: int, *, disputed: bool
) -> int:
    """Decide how much of a payment can go back.

    Args:
        intent: The payment.
        charge: Its charge, if there is one.
        amount: What was asked for in minor units; None for all that is left.
        refunded: What has gone back already.
        disputed: Whether a dispute of it stands in the way.

    Raises:
        HttpError: 400 in Stripe's words: nothing was paid, all of it is back, or it is disputed.
    """
    if charge is None or intent["status"] != "succeeded":
        raise invalid(
            f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund.",
            "payment_intent",
        )
    if disputed:
        raise invalid(
            f"Charge {charge['id']} has been charged back; cannot issue a refund.",
            "",
            "charge_disputed",
        )
    left: int = charge["amount_captured"] - refunded
    if left <= 0:
        raise invalid(
            f"Charge {charge['id']} has already been refunded.",
            "",
            "charge_already_refunded",
        )
    if amount is None:
        return left
    if amount <= 0:
        raise invalid("Invalid positive integer", "amount", "parameter_invalid_integer")
    if amount > left:
        asked, rest = (Money(value, charge["currency"]) for value in (amount, left))
        raise invalid(
            f"Refund amount ({asked}) is greater than unrefunded amount on charge ({rest})",
            "amount",
        )
    return amount


def _check_reference(params: Json) -> None:
    if len(params.get("client_reference_id", "")) > _REFERENCE_LENGTH:
        raise invalid("client_reference_id is too long.", "client_reference_id")
    email = params.get("customer_email")
    if email is not None and not is_email(email):
        raise invalid(f"Invalid email address: {email}", "customer_email", "email_invalid")


def _check_expiry(expires_at: int | None, now: int) -> None:
    if expires_at is None:
        return
    if expires_at < now + _HALF_HOUR - _ON_THE_ROAD:
        raise invalid(
            "The `expires_at` timestamp must be at least 30 minutes from Checkout Session creation.",
            "expires_at",
        )
    if expires_at > now + _DAY + _ON_THE_ROAD:
        raise invalid(
            "The `expires_at` timestamp must be less than 24 hours from Checkout Session creation.",
            "expires_at",
        )


def _total(items: list[Json]) -> tuple[int, str]:
    if not items:
        raise invalid(
            "You must pass line_items in payment mode.",
            "line_items",
            "parameter_missing",
        )
    total = 0
    currencies = set()
    for place, item in enumerate(items):
        where = f"line_items[{place}]"
        price = item.get("price_data")
        if price is None or "unit_amount" not in price or "product_data" not in price:
            raise invalid(
                "The rehearsal sells by price_data with unit_amount and product_data alone.",
                f"{where}[price_data]",
            )
        if item.get("quantity", 1) < 1 or price["unit_amount"] < 0:
            raise invalid("Invalid non-negative integer", where, "parameter_invalid_integer")
        if len(price["product_data"].get("images", [])) > 8:  # Stripe's limit
            raise invalid(
                "You can pass up to 8 images.",
                f"{where}[price_data][product_data][images]",
            )
        currencies.add(price["currency"].lower())
        total += price["unit_amount"] * item.get("quantity", 1)
    if len(currencies) != 1:
        raise invalid("All line items must have the same currency.", "line_items")
    currency = currencies.pop()
    _check_total(total, currency)
    return total, currency


def _check_total(total: int, currency: str) -> None:
    if currency not in STRIPE_MINIMUM:
        raise invalid(f"Invalid currency: {currency}.", "line_items[0][price_data][currency]")
    if total < STRIPE_MINIMUM[currency]:
        least = Money(STRIPE_MINIMUM[currency], currency)
        raise invalid(
            f"The Checkout Session's total amount must convert to at least {least}.",
            "line_items",
            "amount_too_small",
        )
    if total > _LARGEST_AMOUNT:
        raise invalid("Amount must be no more than $999,999.99", "line_items", "amount_too_large")


def _is_url(text: str) -> bool:
    return text.startswith(("https://", "http://")) and " " not in text and len(text) <= _URL_LENGTH

"""Stripe's test cards, and what each does.

The numbers and their effects are those of https://docs.stripe.com/testing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class TestCard:
    """How a test card behaves.

    Attributes:
        decline_code: Why it is declined; empty if it pays.
        refund_ends: `succeeded` or `failed`: how its refunds end later; empty for at once.
        disputed: Its payment is disputed at once.
    """

    decline_code: str = ""
    refund_ends: str = ""
    disputed: bool = False


TEST_CARDS: Final[dict[str, TestCard]] = {
    "4242424242424242": TestCard(),
    "5555555555554444": TestCard(),
    "378282246310005": TestCard(),
    "4000000000000002": TestCard(decline_code="generic_decline"),
    "4000000000009995": TestCard(decline_code="insufficient_funds"),
    "4000000000009987": TestCard(decline_code="lost_card"),
    "4000000000009979": TestCard(decline_code="stolen_card"),
    "4000000000000069": TestCard(decline_code="expired_card"),
    "4000000000000127": TestCard(decline_code="incorrect_cvc"),
    "4000000000000119": TestCard(decline_code="processing_error"),
    "4000000000007726": TestCard(refund_ends="succeeded"),
    "4000000000005126": TestCard(refund_ends="failed"),
    "4000000000000259": TestCard(disputed=True),
}

_DECLINED: Final = "Your card was declined."
_MESSAGES: Final = {
    "insufficient_funds": "Your card has insufficient funds.",
    "expired_card": "Your card has expired.",
    "incorrect_cvc": "Your card's security code is incorrect.",
    "processing_error": "An error occurred while processing your card. Try again in a little bit.",
}
_OWN_CODES: Final = ("expired_card", "incorrect_cvc", "processing_error")


def decline_error(decline_code: str) -> dict[str, str]:
    """Return the `last_payment_error` of a declined card."""
    own = decline_code in _OWN_CODES
    return {
        "code": decline_code if own else "card_declined",
        "decline_code": decline_code,
        "message": _MESSAGES.get(decline_code, _DECLINED),
        "type": "card_error",
    }

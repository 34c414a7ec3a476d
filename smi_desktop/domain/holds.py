"""Why an order waits for a person, and what that person can do about it. The only table of both."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class HoldKind(StrEnum):
    """Why an order was set aside."""

    PAYMENT_DIFFERS = "payment_differs"
    """The amount, the currency, the mode or the name on the payment is not the order's."""
    PAYMENT_REUSED = "payment_reused"
    QUALITY = "quality"
    DEADLINE = "deadline"
    """No progress in the time that the upscaler is given."""
    FAILED = "failed"
    """The picture could not be made, and refunds wait for the owner."""
    GIVEN_UP = "given_up"
    """A piece of work was given up."""
    MAIL_UNCONFIRMED = "mail_unconfirmed"
    MAIL_UNDELIVERABLE = "mail_undeliverable"
    FILE_MISSING = "file_missing"
    REFUND_FAILED = "refund_failed"
    DISPUTED = "disputed"
    CAPTURE_FAILED = "capture_failed"
    """The reserved money can no longer be taken."""
    OWNER = "owner"


class Remedy(StrEnum):
    """What a person can do. The words are the commands of `smi-desktop orders`."""

    RELEASE = "release"
    REFUND = "refund"
    RETRY = "retry"
    REPLACE = "replace"
    RESEND = "resend"


_ALL_WORK: Final = (Remedy.RETRY, Remedy.REPLACE, Remedy.REFUND)

REMEDIES: Final[dict[HoldKind, tuple[Remedy, ...]]] = {
    HoldKind.PAYMENT_DIFFERS: (Remedy.RELEASE, Remedy.REFUND),
    HoldKind.PAYMENT_REUSED: (Remedy.RELEASE, Remedy.REFUND),
    HoldKind.QUALITY: (Remedy.RELEASE, *_ALL_WORK),
    HoldKind.DEADLINE: _ALL_WORK,
    HoldKind.FAILED: _ALL_WORK,
    HoldKind.GIVEN_UP: (Remedy.RELEASE, *_ALL_WORK),
    HoldKind.MAIL_UNCONFIRMED: (Remedy.RELEASE, Remedy.RESEND, Remedy.REFUND),
    HoldKind.MAIL_UNDELIVERABLE: (Remedy.RESEND, Remedy.RELEASE, Remedy.REFUND),
    HoldKind.FILE_MISSING: (Remedy.REPLACE, Remedy.REFUND, Remedy.RELEASE),
    HoldKind.REFUND_FAILED: (Remedy.REFUND, Remedy.RETRY, Remedy.RELEASE),
    HoldKind.DISPUTED: (),
    HoldKind.CAPTURE_FAILED: (Remedy.RELEASE,),
    HoldKind.OWNER: (Remedy.RELEASE, *_ALL_WORK),
}


def remedies(kind: str | None) -> tuple[Remedy, ...]:
    """Return what can be done about a hold; a kind that a newer version wrote has none that we know."""
    try:
        return REMEDIES[HoldKind(kind or "")]
    except ValueError:
        return ()

"""Check a `Stripe-Signature` header. Sole owner of that header's format.

Plain `hmac` in place of `stripe.WebhookSignature`: the scheme is one HMAC-SHA256 over `t.body`
(https://docs.stripe.com/webhooks#verify-manually), the SDK's check wants the body as UTF-8 text and
takes one secret a call, and importing the SDK would cost the relay's start some tenths of a second.
A test signs with the SDK and checks here, so the two cannot drift apart.

Whether the moment signed is too old or in the future is not judged here: the service does that with
the shop's clock, in both directions. Nothing in this module looks into the body.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from smi_desktop.domain.errors import SignatureError

# A genuine header is about 90 characters, and one v1 more for each secret that is being rolled.
_LONGEST_HEADER: Final = 8 * 1024
_MOST_SIGNATURES: Final = 32
_TIMESTAMP: Final = re.compile(r"[0-9]{1,11}")
_HEX_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class StripeSignatureVerifier:
    """Implements WebhookVerifier. Raises SignatureError alone, whatever the header holds."""

    def verify(self, raw: bytes, signature: str, secrets: Sequence[str]) -> datetime:
        """Return the moment that Stripe signed, aware UTC.

        Any of several `v1` made with any of the secrets will do, as while a secret is being rolled;
        `v0` and unknown schemes are ignored.

        Args:
            raw: The body exactly as received.
            signature: The `Stripe-Signature` header.
            secrets: The endpoint's signing secrets. Blank ones are ignored: a secret that was never
                set must not let everybody in.

        Raises:
            SignatureError: No signature in the header was made with one of the secrets.
        """
        timestamp, candidates = _parse(signature)
        usable = [secret for secret in secrets if secret and secret.strip()]
        matches = False
        for secret in usable:
            expected = _sign(secret, timestamp, raw)
            for candidate in candidates:
                matches |= hmac.compare_digest(expected, candidate)
        if not matches:
            raise SignatureError("The signature does not match the body.")
        return datetime.fromtimestamp(int(timestamp), tz=UTC)


def _parse(header: str) -> tuple[str, list[str]]:
    if not isinstance(header, str) or not header:
        raise SignatureError("There is no Stripe-Signature header.")
    if len(header) > _LONGEST_HEADER or not header.isascii():
        raise SignatureError("The Stripe-Signature header is not one that Stripe sends.")
    pairs = [item.strip().partition("=") for item in header.split(",")]
    timestamps = [value for name, _, value in pairs if name == "t"]
    candidates = [v for name, _, v in pairs if name == "v1" and _HEX_SHA256.fullmatch(v)]
    if len(timestamps) != 1 or not _TIMESTAMP.fullmatch(timestamps[0]):
        raise SignatureError("The Stripe-Signature header names no single moment.")
    if not candidates or len(candidates) > _MOST_SIGNATURES:
        raise SignatureError("The Stripe-Signature header holds no usable v1 signature.")
    return timestamps[0], candidates


def _sign(secret: str, timestamp: str, raw: bytes) -> str:
    message = timestamp.encode("ascii") + b"." + raw
    key = secret.encode("utf-8", errors="surrogatepass")
    return hmac.new(key, message, hashlib.sha256).hexdigest()

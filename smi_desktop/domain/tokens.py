"""Secrets that travel in addresses: download tokens, callback secrets, signed quotes.

Each is derived from one 256-bit key of the secret store, so that none has to stand in the database:
there lives only its SHA-256. A new delivery generation gives a new token and ends the old one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from typing import Final

TOKEN_LENGTH: Final = 64
_TOKEN: Final = re.compile(r"[0-9a-f]{64}")
# Crockford's alphabet without the letters that are read as figures; for numbers that people spell.
_NUMBER_ALPHABET: Final = "23456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_key() -> str:
    """Return a fresh 256-bit key as 64 hexadecimal characters."""
    return secrets.token_hex(32)


def derive_token(key: str, purpose: str, *parts: str | int) -> str:
    """Return 64 hexadecimal characters: HMAC-SHA256 over the purpose and its parts under the key.

    Args:
        key: The shop's key as hexadecimal text.
        purpose: Keeps tokens of one kind from ever being good for another, e.g. "download".
        parts: What the token stands for, e.g. the order's id and the delivery's generation.
    """
    message = "\x1f".join([purpose, *(str(part) for part in parts)]).encode()
    return hmac.new(bytes.fromhex(key), message, hashlib.sha256).hexdigest()


def hash_token(token: str) -> str:
    """Return the SHA-256 under which a token is looked up."""
    return hashlib.sha256(token.encode()).hexdigest()


def looks_like_token(text: str) -> bool:
    """Tell whether the text has a token's shape, before anything is looked up."""
    return _TOKEN.fullmatch(text) is not None


def new_order_id() -> str:
    """Return an unguessable order id of 192 random bits; hexadecimal, so that it never looks like an option."""
    return secrets.token_hex(24)


def new_order_number(prefix: str) -> str:
    """Return a number that people can spell, such as `VS-7K2M9Q`; it opens nothing by itself."""
    return f"{prefix}-" + "".join(secrets.choice(_NUMBER_ALPHABET) for _ in range(6))


def sign_text(key: str, purpose: str, text: str) -> str:
    """Return the text with its signature in address-safe characters."""
    body = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    return f"{body}.{derive_token(key, purpose, text)[:32]}"


def read_signed_text(key: str, purpose: str, signed: str) -> str | None:
    """Return the text that `sign_text` signed for this purpose, or None for anything else."""
    body, _, signature = signed.partition(".")
    try:
        text = base64.b64decode(
            body + "=" * (-len(body) % 4), altchars=b"-_", validate=True
        ).decode()
    except ValueError:
        return None
    good = hmac.compare_digest(
        derive_token(key, purpose, text)[:32].encode(), signature.encode("utf-8", "replace")
    )
    return text if good else None

"""The name under which a customer saves his file. Never the name under which we store it."""

from __future__ import annotations

import re
import unicodedata
from typing import Final
from urllib.parse import quote

_UNSAFE: Final = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*]+')
# Marks that turn the direction of text: `photo[U+202E]gpj.exe` would read as a picture.
_DIRECTION: Final = re.compile(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_LONGEST_TITLE: Final = 80
# The common file systems take names of 255 bytes; the rest of a name needs some forty of them.
_MOST_BYTES: Final = 200


def download_name(
    title: str, *, resolution: str, width: int, height: int, number: str, ext: str
) -> str:
    """Return `{title}_{8x}_{WxH}_{order}.{ext}`, safe on every common file system."""
    plain = _DIRECTION.sub("", unicodedata.normalize("NFC", title))
    plain = _UNSAFE.sub(" ", plain)
    plain = re.sub(r"\s+", "-", plain.strip())[:_LONGEST_TITLE]
    plain = plain.encode()[:_MOST_BYTES].decode(errors="ignore").strip(".-_ ") or "picture"
    return f"{plain}_{resolution}_{width}x{height}_{number}.{ext}"


def content_disposition(name: str) -> str:
    """Return an `attachment` header with an ASCII name and the true one (RFC 6266, RFC 8187)."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    ascii_name = re.sub(r"[^A-Za-z0-9._-]", "_", ascii_name)
    if ascii_name.startswith(("_4x_", "_8x_")):
        ascii_name = f"picture{ascii_name}"
    return f"attachment; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(name, safe='')}"

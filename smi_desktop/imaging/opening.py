"""Open pictures that came from outside, and refuse what is not one.

This module alone decides which file types are read: JPEG, PNG and WebP, told by their first bytes.
The decoder is named from those bytes, never guessed by libvips, and every other decoder of libvips
is blocked. It must run inside the image child.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyvips

from smi_desktop.domain.errors import InvalidInputError, TransientError

_LOADERS: dict[str, Callable[..., pyvips.Image]] = {
    "jpeg": pyvips.Image.jpegload,
    "png": pyvips.Image.pngload,
    "webp": pyvips.Image.webpload,
}
_SIGNATURES = {
    "jpeg": re.compile(rb"\xff\xd8\xff"),
    "png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
}
_SIGNATURE_BYTES = 12
_OUT_OF_MEMORY = re.compile(r"out of memory|insufficient memory|cannot allocate", re.IGNORECASE)
_MEGA = 1_000_000


@dataclass(frozen=True, slots=True)
class OpenPicture:
    """A picture whose header was read and found acceptable. Pixels are not decoded yet.

    Attributes:
        image: As it lies in the file; its orientation tag is not applied.
        format: `jpeg`, `png` or `webp`.
    """

    image: pyvips.Image
    format: str


def block_other_decoders() -> None:
    """Leave libvips no decoder but the three that we accept, and no cache of what it decoded."""
    pyvips.operation_block_set("VipsForeignLoad", True)
    for name in ("VipsForeignLoadJpeg", "VipsForeignLoadPng", "VipsForeignLoadWebp"):
        pyvips.operation_block_set(name, False)
    pyvips.cache_set_max(0)


def open_picture(path: Path, *, max_pixels: int, access: str = "sequential") -> OpenPicture:
    """Read the header of a picture.

    Args:
        max_pixels: The largest width x height that will be decoded.
        access: `sequential` for one pass from top to bottom, `random` to come back to the pixels.

    Raises:
        InvalidInputError: Not a still picture of an accepted type, damaged, or too large.
        TransientError: The file cannot be read, or memory ran out.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_SIGNATURE_BYTES)
    except OSError as error:
        raise TransientError(f"The picture's file cannot be read: {error.strerror}.") from error
    kind = next((name for name, mark in _SIGNATURES.items() if mark.match(start)), None)
    if kind is None:
        raise InvalidInputError("The file is not a JPEG, PNG or WebP picture.")
    try:
        image = _LOADERS[kind](str(path), access=access, fail_on="error")
    except pyvips.Error as error:
        raise unreadable(error) from error
    if image.width * image.height > max_pixels:
        raise InvalidInputError(
            f"The picture has {image.width:,} x {image.height:,} pixels; "
            f"at most {max_pixels / _MEGA:,.0f} megapixels can be handled."
        )
    if "n-pages" in image.get_fields() and int(image.get("n-pages")) > 1:
        raise InvalidInputError("The file is an animation; only a still picture can be sold.")
    return OpenPicture(image, kind)


def unreadable(error: pyvips.Error) -> InvalidInputError | TransientError:
    """Translate what libvips says while it decodes."""
    if _OUT_OF_MEMORY.search(str(error)):
        return TransientError("There was not enough memory to decode the picture.")
    return InvalidInputError("The picture is damaged or incomplete: it cannot be decoded.")


def orientation_of(image: pyvips.Image) -> int:
    """Return the orientation tag, 1 (upright) to 8."""
    return int(image.get("orientation")) if "orientation" in image.get_fields() else 1


def shown_size(image: pyvips.Image) -> tuple[int, int]:
    """Return width and height in pixels as shown; 5 to 8 lie on the side (EXIF 2.3, 4.6.4)."""
    first_on_side, last_on_side = 5, 8
    if first_on_side <= orientation_of(image) <= last_on_side:
        return image.height, image.width
    return image.width, image.height

"""Makes the rehearsal's upscaled pictures: by the embedded upscaler, or quickly by Lanczos.

Sole owner of which of the two serves which factor: the network is made for 2, 4 and 8.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pyvips

from smi_desktop.imaging import client

_NETWORK_FACTORS: Final = (2, 4, 8)
_LONGEST_SECONDS: Final = 3_600.0
_JPEG_QUALITY: Final = 92


class BadPictureError(Exception):
    """The bytes are no picture that can be enlarged."""


def measure(path: Path) -> tuple[int, int]:
    """Return a picture's width and height in pixels, from its head alone.

    Raises:
        BadPictureError: It is no JPEG, PNG or WebP.
    """
    try:
        image = pyvips.Image.new_from_file(str(path), access="sequential")
        if str(image.get("vips-loader")).split("load")[0] not in (
            "jpeg",
            "png",
            "webp",
        ):
            raise BadPictureError("unsupported image format")
        turned = image.get("orientation") if image.get_typeof("orientation") else 1
    except pyvips.Error as error:
        raise BadPictureError("unsupported or damaged image") from error
    on_its_side = turned >= 5  # EXIF: 5 to 8 swap the sides
    return (image.height, image.width) if on_its_side else (image.width, image.height)


def enlarge(
    source: Path,
    result: Path,
    *,
    factor: float,
    quick: bool,
    scratch: Path,
    cancelled: Callable[[], bool],
) -> None:
    """Write the enlarged PNG.

    Args:
        source: The picture.
        result: Where the PNG goes.
        factor: How many times wider and higher.
        quick: Lanczos always; the picture is only as good, but it takes a fraction of the time.
        scratch: A folder for scratch files.
        cancelled: Asked a few times a second; True ends the work.

    Raises:
        SmiError: The picture is damaged, or the work was cancelled.
        BadPictureError: The picture is damaged.
    """
    if not quick and factor in _NETWORK_FACTORS:
        client.upscale(
            source,
            result,
            factor=int(factor),
            work_dir=scratch,
            on_progress=lambda _share: None,
            cancelled=cancelled,
            seconds=_LONGEST_SECONDS,
        )
        return
    width, height = measure(source)
    resize(source, result, round(width * factor), round(height * factor))


def resize(source: Path, result: Path, width: int, height: int) -> None:
    """Write a PNG of exactly that size by Lanczos.

    Raises:
        BadPictureError: The picture is damaged.
    """
    draft = result.with_suffix(".part")
    try:
        image = pyvips.Image.new_from_file(str(source)).autorot()
        scaled = image.resize(width / image.width, vscale=height / image.height, kernel="lanczos3")
        scaled.pngsave(str(draft), compression=1)
    except pyvips.Error as error:
        raise BadPictureError("unsupported or damaged image") from error
    draft.replace(result)


def compress(png: Path, jpeg: Path) -> None:
    """Write a JPEG beside the PNG."""
    image = pyvips.Image.new_from_file(str(png), access="sequential")
    flat = image.flatten(background=255) if image.hasalpha() else image
    draft = jpeg.with_suffix(".jpg.part")
    flat.jpegsave(str(draft), Q=_JPEG_QUALITY)
    draft.replace(jpeg)

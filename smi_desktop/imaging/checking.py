"""Decode pictures whole, tell what they are, and make a checked result into the file that is delivered.

This module alone decides what a blank picture is and when a result is passed on byte for byte.
It runs inside the image child.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyvips

from smi_desktop.domain.errors import BadResultError, InvalidInputError
from smi_desktop.imaging.metadata import (
    carries_private_metadata,
    lacks_metadata_of,
    with_metadata_of,
)
from smi_desktop.imaging.opening import OpenPicture, open_picture, shown_size, unreadable
from smi_desktop.imaging.writing import whole_file, write_picture

BLANK_DEVIATION = 1.0
"""A picture whose every band deviates less than this from its mean (on a scale of 255) is blank."""
MAX_SOURCE_PIXELS = 1_000_000_000
_SIXTEEN_BITS = 257.0
_DEVIATION_COLUMN = 5


def inspect(path: Path, *, max_pixels: int) -> Mapping[str, Any]:
    """Decode the whole picture and tell its shown size, format, bytes and SHA-256.

    Raises:
        InvalidInputError: Not a still picture of an accepted type, damaged, or too large.
        TransientError: The file cannot be read, or memory ran out.
    """
    opened = open_picture(path, max_pixels=max_pixels)
    try:
        opened.image.avg()
    except pyvips.Error as error:
        raise unreadable(error) from error
    return _facts(path, opened)


def finish_result(
    result: Path,
    source: Path,
    destination: Path,
    *,
    width: int,
    height: int,
    format: str,
    jpeg_quality: int,
) -> Mapping[str, Any]:
    """Check a result and write the file that is delivered; see `ports.ImageReader.finish_result`.

    Raises:
        BadResultError: The result is not the picture that was ordered.
        TransientError: No memory, or the file cannot be written.
    """
    try:
        opened = open_picture(result, max_pixels=width * height)
        _check_size(opened.image, width, height)
        blank = _is_blank(opened.image)
    except InvalidInputError as error:
        raise BadResultError(f"The result cannot be used. {error.message}") from error
    original = open_picture(source, max_pixels=MAX_SOURCE_PIXELS).image
    if blank and not _is_blank(original):
        raise BadResultError("The result is blank: it has one colour only.")
    image = opened.image
    if (
        opened.format == format
        and not lacks_metadata_of(image, original)
        and not carries_private_metadata(image)
    ):
        with whole_file(destination) as part:
            shutil.copyfile(result, part)
    else:
        # The first pass over the pixels is spent; open them again, upright.
        turned = shown_size(image) != (image.width, image.height) or carries_private_metadata(image)
        access = "random" if turned else "sequential"
        again = open_picture(result, max_pixels=width * height, access=access).image.autorot()
        marked = with_metadata_of(again, open_picture(source, max_pixels=MAX_SOURCE_PIXELS).image)
        write_picture(marked, destination, jpeg=format == "jpeg", quality=jpeg_quality)
    return _facts(destination, open_picture(destination, max_pixels=width * height))


def _check_size(image: pyvips.Image, width: int, height: int) -> None:
    shown = shown_size(image)
    if shown != (width, height):
        raise BadResultError(
            f"The result has {shown[0]:,} x {shown[1]:,} pixels instead of {width:,} x {height:,}."
        )


def _is_blank(image: pyvips.Image) -> bool:
    """Decode the whole picture and tell whether it shows nothing."""
    scale = _SIXTEEN_BITS if image.format == "ushort" else 1.0
    try:
        statistics = image.stats()
    except pyvips.Error as error:
        raise unreadable(error) from error
    # Row 0 is all bands together; each band has a row of its own after it.
    deviations = [statistics(_DEVIATION_COLUMN, band + 1)[0] / scale for band in range(image.bands)]
    return max(deviations) < BLANK_DEVIATION


def _facts(path: Path, opened: OpenPicture) -> Mapping[str, Any]:
    width, height = shown_size(opened.image)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "width": width,
        "height": height,
        "format": opened.format,
        "bytes": path.stat().st_size,
        "sha256": digest,
    }

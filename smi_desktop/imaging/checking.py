"""Decode pictures whole, tell what they are, and make a checked result into the delivered file.

This module alone decides what a blank picture is and when a result is passed on byte for byte.
It runs inside the image child.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
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
from smi_desktop.imaging.opening import (
    OpenPicture,
    open_picture,
    orientation_of,
    shown_size,
    unreadable,
)
from smi_desktop.imaging.writing import whole_file, write_picture

BLANK_DEVIATION = 1.0
"""A picture whose every band deviates less than this from its mean (of 255) is blank."""
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
    limits: Mapping[str, float] | None = None,
) -> Mapping[str, Any]:
    """Check a result and write the file that is delivered; see `ports.ImageReader.finish_result`.

    Raises:
        BadResultError: The result is not the picture that was ordered.
        TransientError: No memory, or the file cannot be written.
    """
    pixels = width * height
    try:
        original = open_picture(source, max_pixels=MAX_SOURCE_PIXELS).image
        _check_size(result, width, height)
        doubts = _doubts(result, source) if limits is not None else ()
        # The check has spent its one pass over the pixels, and what it decoded is forgotten.
        checked = open_picture(result, max_pixels=pixels)
    except InvalidInputError as error:
        raise BadResultError(f"The result cannot be used. {error.message}") from error
    if (
        checked.format == format
        and not lacks_metadata_of(checked.image, original)
        and not carries_private_metadata(checked.image)
    ):
        # Encoding a JPEG once more would only lose something.
        with whole_file(destination) as part:
            shutil.copyfile(result, part)
    else:
        image = checked.image
        if orientation_of(image) > 1:
            image = open_picture(result, max_pixels=pixels, access="random").image.autorot()
        marked = with_metadata_of(image, original)
        write_picture(marked, destination, jpeg=format == "jpeg", quality=jpeg_quality)
    facts = _facts(destination, open_picture(destination, max_pixels=pixels))
    return {**facts, "doubts": doubts, "figures": {}}


def _check_size(result: Path, width: int, height: int) -> None:
    # Opening reads the header alone, so the size that came can be named whatever it is.
    image = open_picture(result, max_pixels=sys.maxsize).image
    shown = shown_size(image)
    if shown != (width, height):
        raise BadResultError(
            f"The result has {shown[0]:,} x {shown[1]:,} pixels instead of {width:,} x {height:,}."
        )
    try:
        image.avg()
    except pyvips.Error as error:
        raise unreadable(error) from error


def _doubts(result: Path, source: Path) -> tuple[str, ...]:
    image = open_picture(result, max_pixels=sys.maxsize).image
    # A source of one colour has a right to a result of one colour.
    if _is_blank(image) and not _is_blank(open_picture(source, max_pixels=MAX_SOURCE_PIXELS).image):
        return ("The result is blank: it shows one colour only.",)
    return ()


def _is_blank(image: pyvips.Image) -> bool:
    """Decode the whole picture and tell whether it shows nothing."""
    scale = _SIXTEEN_BITS if image.format == "ushort" else 1.0
    try:
        statistics = image.stats()
    except pyvips.Error as error:
        raise unreadable(error) from error
    # Row 0 is all bands together; each band has a row of its own after it.
    deviations = [
        float(statistics(_DEVIATION_COLUMN, band + 1)[0]) / scale for band in range(image.bands)
    ]
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

"""Decode pictures whole, tell what they are, and make a checked result into the delivered file.

This module alone decides what refuses a result and when it is passed on byte for byte; how like its
source it must be is `quality`'s.
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
from smi_desktop.imaging import quality
from smi_desktop.imaging.metadata import (
    carries_private_metadata,
    lacks_metadata_of,
    profile_of,
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

MAX_SOURCE_PIXELS = 1_000_000_000


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

    Args:
        limits: `ports.QualityLimits` as a mapping; None compares nothing.

    Returns:
        The written file's facts, the doubts and the figures, named as in `ports.ImageFacts`.

    Raises:
        BadResultError: The result is not the picture that was ordered.
        TransientError: No memory, or the file cannot be written.
    """
    pixels = width * height
    try:
        original = open_picture(source, max_pixels=MAX_SOURCE_PIXELS).image
        _check_size(result, width, height)
        likeness = _read_whole(result, source, compared=limits is not None)
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
    written = open_picture(destination, max_pixels=pixels)
    judged = _judgement(likeness, limits, original, written.image)
    return {**_facts(destination, written), **judged}


def _check_size(result: Path, width: int, height: int) -> None:
    # Opening reads the header alone, so the size that came can be named whatever it is.
    shown = shown_size(open_picture(result, max_pixels=sys.maxsize).image)
    if shown != (width, height):
        raise BadResultError(
            f"The result has {shown[0]:,} x {shown[1]:,} pixels instead of {width:,} x {height:,}."
        )


def _read_whole(result: Path, source: Path, *, compared: bool) -> quality.Likeness | None:
    """Decode the result to its end, in one pass, and compare it on the way if that is wanted.

    Returns:
        None if nothing was compared, which may be because the source cannot be decoded any more.
    """
    image = open_picture(result, max_pixels=sys.maxsize).image
    original = open_picture(source, max_pixels=MAX_SOURCE_PIXELS).image
    size = quality.compared_size(original, image)
    small = _shrunk_or_none(original, size) if compared else None
    if small is not None:
        # A result without a profile gets the source's: these are the colours that will be seen.
        return quality.compare(small, quality.shrunk_lab(image, size, profile_of(original)))
    try:
        image.avg()
    except pyvips.Error as error:
        raise unreadable(error) from error
    return None


def _shrunk_or_none(original: pyvips.Image, size: tuple[int, int]) -> quality.Plane | None:
    try:
        return quality.shrunk_lab(original, size)
    except InvalidInputError:
        return None


def _judgement(
    likeness: quality.Likeness | None,
    limits: Mapping[str, float] | None,
    original: pyvips.Image,
    written: pyvips.Image,
) -> Mapping[str, Any]:
    if limits is None:
        return {"doubts": (), "figures": {}}
    if likeness is None:
        # That our copy is damaged is not the fault of the result, which may be what was ordered.
        doubt = "The original cannot be read any more, so the result was not compared with it."
        return {"doubts": (doubt,), "figures": {}}
    doubts = quality.doubts_of(likeness, limits)
    if profile_of(original) is not None and profile_of(written) is None:
        doubts += ("The original's colour profile is missing in the result.",)
    return {"doubts": doubts, "figures": likeness.figures()}


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

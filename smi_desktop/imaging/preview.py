"""Make small sRGB JPEGs to look at. They carry no metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyvips

from smi_desktop.imaging.colour import without_alpha
from smi_desktop.imaging.opening import open_picture, unreadable
from smi_desktop.imaging.writing import write_picture

_QUALITY = 85


def make_preview(
    source: Path, destination: Path, *, longest_edge: int, max_pixels: int
) -> Mapping[str, int]:
    """Write a JPEG whose longer edge is at most `longest_edge` pixels; small ones keep their size.

    Raises:
        InvalidInputError: The source is not a readable picture, or has more than `max_pixels`.
        TransientError: No memory, or the file cannot be written.
    """
    open_picture(source, max_pixels=max_pixels)
    try:
        small = pyvips.Image.thumbnail(
            str(source),
            longest_edge,
            height=longest_edge,
            size="down",
            output_profile="srgb",
            fail_on="error",
        )
        small = without_alpha(small).copy_memory()
    except pyvips.Error as error:
        raise unreadable(error) from error
    write_picture(small, destination, jpeg=True, quality=_QUALITY, metadata=False)
    return {"width": small.width, "height": small.height}

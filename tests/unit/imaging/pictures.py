"""Small pictures to work on."""

from __future__ import annotations

import numpy as np
import pyvips


def paint(width: int = 48, height: int = 32, bands: int = 3) -> pyvips.Image:
    """Return a smooth picture whose corners differ, so that turning it can be seen."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    planes = [127 + 60 * np.sin(columns / 7 + band) + 60 * rows / height for band in range(bands)]
    pixels = np.stack(planes, axis=-1).clip(0, 255).astype(np.uint8)
    image = pyvips.Image.new_from_memory(pixels.tobytes(), width, height, bands, "uchar")
    grey, without_colour = 1, 2
    return image.copy(interpretation="b-w" if bands in (grey, without_colour) else "srgb")


def with_exif(image: pyvips.Image, orientation: int = 1) -> pyvips.Image:
    """Return the picture with an author, a place, a maker's note and an orientation in its EXIF."""
    marked = image.copy()
    fields = {
        "exif-ifd0-Copyright": "A Studio (A Studio, ASCII, 9 components, 9 bytes)",
        "exif-ifd3-GPSLatitude": "52/1 30/1 0/1 (52, 30,  0, Rational, 3 components, 24 bytes)",
    }
    for name, value in fields.items():
        marked.set_type(pyvips.GValue.gstr_type, name, value)
    marked.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    return marked

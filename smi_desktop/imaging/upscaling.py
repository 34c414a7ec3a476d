"""Enlarge a picture 2, 4 or 8 times: the network doubles, libvips does what is around it.

This module alone decides the steps: 4x is the network twice; 8x is 4x and then Lanczos, since a
third pass costs four times as much. It runs inside the image child.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyvips

from smi_desktop.domain.errors import BadResultError, InvalidInputError, TransientError
from smi_desktop.imaging.colour import split_alpha, to_eight_bits, with_hidden_colours_filled
from smi_desktop.imaging.metadata import with_metadata_of
from smi_desktop.imaging.network import SCALE, TILE, Denoise, Doubler, Pixels
from smi_desktop.imaging.opening import OpenPicture, open_picture, unreadable
from smi_desktop.imaging.writing import JPEG_SUFFIXES, write_picture

PASSES = {2: 1, 4: 2, 8: 2}
"""How often the network runs for each factor that is offered."""
JPEG_QUALITY = 95
NETWORK_SHARE = 0.95
"""The network's part of the whole work, for the progress that is shown."""
_RGB_BANDS = 3


def upscale(
    source: Path,
    destination: Path,
    *,
    factor: int,
    scratch: Path,
    on_share: Callable[[float], None],
    max_pixels: int,
    tile: int = TILE,
) -> None:
    """Write the enlarged picture as JPEG (by the suffix of `destination`) or else as PNG.

    Args:
        factor: One of `PASSES`.
        scratch: A folder with room for 4 bytes per pixel of the result; nothing is left in it.
        on_share: Told the share that is done, 0..1.
        max_pixels: The largest result in pixels.

    Raises:
        BadResultError: The source cannot be read, or its result would be too large.
        TransientError: No memory or no room on the disk.
    """
    try:
        opened = open_picture(source, max_pixels=max_pixels // factor**2, access="random")
        picture = _decode(opened.image)
    except InvalidInputError as error:
        raise BadResultError(error.message) from error
    colours, alpha = split_alpha(picture)
    if alpha is not None:
        colours = with_hidden_colours_filled(colours, alpha)
    doubler = Doubler(_denoise_for(opened), tile=tile)
    enlarged = _enlarge(colours, doubler, factor, scratch, on_share)
    if alpha is not None:
        enlarged = enlarged.bandjoin(_lanczos(alpha, factor))
    enlarged = with_metadata_of(enlarged.copy(xres=picture.xres, yres=picture.yres), picture)
    jpeg = destination.suffix.lower() in JPEG_SUFFIXES
    write_picture(enlarged, destination, jpeg=jpeg, quality=JPEG_QUALITY)
    on_share(1.0)


def _decode(image: pyvips.Image) -> pyvips.Image:
    try:
        return to_eight_bits(image.autorot()).copy_memory()
    except pyvips.Error as error:
        raise unreadable(error) from error


def _denoise_for(opened: OpenPicture) -> Denoise:
    """Choose the model: compression leaves traces that a clean picture does not have.

    Measured on six photographs at JPEG qualities 60 to 97 and WebP 80: with the strong model the
    result is the nearest to the original at each of them.
    """
    return Denoise.NONE if opened.format == "png" else Denoise.STRONG


def _enlarge(
    colours: pyvips.Image,
    doubler: Doubler,
    factor: int,
    scratch: Path,
    on_share: Callable[[float], None],
) -> pyvips.Image:
    grey = colours.bands < _RGB_BANDS
    if grey:
        colours = colours.bandjoin([colours, colours])
    pixels: Pixels = colours.numpy()
    passes = PASSES[factor]
    # Each pass costs four times the one before; the last part is for writing the file.
    costs = [4**number for number in range(passes)]
    for number in range(passes):
        start = NETWORK_SHARE * sum(costs[:number]) / sum(costs)
        part = NETWORK_SHARE * costs[number] / sum(costs)
        target = _scratch_pixels(pixels.shape[0] * SCALE, pixels.shape[1] * SCALE, scratch)
        doubler.double(pixels, target, _within(on_share, start, part))
        pixels = target
    height, width, bands = pixels.shape
    image = pyvips.Image.new_from_memory(pixels, width, height, bands, "uchar")
    image = image.copy(interpretation="srgb")
    if grey:
        image = image.bandmean().copy(interpretation="b-w")
    return _lanczos(image, factor // SCALE**passes)


def _within(
    on_share: Callable[[float], None], start: float, part: float
) -> Callable[[float], None]:
    return lambda share: on_share(start + part * share)


def _lanczos(image: pyvips.Image, factor: int) -> pyvips.Image:
    return image.resize(factor, kernel="lanczos3") if factor > 1 else image


def _scratch_pixels(height: int, width: int, scratch: Path) -> Pixels:
    """Return an array in a file that has no name, so that it vanishes with this process.

    Raises:
        TransientError: There is no room.
    """
    size = height * width * _RGB_BANDS
    with tempfile.TemporaryFile(dir=scratch) as file:
        try:
            # Take the room now: a full disk would otherwise be a bus error half way.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, dtype=np.uint8, mode="w+", shape=(height, width, _RGB_BANDS))
        except OSError as error:
            raise TransientError(
                f"There is no room for {size / 2**20:,.0f} MB of temporary files."
            ) from error

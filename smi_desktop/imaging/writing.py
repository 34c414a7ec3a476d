"""Write picture files whole or not at all.

This module alone decides how JPEG and PNG are encoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyvips

from smi_desktop.domain.errors import BadResultError, TransientError
from smi_desktop.imaging.colour import to_eight_bits, without_alpha
from smi_desktop.imaging.limits import PART_SUFFIX

JPEG_SUFFIXES = (".jpg", ".jpeg")
JPEG_LONGEST_EDGE = 65_500
"""libjpeg's limit in pixels (JPEG_MAX_DIMENSION)."""
_REASON_SHOWN = 200
_PNG_COMPRESSION, _PNG_FILTER = 4, "paeth"
"""7 s for 192 MP of photograph, 4 bits a pixel; no filter at all gives 10 bits (measured)."""


@contextmanager
def whole_file(destination: Path) -> Iterator[Path]:
    """Hand out a temporary path beside `destination` that takes its place when the block succeeds.

    Raises:
        TransientError: The file cannot be written.
    """
    part = destination.with_name(f"{destination.name}{PART_SUFFIX}")
    try:
        yield part
        part.replace(destination)
    except (OSError, pyvips.Error) as error:
        part.unlink(missing_ok=True)
        raise TransientError(f"The picture could not be written: {_in_one_line(error)}.") from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_picture(
    image: pyvips.Image, destination: Path, *, jpeg: bool, quality: int, metadata: bool = True
) -> None:
    """Encode a picture in one pass.

    Args:
        quality: Of the JPEG, 1..100; colours are kept at full resolution (4:4:4).
        metadata: Keep profile and EXIF; False writes bare pixels.

    Raises:
        BadResultError: The picture is too large for the file type.
        TransientError: The file cannot be written.
    """
    keep = "all" if metadata else "none"
    if jpeg and max(image.width, image.height) > JPEG_LONGEST_EDGE:
        raise BadResultError(
            f"A JPEG cannot be wider or higher than {JPEG_LONGEST_EDGE:,} pixels; choose PNG."
        )
    if jpeg or image.interpretation == "cmyk":
        image = to_eight_bits(image)
    with whole_file(destination) as part:
        if jpeg:
            # optimize_coding would keep the whole picture in memory: 2.8 GiB at 192 megapixels.
            without_alpha(image).jpegsave(
                str(part), Q=quality, subsample_mode="off", optimize_coding=False, keep=keep
            )
        else:
            image.pngsave(str(part), compression=_PNG_COMPRESSION, filter=_PNG_FILTER, keep=keep)


def _in_one_line(error: Exception) -> str:
    return "; ".join(line.strip() for line in str(error).strip().splitlines())[:_REASON_SHOWN]

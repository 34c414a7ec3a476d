"""How large a picture prints well. Rounded down, so that no promise is larger than the file."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import Final

_CM_PER_INCH: Final = 2.54


@dataclass(frozen=True, slots=True)
class PrintSize:
    """A good print at one density: inches to a tenth, centimetres whole, both rounded down."""

    ppi: int
    width_in: float
    height_in: float
    width_cm: int
    height_cm: int


def print_size(width: int, height: int, ppi: int) -> PrintSize:
    """Return the largest good print of `width` x `height` pixels at `ppi` pixels an inch."""
    return PrintSize(
        ppi,
        floor(width * 10 / ppi) / 10,
        floor(height * 10 / ppi) / 10,
        floor(width * _CM_PER_INCH / ppi),
        floor(height * _CM_PER_INCH / ppi),
    )

"""Compare a result with its source and say, in words, why a person should look at it.

This module alone decides how likeness is measured. It refuses nothing: it returns figures and
doubts. Both pictures are compared at the same small size, at which an honest enlargement is the
source again, whatever fine detail an upscaler has added. It runs inside the image child.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyvips

from smi_desktop.imaging.colour import to_eight_bits, without_alpha
from smi_desktop.imaging.metadata import PROFILE, profile_fits, profile_of
from smi_desktop.imaging.opening import shown_size, unreadable

Plane: TypeAlias = npt.NDArray[np.float32]
"""Height x width, or height x width x 3 (L*, a*, b*)."""
Mask: TypeAlias = npt.NDArray[np.bool_]

COMPARED_PIXELS = 1_000_000
"""Both pictures are shrunk to at most so many pixels."""
BLANK_DEVIATION = 0.4
"""A picture whose lightness and colours all deviate less from their mean (L* 0..100) is blank."""
ANOTHER_PICTURE = 0.35
"""Below this SSIM two pictures have hardly more in common than any two."""

_SSIM_EDGE = 256
"""The shorter edge that the authors of SSIM advise to shrink to (ssim.m, "suggested usage")."""
_SIGMA, _REACH = 1.5, 5
_C1, _C2 = (0.01 * 100) ** 2, (0.03 * 100) ** 2
_CELL = 4
"""Edge in pixels of the cells in which defects of a part are looked for."""
_COLOUR_BLOCK = 8
_BLACK = 2.0
"""L* up to which a cell of the result is black."""
_NOT_BLACK = 8.0
"""L* from which on every pixel of the source's cell is not."""
_STRUCTURE = 3.5
"""Deviation of L* from which on there is something to recognize in a window."""
_STRANGE_STRUCTURE = 0.4
"""Below this likeness of structure a window shows something else; honest ones have over 0.95."""
_STRANGE_COLOUR = 12.0
"""Mean ΔE from which on a window is another colour; honest ones stay under 4 (bench_quality.py)."""
_SMALLEST_AREA = 3
"""Cells; fewer are an edge that came out a little differently."""
_PATCH = 16
_SAME_PATCH = 0.85
_OTHER_PATCH = 0.6
"""Correlations of a patch with another place, and with its own, that make it a repeated one."""
_PATCHES_SOUGHT = 8


@dataclass(frozen=True, slots=True)
class Likeness:
    """How like its source a result is.

    Attributes:
        ssim: Structural similarity of the lightness; 1 for a copy.
        delta_e: Mean ΔE (CIE76) of the mean colours of small blocks.
        black_tiles: Connected areas that are black where the source is not.
        repeated_tiles: Connected areas that show what the source shows elsewhere.
        strange_tiles: Further connected areas that do not show what the source shows there.
        blank: The result is of one colour and the source is not.
    """

    ssim: float
    delta_e: float
    black_tiles: int
    repeated_tiles: int
    strange_tiles: int
    blank: bool

    def figures(self) -> Mapping[str, float]:
        """Return what `ports.ImageFacts.figures` carries."""
        return {
            "ssim": round(self.ssim, 4),
            "delta_e": round(self.delta_e, 2),
            "black_tiles": float(self.black_tiles),
            "repeated_tiles": float(self.repeated_tiles),
            "strange_tiles": float(self.strange_tiles),
        }


def compared_size(source: pyvips.Image, result: pyvips.Image) -> tuple[int, int]:
    """Return the shown width and height at which both are compared; neither is enlarged."""
    width, height = shown_size(source)
    wide, high = shown_size(result)
    scale = min(1.0, math.sqrt(COMPARED_PIXELS / (width * height)), wide / width, high / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def shrunk_lab(image: pyvips.Image, size: tuple[int, int], profile: bytes | None = None) -> Plane:
    """Decode a picture in one pass and return it small, upright and on white, in CIE Lab (D50).

    Args:
        image: As it lies in the file, not decoded yet.
        size: The shown width and height to shrink to.
        profile: What its colours mean if it has no profile of its own; sRGB if that is unknown, too.

    Returns:
        Height x width x 3.

    Raises:
        InvalidInputError: It is damaged.
        TransientError: Memory ran out.
    """
    width, height = size if shown_size(image) == (image.width, image.height) else size[::-1]
    # to_eight_bits may have turned CMYK into sRGB; the profile on what it returns is the right one.
    flat = without_alpha(to_eight_bits(image))
    try:
        small = flat.resize(width / flat.width, vscale=height / flat.height, kernel="linear")
        small = small.copy_memory().autorot()
    except pyvips.Error as error:
        raise unreadable(error) from error
    return _lab(small, profile)


def compare(source: Plane, result: Plane) -> Likeness:
    """Measure how like two pictures of the same size in Lab are."""
    if _deviation(result) < BLANK_DEVIATION:
        # A source that is nearly of one colour has a right to a result that is a little nearer.
        blank = _deviation(source) >= 2 * BLANK_DEVIATION
        return Likeness(ssim(source, result), delta_e(source, result), 0, 0, 0, blank)
    black = _black_cells(source[..., 0], result[..., 0])
    strange = _strange_cells(source, result) & ~_grown(black)
    areas = _areas(strange)
    repeated = _count_repeated(source[..., 0], result[..., 0], areas)
    return Likeness(
        ssim(source, result),
        delta_e(source, result),
        black_tiles=len(_areas(black, smallest=1)),
        repeated_tiles=repeated,
        strange_tiles=len(areas) - repeated,
        blank=False,
    )


def doubts_of(likeness: Likeness, limits: Mapping[str, float]) -> tuple[str, ...]:
    """Say what goes beyond the limits (`ports.QualityLimits` as a mapping), a sentence each."""
    if likeness.blank:
        return ("The result is blank: it shows one colour only.",)
    doubts = []
    if likeness.ssim < limits["min_ssim"]:
        what = (
            "The result seems to show another picture"
            if likeness.ssim < ANOTHER_PICTURE
            else "The result differs from the original"
        )
        doubts.append(
            f"{what} (similarity {likeness.ssim:.2f}; at least {limits['min_ssim']:.2f} is expected)."
        )
    if likeness.delta_e > limits["max_delta_e"]:
        doubts.append(
            f"The colours differ from the original (ΔE {likeness.delta_e:.1f}; "
            f"{limits['max_delta_e']:.1f} is allowed)."
        )
    if likeness.black_tiles > limits["max_black_tiles"]:
        doubts.append(f"{_places(likeness.black_tiles)} black where the original is not.")
    if likeness.ssim < ANOTHER_PICTURE:
        return tuple(doubts)
    most = limits["max_repeated_tiles"]
    if likeness.repeated_tiles > most:
        count = likeness.repeated_tiles
        doubts.append(f"{_places(count)} filled with another part of the picture.")
    elif likeness.repeated_tiles + likeness.strange_tiles > most:
        count = likeness.repeated_tiles + likeness.strange_tiles
        doubts.append(f"{_places(count)} unlike the original.")
    return tuple(doubts)


def ssim(source: Plane, result: Plane) -> float:
    """Return the mean structural similarity of the lightness of two pictures in Lab.

    Wang, Bovik, Sheikh, Simoncelli: "Image quality assessment: from error visibility to structural
    similarity", IEEE Transactions on Image Processing 13(4), 2004: Gaussian window of 11 x 11 and
    sigma 1.5, K1 0.01, K2 0.03; shrunk first as their program advises. Two flat pictures of the same
    lightness have 1.
    """
    factor = max(1, round(min(source.shape[:2]) / _SSIM_EDGE))
    first, second = _cells(source[..., 0], factor), _cells(result[..., 0], factor)
    mean1, mean2 = _blurred(first), _blurred(second)
    variances = _blurred(first**2) - mean1**2 + _blurred(second**2) - mean2**2
    covariance = _blurred(first * second) - mean1 * mean2
    luminance = (2 * mean1 * mean2 + _C1) / (mean1**2 + mean2**2 + _C1)
    structure = (2 * covariance + _C2) / (variances + _C2)
    return float(np.mean(luminance * structure))


def delta_e(source: Plane, result: Plane) -> float:
    """Return the mean ΔE (CIE 1976) between the mean colours of blocks of 8 x 8 pixels.

    Blocks, since grain and sharpened edges are no shift of colour.
    """
    difference = _cells(source, _COLOUR_BLOCK) - _cells(result, _COLOUR_BLOCK)
    return float(np.mean(np.linalg.norm(difference, axis=-1)))


def _lab(image: pyvips.Image, profile: bytes | None) -> Plane:
    own = profile_of(image)
    if own is None and profile is not None and profile_fits(profile, image):
        image = image.copy()
        image.set_type(pyvips.GValue.blob_type, PROFILE, profile)
        own = profile
    options: dict[str, Any] = {"pcs": "lab", "intent": "relative"}
    if own is not None:
        try:
            return _pixels(image.icc_import(embedded=True, **options))
        except pyvips.Error:
            # A profile that nobody can read is as good as none.
            own = None
    try:
        return _pixels(image.colourspace("srgb").icc_import(input_profile="srgb", **options))
    except pyvips.Error as error:
        raise unreadable(error) from error


def _pixels(image: pyvips.Image) -> Plane:
    return np.asarray(image.numpy(), dtype=np.float32)


def _deviation(lab: Plane) -> float:
    return float(lab.std(axis=(0, 1)).max())


def _cells(plane: Plane, edge: int, *, how: Any = np.mean) -> Plane:  # noqa: ANN401 - a numpy reduction
    """Return one value per square of `edge` pixels; the last ones are filled up from the border."""
    if edge == 1:
        return plane
    high, wide = (-size % edge for size in plane.shape[:2])
    padded = np.pad(plane, ((0, high), (0, wide), *((0, 0),) * (plane.ndim - 2)), mode="edge")
    rows, columns = padded.shape[0] // edge, padded.shape[1] // edge
    squares = padded.reshape(rows, edge, columns, edge, *plane.shape[2:])
    return np.asarray(how(squares, axis=(1, 3)), dtype=np.float32)


def _blurred(plane: Plane, sigma: float = _SIGMA) -> Plane:
    """Return the plane under a Gaussian window of 11 x 11 pixels."""
    steps = np.arange(-_REACH, _REACH + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    for axis in (0, 1):
        size = plane.shape[axis]
        reach = [(_REACH, _REACH) if axis == other else (0, 0) for other in (0, 1)]
        padded = np.pad(plane, reach, mode="edge")
        plane = sum(  # type: ignore[assignment]
            np.float32(weight) * padded.take(range(start, start + size), axis=axis)
            for start, weight in enumerate(weights)
        )
    return plane


def _black_cells(source: Plane, result: Plane) -> Mask:
    black = _cells(result, _CELL, how=np.max) <= _BLACK
    return np.asarray(black & (_cells(source, _CELL, how=np.min) >= _NOT_BLACK))


def _strange_cells(source: Plane, result: Plane) -> Mask:
    """Tell where the result has another structure or quite another colour than the source.

    Structure is SSIM's, over windows of 2 x 2 cells of the blurred lightness, so that grain that was
    cleaned away is not missed.
    """
    first, second = _blurred(source[..., 0], 1.0), _blurred(result[..., 0], 1.0)
    mean1, mean2 = _windows(first), _windows(second)
    variance1 = _windows(first**2) - mean1**2
    variance2 = _windows(second**2) - mean2**2
    covariance = _windows(first * second) - mean1 * mean2
    structure = (2 * covariance + _C2) / (variance1 + variance2 + _C2)
    visible = np.maximum(variance1, variance2) > _STRUCTURE**2
    recoloured = np.linalg.norm(_windows(source - result), axis=-1) > _STRANGE_COLOUR
    return np.asarray((visible & (structure < _STRANGE_STRUCTURE)) | recoloured)


def _windows(plane: Plane) -> Plane:
    cells = _cells(plane, _CELL)
    cells = np.pad(cells, ((0, 1), (0, 1), *((0, 0),) * (plane.ndim - 2)), mode="edge")
    total = cells[:-1, :-1] + cells[1:, :-1] + cells[:-1, 1:] + cells[1:, 1:]
    return np.asarray(total / 4, dtype=np.float32)


def _grown(mask: Mask) -> Mask:
    """Return the mask with its neighbours."""
    reach = 2
    padded = np.pad(mask, reach)
    rows, columns = mask.shape
    offsets = range(2 * reach + 1)
    shifted = [padded[y : y + rows, x : x + columns] for y in offsets for x in offsets]
    return np.asarray(np.logical_or.reduce(shifted), dtype=np.bool_)


def _areas(mask: Mask, smallest: int = _SMALLEST_AREA) -> list[npt.NDArray[np.intp]]:
    """Return the cells (row, column) of each connected area, the largest area first."""
    if not mask.any():
        return []
    labels = pyvips.Image.new_from_array(mask.astype(np.uint8)).labelregions().numpy()
    labels = labels.reshape(mask.shape)  # of a single cell pyvips makes a bare number
    numbers, counts = np.unique(labels[mask], return_counts=True)
    large = sorted(zip(counts, numbers, strict=True), reverse=True)
    return [np.argwhere(labels == number) for count, number in large if count >= smallest]


def _count_repeated(source: Plane, result: Plane, areas: list[npt.NDArray[np.intp]]) -> int:
    """Tell how many of the largest areas show what the source shows elsewhere."""
    if min(source.shape) <= _PATCH:
        return 0
    return sum(_is_elsewhere(source, result, area) for area in areas[:_PATCHES_SOUGHT])


def _is_elsewhere(source: Plane, result: Plane, area: npt.NDArray[np.intp]) -> bool:
    middle = area[np.abs(area - area.mean(axis=0)).sum(axis=1).argmin()]
    top, left = (
        int(np.clip(cell * _CELL + _CELL // 2 - _PATCH // 2, 0, size - _PATCH))
        for cell, size in zip(middle, result.shape, strict=True)
    )
    patch = result[top : top + _PATCH, left : left + _PATCH]
    if patch.std() < _STRUCTURE:
        return False
    reference = pyvips.Image.new_from_array(np.ascontiguousarray(patch))
    likeness = pyvips.Image.new_from_array(np.ascontiguousarray(source)).spcor(reference)
    here = likeness(left + _PATCH // 2, top + _PATCH // 2)[0]
    return bool(here < _OTHER_PATCH and likeness.max() >= _SAME_PATCH)


def _places(count: int) -> str:
    return "1 area is" if count == 1 else f"{count} areas are"

"""Measure the check of results: what it catches, what it holds for nothing, and what it costs.

    python tests/benchmarks/bench_quality.py defects memory

`defects` plants each kind of defect into Lanczos enlargements (4x) of all samples, tiles at four
places each, and prints how many are doubted; then the same for honest results, by Lanczos and by the
embedded network, from clean, compressed and grainy sources. `memory` checks a result of 16,000 x
12,000, as JPEG and as PNG, in a child, with and without limits; peak memory is the child's
(RUSAGE_CHILDREN, the highest so far).
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyvips

from smi_desktop.adapters.image_reader import ProcessImageReader
from smi_desktop.imaging import quality
from smi_desktop.imaging.client import upscale
from smi_desktop.services.ports import QualityLimits

Pixels = npt.NDArray[np.uint8]
Named = Iterator[tuple[str, pyvips.Image]]

SAMPLES = Path(__file__).resolve().parents[2] / "resources" / "samples"
FACTOR, TILE, PLACES = 4, 128, 4
PART = 160
LARGE_WIDTH, LARGE_HEIGHT, LARGE_FACTOR = 2000, 1500, 8
LIMITS = QualityLimits()


def photographs() -> list[Path]:
    """Return the sample pictures."""
    return sorted(path for path in SAMPLES.iterdir() if path.suffix in {".png", ".jpg"})


def opened(path: Path) -> pyvips.Image:
    """Open a picture that may be read more than once."""
    return pyvips.Image.new_from_file(str(path))


def like(pixels: Any, model: pyvips.Image) -> pyvips.Image:
    """Make a picture of pixels, with the interpretation and profile of another."""
    image = pyvips.Image.new_from_array(np.ascontiguousarray(pixels.astype(np.uint8)))
    image = image.copy(interpretation=model.interpretation)
    if "icc-profile-data" in model.get_fields():
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", model.get("icc-profile-data"))
    return image


def doubts(source: pyvips.Image, result: pyvips.Image) -> tuple[str, ...]:
    """Judge a result that is in memory."""
    size = quality.compared_size(source, result)
    likeness = quality.compare(quality.shrunk_lab(source, size), quality.shrunk_lab(result, size))
    return quality.doubts_of(likeness, asdict(LIMITS))


def tiles(good: Pixels, random: np.random.Generator) -> Iterator[tuple[str, Pixels]]:
    """Spoil one tile, in the four ways in which tiles go wrong."""
    rows, columns = good.shape[0] // TILE, good.shape[1] // TILE
    here, there = random.choice(rows * columns, 2, replace=False)
    top, left = here // columns * TILE, here % columns * TILE
    other_top, other_left = there // columns * TILE, there % columns * TILE
    place = slice(top, top + TILE), slice(left, left + TILE)
    contents: dict[str, Any] = {
        "black tile": 0,
        "grey tile": 128,
        "repeated tile": good[other_top : other_top + TILE, other_left : other_left + TILE],
        "tile shifted by 24": np.roll(good, (24, 24), (0, 1))[place],
    }
    for name, content in contents.items():
        spoiled = good.copy()
        spoiled[place] = content
        yield name, spoiled


def whole(good: Pixels) -> Iterator[tuple[str, Any]]:
    """Spoil the whole picture."""
    height = good.shape[0]
    yield "black", np.zeros_like(good)
    yield "one grey", np.full_like(good, 90)
    yield "mirrored", good[:, ::-1]
    yield "upside down", good[::-1]
    for share in (2, 4):
        grey = good.copy()
        grey[height - height // share :] = 128
        yield f"grey bottom (1/{share})", grey
    for exponent in (1.3, 1 / 1.3, 2.2, 1 / 2.2):
        yield f"gamma {exponent:.2f}", np.round(255 * (good / 255) ** exponent)
    colours = 3
    if good.shape[2] == colours:
        yield "red and blue swapped", good[..., ::-1]
        yield "green and blue swapped", good[..., [0, 2, 1]]
        yield "tint of 15 %", (good * [1.15, 1, 0.85]).clip(0, 255)
        yield "tint of 7 %", (good * [1.07, 1, 0.93]).clip(0, 255)
        yield "no colour", good.mean(2, keepdims=True).repeat(colours, 2)


def planted(path: Path) -> Named:
    """Return every spoiled enlargement of one sample."""
    source = opened(path)
    image = source.resize(FACTOR, kernel="lanczos3").copy_memory()
    good = image.numpy().reshape(image.height, image.width, image.bands)
    random = np.random.default_rng(1)
    for _ in range(PLACES):
        for name, pixels in tiles(good, random):
            yield name, like(pixels, source)
    for name, pixels in whole(good):
        yield name, like(pixels, source)
    for other in photographs():
        if other != path:
            wrong = opened(other).thumbnail_image(image.width, height=image.height, size="force")
            yield "another picture", wrong


def honest(path: Path) -> Named:
    """Return what a fair enlargement may look like."""
    image = opened(path).resize(FACTOR, kernel="lanczos3").copy_memory()
    yield "Lanczos", image
    yield "bicubic 8x", opened(path).resize(8, kernel="cubic")
    for grade in (85, 60):
        jpeg = image.jpegsave_buffer(Q=grade)
        yield f"Lanczos, JPEG {grade}", pyvips.Image.jpegload_buffer(jpeg)
    yield (
        "Lanczos, sharpened",
        image.sharpen(sigma=2, m2=3).copy(interpretation=image.interpretation),
    )
    yield "Lanczos, median of 5", image.median(5)


def embedded(path: Path, folder: Path) -> Iterator[tuple[str, pyvips.Image, pyvips.Image]]:
    """Enlarge a part of a sample with the network: clean, compressed, grainy."""
    picture = opened(path)
    part = picture.crop((picture.width - PART) // 2, (picture.height - PART) // 2, PART, PART)
    for name, sigma, suffix, options in (
        ("embedded, clean", 0, "png", {}),
        ("embedded, JPEG 70", 0, "jpg", {"Q": 70}),
        ("embedded, grain 8", 8, "png", {}),
        ("embedded, grain 16, JPEG 90", 16, "jpg", {"Q": 90}),
    ):
        grain = pyvips.Image.gaussnoise(PART, PART, sigma=sigma, mean=0, seed=3)
        source, result = folder / f"source.{suffix}", folder / "result.png"
        grainy = (part + grain).rint().cast("uchar").copy(interpretation=part.interpretation)
        grainy.write_to_file(str(source), **options)
        upscale(
            source,
            result,
            factor=FACTOR,
            work_dir=folder,
            on_progress=lambda _share: None,
            cancelled=lambda: False,
            seconds=600,
        )
        yield name, opened(source), opened(result)


def measure_defects(folder: Path) -> None:
    """Print how many results of each kind are doubted."""
    caught: dict[str, list[bool]] = {}
    held: dict[str, list[bool]] = {}
    for path in photographs():
        for name, result in planted(path):
            caught.setdefault(name, []).append(bool(doubts(opened(path), result)))
        for name, result in honest(path):
            held.setdefault(name, []).append(bool(doubts(opened(path), result)))
        for name, source, result in embedded(path, folder):
            held.setdefault(name, []).append(bool(doubts(source, result)))
    for title, counts in (("planted defects doubted", caught), ("honest results held", held)):
        print(title)
        for name, found in counts.items():
            print(f"  {name:30} {sum(found):3} of {len(found)}")
        everything = [one for found in counts.values() for one in found]
        print(f"  {'all':30} {sum(everything):3} of {len(everything)}")


def measure_memory(folder: Path) -> None:
    """Print seconds and the child's peak memory for a result of 192 megapixels."""
    source = folder / "source.jpg"
    photograph = opened(photographs()[-1])
    photograph.thumbnail_image(LARGE_WIDTH, height=LARGE_HEIGHT, size="force").jpegsave(
        str(source), Q=92
    )
    large = opened(source).resize(LARGE_FACTOR, kernel="lanczos3")
    for suffix, form in (("jpg", "jpeg"), ("png", "png")):
        result = folder / f"result.{suffix}"
        large.write_to_file(str(result))
        for limits in (None, LIMITS):
            reader = ProcessImageReader(folder)
            started = time.monotonic()
            facts = reader.finish_result(
                result,
                source,
                folder / f"out.{suffix}",
                width=large.width,
                height=large.height,
                format=form,
                jpeg_quality=92,
                limits=limits,
            )
            wall = time.monotonic() - started
            reader.close()
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
            print(
                f"{large.width} x {large.height} {suffix}, limits {'on' if limits else 'off':3}: "
                f"{wall:.1f} s, peak {peak:.0f} MiB (highest so far), "
                f"{dict(facts.figures)} {facts.doubts}"
            )


def main() -> None:
    """Run the parts that were named."""
    # The same names are written again and again: libvips must not remember what was in them.
    pyvips.cache_set_max(0)
    parts = {"defects": measure_defects, "memory": measure_memory}
    with tempfile.TemporaryDirectory() as name:
        for part in sys.argv[1:] or ["defects"]:
            parts[part](Path(name))


if __name__ == "__main__":
    main()

"""Measure the embedded upscaler: speed, likeness to the original, and memory at 192 megapixels.

    python tests/benchmarks/bench_upscaler.py speed quality memory

Without an argument it does `speed` and `quality`. `memory` makes a 16,000 x 12,000 picture, as JPEG
and as PNG, and takes some minutes. Processor time and peak memory are those of the child
(RUSAGE_CHILDREN), encoding included.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyvips

from smi_desktop.imaging.client import upscale

SAMPLES = Path(__file__).resolve().parents[2] / "resources" / "samples"
SHRINK = 4
LARGE_WIDTH, LARGE_HEIGHT, LARGE_FACTOR = 2000, 1500, 8
MEGA = 1e6


def photographs() -> list[Path]:
    """Return the sample pictures."""
    return sorted(path for path in SAMPLES.iterdir() if path.suffix in {".png", ".jpg"})


def enlarge(source: Path, destination: Path, factor: int) -> tuple[float, float]:
    """Upscale in a child; return its wall seconds and processor seconds."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    upscale(
        source,
        destination,
        factor=factor,
        work_dir=destination.parent,
        on_progress=lambda _share: None,
        cancelled=lambda: False,
        seconds=3600,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - started, used


def rgb(path: Path) -> pyvips.Image:
    """Read a picture as upright 8-bit RGB."""
    image = pyvips.Image.new_from_file(str(path)).autorot().colourspace("srgb")
    return image.flatten() if image.hasalpha() else image


def psnr(reference: pyvips.Image, image: pyvips.Image) -> float:
    """Return the peak signal-to-noise ratio in dB over all channels."""
    error = np.mean((reference.numpy().astype(float) - image.numpy()) ** 2)
    return float(10 * np.log10(255**2 / error))


def measure_speed(folder: Path) -> None:
    """Print seconds per megapixel of the result for each factor."""
    source = max(photographs(), key=lambda path: rgb(path).width)
    for factor in (4, 8):
        result = folder / f"speed-{factor}.png"
        wall, used = enlarge(source, result, factor)
        image = pyvips.Image.new_from_file(str(result))
        pixels = image.width * image.height / MEGA
        print(
            f"speed   {source.name} {factor}x = {pixels:.1f} MP: {wall:.1f} s, "
            f"{used / pixels:.2f} CPU-s/MP, {wall / pixels:.2f} s/MP"
        )


def measure_quality(folder: Path) -> None:
    """Print PSNR against the original after shrinking it by area, for clean and JPEG sources."""
    totals: dict[str, list[tuple[float, float]]] = {"png": [], "jpg": []}
    for path in photographs():
        image = rgb(path)
        original = image.crop(0, 0, image.width // SHRINK * SHRINK, image.height // SHRINK * SHRINK)
        small = original.shrink(SHRINK, SHRINK).rint().cast("uchar").copy(interpretation="srgb")
        for suffix, options in (("png", {}), ("jpg", {"Q": 75})):
            source = folder / f"small.{suffix}"
            small.write_to_file(str(source), **options)
            result = folder / "result.png"
            enlarge(source, result, SHRINK)
            lanczos = rgb(source).resize(SHRINK, kernel="lanczos3")
            ours, theirs = psnr(original, rgb(result)), psnr(original, lanczos)
            totals[suffix].append((ours, theirs))
            print(f"quality {path.name} as {suffix}: {ours:.2f} dB, Lanczos {theirs:.2f} dB")
    for suffix, values in totals.items():
        ours, theirs = np.mean(values, axis=0)
        print(
            f"quality mean as {suffix}: {ours:.2f} dB, Lanczos {theirs:.2f} dB, "
            f"gain {ours - theirs:+.2f} dB"
        )


def measure_memory(folder: Path) -> None:
    """Print the child's peak resident memory for a result of 192 megapixels, as PNG and as JPEG."""
    photograph = rgb(photographs()[-1])
    source = folder / "large.jpg"
    photograph.thumbnail_image(LARGE_WIDTH, height=LARGE_HEIGHT, size="force").jpegsave(
        str(source), Q=92
    )
    for suffix in ("jpg", "png"):
        result = folder / f"large-result.{suffix}"
        wall, used = enlarge(source, result, LARGE_FACTOR)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        image = pyvips.Image.new_from_file(str(result))
        megabytes = result.stat().st_size / MEGA
        print(
            f"memory  {image.width} x {image.height} {suffix}: "
            f"peak {peak:.0f} MiB (highest so far), {wall:.0f} s, {used:.0f} CPU-s, "
            f"file {megabytes:.0f} MB"
        )


def main() -> None:
    """Run the parts that were named."""
    # The same names are written again and again: libvips must not remember what was in them.
    pyvips.cache_set_max(0)
    parts = {"speed": measure_speed, "quality": measure_quality, "memory": measure_memory}
    with tempfile.TemporaryDirectory() as name:
        for part in sys.argv[1:] or ["speed", "quality"]:
            parts[part](Path(name))


if __name__ == "__main__":
    main()

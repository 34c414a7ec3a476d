"""The network in tiles, and what becomes of each kind of source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import pyvips
from hypothesis import given, settings
from hypothesis import strategies as st

from smi_desktop.domain.errors import BadResultError
from smi_desktop.imaging.network import Denoise, Doubler, Pixels
from smi_desktop.imaging.upscaling import upscale
from tests.unit.imaging.pictures import paint, with_exif

PROFILE = "icc-profile-data"
MEGA = 1_000_000


def enlarge(source: Path, destination: Path, factor: int, tile: int = 128) -> pyvips.Image:
    scratch = destination.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    shares: list[float] = []
    upscale(
        source,
        destination,
        factor=factor,
        scratch=scratch,
        on_share=shares.append,
        max_pixels=MEGA,
        tile=tile,
    )
    assert shares == sorted(shares)
    assert 0.0 < shares[0] <= shares[-1] == 1.0
    assert list(scratch.iterdir()) == []
    return pyvips.Image.new_from_file(str(destination))


def saved(image: pyvips.Image, path: Path, **options: object) -> Path:
    image.write_to_file(str(path), **options)
    return path


def doubled(pixels: Pixels, tile: int, threads: int = 2) -> Pixels:
    target = np.empty((pixels.shape[0] * 2, pixels.shape[1] * 2, 3), np.uint8)
    Doubler(Denoise.NONE, tile=tile, threads=threads).double(pixels, target, lambda _share: None)
    return target


def likeness(image: pyvips.Image, reference: pyvips.Image) -> float:
    """Return the mean difference per sample, of 255."""
    return float(np.abs(image.numpy().astype(int) - reference.numpy()).mean())


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    tile=st.integers(4, 45),
    seed=st.integers(0, 2**32 - 1),
)
def test_tiles_give_what_the_whole_gives(height: int, width: int, tile: int, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)

    whole = doubled(noise, tile=64)
    tiled = doubled(noise, tile=tile)

    assert np.abs(whole.astype(int) - tiled).max() <= 1


def test_two_runs_give_the_same_pixels(tmp_path: Path) -> None:
    source = saved(paint(70, 50), tmp_path / "source.jpg")

    first = enlarge(source, tmp_path / "first.png", 4, tile=16)
    second = enlarge(source, tmp_path / "second.png", 4, tile=16)

    assert np.array_equal(first.numpy(), second.numpy())


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_each_source_has_its_exact_size(
    tmp_path: Path, suffix: str, bands: int, factor: int
) -> None:
    if suffix == "jpg" and bands in {2, 4}:
        bands -= 1
    source = saved(paint(21, 13, bands), tmp_path / f"source.{suffix}", Q=95)

    result = enlarge(source, tmp_path / "result.png", factor)

    assert (result.width, result.height) == (21 * factor, 13 * factor)
    opened = pyvips.Image.new_from_file(str(source))
    assert result.bands == opened.bands
    smooth = opened.resize(factor, kernel="lanczos3")
    assert likeness(result, smooth) < 5


@pytest.mark.parametrize("name", ["result.jpg", "result.JPEG"])
def test_the_suffix_asks_for_a_jpeg(tmp_path: Path, photograph: Path, name: str) -> None:
    enlarge(photograph, tmp_path / name, 4)

    assert (tmp_path / name).read_bytes().startswith(b"\xff\xd8\xff")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_result_is_upright_whatever_the_orientation(tmp_path: Path, orientation: int) -> None:
    source = saved(with_exif(paint(20, 12), orientation), tmp_path / "source.jpg", Q=98)

    result = enlarge(source, tmp_path / "result.png", 4)

    upright = pyvips.Image.new_from_file(str(source)).autorot()
    assert (result.width, result.height) == (upright.width * 4, upright.height * 4)
    assert likeness(result, upright.resize(4, kernel="lanczos3")) < 5
    assert result.get("orientation") == 1


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_profile_and_author_are_kept_and_the_place_is_not(tmp_path: Path, suffix: str) -> None:
    source = saved(with_exif(paint()), tmp_path / "source.jpg", profile="p3")

    result = enlarge(source, tmp_path / f"result.{suffix}", 4)

    assert result.get(PROFILE) == pyvips.Image.new_from_file(str(source)).get(PROFILE)
    assert result.get("exif-ifd0-Copyright").startswith("A Studio")
    assert b"GPS" not in (tmp_path / f"result.{suffix}").read_bytes()


def test_cmyk_becomes_srgb(tmp_path: Path) -> None:
    inks = paint(24, 16).icc_transform("cmyk", input_profile="srgb")
    source = saved(inks, tmp_path / "source.jpg", Q=98)
    assert pyvips.Image.new_from_file(str(source)).interpretation == "cmyk"

    result = enlarge(source, tmp_path / "result.png", 4)

    assert (result.width, result.height, result.bands) == (96, 64, 3)
    assert result.get(PROFILE)[16:20] == b"RGB "
    assert likeness(result, inks.icc_transform("srgb").resize(4, kernel="lanczos3")) < 6


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    deep = (paint(24, 16).cast("ushort") * 257).cast("ushort").copy(interpretation="rgb16")
    source = saved(deep, tmp_path / "source.png")

    result = enlarge(source, tmp_path / "result.png", 4)

    assert result.format == "uchar"
    assert likeness(result, paint(24, 16).resize(4, kernel="lanczos3")) < 5


def test_hidden_colours_do_not_bleed_into_visible_ones(tmp_path: Path) -> None:
    half = (pyvips.Image.black(16, 24) + 1).cast("uchar")
    visible = half.join(pyvips.Image.black(16, 24), "horizontal")
    red_on_black = (visible * [255, 0, 0]).bandjoin(visible * 255).cast("uchar")
    source = saved(red_on_black.copy(interpretation="srgb"), tmp_path / "source.png")

    result = enlarge(source, tmp_path / "result.png", 4)

    reds = result.numpy()[:, :64, 0]
    assert reds.min() > 245
    assert result(10, 10)[3] == 255
    assert result(120, 10)[3] == 0


def test_transparency_becomes_white_in_a_jpeg(tmp_path: Path) -> None:
    clear = paint(24, 16).bandjoin(0).cast("uchar")
    source = saved(clear, tmp_path / "source.png")

    result = enlarge(source, tmp_path / "result.jpg", 4)

    assert result(30, 30) == [255, 255, 255]


@pytest.mark.parametrize("content", [b"<html></html>", b"\xff\xd8\xff\xe0 no more"])
def test_a_source_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "source.jpg"
    source.write_bytes(content)

    with pytest.raises(BadResultError):
        enlarge(source, tmp_path / "result.png", 4)


def test_a_result_beyond_the_cap_is_refused(tmp_path: Path) -> None:
    source = saved(paint(200, 200), tmp_path / "source.png")

    with pytest.raises(BadResultError, match="200 x 200"):
        enlarge(source, tmp_path / "result.png", 8)

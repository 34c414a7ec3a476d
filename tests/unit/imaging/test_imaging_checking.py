"""What a result must be before it is delivered, and what is done to it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips

from smi_desktop.domain.errors import BadResultError
from smi_desktop.imaging.checking import finish_result
from smi_desktop.imaging.preview import make_preview
from tests.unit.imaging.pictures import paint, with_exif

PROFILE = "icc-profile-data"
MEGA = 1_000_000
LIMITS = {"min_ssim": 0.7, "max_delta_e": 3.0, "max_black_tiles": 0, "max_repeated_tiles": 0}


def finish(result: Path, source: Path, destination: Path, **changed: Any) -> Any:
    wanted: dict[str, Any] = {
        "width": 96,
        "height": 64,
        "format": "png",
        "jpeg_quality": 90,
    } | changed
    return finish_result(result, source, destination, **wanted)


def saved(image: pyvips.Image, path: Path, **options: Any) -> Path:
    image.write_to_file(str(path), **options)
    return path


def opened(path: Path) -> pyvips.Image:
    return pyvips.Image.new_from_file(str(path))


def test_a_good_result_of_the_right_type_is_passed_on_byte_for_byte(
    tmp_path: Path, photograph: Path
) -> None:
    result = saved(paint(96, 64), tmp_path / "result.jpg")

    facts = finish(result, photograph, tmp_path / "out.jpg", format="jpeg")

    assert (tmp_path / "out.jpg").read_bytes() == result.read_bytes()
    assert facts["sha256"] == hashlib.sha256(result.read_bytes()).hexdigest()
    assert (facts["width"], facts["height"], facts["format"]) == (96, 64, "jpeg")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("wanted", ["jpeg", "png"])
def test_the_result_is_brought_to_the_ordered_type(
    tmp_path: Path, photograph: Path, suffix: str, wanted: str
) -> None:
    result = saved(paint(96, 64), tmp_path / f"result.{suffix}")

    facts = finish(result, photograph, tmp_path / "out", format=wanted)

    assert facts["format"] == wanted
    difference = np.abs(opened(tmp_path / "out").numpy().astype(int) - opened(result).numpy())
    assert difference.mean() < 3


@pytest.mark.parametrize("size", [(95, 64), (96, 65), (64, 96), (1, 1), (48, 32)])
def test_a_result_of_another_size_is_refused(
    tmp_path: Path, photograph: Path, size: tuple[int, int]
) -> None:
    result = saved(paint(*size), tmp_path / "result.png")

    with pytest.raises(BadResultError, match="instead of 96 x 64"):
        finish(result, photograph, tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("value", [0, 127, 255])
def test_a_blank_result_is_doubted(tmp_path: Path, photograph: Path, value: int) -> None:
    blank = (pyvips.Image.black(96, 64, bands=3) + value).cast("uchar").copy(interpretation="srgb")
    result = saved(blank, tmp_path / "result.png")

    facts = finish(result, photograph, tmp_path / "out.png", limits=LIMITS)

    assert any("blank" in doubt for doubt in facts["doubts"])
    assert (tmp_path / "out.png").exists()


def test_a_picture_of_one_colour_may_have_a_result_of_one_colour(tmp_path: Path) -> None:
    flat = (pyvips.Image.black(48, 32, bands=3) + 90).cast("uchar").copy(interpretation="srgb")
    source = saved(flat, tmp_path / "source.png")
    result = saved(flat.resize(2), tmp_path / "result.png")

    assert finish(result, source, tmp_path / "out.png")["width"] == 96


@pytest.mark.parametrize("content", [b"<html>gone</html>", b"", b"\x89PNG\r\n\x1a\n"])
def test_a_result_that_is_no_picture_is_refused(
    tmp_path: Path, photograph: Path, content: bytes
) -> None:
    result = tmp_path / "result.png"
    result.write_bytes(content)

    with pytest.raises(BadResultError, match="cannot be used"):
        finish(result, photograph, tmp_path / "out.png")


def test_a_truncated_result_is_refused_and_leaves_nothing(tmp_path: Path, photograph: Path) -> None:
    content = bytes(paint(96, 64).pngsave_buffer())
    result = tmp_path / "result.png"
    result.write_bytes(content[: len(content) * 2 // 3])

    with pytest.raises(BadResultError):
        finish(result, photograph, tmp_path / "out.png")
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("wanted", ["jpeg", "png"])
def test_the_sources_profile_and_author_travel_with_the_result(tmp_path: Path, wanted: str) -> None:
    source = saved(with_exif(paint()), tmp_path / "source.jpg", profile="p3")
    result = saved(paint(96, 64), tmp_path / f"result.{wanted}")

    finish(result, source, tmp_path / "out", format=wanted)

    delivered = opened(tmp_path / "out")
    assert delivered.get(PROFILE) == opened(source).get(PROFILE)
    assert delivered.get("exif-ifd0-Copyright").startswith("A Studio")


def test_the_results_own_profile_stays(tmp_path: Path) -> None:
    source = saved(paint(), tmp_path / "source.jpg", profile="p3")
    result = saved(paint(96, 64), tmp_path / "result.png", profile="srgb")

    finish(result, source, tmp_path / "out.jpg", format="jpeg")

    assert opened(tmp_path / "out.jpg").get(PROFILE) == opened(result).get(PROFILE)


def test_a_profile_of_another_colour_space_is_not_carried_over(tmp_path: Path) -> None:
    source = saved(paint(), tmp_path / "source.jpg", profile="p3")
    result = saved(paint(96, 64, bands=1), tmp_path / "result.png")

    finish(result, source, tmp_path / "out.png")

    assert PROFILE not in opened(tmp_path / "out.png").get_fields()


@pytest.mark.parametrize("wanted", ["jpeg", "png"])
def test_the_place_and_the_thumbnail_never_reach_the_customer(tmp_path: Path, wanted: str) -> None:
    source = saved(with_exif(paint()), tmp_path / "source.jpg")
    leaky = with_exif(paint(96, 64))
    thumbnail = bytes(paint(16, 10).jpegsave_buffer())
    leaky.set_type(pyvips.GValue.blob_type, "jpeg-thumbnail-data", thumbnail)
    leaky.set_type(pyvips.GValue.blob_type, "xmp-data", b"<x:xmpmeta exif:GPSLatitude='52'/>")
    result = saved(leaky, tmp_path / f"result.{wanted}")
    assert "exif-ifd3-GPSLatitude" in opened(result).get_fields()

    finish(result, source, tmp_path / "out", format=wanted)

    fields = opened(tmp_path / "out").get_fields()
    assert not [name for name in fields if name.startswith(("exif-ifd3", "exif-ifd1"))]
    assert "xmp-data" not in fields
    assert "jpeg-thumbnail-data" not in fields
    assert b"GPS" not in (tmp_path / "out").read_bytes()
    assert opened(tmp_path / "out").get("exif-ifd0-Copyright").startswith("A Studio")


@pytest.mark.parametrize("wanted", ["jpeg", "png"])
def test_a_result_that_lies_on_its_side_is_turned_upright(
    tmp_path: Path, photograph: Path, wanted: str
) -> None:
    upright = paint(96, 64)
    result = saved(with_exif(upright.rot270(), 6), tmp_path / "result.jpg", Q=100)

    facts = finish(result, photograph, tmp_path / "out", format=wanted, jpeg_quality=100)

    delivered = opened(tmp_path / "out")
    assert (facts["width"], facts["height"]) == (delivered.width, delivered.height) == (96, 64)
    assert delivered.get("orientation") == 1
    assert np.abs(delivered.numpy().astype(int) - upright.numpy()).mean() < 3


@pytest.mark.parametrize("wanted", ["jpeg", "png"])
def test_the_orientation_of_the_source_does_not_turn_an_upright_result(
    tmp_path: Path, wanted: str
) -> None:
    source = saved(with_exif(paint(32, 48), 6), tmp_path / "source.jpg")
    result = saved(paint(96, 64), tmp_path / f"result.{wanted}")

    facts = finish(result, source, tmp_path / "out", format=wanted)

    assert (facts["width"], facts["height"]) == (96, 64)
    delivered = opened(tmp_path / "out")
    assert delivered.get("orientation") == 1
    assert delivered.get("exif-ifd0-Copyright").startswith("A Studio")
    assert delivered.get("exif-ifd2-PixelXDimension").startswith("96")


def test_transparency_becomes_white_in_a_jpeg(tmp_path: Path, photograph: Path) -> None:
    alpha = (pyvips.Image.black(48, 64) + 255).join(pyvips.Image.black(48, 64), "horizontal")
    result = saved(paint(96, 64).bandjoin(alpha.cast("uchar")), tmp_path / "result.png")

    finish(result, photograph, tmp_path / "out.jpg", format="jpeg")

    assert opened(tmp_path / "out.jpg")(90, 10) == [255, 255, 255]


def test_a_jpeg_keeps_its_colours_at_full_resolution(tmp_path: Path, photograph: Path) -> None:
    result = saved(paint(96, 64), tmp_path / "result.png")

    finish(result, photograph, tmp_path / "out.jpg", format="jpeg")

    assert opened(tmp_path / "out.jpg").get("jpeg-chroma-subsample") == "4:4:4"


def test_sixteen_bits_are_kept_in_png_and_reduced_for_jpeg(
    tmp_path: Path, photograph: Path
) -> None:
    deep = (paint(96, 64).cast("ushort") * 257).cast("ushort").copy(interpretation="rgb16")
    result = saved(deep, tmp_path / "result.png")

    finish(result, photograph, tmp_path / "out.png")
    finish(result, photograph, tmp_path / "out.jpg", format="jpeg", jpeg_quality=100)

    assert opened(tmp_path / "out.png").format == "ushort"
    jpeg = opened(tmp_path / "out.jpg")
    assert np.abs(jpeg.numpy().astype(int) - paint(96, 64).numpy()).mean() < 2


def test_a_preview_is_small_upright_srgb_and_carries_nothing(tmp_path: Path) -> None:
    source = saved(with_exif(paint(300, 200), 6), tmp_path / "source.jpg", profile="p3")

    make_preview(source, tmp_path / "preview.jpg", longest_edge=100, max_pixels=MEGA)

    preview = opened(tmp_path / "preview.jpg")
    assert (preview.width, preview.height) == (67, 100)
    fields = preview.get_fields()
    assert PROFILE not in fields
    assert "exif-data" not in fields


def test_a_preview_never_enlarges(tmp_path: Path, photograph: Path) -> None:
    make_preview(photograph, tmp_path / "preview.jpg", longest_edge=500, max_pixels=MEGA)

    assert opened(tmp_path / "preview.jpg").width == 48

"""What is accepted as a picture, and what is said when it is not."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
import pyvips
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smi_desktop.domain.errors import InvalidInputError, TransientError
from smi_desktop.imaging.checking import inspect
from tests.unit.imaging.pictures import paint, with_exif

MEGA = 1_000_000


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_bomb(width: int, height: int) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + png_chunk(b"IEND", b"")


def gif_of(width: int, height: int) -> bytes:
    return bytes(paint(width, height).gifsave_buffer())


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9"/></svg>'
HTML = b"<!doctype html><title>503</title>Service unavailable"


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("bands", [1, 3])
def test_each_accepted_type_is_told_by_its_content(tmp_path: Path, suffix: str, bands: int) -> None:
    written = tmp_path / f"picture.{suffix}"
    paint(bands=bands).write_to_file(str(written))
    misnamed = written.rename(tmp_path / "picture.bin")

    facts = inspect(misnamed, max_pixels=MEGA)

    assert (facts["width"], facts["height"]) == (48, 32)
    assert facts["format"] == {"jpg": "jpeg"}.get(suffix, suffix)
    assert facts["bytes"] == misnamed.stat().st_size
    assert len(facts["sha256"]) == 64


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_told_as_the_picture_is_shown(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "turned.jpg"
    with_exif(paint(), orientation).jpegsave(str(path))

    facts = inspect(path, max_pixels=MEGA)

    expected = (32, 48) if orientation >= 5 else (48, 32)
    assert (facts["width"], facts["height"]) == expected


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(HTML, id="html"),
        pytest.param(SVG, id="svg"),
        pytest.param(gif_of(8, 8), id="gif"),
        pytest.param(bytes(paint().tiffsave_buffer()), id="tiff"),
        pytest.param(b"GIF89a/*" + bytes(paint().jpegsave_buffer()), id="gif in front of a jpeg"),
        pytest.param(b"%PDF-1.7\n" + bytes(paint().pngsave_buffer()), id="pdf in front of a png"),
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xd8\xff", id="jpeg signature alone"),
        pytest.param(b"RIFF\x00\x00\x00\x00WEBP", id="webp signature alone"),
    ],
)
def test_anything_but_a_picture_of_an_accepted_type_is_refused(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "upload.jpg"
    path.write_bytes(content)

    with pytest.raises(InvalidInputError):
        inspect(path, max_pixels=MEGA)


def test_a_web_page_behind_a_jpeg_does_not_make_it_anything_else(tmp_path: Path) -> None:
    path = tmp_path / "both.html"
    path.write_bytes(bytes(paint().jpegsave_buffer()) + b"<script>alert(1)</script>")

    assert inspect(path, max_pixels=MEGA)["format"] == "jpeg"


def test_a_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_bomb(60_000, 60_000))

    with pytest.raises(InvalidInputError, match=r"60,000 x 60,000"):
        inspect(path, max_pixels=400 * MEGA)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_picture_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    content = bytes(paint(200, 200).write_to_buffer(f".{suffix}"))
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(content[: int(len(content) * share)])

    with pytest.raises(InvalidInputError, match="damaged or incomplete"):
        inspect(path, max_pixels=MEGA)


def test_an_animation_is_refused(tmp_path: Path) -> None:
    frames = pyvips.Image.arrayjoin([paint(), paint().invert()], across=1)
    frames.set_type(pyvips.GValue.gint_type, "page-height", 32)
    path = tmp_path / "moving.webp"
    frames.webpsave(str(path))

    with pytest.raises(InvalidInputError, match="animation"):
        inspect(path, max_pixels=MEGA)


def test_a_missing_file_may_be_tried_again(tmp_path: Path) -> None:
    with pytest.raises(TransientError):
        inspect(tmp_path / "gone.png", max_pixels=MEGA)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    suffix=st.sampled_from(["jpg", "png", "webp"]),
    position=st.floats(0, 1, exclude_max=True),
    garbage=st.binary(min_size=1, max_size=8),
)
def test_damage_anywhere_is_either_survived_or_refused(
    tmp_path: Path, suffix: str, position: float, garbage: bytes
) -> None:
    content = bytearray(paint(40, 40).write_to_buffer(f".{suffix}"))
    start = int(len(content) * position)
    content[start : start + len(garbage)] = garbage
    path = tmp_path / "damaged"
    path.write_bytes(content)

    try:
        facts = inspect(path, max_pixels=MEGA)
    except InvalidInputError as error:
        assert error.message
    else:
        assert facts["width"] * facts["height"] <= MEGA

"""What every reader of pictures and every local upscaler does, the fakes and the real ones alike."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pyvips

from smi_desktop.adapters.embedded_upscaler import EmbeddedUpscaler
from smi_desktop.adapters.image_reader import ProcessImageReader
from smi_desktop.domain.errors import BadResultError, InvalidInputError, TransientError
from smi_desktop.services.ports import ImageReader, LocalUpscaler, QualityLimits
from tests.fakes import FakeImageReader, FakeLocalUpscaler, fake_image

ENOUGH = 10**8
FIGURES = {"ssim", "delta_e", "black_tiles", "repeated_tiles", "strange_tiles"}


@dataclass
class Pictures:
    """A reader, an upscaler, and how a picture of a size is made for them."""

    reader: ImageReader
    upscaler: LocalUpscaler
    draw: Callable[[Path, int, int], None]
    draw_blank: Callable[[Path, int, int], None]
    draw_tinted: Callable[[Path, int, int], None]


def _draw_fake(path: Path, width: int, height: int) -> None:
    kind = "jpeg" if path.suffix == ".jpg" else "png"
    path.write_bytes(fake_image(width, height, format=kind))


def _draw_fake_blank(path: Path, width: int, height: int) -> None:
    path.write_bytes(fake_image(width, height, content="blank"))


def _draw_fake_tinted(path: Path, width: int, height: int) -> None:
    path.write_bytes(fake_image(width, height, content="tinted"))


def _draw_real(path: Path, width: int, height: int) -> None:
    _ramps(width, height).bandjoin([128, 60]).cast("uchar").copy(
        interpretation="srgb"
    ).write_to_file(str(path))


def _draw_real_tinted(path: Path, width: int, height: int) -> None:
    _ramps(width, height).bandjoin([60, 128]).cast("uchar").copy(
        interpretation="srgb"
    ).write_to_file(str(path))


def _ramps(width: int, height: int) -> pyvips.Image:
    """Return one band that shows the same at every size."""
    places = pyvips.Image.xyz(width, height)
    return places[0] * (100 / width) + places[1] * (100 / height) + 20


def _draw_real_blank(path: Path, width: int, height: int) -> None:
    picture = pyvips.Image.black(width, height, bands=3)
    picture.copy(interpretation="srgb").write_to_file(str(path))


@pytest.fixture(scope="module")
def process_reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessImageReader]:
    reader = ProcessImageReader(tmp_path_factory.mktemp("work"))
    yield reader
    reader.close()


@pytest.fixture(params=["fake", "real"])
def pictures(request: pytest.FixtureRequest, tmp_path: Path) -> Pictures:
    if request.param == "fake":
        return Pictures(
            FakeImageReader(),
            FakeLocalUpscaler(),
            _draw_fake,
            _draw_fake_blank,
            _draw_fake_tinted,
        )
    reader: ProcessImageReader = request.getfixturevalue("process_reader")
    upscaler = EmbeddedUpscaler(tmp_path / "work")
    return Pictures(reader, upscaler, _draw_real, _draw_real_blank, _draw_real_tinted)


@pytest.mark.parametrize(("suffix", "kind"), [(".png", "png"), (".jpg", "jpeg")])
def test_a_picture_is_told_for_what_it_is(
    pictures: Pictures, tmp_path: Path, suffix: str, kind: str
) -> None:
    path = tmp_path / f"picture{suffix}"
    pictures.draw(path, 40, 30)
    facts = pictures.reader.inspect(path, max_pixels=1200)
    assert (facts.width, facts.height, facts.format) == (40, 30, kind)
    assert facts.bytes == path.stat().st_size
    assert facts.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_picture_with_too_many_pixels_is_refused(pictures: Pictures, tmp_path: Path) -> None:
    pictures.draw(tmp_path / "picture.png", 40, 30)
    with pytest.raises(InvalidInputError):
        pictures.reader.inspect(tmp_path / "picture.png", max_pixels=1199)


def test_what_is_no_picture_is_refused(pictures: Pictures, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"<html>sorry</html>")
    with pytest.raises(InvalidInputError):
        pictures.reader.inspect(path, max_pixels=ENOUGH)
    with pytest.raises(InvalidInputError):
        pictures.reader.make_preview(path, tmp_path / "preview.jpg", longest_edge=10)


def test_a_preview_is_a_small_jpeg(pictures: Pictures, tmp_path: Path) -> None:
    pictures.draw(tmp_path / "picture.png", 40, 30)
    pictures.reader.make_preview(
        tmp_path / "picture.png", tmp_path / "preview.jpg", longest_edge=20
    )
    facts = pictures.reader.inspect(tmp_path / "preview.jpg", max_pixels=ENOUGH)
    assert (facts.width, facts.height, facts.format) == (20, 15, "jpeg")


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_a_result_that_is_right_becomes_the_file_that_is_delivered(
    pictures: Pictures, tmp_path: Path, kind: str
) -> None:
    pictures.draw(tmp_path / "source.png", 20, 15)
    pictures.draw(tmp_path / "result.png", 80, 60)
    delivered = tmp_path / f"delivered.{kind}"
    facts = pictures.reader.finish_result(
        tmp_path / "result.png",
        tmp_path / "source.png",
        delivered,
        width=80,
        height=60,
        format=kind,
        jpeg_quality=95,
    )
    assert (facts.width, facts.height, facts.format) == (80, 60, kind)
    assert facts == pictures.reader.inspect(delivered, max_pixels=ENOUGH)


@pytest.mark.parametrize("fault", ["size", "no picture"])
def test_a_result_that_is_wrong_is_not_delivered(
    pictures: Pictures, tmp_path: Path, fault: str
) -> None:
    pictures.draw(tmp_path / "source.png", 20, 15)
    result = tmp_path / "result.png"
    if fault == "size":
        pictures.draw(result, 79, 60)
    else:
        result.write_bytes(b"<html>sorry</html>")
    with pytest.raises(BadResultError):
        pictures.reader.finish_result(
            result,
            tmp_path / "source.png",
            tmp_path / "delivered.png",
            width=80,
            height=60,
            format="png",
            jpeg_quality=95,
        )
    assert not (tmp_path / "delivered.png").exists()


@pytest.mark.parametrize("limits", [QualityLimits(), None])
@pytest.mark.parametrize("fault", ["", "blank", "tinted"])
def test_a_doubtful_result_is_written_and_told_of_where_limits_are_set(
    pictures: Pictures, tmp_path: Path, limits: QualityLimits | None, fault: str
) -> None:
    draw = {"": pictures.draw, "blank": pictures.draw_blank, "tinted": pictures.draw_tinted}[fault]
    pictures.draw(tmp_path / "source.png", 20, 15)
    draw(tmp_path / "result.png", 80, 60)
    facts = pictures.reader.finish_result(
        tmp_path / "result.png",
        tmp_path / "source.png",
        tmp_path / "delivered.png",
        width=80,
        height=60,
        format="png",
        jpeg_quality=95,
        limits=limits,
    )
    assert (tmp_path / "delivered.png").stat().st_size == facts.bytes
    assert set(facts.figures) == (FIGURES if limits else set())
    words = {"": "", "blank": "blank", "tinted": "colours differ"}[fault] if limits else ""
    assert bool(facts.doubts) == bool(words)
    assert not words or any(words in doubt for doubt in facts.doubts)


def test_a_wider_limit_lets_other_colours_through(pictures: Pictures, tmp_path: Path) -> None:
    pictures.draw(tmp_path / "source.png", 20, 15)
    pictures.draw_tinted(tmp_path / "result.png", 80, 60)
    facts = pictures.reader.finish_result(
        tmp_path / "result.png",
        tmp_path / "source.png",
        tmp_path / "delivered.png",
        width=80,
        height=60,
        format="png",
        jpeg_quality=95,
        limits=QualityLimits(min_ssim=0, max_delta_e=200.0, max_repeated_tiles=99),
    )
    assert facts.doubts == ()
    assert facts.figures["delta_e"] > QualityLimits().max_delta_e


def test_a_picture_is_enlarged_by_the_factor(pictures: Pictures, tmp_path: Path) -> None:
    pictures.draw(tmp_path / "source.png", 20, 15)
    told: list[float] = []
    pictures.upscaler.upscale(
        tmp_path / "source.png",
        tmp_path / "result.png",
        factor=4,
        on_progress=told.append,
        cancelled=lambda: False,
        seconds=60,
    )
    facts = pictures.reader.inspect(tmp_path / "result.png", max_pixels=ENOUGH)
    assert (facts.width, facts.height, facts.format) == (80, 60, "png")
    assert all(0 <= share <= 1 for share in told)


def test_work_that_is_cancelled_leaves_nothing(pictures: Pictures, tmp_path: Path) -> None:
    pictures.draw(tmp_path / "source.png", 20, 15)
    with pytest.raises(TransientError):
        pictures.upscaler.upscale(
            tmp_path / "source.png",
            tmp_path / "result.png",
            factor=4,
            on_progress=lambda _share: None,
            cancelled=lambda: True,
            seconds=60,
        )
    assert not (tmp_path / "result.png").exists()


def test_a_source_that_is_no_picture_cannot_be_enlarged(pictures: Pictures, tmp_path: Path) -> None:
    (tmp_path / "source.png").write_bytes(b"<html>sorry</html>")
    with pytest.raises(BadResultError):
        pictures.upscaler.upscale(
            tmp_path / "source.png",
            tmp_path / "result.png",
            factor=4,
            on_progress=lambda _share: None,
            cancelled=lambda: False,
            seconds=60,
        )


def test_the_local_upscaler_books_its_work_under_one_name(pictures: Pictures) -> None:
    assert pictures.upscaler.name == "embedded"

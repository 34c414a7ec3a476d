"""What makes a person look at a result, and what must not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import pyvips

from smi_desktop.domain.errors import BadResultError
from smi_desktop.imaging import quality
from smi_desktop.imaging.checking import finish_result
from smi_desktop.imaging.client import upscale
from tests.unit.imaging.pictures import paint

Pixels = npt.NDArray[np.uint8]

SAMPLES = sorted(
    path
    for path in (Path(__file__).resolve().parents[3] / "resources" / "samples").iterdir()
    if path.suffix in {".png", ".jpg"}
)
CAT = next(path for path in SAMPLES if path.stem == "chelsea")
COFFEE = next(path for path in SAMPLES if path.stem == "espresso")
LIMITS = {"min_ssim": 0.7, "max_delta_e": 3.0, "max_black_tiles": 0, "max_repeated_tiles": 0}
FACTOR = 2
TILE = 64


def opened(path: Path) -> pyvips.Image:
    return pyvips.Image.new_from_file(str(path))


def enlarged(path: Path) -> pyvips.Image:
    return opened(path).resize(FACTOR, kernel="lanczos3").copy_memory()


def pixels_of(image: pyvips.Image) -> Pixels:
    return np.array(image.numpy()).reshape(image.height, image.width, image.bands)


def picture(pixels: Any) -> pyvips.Image:
    image = pyvips.Image.new_from_array(np.ascontiguousarray(pixels.astype(np.uint8)))
    return image.copy(interpretation="b-w" if image.bands < 3 else "srgb")


def judged(source: Path, result: pyvips.Image, folder: Path, **options: Any) -> Any:
    """Save a result and have it finished; return what the reader tells."""
    written = folder / f"result.{options.pop('suffix', 'png')}"
    result.write_to_file(str(written), **options)
    return finish_result(
        written,
        source,
        folder / "out.png",
        width=result.width,
        height=result.height,
        format="png",
        jpeg_quality=90,
        limits=LIMITS,
    )


def _black_tile(good: Pixels) -> Pixels:
    good[2 * TILE : 3 * TILE, 4 * TILE : 5 * TILE] = 0
    return good


def _repeated_tile(good: Pixels) -> Pixels:
    # The cat's nose and mouth come up once more beside its ear.
    good[TILE : 2 * TILE, TILE : 2 * TILE] = good[5 * TILE : 6 * TILE, 7 * TILE : 8 * TILE]
    return good


def _shifted_tile(good: Pixels) -> Pixels:
    moved = np.roll(good, (12, 12), (0, 1))
    good[3 * TILE : 4 * TILE, 6 * TILE : 7 * TILE] = moved[3 * TILE : 4 * TILE, 6 * TILE : 7 * TILE]
    return good


def _grey_tile(good: Pixels) -> Pixels:
    good[2 * TILE : 3 * TILE, 4 * TILE : 5 * TILE] = 128
    return good


def _grey_bottom(good: Pixels) -> Pixels:
    good[good.shape[0] // 2 :] = 128
    return good


def _gamma(exponent: float) -> Callable[[Pixels], Any]:
    return lambda good: np.round(255 * (good / 255) ** exponent)


DEFECTS: dict[str, tuple[Callable[[Pixels], Any], str]] = {
    "a black tile": (_black_tile, "black where the original is not"),
    "a repeated tile": (_repeated_tile, "filled with another part|unlike the original"),
    "a shifted tile": (_shifted_tile, "filled with another part|unlike the original"),
    "a grey tile": (_grey_tile, "unlike the original"),
    "a grey bottom": (_grey_bottom, "colours differ"),
    "black": (np.zeros_like, "blank"),
    "one grey": (lambda good: np.full_like(good, 127), "blank"),
    "swapped channels": (lambda good: good[..., ::-1], "colours differ"),
    "no colour": (lambda good: good.mean(2, keepdims=True).repeat(3, 2), "colours differ"),
    "a tint": (lambda good: (good * [1.1, 1, 0.9]).clip(0, 255), "colours differ"),
    "mirrored": (lambda good: good[:, ::-1], "differs from|another picture"),
    "upside down": (lambda good: good[::-1], "differs from|another picture"),
    "negative": (lambda good: 255 - good, "another picture"),
    "a gamma of 2.2": (_gamma(2.2), "colours differ"),
    "a gamma of 1/2.2": (_gamma(1 / 2.2), "colours differ"),
    "a gamma of 1.2": (_gamma(1.2), "colours differ"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_doubted_and_the_file_is_there_to_be_looked_at(
    tmp_path: Path, defect: str
) -> None:
    spoil, words = DEFECTS[defect]

    facts = judged(CAT, picture(spoil(pixels_of(enlarged(CAT)))), tmp_path)

    assert any(_says(doubt, words) for doubt in facts["doubts"]), facts
    assert (tmp_path / "out.png").stat().st_size == facts["bytes"]


def _says(doubt: str, words: str) -> bool:
    return any(word in doubt for word in words.split("|"))


@pytest.mark.parametrize("other", [path for path in SAMPLES if path != CAT], ids=lambda p: p.stem)
def test_another_picture_is_doubted(tmp_path: Path, other: Path) -> None:
    size = enlarged(CAT)
    wrong = opened(other).thumbnail_image(size.width, height=size.height, size="force")

    facts = judged(CAT, wrong, tmp_path)

    assert "another picture" in facts["doubts"][0]


HONEST: dict[str, Callable[[pyvips.Image], pyvips.Image]] = {
    "as it is": lambda good: good,
    "sharpened": lambda good: good.sharpen(sigma=1.5, m2=2),
    "with less grain": lambda good: good.median(5),
    "a little lighter": lambda good: (good * 1.02 + 1).cast("uchar").copy(interpretation="srgb"),
}


@pytest.fixture(params=SAMPLES, ids=lambda path: path.stem)
def part(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return the middle of a sample, 200 x 200, which is quicker to enlarge than the whole."""
    whole = opened(request.param)
    middle = whole.crop((whole.width - 200) // 2, (whole.height - 200) // 2, 200, 200)
    middle.write_to_file(str(tmp_path / "part.png"))
    return tmp_path / "part.png"


@pytest.mark.parametrize("way", HONEST)
def test_an_honest_enlargement_is_not_doubted(tmp_path: Path, part: Path, way: str) -> None:
    good = enlarged(part)
    changed = HONEST[way](good).copy(interpretation=good.interpretation)

    assert judged(part, changed, tmp_path)["doubts"] == ()


def test_a_jpeg_of_an_honest_enlargement_is_not_doubted(tmp_path: Path, part: Path) -> None:
    facts = judged(part, enlarged(part), tmp_path, suffix="jpg", Q=85)

    assert facts["doubts"] == ()
    assert facts["figures"]["ssim"] > 0.9
    assert facts["figures"]["delta_e"] < 1


@pytest.mark.parametrize("source", [CAT, COFFEE], ids=lambda path: path.stem)
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_the_embedded_upscalers_picture_is_not_doubted(
    tmp_path: Path, source: Path, suffix: str
) -> None:
    whole = opened(source)
    part = whole.crop((whole.width - 100) // 2, (whole.height - 100) // 2, 100, 100)
    small = tmp_path / f"small.{suffix}"
    part.write_to_file(str(small))
    upscale(
        small,
        tmp_path / "large.png",
        factor=FACTOR,
        work_dir=tmp_path,
        on_progress=lambda _share: None,
        cancelled=lambda: False,
        seconds=60,
    )

    assert judged(small, opened(tmp_path / "large.png"), tmp_path)["doubts"] == ()


def test_a_grainy_original_may_come_back_clean(tmp_path: Path) -> None:
    clean = opened(COFFEE)
    grain = pyvips.Image.gaussnoise(clean.width, clean.height, mean=0, sigma=8, seed=5)
    source = tmp_path / "grainy.png"
    (clean + grain).cast("uchar").copy(interpretation="srgb").write_to_file(str(source))

    assert judged(source, enlarged(COFFEE), tmp_path)["doubts"] == ()


@pytest.mark.parametrize("value", [0, 90, 255])
@pytest.mark.parametrize("edge", [1, 7, 100])
def test_a_picture_of_one_colour_is_like_itself(tmp_path: Path, value: int, edge: int) -> None:
    flat = picture(np.full((edge, edge, 3), value))
    source = tmp_path / "source.png"
    flat.write_to_file(str(source))

    facts = judged(source, flat.resize(FACTOR), tmp_path)

    assert facts["doubts"] == ()
    assert facts["figures"]["ssim"] == pytest.approx(1.0)


def test_a_picture_of_one_colour_must_not_come_back_in_another(tmp_path: Path) -> None:
    source = tmp_path / "source.png"
    picture(np.full((50, 50, 3), 90)).write_to_file(str(source))

    assert judged(source, picture(np.full((100, 100, 3), (90, 90, 160))), tmp_path)["doubts"]


@pytest.mark.parametrize("edge", [5, 9, 17, 100])
def test_tiny_pictures_are_compared_too(tmp_path: Path, edge: int) -> None:
    source = tmp_path / "source.png"
    paint(edge, edge).write_to_file(str(source))
    good = opened(source).resize(FACTOR, kernel="lanczos3")

    assert judged(source, good, tmp_path)["doubts"] == ()
    assert judged(source, good.invert(), tmp_path)["doubts"]


def _with_alpha(image: pyvips.Image) -> pyvips.Image:
    ramp = pyvips.Image.xyz(image.width, image.height)[0] * (255 / image.width)
    return image.bandjoin(ramp.cast("uchar"))


FORMS: dict[str, tuple[Callable[[pyvips.Image], pyvips.Image], str]] = {
    "alpha": (_with_alpha, "png"),
    "grey": (lambda image: image.colourspace("b-w"), "png"),
    "grey with alpha": (lambda image: _with_alpha(image.colourspace("b-w")), "png"),
    "16 bits": (lambda image: image.colourspace("rgb16"), "png"),
    "16 bits of grey": (lambda image: image.colourspace("grey16"), "png"),
    "cmyk": (lambda image: image.icc_transform("cmyk", input_profile="srgb"), "jpg"),
    "p3": (lambda image: image.icc_transform("p3", input_profile="srgb"), "png"),
}


def _in_form(form: str, folder: Path) -> tuple[Path, pyvips.Image]:
    """Write the small picture in a form; return its file and an enlargement in the same form."""
    change, suffix = FORMS[form]
    small = opened(CAT).copy()
    small.remove("icc-profile-data")
    source = folder / f"form.{suffix}"
    change(small).write_to_file(str(source))
    return source, opened(source).resize(FACTOR, kernel="lanczos3")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_pixels_is_like_its_own_enlargement(tmp_path: Path, form: str) -> None:
    source, good = _in_form(form, tmp_path)

    assert judged(source, good, tmp_path, suffix=FORMS[form][1])["doubts"] == ()


@pytest.mark.parametrize("form", FORMS)
def test_in_every_form_of_pixels_a_spoiled_tile_is_seen(tmp_path: Path, form: str) -> None:
    source, good = _in_form(form, tmp_path)
    # The forehead's fur in the place of the eye.
    elsewhere = good.crop(5 * TILE, 0, TILE, TILE)
    spoiled = good.insert(elsewhere, 4 * TILE, 3 * TILE)

    assert judged(source, spoiled, tmp_path, suffix=FORMS[form][1])["doubts"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_result_is_compared_the_way_it_is_shown(tmp_path: Path, orientation: int) -> None:
    source, written = tmp_path / "source.jpg", tmp_path / "result.png"
    lying = opened(COFFEE).crop(200, 100, 150, 120).copy()
    lying.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    lying.write_to_file(str(source))
    upright = opened(source).autorot().resize(FACTOR, kernel="lanczos3")
    upright.write_to_file(str(written))

    facts = judged(source, opened(written), tmp_path)

    assert facts["doubts"] == ()


def test_a_result_on_its_side_with_a_tag_is_compared_upright(tmp_path: Path) -> None:
    good = enlarged(CAT)
    turned = good.rot90().copy()
    turned.set_type(pyvips.GValue.gint_type, "orientation", 8)
    turned.write_to_file(str(tmp_path / "turned.jpg"))

    facts = finish_result(
        tmp_path / "turned.jpg",
        CAT,
        tmp_path / "out.png",
        width=good.width,
        height=good.height,
        format="png",
        jpeg_quality=90,
        limits=LIMITS,
    )

    assert facts["doubts"] == ()


def test_colours_are_compared_through_their_profiles(tmp_path: Path) -> None:
    source = tmp_path / "source.png"
    opened(COFFEE).icc_transform("p3", input_profile="srgb").write_to_file(str(source))
    in_srgb = enlarged(COFFEE).icc_transform("srgb", input_profile="srgb")

    assert judged(source, in_srgb, tmp_path)["doubts"] == ()


def test_a_profile_that_gets_lost_is_doubted(tmp_path: Path) -> None:
    source = tmp_path / "source.png"
    opened(COFFEE).icc_transform("p3", input_profile="srgb").write_to_file(str(source))
    grey = enlarged(COFFEE).colourspace("b-w")
    assert "icc-profile-data" not in grey.get_fields()

    doubts = judged(source, grey, tmp_path)["doubts"]

    assert "The original's colour profile is missing in the result." in doubts


def test_wider_limits_let_more_through() -> None:
    likeness = quality.Likeness(0.6, 5.0, 1, 1, 1, blank=False)
    wide = {"min_ssim": 0.5, "max_delta_e": 6.0, "max_black_tiles": 1, "max_repeated_tiles": 2}

    assert quality.doubts_of(likeness, wide) == ()
    assert len(quality.doubts_of(likeness, LIMITS)) == 4


def test_doubts_are_sentences_with_figures() -> None:
    likeness = quality.Likeness(0.6, 14.2, 2, 0, 1, blank=False)

    assert quality.doubts_of(likeness, LIMITS) == (
        "The result differs from the original (similarity 0.60; at least 0.70 is expected).",
        "The colours differ from the original (ΔE 14.2; 3.0 is allowed).",
        "2 areas are black where the original is not.",
        "1 area is unlike the original.",
    )


def test_ssim_is_one_for_a_copy_and_near_zero_for_noise() -> None:
    random = np.random.default_rng(7)
    first, second = (random.uniform(0, 100, (300, 300, 3)).astype(np.float32) for _ in range(2))

    assert quality.ssim(first, first) == pytest.approx(1.0)
    assert abs(quality.ssim(first, second)) < 0.1


def test_delta_e_is_the_distance_in_lab() -> None:
    first = np.zeros((20, 30, 3), np.float32)

    assert quality.delta_e(first, first + np.array([0, 3, 4], np.float32)) == pytest.approx(5.0)


@pytest.mark.parametrize("share", [0.5, 0.97, 0.999])
def test_a_result_that_ends_early_is_refused_while_it_is_compared(
    tmp_path: Path, share: float
) -> None:
    whole = bytes(enlarged(CAT).pngsave_buffer(compression=1))
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole[: int(len(whole) * share)])
    good = enlarged(CAT)

    with pytest.raises(BadResultError, match="damaged"):
        finish_result(
            cut,
            CAT,
            tmp_path / "out.png",
            width=good.width,
            height=good.height,
            format="png",
            jpeg_quality=90,
            limits=LIMITS,
        )
    assert not (tmp_path / "out.png").exists()


def test_a_good_result_of_an_original_that_got_damaged_is_written_and_doubted(
    tmp_path: Path,
) -> None:
    whole = CAT.read_bytes()
    source = tmp_path / "damaged.png"
    source.write_bytes(whole[: len(whole) // 2])

    facts = judged(source, enlarged(CAT), tmp_path)

    assert facts["doubts"] == (
        "The original cannot be read any more, so the result was not compared with it.",
    )
    assert (tmp_path / "out.png").exists()


def test_a_nearly_plain_picture_may_come_back_plain(tmp_path: Path) -> None:
    pixels = np.full((100, 100, 3), 90)
    pixels[:50] += 1
    source = tmp_path / "source.png"
    picture(pixels).write_to_file(str(source))

    assert judged(source, picture(np.full((200, 200, 3), 90)), tmp_path)["doubts"] == ()

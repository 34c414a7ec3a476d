"""Pictures without pixels: a line of text that says what it stands for."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

from smi_desktop.domain.errors import BadResultError, InvalidInputError
from smi_desktop.services.ports import ImageFacts, QualityLimits
from tests.fakes.scripted import Scripted

_FAKE = re.compile(rb"IMAGE (jpeg|png|webp) (\d+)x(\d+) ?(.*)\n")
_TINT = 14.2


def fake_image(width: int, height: int, *, format: str = "png", content: str = "") -> bytes:
    """Return the bytes of a picture that FakeImageReader understands.

    The content `blank` stands for a blank picture, `tinted` for one whose colours are off.
    """
    return f"IMAGE {format} {width}x{height} {content}\n".encode()


class FakeImageReader(Scripted):
    """Implements ImageReader for `fake_image` bytes; every other file is not a picture."""

    def inspect(self, path: Path, *, max_pixels: int) -> ImageFacts:
        """Read what the line says."""
        self._begin("inspect")
        facts = self._read(path)
        if facts.width * facts.height > max_pixels:
            raise InvalidInputError(f"The picture has more than {max_pixels} pixels.")
        self._end("inspect")
        return facts

    def make_preview(self, source: Path, destination: Path, *, longest_edge: int) -> None:
        """Write a smaller line."""
        self._begin("make_preview")
        facts = self._read(source)
        scale = min(1.0, longest_edge / max(facts.width, facts.height))
        size = max(1, round(facts.width * scale)), max(1, round(facts.height * scale))
        destination.write_bytes(fake_image(*size, format="jpeg", content="preview"))
        self._end("make_preview")

    def finish_result(
        self,
        result: Path,
        source: Path,
        destination: Path,
        *,
        width: int,
        height: int,
        format: str,
        jpeg_quality: int,
        limits: QualityLimits | None = None,
    ) -> ImageFacts:
        """Check the size and write the line anew in the format asked for.

        With limits, what `fake_image` calls blank or tinted gets the doubt that a real one gets.
        """
        self._begin("finish_result")
        try:
            facts = self._read(result)
            self._read(source)
        except InvalidInputError as error:
            raise BadResultError(f"The result cannot be read. {error.message}") from error
        if (facts.width, facts.height) != (width, height):
            raise BadResultError(
                f"The result is {facts.width}x{facts.height} instead of {width}x{height}."
            )
        seen = self._content(result)
        content = f"quality {jpeg_quality}" if format == "jpeg" else "finished"
        destination.write_bytes(fake_image(width, height, format=format, content=content))
        self._end("finish_result")
        written = self._read(destination)
        if limits is None:
            return written
        doubts, figures = _judged(seen, limits)
        return replace(written, doubts=doubts, figures=figures)

    @staticmethod
    def _content(path: Path) -> str:
        found = _FAKE.fullmatch(path.read_bytes())
        return found[4].decode() if found else ""

    @staticmethod
    def _read(path: Path) -> ImageFacts:
        raw = path.read_bytes()
        found = _FAKE.fullmatch(raw)
        if found is None:
            raise InvalidInputError("This is not a picture of an accepted type.")
        return ImageFacts(
            width=int(found[2]),
            height=int(found[3]),
            format=found[1].decode(),
            bytes=len(raw),
            sha256=hashlib.sha256(raw).hexdigest(),
        )


def _judged(content: str, limits: QualityLimits) -> tuple[tuple[str, ...], dict[str, float]]:
    tiles = dict.fromkeys(("black_tiles", "repeated_tiles", "strange_tiles"), 0.0)
    figures = {"ssim": 1.0, "delta_e": 0.0, **tiles}
    if content == "blank":
        return ("The result is blank: it shows one colour only.",), figures | {"ssim": 0.0}
    if content != "tinted":
        return (), figures
    figures["delta_e"] = _TINT
    allowed = limits.max_delta_e
    if allowed >= _TINT:
        return (), figures
    return (
        f"The colours differ from the original (ΔE {_TINT}; {allowed:.1f} is allowed).",
    ), figures

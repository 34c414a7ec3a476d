"""Reading pictures, fetching them, and keeping files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is known of a picture after decoding it. Width and height are as shown (orientation applied)."""

    width: int
    height: int
    format: str
    """`jpeg`, `png` or `webp`."""
    bytes: int
    sha256: str
    doubts: tuple[str, ...] = ()
    """Why a person should look before this is delivered, a sentence each; only of a checked result."""
    figures: Mapping[str, float] = field(default_factory=dict, hash=False)
    """What was measured of a checked result: `ssim`, `delta_e`, `black_tiles`, `repeated_tiles`,
    and `strange_tiles`, which show something else altogether."""


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """How far a result may be from its source before a person must look at it.

    Both are compared at the same small size, so an upscaler's own fine detail costs nothing.
    """

    min_ssim: float = 0.70
    """Structural similarity of the lightness; a perfect copy has 1. Honest enlargements were measured
    above 0.9, from very grainy originals above 0.71; two different pictures below 0.65."""
    max_delta_e: float = 3.0
    """Mean colour difference (ΔE, CIE 1976). Honest enlargements were measured at up to 1, from very
    grainy originals 2; a tint or a wrong gamma that anybody sees is at 8 and more."""
    max_black_tiles: int = 0
    """Areas that are black where the source is not."""
    max_repeated_tiles: int = 0
    """Areas that show what belongs elsewhere in the picture, or does not belong there at all."""


class ImageReader(Protocol):
    """Decodes pictures in a child process with limits, so that a bomb harms that process alone."""

    def inspect(self, path: Path, *, max_pixels: int) -> ImageFacts:
        """Decode the whole picture and tell what it is.

        Raises:
            InvalidInputError: Not a picture of an accepted type, damaged, or too large.
            TransientError: The child was killed or ran out of time.
        """
        ...

    def make_preview(self, source: Path, destination: Path, *, longest_edge: int) -> None:
        """Write a small sRGB JPEG without metadata.

        Raises:
            InvalidInputError, TransientError: As `inspect`.
        """
        ...

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
        """Check a result and write the file that is delivered.

        Decodes it whole; refuses any other size than `width` x `height`; writes `format` (`jpeg` or
        `png`) with the source's colour profile and EXIF where the result has none.

        Args:
            limits: How like its source the result must be. What goes beyond is no error: the file is
                written all the same and the facts carry the doubts. None measures nothing, for a
                file that the owner vouches for.

        Raises:
            BadResultError: The result is not the picture that was ordered.
            TransientError: The child was killed or ran out of time.
        """
        ...


class Fetcher(Protocol):
    """Downloads from addresses that others gave us."""

    def fetch(self, url: str, destination: Path, *, max_bytes: int) -> None:
        """Download into `destination`, resuming `destination` + `.part` where the server can.

        Raises:
            LinkExpiredError: 403, 404 or 410: ask for a fresh address.
            RejectedError: The address is not allowed, or the body is larger than `max_bytes`.
            TransientError: Cut, slow, or the server is away; a part may remain for the next try.
        """
        ...


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of the store."""

    key: str
    bytes: int
    modified_at: datetime


class FileStore(Protocol):
    """Where results and snapshots of sources lie, under our own keys (`results/…`, `sources/…`)."""

    def put(self, key: str, source: Path) -> None:
        """Take a file in, whole or not at all, durably. An existing key is replaced.

        Raises:
            TransientError: No space or no access.
        """
        ...

    def path(self, key: str) -> Path:
        """Return a readable local path.

        Raises:
            NotFoundError: There is no such file.
        """
        ...

    def exists(self, key: str) -> bool:
        """Tell whether the file is there."""
        ...

    def delete(self, key: str) -> None:
        """Remove a file; nothing happens if there is none."""
        ...

    def files(self, prefix: str = "") -> Iterator[StoredFile]:
        """List what is stored under a prefix."""
        ...

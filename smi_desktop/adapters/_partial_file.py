"""A file that is on its way: its bytes so far, and what the server called it.

Owns the two files beside the destination (`.part` and `.validator.part`) and their order on the
disk: the validator stands before the first byte does, and the rename comes after the fsync.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from smi_desktop.domain.errors import TransientError


@dataclass(frozen=True, slots=True)
class Validator:
    """What a server calls one version of a file (RFC 9110 8.8)."""

    text: str

    @classmethod
    def of(cls, etag: str | None, last_modified: str | None) -> Validator | None:
        """Return the better one of an answer's validators; a weak ETag is no good for ranges."""
        strong = etag if etag and etag.startswith('"') else None
        chosen = strong or last_modified
        return cls(chosen) if chosen and chosen.isprintable() and chosen.isascii() else None


class PartialFile:
    """The part of one download.

    Args:
        destination: Where the whole file will lie.
        source: The address without its signature: parts of another address are not continued.
    """

    def __init__(self, destination: Path, *, source: str) -> None:
        self._destination = destination
        self._source = source
        self._part = destination.with_name(f"{destination.name}.part")
        self._note = destination.with_name(f"{destination.name}.validator.part")
        self._total: int | None = None

    @property
    def size(self) -> int:
        """Bytes that are there."""
        try:
            return self._part.stat().st_size
        except FileNotFoundError:
            return 0

    def resume_headers(self, max_bytes: int) -> dict[str, str]:
        """Return what asks for the rest, or nothing if there is no part worth continuing."""
        note = self._read_note()
        size = self.size
        if note is None or not 0 < size <= max_bytes or size >= note.total:
            self.discard()
            return {}
        self._total = note.total
        return {"Range": f"bytes={size}-", "If-Range": note.validator}

    def continues(self, told: tuple[int, int, int]) -> bool:
        """Tell whether an answer's (first, last, total) goes on exactly where the part ends."""
        first, last, total = told
        return self._total == total and first == self.size and last == total - 1

    def restart(self, validator: Validator | None, total: int | None) -> None:
        """Empty the part. It can be continued later only if both facts are known."""
        self.discard()
        self._destination.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if validator is not None and total is not None:
            note = _Note(self._source, validator.text, total)
            self._note.touch(mode=0o600)
            self._note.write_text(json.dumps(asdict(note)), encoding="utf-8")
        self._part.touch(mode=0o600)

    def opened(self) -> BinaryIO:
        """Open the part for appending."""
        return self._part.open("ab")

    def finish(self, total: int | None) -> None:
        """Make the part the file.

        Raises:
            TransientError: It is not as long as the server said.
        """
        size = self.size
        if total is not None and size != total:
            raise TransientError(f"The download broke off after {size} of {total} bytes.")
        self._part.replace(self._destination)
        self._note.unlink(missing_ok=True)
        folder = os.open(self._destination.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def discard(self) -> None:
        """Forget the part."""
        self._part.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def _read_note(self) -> _Note | None:
        try:
            note = _Note(**json.loads(self._note.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):  # none, or a crash left half of it
            return None
        return note if note.source == self._source else None


@dataclass(frozen=True, slots=True)
class _Note:
    source: str
    validator: str
    total: int

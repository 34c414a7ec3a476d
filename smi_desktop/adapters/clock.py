"""What time it is: the machine's clock, or the machine's clock moved by a number in a file.

Decides alone how the rehearsal shop's time runs: always at real speed, moved by whole or broken
seconds that any process of the shop reads from the same file.
"""

from __future__ import annotations

import logging
import math
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

_log = logging.getLogger(__name__)
_LONGEST_SECONDS = 100 * 366 * 86400.0


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the present moment as aware UTC."""
        return datetime.now(UTC)


class OffsetClock:
    """The machine's clock plus the seconds that a small text file holds.

    A missing file means 0. The file is read again when its time stamp changes, so a rehearsal
    moves every process of the shop by writing one number. Empty text (it is being written) and
    text that is no number leave the offset as it was.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._offset = timedelta()

    def now(self) -> datetime:
        """Return the shop's present moment as aware UTC."""
        return datetime.now(UTC) + self._read_offset()

    def _read_offset(self) -> timedelta:
        with self._lock:
            try:
                facts = self._path.stat()
                seen = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
                if seen != self._seen and facts.st_size > 0:
                    self._offset = _seconds(self._path.read_text(encoding="utf-8"))
                    self._seen = seen
            except FileNotFoundError:
                self._seen, self._offset = None, timedelta()
            except (OSError, ValueError) as error:
                _log.warning("The clock's offset in %s cannot be read: %s", self._path, error)
            return self._offset


def _seconds(text: str) -> timedelta:
    seconds = float(text)
    if not math.isfinite(seconds) or abs(seconds) > _LONGEST_SECONDS:
        raise ValueError("the offset is not a number of seconds within a hundred years")
    return timedelta(seconds=seconds)

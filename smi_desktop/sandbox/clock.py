"""The rehearsal's time: real time plus an offset in a text file that every process of the shop reads.

Sole owner of the format of `DIR/clock-offset`: one number of seconds, missing means 0.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from smi_desktop.sandbox.constants import CLOCK_OFFSET_FILE


class SandboxClock:
    """Tells the rehearsal's time and moves it. Safe to use from any thread.

    Args:
        folder: The rehearsal's data folder.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / CLOCK_OFFSET_FILE
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._offset = 0.0

    def now(self) -> float:
        """Return the rehearsal's Unix time in seconds."""
        return time.time() + self.offset()

    def offset(self) -> float:
        """Return the seconds by which the rehearsal is ahead of real time; read anew when the file changes."""
        with self._lock:
            try:
                status = self._file.stat()
            except FileNotFoundError:
                self._stamp, self._offset = None, 0.0
                return self._offset
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp != self._stamp:
                self._offset = float(self._file.read_text(encoding="ascii").strip() or 0)
                self._stamp = stamp
            return self._offset

    def set_offset(self, seconds: float) -> None:
        """Set how far the rehearsal is ahead of real time, in seconds; other processes see it at once."""
        draft = self._file.with_name(f".{CLOCK_OFFSET_FILE}.{os.getpid()}")
        draft.write_text(f"{seconds:.3f}\n", encoding="ascii")
        draft.replace(self._file)

    def advance(self, seconds: float) -> None:
        """Move the rehearsal's time on by some seconds."""
        self.set_offset(self.offset() + seconds)

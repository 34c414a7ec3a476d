"""Look at this process's image children through /proc (Linux)."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = 20.0
"""Seconds after which a test gives up waiting."""


def wait_until(condition: Callable[[], bool]) -> bool:
    """Poll a condition until it holds or the patience is over."""
    deadline = time.monotonic() + PATIENCE
    pause = threading.Event()
    while time.monotonic() < deadline:
        if condition():
            return True
        pause.wait(0.01)
    return condition()


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended; one that nobody has collected yet counts as ended."""
    try:
        return _stat(Path(f"/proc/{pid}/stat"))[0] == "Z"
    except OSError:
        return True


def image_children() -> list[int]:
    """Return the process ids of this process's living image children."""
    own, found = str(os.getpid()), []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if _stat(stat)[1] != own:
                continue
            if b"smi_desktop.imaging.child" in stat.with_name("cmdline").read_bytes():
                found.append(int(stat.parent.name))
    return found


def _stat(path: Path) -> list[str]:
    """Return state, parent and the rest of a process's status (proc(5))."""
    return path.read_text().rpartition(")")[2].split()

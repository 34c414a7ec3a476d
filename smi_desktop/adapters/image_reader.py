"""Decoding in child processes, behind the port `ImageReader`.

This module alone decides how many children there are and which one may be used again: only one that
has never failed, since a damaged picture may have damaged the process that read it.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from smi_desktop.imaging.client import ImageChild, no_part_left
from smi_desktop.imaging.limits import Role
from smi_desktop.services.ports import ImageFacts, QualityLimits

PREVIEW_MAX_PIXELS = 1_000_000_000
_SHELF_SECONDS = 30.0
"""A child that was idle for longer is not used again; it ends by itself after a minute."""


class ProcessImageReader:
    """Reads pictures in child processes with limits. Any number of threads may use it.

    Args:
        work_dir: The children's working folder; the system's one for temporary files if left out.
        children: How many may work at once; further callers wait for their turn.
        seconds: The longest that one look at a picture may take.
        finish_seconds: The longest that checking and writing a result may take.
    """

    def __init__(
        self,
        work_dir: Path | None = None,
        *,
        children: int = 2,
        seconds: float = 120.0,
        finish_seconds: float = 900.0,
    ) -> None:
        """Start nothing yet; the first call starts a child."""
        self._work_dir = work_dir or Path(tempfile.gettempdir())
        self._seconds = seconds
        self._finish_seconds = finish_seconds
        self._turns = threading.BoundedSemaphore(children)
        self._lock = threading.Lock()
        self._idle: list[tuple[float, ImageChild]] = []

    def inspect(self, path: Path, *, max_pixels: int) -> ImageFacts:
        """Decode the whole picture and tell what it is; see the port."""
        arguments = {"path": _text(path), "max_pixels": max_pixels}
        return ImageFacts(**self._ask("inspect", arguments, self._seconds))

    def make_preview(self, source: Path, destination: Path, *, longest_edge: int) -> None:
        """Write a small sRGB JPEG without metadata; see the port."""
        arguments = {
            "source": _text(source),
            "destination": _text(destination),
            "longest_edge": longest_edge,
            "max_pixels": PREVIEW_MAX_PIXELS,
        }
        with no_part_left(destination):
            self._ask("preview", arguments, self._seconds)

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
        """Check a result and write the file that is delivered; see the port."""
        arguments = {
            "result": _text(result),
            "source": _text(source),
            "destination": _text(destination),
            "width": width,
            "height": height,
            "format": format,
            "jpeg_quality": jpeg_quality,
            "limits": asdict(limits) if limits else None,
        }
        with no_part_left(destination):
            answer = dict(self._ask("finish", arguments, self._finish_seconds))
        doubts = tuple(answer.pop("doubts"))
        return ImageFacts(**answer, doubts=doubts)

    def close(self) -> None:
        """End the children that wait for work."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, child in idle:
            child.close()

    def _ask(self, task: str, arguments: Mapping[str, Any], seconds: float) -> Mapping[str, Any]:
        with self._child() as child:
            return child.ask(task, arguments, seconds)

    @contextmanager
    def _child(self) -> Iterator[ImageChild]:
        with self._turns:
            child = self._take_idle() or self._start()
            try:
                yield child
            finally:
                if child.usable:
                    with self._lock:
                        self._idle.append((time.monotonic(), child))
                else:
                    child.close()

    def _start(self) -> ImageChild:
        self._work_dir.mkdir(parents=True, exist_ok=True)
        return ImageChild(Role.DECODE, self._work_dir)

    def _take_idle(self) -> ImageChild | None:
        with self._lock:
            since, child = self._idle.pop() if self._idle else (0.0, None)
        if child is None or (child.alive and time.monotonic() - since <= _SHELF_SECONDS):
            return child
        child.close()
        return None


def _text(path: Path) -> str:
    return str(path.absolute())

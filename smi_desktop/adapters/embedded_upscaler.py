"""The upscaler that runs on this machine, behind the port `LocalUpscaler`.

It owns the folder for scratch files; everything else happens in `smi_desktop.imaging`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from smi_desktop.imaging import client


class EmbeddedUpscaler:
    """Enlarges pictures with no network and no graphics card. Any number of threads may use it.

    Args:
        work_dir: Folder for scratch files, about 4 bytes per pixel of a result that is being made.
    """

    name = "embedded"

    def __init__(self, work_dir: Path) -> None:
        """Do nothing yet; the folder is made when it is needed."""
        self._work_dir = work_dir

    def upscale(
        self,
        source: Path,
        destination: Path,
        *,
        factor: int,
        on_progress: Callable[[float], None],
        cancelled: Callable[[], bool],
        seconds: float,
    ) -> None:
        """Write the enlarged picture as JPEG (by the suffix of `destination`), else as PNG.

        Raises:
            BadResultError: The source cannot be read.
            TransientError: Cancelled, killed, crashed, out of memory or disk, or out of time.
        """
        client.upscale(
            source,
            destination,
            factor=factor,
            work_dir=self._work_dir,
            on_progress=on_progress,
            cancelled=cancelled,
            seconds=seconds,
        )

"""The way to the image child: start it, ask it, end it when it is too slow or not wanted any more.

This module alone decides what a child's death means: the attempt failed, nothing else did, and it
may be tried again (TransientError). Any thread may call; libvips and ncnn are not loaded here.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Self

from smi_desktop.domain.errors import BadResultError, InvalidInputError, SmiError, TransientError
from smi_desktop.imaging.limits import PART_SUFFIX, Role

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
_EXIT_SECONDS = 5.0
_STDERR_SHOWN = 2_000
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]
_ERRORS: Mapping[str, type[SmiError]] = {
    kind.__name__: kind for kind in (InvalidInputError, BadResultError, TransientError)
}
_ENVIRONMENT_KEPT = ("PATH", "SYSTEMROOT", "WINDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
FROZEN_COMMAND = "image-child"
"""The hidden command by which a frozen program, which has no `python -m`, becomes a child."""


def upscale(
    source: Path,
    destination: Path,
    *,
    factor: int,
    work_dir: Path,
    on_progress: Callable[[float], None],
    cancelled: Callable[[], bool],
    seconds: float,
    max_pixels: int = 1_000_000_000,
) -> None:
    """Enlarge a picture in a child of its own; blocks until it is done.

    Args:
        destination: JPEG by its suffix (`.jpg`, `.jpeg`), else PNG. Written whole or not at all.
        factor: 2, 4 or 8.
        work_dir: Folder for scratch files of about 4 bytes per pixel of the result; they have no
            name and vanish with the child, however it ends.
        on_progress: Told the share that is done, 0..1.
        cancelled: Asked ten times a second; True ends the child at once.
        seconds: The longest that it may take.
        max_pixels: The largest result that is made.

    Raises:
        BadResultError: The source cannot be read.
        TransientError: Cancelled, killed, crashed, out of memory or disk, or out of time.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    arguments = {
        "source": str(source.absolute()),
        "destination": str(destination.absolute()),
        "factor": factor,
        "scratch": str(work_dir.absolute()),
        "max_pixels": max_pixels,
    }
    with no_part_left(destination), ImageChild(Role.UPSCALE, work_dir) as child:
        child.ask("upscale", arguments, seconds, on_progress=on_progress, cancelled=cancelled)


@contextlib.contextmanager
def no_part_left(destination: Path) -> Iterator[None]:
    """Remove what a child that was killed had written of `destination`."""
    try:
        yield
    finally:
        destination.with_name(f"{destination.name}{PART_SUFFIX}").unlink(missing_ok=True)


class ImageChild:
    """One child process, asked by one thread at a time.

    Attributes:
        usable: It may be asked again: it has answered all requests so far, and none by a refusal.
    """

    def __init__(self, role: Role, work_dir: Path) -> None:
        """Start a child with `work_dir` as its working folder, which must exist."""
        self._answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._process: subprocess.Popen[str] | None = None
        self._started = threading.Event()
        # The thread that starts the child also reads from it until it ends: Linux sends a child its
        # parent's death signal when the *thread* that started it ends.
        self._thread = threading.Thread(
            target=self._serve, args=(role, work_dir), name=f"image-child-{role}", daemon=True
        )
        self._thread.start()
        self._started.wait()
        self.usable = self._process is not None

    def __enter__(self) -> Self:
        """Leave the child running until the block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the child."""
        self.close()

    @property
    def pid(self) -> int | None:
        """The child's process id."""
        return self._process.pid if self._process else None

    @property
    def alive(self) -> bool:
        """Whether the process is still there, as far as its end has been noticed."""
        return self._thread.is_alive()

    def ask(
        self,
        task: str,
        arguments: Mapping[str, Any],
        seconds: float,
        *,
        on_progress: Callable[[float], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Mapping[str, Any]:
        """Have one task done and return its facts.

        Raises:
            InvalidInputError, BadResultError: The child's own verdict on the picture.
            TransientError: It was cancelled, killed, crashed or took too long.
        """
        self.usable = False
        deadline = time.monotonic() + seconds
        self._send({"task": task, "arguments": dict(arguments)})
        while True:
            if cancelled is not None and cancelled():
                self.kill()
                raise TransientError("The work on the picture was cancelled.")
            if time.monotonic() >= deadline:
                self.kill()
                raise TransientError(
                    f"The work on the picture took longer than {seconds:,.0f} seconds."
                )
            try:
                line = self._answers.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if line is None:
                raise self._death()
            answer = json.loads(line)
            if "share" in answer:
                if on_progress is not None:
                    on_progress(float(answer["share"]))
                continue
            if "failed" in answer:
                raise _ERRORS[answer["failed"]](answer["message"])
            self.usable = True
            return dict(answer["done"])

    def kill(self) -> None:
        """End the child at once."""
        self.usable = False
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """End the child and wait until nothing of it is left."""
        self.kill()
        self._thread.join(_EXIT_SECONDS)
        self._errors.close()

    def _serve(self, role: Role, work_dir: Path) -> None:
        try:
            process = self._process = _start(role, work_dir, self._errors)
        except OSError:
            log.exception("The image child could not be started.")
            self._answers.put(None)
            return
        finally:
            self._started.set()
        # Leaving the block closes the pipes and waits for the end.
        with contextlib.suppress(OSError), process:
            for line in process.stdout or ():
                self._answers.put(line)
        self._answers.put(None)

    def _send(self, request: Mapping[str, Any]) -> None:
        if self._process is None or self._process.stdin is None:
            return
        # A child that has died says so by the end of its answers.
        with contextlib.suppress(OSError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def _death(self) -> TransientError:
        status = self._process.returncode if self._process else None
        self._errors.seek(0)
        said = self._errors.read()[-_STDERR_SHOWN:].decode("utf-8", "replace")
        log.warning("An image child ended with status %s: %s", status, said)
        return TransientError("The program that works on pictures ended unexpectedly.")


def _start(role: Role, work_dir: Path, errors: IO[bytes]) -> subprocess.Popen[str]:
    own_id = str(os.getpid())
    if getattr(sys, "frozen", False):
        command = [sys.executable, FROZEN_COMMAND, role, own_id]
    else:
        command = [sys.executable, "-P", "-m", "smi_desktop.imaging.child", role, own_id]
    return subprocess.Popen(  # noqa: S603 - our own program, no shell
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env=child_environment(work_dir),
        cwd=work_dir,
        encoding="utf-8",
    )


def child_environment(work_dir: Path) -> dict[str, str]:
    """Return the child's whole environment: what it needs to start, and none of our secrets."""
    kept = {name: os.environ[name] for name in _ENVIRONMENT_KEPT if name in os.environ}
    return kept | {
        "PYTHONPATH": str(_PACKAGE_ROOT),
        "PYTHONUTF8": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(work_dir),
        "TEMP": str(work_dir),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        # Never spill pixels into named temporary files: a killed child could not remove them.
        "VIPS_DISC_THRESHOLD": "1000g",
    }

"""Which engines of this machine are alive, told by locks that the kernel drops when a process dies.

A killed engine leaves leases behind. Waiting for them to end would keep customers waiting; a process id
may be somebody else's by now. A locked file cannot lie.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self


class Presence:
    """This engine's name, held as a lock on a file for as long as the process lives.

    Args:
        folder: The same folder for all engines of one shop on one machine.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self.name = f"engine-{uuid.uuid4().hex}"
        self._path = folder / f"{self.name}.lock"
        # Locked before it is seen: another engine would take an unlocked file for that of a dead one.
        unseen = self._path.with_suffix(".new")
        self._file = os.open(unseen, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unseen.rename(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave."""
        self._path.unlink(missing_ok=True)
        os.close(self._file)

    def dead_engines(self) -> list[str]:
        """Return the names of engines that have died and are not forgotten yet."""
        return [
            path.stem
            for path in self._folder.glob("engine-*.lock")
            if path != self._path and _is_unlocked(path)
        ]

    def forget(self, name: str) -> None:
        """Let nobody find this dead engine again: its work has been given back."""
        (self._folder / f"{name}.lock").unlink(missing_ok=True)


def _is_unlocked(path: Path) -> bool:
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        # An engine that has just left takes its file along, before it lets go of the lock.
        return path.exists()
    finally:
        os.close(file)

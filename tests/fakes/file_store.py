"""A file store whose files have the age that the test's clock gives them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from smi_desktop.domain.errors import NotFoundError
from smi_desktop.services.ports import Clock, StoredFile
from tests.fakes.clock import FakeClock
from tests.fakes.scripted import Scripted


class FakeFileStore(Scripted):
    """Implements FileStore over a test's own folder."""

    def __init__(self, root: Path, clock: Clock | None = None) -> None:
        super().__init__()
        self._root = root
        self._clock = clock or FakeClock()
        self._modified: dict[str, datetime] = {}

    def put(self, key: str, source: Path) -> None:
        """Copy a file in."""
        self._begin("put")
        if not source.is_file():
            raise NotFoundError(f"There is no file '{source.name}' to be stored.")
        target = self._root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        self._modified[key] = self._clock.now()
        self._end("put")

    def path(self, key: str) -> Path:
        """Return where a file lies."""
        self._begin("path")
        if key not in self._modified or not (self._root / key).is_file():
            raise NotFoundError(f"There is no file '{key}'.")
        return self._root / key

    def exists(self, key: str) -> bool:
        """Tell whether a file is there."""
        return key in self._modified and (self._root / key).is_file()

    def delete(self, key: str) -> None:
        """Remove a file."""
        self._begin("delete")
        self._modified.pop(key, None)
        (self._root / key).unlink(missing_ok=True)
        self._end("delete")

    def files(self, prefix: str = "") -> Iterator[StoredFile]:
        """List files by key."""
        for key in sorted(self._modified):
            if key.startswith(prefix) and self.exists(key):
                size = (self._root / key).stat().st_size
                yield StoredFile(key, size, self._modified[key])

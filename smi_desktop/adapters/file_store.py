"""Keep files in a local folder, whole or not at all, readable by their owner alone.

Decides alone what a key may look like and in which order a file becomes durable: copy to a `.part`
beside its place, fsync, rename, fsync the folder. A row that names a file is written after that, so
there may be a file without a row but never a row without a file.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from smi_desktop.domain.errors import InvalidInputError, NotFoundError, TransientError
from smi_desktop.services.ports import StoredFile

_log = logging.getLogger(__name__)

PART_SUFFIX: Final = ".part"
_LONGEST_KEY: Final = 200
_KEY: Final = re.compile(r"[a-z]+(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*){1,4}")
_FOLDER_MODE: Final = 0o700
_COPY_BYTES: Final = 1 << 20


class LocalFileStore:
    """Implements FileStore over a local folder. Safe from several threads and processes."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        with _translated("The file store cannot be opened"):
            self._make_folder(self._root)

    def put(self, key: str, source: Path) -> None:
        """Copy a file in, durably; what was stored under the key before stays until then.

        Raises:
            InvalidInputError: The key is not one of ours.
            NotFoundError: The source does not exist.
            TransientError: No space or no access.
        """
        target = self._locate(key)
        if not source.is_file():
            raise NotFoundError(f"There is no file '{source.name}' to be stored.")
        with _translated(f"The file '{key}' cannot be stored"):
            self._refuse_leading_out(target)
            self._make_folder(target.parent)
            # mkstemp makes the file 0600 from birth, whatever the umask.
            descriptor, part = tempfile.mkstemp(
                prefix=f"{target.name}.", suffix=PART_SUFFIX, dir=target.parent
            )
            try:
                with os.fdopen(descriptor, "wb") as sink, source.open("rb") as origin:
                    shutil.copyfileobj(origin, sink, _COPY_BYTES)
                    sink.flush()
                    os.fsync(sink.fileno())
                Path(part).replace(target)
            except BaseException:
                Path(part).unlink(missing_ok=True)
                raise
            _fsync_folder(target.parent)

    def path(self, key: str) -> Path:
        """Return where a file lies.

        Raises:
            InvalidInputError: The key is not one of ours.
            NotFoundError: There is no such file, or something else stands in its place.
        """
        target = self._locate(key)
        if not self._is_ours(target):
            raise NotFoundError(f"There is no file '{key}'.")
        return target

    def exists(self, key: str) -> bool:
        """Tell whether the file is there.

        Raises:
            InvalidInputError: The key is not one of ours.
        """
        return self._is_ours(self._locate(key))

    def delete(self, key: str) -> None:
        """Remove a file; nothing happens if there is none.

        Raises:
            InvalidInputError: The key is not one of ours.
            TransientError: No access.
        """
        target = self._locate(key)
        with _translated(f"The file '{key}' cannot be removed"):
            self._refuse_leading_out(target)
            target.unlink(missing_ok=True)

    def files(self, prefix: str = "") -> Iterator[StoredFile]:
        """List the whole files whose key begins with `prefix`, by key; parts are left out."""
        for path in self._walk():
            key = path.relative_to(self._root).as_posix()
            if not key.startswith(prefix) or path.name.endswith(PART_SUFFIX):
                continue
            with suppress(FileNotFoundError):  # removed while we were listing
                facts = path.lstat()
                if stat.S_ISREG(facts.st_mode):
                    modified_at = datetime.fromtimestamp(facts.st_mtime, tz=UTC)
                    yield StoredFile(key, facts.st_size, modified_at)

    def remove_stale_parts(self, older_than: datetime) -> int:
        """Remove parts that a crash has left and return how many.

        Args:
            older_than: Aware; parts changed since then may still be in the writing and stay.
        """
        removed = 0
        for path in self._walk():
            if not path.name.endswith(PART_SUFFIX):
                continue
            with _translated("An old part cannot be removed"), suppress(FileNotFoundError):
                if path.lstat().st_mtime < older_than.timestamp():
                    path.unlink()
                    removed += 1
        return removed

    def _walk(self) -> Iterator[Path]:
        for folder, folders, names in os.walk(self._root, followlinks=False):
            folders.sort()
            for name in sorted(names):
                yield Path(folder) / name

    def _locate(self, key: str) -> Path:
        acceptable = len(key) <= _LONGEST_KEY and _KEY.fullmatch(key)
        if not acceptable or key.endswith(PART_SUFFIX):
            raise InvalidInputError("This is not a key of the file store.")
        return self._root / key

    def _make_folder(self, folder: Path) -> None:
        """Make the folder and what leads to it from the root, each 0700 whatever the umask."""
        missing = [folder]
        while missing[-1] != self._root and missing[-1].parent != missing[-1]:
            missing.append(missing[-1].parent)
        self._root.parent.mkdir(parents=True, exist_ok=True)
        for each in reversed(missing):
            with suppress(FileExistsError):
                each.mkdir(mode=_FOLDER_MODE)
                _fsync_folder(each.parent)
            if not each.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "a file stands where a folder should be")
            if stat.S_IMODE(each.stat().st_mode) != _FOLDER_MODE:
                each.chmod(_FOLDER_MODE)

    def _refuse_leading_out(self, target: Path) -> None:
        if not target.parent.resolve().is_relative_to(self._root.resolve()):
            raise InvalidInputError("This key leads out of the file store.")

    def _is_ours(self, target: Path) -> bool:
        inside = target.parent.resolve().is_relative_to(self._root.resolve())
        return inside and target.is_file() and not target.is_symlink()


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated(failure: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        _log.warning("%s: %s", failure, error)
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise TransientError(f"{failure}: the disk is full.") from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise TransientError(f"{failure}: access to the folder is denied.") from error
        raise TransientError(f"{failure}: {error.strerror or error}.") from error

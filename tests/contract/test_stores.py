"""What every file store, secret store and clock does, the fakes and the real ones alike."""

from __future__ import annotations

from datetime import UTC, timedelta
from pathlib import Path

import pytest

from smi_desktop.adapters.clock import OffsetClock, SystemClock
from smi_desktop.adapters.file_store import LocalFileStore
from smi_desktop.adapters.secret_store import FileSecretStore, KeyringSecretStore
from smi_desktop.domain.errors import ConfigurationError, NotFoundError
from smi_desktop.services.ports import Clock, FileStore, SecretStore
from tests.fakes import FakeClock, FakeFileStore, MemorySecretStore
from tests.integration.adapters.test_secret_store import MemoryKeyring


@pytest.fixture(params=["fake", "real"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> FileStore:
    root = tmp_path / "files"
    return FakeFileStore(root) if request.param == "fake" else LocalFileStore(root)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(b"one")
    return path


def test_a_file_is_put_read_replaced_and_removed(files: FileStore, source: Path) -> None:
    assert not files.exists("results/1.png")
    files.put("results/1.png", source)
    assert files.exists("results/1.png")
    assert files.path("results/1.png").read_bytes() == b"one"
    source.write_bytes(b"other")
    assert files.path("results/1.png").read_bytes() == b"one"
    files.put("results/1.png", source)
    assert files.path("results/1.png").read_bytes() == b"other"
    files.delete("results/1.png")
    files.delete("results/1.png")
    assert not files.exists("results/1.png")
    with pytest.raises(NotFoundError):
        files.path("results/1.png")


def test_files_are_listed_by_prefix(files: FileStore, source: Path) -> None:
    for key in ("sources/2.png", "results/2.png", "results/1.png"):
        files.put(key, source)
    listed = list(files.files("results/"))
    assert [(each.key, each.bytes) for each in listed] == [
        ("results/1.png", 3),
        ("results/2.png", 3),
    ]
    assert all(each.modified_at.tzinfo is not None for each in listed)
    assert len(list(files.files())) == 3


def test_a_file_that_was_taken_away_is_not_there(files: FileStore, source: Path) -> None:
    files.put("results/1.png", source)
    files.path("results/1.png").unlink()
    assert not files.exists("results/1.png")
    with pytest.raises(NotFoundError):
        files.path("results/1.png")
    assert list(files.files()) == []


def test_without_a_source_nothing_is_stored(files: FileStore, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        files.put("results/1.png", tmp_path / "nowhere")
    assert not files.exists("results/1.png")


@pytest.fixture(params=["fake", "file", "keyring"])
def secrets(request: pytest.FixtureRequest, tmp_path: Path) -> SecretStore:
    if request.param == "fake":
        return MemorySecretStore()
    if request.param == "file":
        return FileSecretStore(tmp_path / "secrets.json")
    return KeyringSecretStore("contract", backend=MemoryKeyring())


def test_a_secret_is_kept_replaced_and_forgotten(secrets: SecretStore) -> None:
    assert secrets.get("stripe_key") is None
    secrets.set("stripe_key", "one")
    secrets.set("stripe_key", "other")
    assert secrets.get("stripe_key") == "other"
    secrets.delete("stripe_key")
    secrets.delete("stripe_key")
    assert secrets.get("stripe_key") is None
    assert secrets.describe()


def test_an_empty_secret_is_refused(secrets: SecretStore) -> None:
    with pytest.raises(ConfigurationError):
        secrets.set("stripe_key", "")
    assert secrets.get("stripe_key") is None


@pytest.fixture(params=["fake", "system", "offset"])
def clock(request: pytest.FixtureRequest, tmp_path: Path) -> Clock:
    kinds: dict[str, Clock] = {
        "fake": FakeClock(),
        "system": SystemClock(),
        "offset": OffsetClock(tmp_path / "offset"),
    }
    return kinds[request.param]


def test_a_clock_tells_aware_utc_and_stands_or_goes_on(clock: Clock) -> None:
    first, second = clock.now(), clock.now()
    assert first.tzinfo is UTC
    assert timedelta() <= second - first < timedelta(seconds=5)

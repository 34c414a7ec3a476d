"""The file store on a real file system."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from smi_desktop.adapters.file_store import LocalFileStore
from smi_desktop.domain.errors import InvalidInputError, NotFoundError, TransientError
from tests.integration.adapters.small_disk import files_no_larger_than

BODY = b"picture" * 50_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "shop" / "files"


@pytest.fixture
def store(root: Path) -> LocalFileStore:
    return LocalFileStore(root)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.png"
    path.write_bytes(BODY)
    return path


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def any_umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    try:
        yield request.param
    finally:
        os.umask(before)


def test_what_is_put_in_is_there_whole(store: LocalFileStore, source: Path) -> None:
    store.put("results/order-1/1.png", source)
    assert store.path("results/order-1/1.png").read_bytes() == BODY
    assert store.exists("results/order-1/1.png")
    assert source.exists(), "the source stays with its owner"
    (stored,) = store.files("results/")
    assert (stored.key, stored.bytes) == ("results/order-1/1.png", len(BODY))
    assert abs(datetime.now(UTC) - stored.modified_at) < timedelta(minutes=1)


def test_a_later_change_of_the_source_changes_nothing(store: LocalFileStore, source: Path) -> None:
    store.put("sources/1.png", source)
    source.write_bytes(b"other")
    assert store.path("sources/1.png").read_bytes() == BODY


def test_an_existing_key_is_replaced_and_a_reader_keeps_what_he_opened(
    store: LocalFileStore, source: Path
) -> None:
    store.put("results/1.png", source)
    with store.path("results/1.png").open("rb") as reader:
        source.write_bytes(b"new")
        store.put("results/1.png", source)
        assert reader.read() == BODY
    assert store.path("results/1.png").read_bytes() == b"new"


def test_owner_alone_can_read_whatever_the_umask(any_umask: int, root: Path, source: Path) -> None:
    store = LocalFileStore(root)
    store.put("results/order-1/1.png", source)
    for folder in (root, root / "results", root / "results" / "order-1"):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert (root / "results/order-1/1.png").stat().st_mode & 0o777 == 0o600


def test_a_folder_that_was_open_to_others_is_closed(root: Path, source: Path) -> None:
    root.mkdir(parents=True, mode=0o755)
    LocalFileStore(root).put("results/1.png", source)
    assert root.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "key",
    [
        "",
        "1.png",
        "results",
        "results/",
        "results//1.png",
        "/etc/passwd",
        "../x.png",
        "results/../x.png",
        "results/..",
        "results/.hidden",
        "results/./1.png",
        "results\\1.png",
        "results/a\\b",
        "results/a b",
        "results/a\x00b",
        "results/a\n",
        "results/%2e%2e",
        "results/é.png",
        "results/\u202egnp.exe",
        "RESULTS/1.png",
        "results/1.png.part",
        "results/a/b/c/d/e",
        "results/" + "x" * 300,
        "C:/x",
    ],
)
def test_a_key_that_is_not_ours_is_refused_everywhere(
    store: LocalFileStore, source: Path, root: Path, key: str
) -> None:
    for call in (
        lambda: store.put(key, source),
        lambda: store.path(key),
        lambda: store.exists(key),
        lambda: store.delete(key),
    ):
        with pytest.raises(InvalidInputError):
            call()
    assert list(root.rglob("*")) == []


def test_a_link_that_leads_out_is_neither_followed_nor_written_through(
    store: LocalFileStore, source: Path, root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes(b"secret")
    (root / "results").symlink_to(outside)
    assert not store.exists("results/secret.png")
    with pytest.raises(NotFoundError):
        store.path("results/secret.png")
    with pytest.raises(InvalidInputError):
        store.put("results/new.png", source)
    with pytest.raises(InvalidInputError):
        store.put("results/deeper/new.png", source)
    with pytest.raises(InvalidInputError):
        store.delete("results/secret.png")
    assert list(store.files()) == []
    assert [path.name for path in outside.iterdir()] == ["secret.png"]


def test_a_link_in_the_place_of_a_file_is_not_a_file(
    store: LocalFileStore, source: Path, root: Path, tmp_path: Path
) -> None:
    (root / "results").mkdir()
    (root / "results" / "1.png").symlink_to(source)
    assert not store.exists("results/1.png")
    assert list(store.files()) == []
    store.put("results/1.png", source)
    assert store.path("results/1.png").read_bytes() == BODY
    assert not store.path("results/1.png").is_symlink()


def test_what_is_not_there_is_not_found(store: LocalFileStore, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        store.path("results/1.png")
    assert not store.exists("results/1.png")
    store.delete("results/1.png")
    with pytest.raises(NotFoundError):
        store.put("results/1.png", tmp_path / "nowhere.png")
    with pytest.raises(NotFoundError):
        store.put("results/1.png", tmp_path)


def test_what_was_deleted_is_gone_and_gone_twice(store: LocalFileStore, source: Path) -> None:
    store.put("results/1.png", source)
    store.delete("results/1.png")
    store.delete("results/1.png")
    assert not store.exists("results/1.png")


def test_a_disk_that_takes_no_more_leaves_the_old_file_and_no_part(
    store: LocalFileStore, source: Path, root: Path
) -> None:
    source.write_bytes(b"old")
    store.put("results/1.png", source)
    source.write_bytes(BODY)
    with files_no_larger_than(100_000), pytest.raises(TransientError, match="disk is full"):
        store.put("results/1.png", source)
    assert store.path("results/1.png").read_bytes() == b"old"
    assert [path.name for path in (root / "results").iterdir()] == ["1.png"]


def test_a_place_that_cannot_be_used_may_be_tried_again(
    store: LocalFileStore, source: Path, root: Path
) -> None:
    (root / "results").write_bytes(b"a file where a folder should be")
    with pytest.raises(TransientError):
        store.put("results/1.png", source)
    with pytest.raises(TransientError):
        LocalFileStore(root / "results")


def test_parts_are_not_listed_and_old_ones_can_be_removed(
    store: LocalFileStore, source: Path, root: Path
) -> None:
    store.put("results/1.png", source)
    now = datetime.now(UTC)
    for name, hours in (("2.png.abc.part", 30), ("3.png.def.part", 1)):
        part = root / "results" / name
        part.write_bytes(b"half")
        moment = (now - timedelta(hours=hours)).timestamp()
        os.utime(part, (moment, moment))
    assert [stored.key for stored in store.files()] == ["results/1.png"]
    assert store.remove_stale_parts(now - timedelta(hours=24)) == 1
    assert sorted(path.name for path in (root / "results").iterdir()) == ["1.png", "3.png.def.part"]
    assert store.remove_stale_parts(now - timedelta(hours=24)) == 0


def test_files_are_listed_by_prefix_in_order(store: LocalFileStore, source: Path) -> None:
    for key in ("sources/b.png", "results/z/1.png", "results/a/2.png", "results/b.png"):
        store.put(key, source)
    assert [stored.key for stored in store.files("results/")] == sorted(
        ["results/z/1.png", "results/a/2.png", "results/b.png"],
        key=lambda key: (key.count("/") > 1, key),
    )
    assert [stored.key for stored in store.files("sources/b")] == ["sources/b.png"]
    assert list(store.files("previews/")) == []


def test_many_writers_of_one_key_leave_one_whole_file(
    store: LocalFileStore, tmp_path: Path, root: Path
) -> None:
    bodies = [bytes([number]) * 200_000 for number in range(8)]
    sources = []
    for number, body in enumerate(bodies):
        path = tmp_path / f"{number}.png"
        path.write_bytes(body)
        sources.append(path)
    failures: list[Exception] = []

    def write(path: Path) -> None:
        try:
            for _ in range(5):
                store.put("results/1.png", path)
        except Exception as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(path,)) for path in sources]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(20)
    assert failures == []
    assert store.path("results/1.png").read_bytes() in bodies
    assert [path.name for path in (root / "results").iterdir()] == ["1.png"]

"""SQLite: what durability and safety beside other writers rest on, read back and provoked."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from smi_desktop.domain.errors import ConfigurationError, TransientError
from smi_desktop.store import clicks
from smi_desktop.store.database import Database
from tests.integration.store.rows import NOW
from tests.integration.store.waiting import ROOT, finish_child, finish_together, start_child

POOLED = 12


def write_a_click(database: Database) -> None:
    write_clicks(database, 1)


def write_clicks(database: Database, count: int) -> None:
    """Write clicks in one unit of work."""
    with database.write() as session:
        for number in range(count):
            clicks.add(session, at=NOW, attachment_id=number, post_id=None, bot=False)


def clicks_in(database: Database) -> int:
    with database.read() as session:
        return clicks.count(session)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the write lock as another program does."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.rollback()
        other.close()


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Database]:
    """A database that waits for a lock for three tenths of a second."""
    database = Database(f"sqlite:///{tmp_path / 'shop.db'}", busy_seconds=0.3)
    database.migrate()
    yield database
    database.close()


def test_every_pooled_connection_is_durable_and_keeps_foreign_keys(
    sqlite_database: Database,
) -> None:
    with ExitStack() as stack:
        connections = [
            stack.enter_context(sqlite_database.engine.connect()) for _ in range(POOLED + 4)
        ]
        found = {
            tuple(
                connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys")
            )
            for connection in connections
        }
    # https://www.sqlite.org/pragma.html#pragma_synchronous: FULL is 2.
    assert found == {("wal", 2, 1)}


def test_foreign_keys_are_on_again_after_a_migration(sqlite_database: Database) -> None:
    sqlite_database.migrate()
    with sqlite_database.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_a_writer_holds_the_lock_from_its_first_moment(impatient: Database) -> None:
    path = impatient.engine.url.database
    assert path is not None
    with impatient.write():
        other = sqlite3.connect(path, isolation_level=None, timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="database is locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()


def test_a_reader_is_not_held_up_by_a_writer(impatient: Database) -> None:
    with impatient.write() as session:
        clicks.add(session, at=NOW, attachment_id=1, post_id=None, bot=False)
        session.flush()
        assert clicks_in(impatient) == 0
    assert clicks_in(impatient) == 1


def test_two_processes_that_count_lose_nothing(sqlite_database: Database, tmp_path: Path) -> None:
    with sqlite_database.write() as session:
        session.execute(text("CREATE TABLE counter (value INTEGER)"))
        session.execute(text("INSERT INTO counter VALUES (0)"))
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    finish_together([start_child("store.store_child", "count", url, "150") for _ in range(2)])
    with sqlite_database.read() as session:
        assert session.execute(text("SELECT value FROM counter")).scalar_one() == 300


def test_control_plain_transactions_fail_beside_each_other(
    sqlite_database: Database, tmp_path: Path
) -> None:
    """Shows that the test above can fail: without BEGIN IMMEDIATE a reader cannot become a writer."""
    with sqlite_database.write() as session:
        session.execute(text("CREATE TABLE counter (value INTEGER)"))
        session.execute(text("INSERT INTO counter VALUES (0)"))
    both_have_read = threading.Barrier(2)
    refused: list[str] = []

    def count_up() -> None:
        connection = sqlite3.connect(tmp_path / "shop.db", isolation_level=None)
        connection.execute("BEGIN")
        (value,) = connection.execute("SELECT value FROM counter").fetchone()
        both_have_read.wait()
        try:
            connection.execute("UPDATE counter SET value = ?", (value + 1,))
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            refused.append(str(error))
        connection.close()

    threads = [threading.Thread(target=count_up) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == ["database is locked"]


def test_writers_of_one_process_take_turns(sqlite_database: Database) -> None:
    inside = threading.Semaphore(1)
    crowded = threading.Event()

    def write() -> None:
        for number in range(10):
            with sqlite_database.write() as session:
                if not inside.acquire(blocking=False):
                    crowded.set()
                clicks.add(session, at=NOW, attachment_id=number, post_id=None, bot=False)
                session.flush()
                inside.release()

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not crowded.is_set()
    assert clicks_in(sqlite_database) == 80


def test_a_locked_database_is_transient_within_the_busy_time(
    impatient: Database, tmp_path: Path
) -> None:
    with locked(tmp_path / "shop.db"):
        began = time.monotonic()
        with pytest.raises(TransientError):
            write_a_click(impatient)
        assert time.monotonic() - began < 1.5
    write_a_click(impatient)
    assert clicks_in(impatient) == 1


def test_writers_that_queue_behind_a_locked_database_all_give_up_in_time(
    impatient: Database, tmp_path: Path
) -> None:
    """Sixteen webhooks at once: the last must not wait sixteen times as long as the first."""
    waits: list[float] = []

    def write() -> None:
        began = time.monotonic()
        with pytest.raises(TransientError):
            write_a_click(impatient)
        waits.append(time.monotonic() - began)

    with locked(tmp_path / "shop.db"):
        threads = [threading.Thread(target=write) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(waits) == 16
    assert max(waits) < 1.5


def test_a_unit_of_work_inside_another_gives_up_instead_of_hanging(impatient: Database) -> None:
    with impatient.write(), pytest.raises(TransientError):
        write_a_click(impatient)
    assert clicks_in(impatient) == 0


def test_when_every_connection_is_taken_a_reader_is_told_to_come_later(
    impatient: Database,
) -> None:
    def take_every_connection() -> None:
        with ExitStack() as stack:
            for _ in range(100):
                session = stack.enter_context(impatient.read())
                session.execute(text("SELECT 1"))

    with pytest.raises(TransientError):
        take_every_connection()
    assert clicks_in(impatient) == 0


def test_a_full_disk_is_transient_and_leaves_nothing_half(sqlite_database: Database) -> None:
    write_a_click(sqlite_database)
    with sqlite_database.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    with pytest.raises(TransientError):
        write_clicks(sqlite_database, 2000)
    assert clicks_in(sqlite_database) == 1


def test_a_file_that_must_not_grow_is_transient_and_what_was_committed_stays(
    sqlite_database: Database, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    said = finish_child(start_child("store.store_child", "fill_up", url, "400000"))
    name, written = said.split()
    assert name == "TransientError"
    assert clicks_in(sqlite_database) == int(written) > 0
    with sqlite_database.read() as session:
        assert session.execute(text("PRAGMA integrity_check")).scalar() == "ok"


def test_a_read_only_database_is_transient(sqlite_database: Database) -> None:
    with sqlite_database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA query_only=ON")
    with pytest.raises(TransientError):
        write_a_click(sqlite_database)


def test_a_bug_of_ours_is_not_taken_for_a_database_that_is_away(
    sqlite_database: Database,
) -> None:
    """A TransientError would be tried again for hours; a missing table never comes back."""
    with sqlite_database.read() as session, pytest.raises(OperationalError, match="no such table"):
        session.execute(text("SELECT * FROM missing"))


def test_a_failed_unit_of_work_leaves_nothing(sqlite_database: Database) -> None:
    def fail_half_way() -> None:
        with sqlite_database.write() as session:
            clicks.add(session, at=NOW, attachment_id=1, post_id=None, bot=False)
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert clicks_in(sqlite_database) == 0


def test_the_database_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        database = Database(f"sqlite:///{tmp_path / 'new' / 'shop.db'}")
        database.migrate()
        write_a_click(database)
        modes = {
            path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").iterdir()
        }
        database.close()
    finally:
        os.umask(before)
    assert modes == {"shop.db": 0o600, "shop.db-wal": 0o600, "shop.db-shm": 0o600}
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "url",
    ["sqlite://", "sqlite:///:memory:", "mysql://host/shop", "oracle://x", "", "no address"],
)
def test_an_address_that_cannot_be_used_is_said_clearly(url: str) -> None:
    with pytest.raises(ConfigurationError):
        Database(url)


def test_a_folder_that_cannot_be_made_is_said_clearly(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigurationError):
        Database(f"sqlite:///{tmp_path / 'file' / 'shop.db'}")


def test_a_file_that_is_no_database_is_said_clearly_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    path.write_bytes(b"holiday pictures " * 1000)
    database = Database(f"sqlite:///{path}")
    with pytest.raises(ConfigurationError, match="database"):
        database.migrate()
    database.close()
    assert path.read_bytes() == b"holiday pictures " * 1000


@pytest.mark.slow
def test_every_commit_reaches_the_disk(sqlite_database: Database, tmp_path: Path) -> None:
    """A kill -9 cannot tell durable commits from lost ones: the kernel keeps both. The calls can."""
    if shutil.which("strace") is None:
        pytest.skip("strace is missing: install it (Debian: apt-get install strace) to prove this")
    commits = 60
    log = tmp_path / "strace.log"
    words = ["strace", "-f", "-e", "trace=fsync,fdatasync", "-o", str(log)]
    words += [sys.executable, "-m", "tests.integration.store.store_child", "commit"]
    words += [f"sqlite:///{tmp_path / 'shop.db'}", str(commits)]
    traced = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if "ptrace" in traced.stderr and "Operation not permitted" in traced.stderr:
        pytest.skip("strace is not allowed to trace here (no ptrace): run this on a plain machine")
    assert traced.returncode == 0, traced.stderr
    synced = len(re.findall(r"\b(?:fsync|fdatasync)\(", log.read_text()))
    assert clicks_in(sqlite_database) == commits
    assert synced >= commits

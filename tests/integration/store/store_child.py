"""A process that works on a database beside the test's own: says `ready`, waits for a word, begins."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from datetime import timedelta

from sqlalchemy import text

from smi_desktop.domain.errors import TransientError
from smi_desktop.store import clicks, tasks
from smi_desktop.store.database import Database
from tests.integration.store.rows import NOW

KINDS = ("send_mail",)


def claim_all(database: Database, owner: str) -> list[str]:
    """Claim and finish tasks until there is none left, and return their keys.

    A writer that had to wait too long tries again, as an engine does.
    """
    keys = []
    while True:
        try:
            with database.write() as session:
                task = tasks.claim(
                    session, KINDS, owner=owner, now=NOW, lease=timedelta(seconds=60)
                )
        except TransientError:
            continue
        if task is None:
            return keys
        keys.append(task.key)
        _finish(database, task)


def _finish(database: Database, task: tasks.Claim) -> None:
    while True:
        with suppress(TransientError):
            with database.write() as session:
                tasks.finish(session, task, now=NOW)
            return


def _start() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


def migrate(url: str) -> None:
    """Bring a database up to this version."""
    database = Database(url)
    _start()
    database.migrate()
    database.close()


def count(url: str, times: str) -> None:
    """Read a number and write it back one higher, many times, as units of work do."""
    database = Database(url)
    _start()
    left = int(times)
    while left:
        with suppress(TransientError):
            with database.write() as session:
                value = session.execute(text("SELECT value FROM counter")).scalar_one()
                session.execute(text("UPDATE counter SET value = :value"), {"value": value + 1})
            left -= 1
    database.close()


def claim(url: str, owner: str) -> None:
    """Claim and finish tasks until there is none left; print the key of each."""
    database = Database(url)
    _start()
    print("\n".join(claim_all(database, owner)))
    database.close()


def commit(url: str, times: str) -> None:
    """Commit one small row at a time."""
    database = Database(url)
    for number in range(int(times)):
        with database.write() as session:
            clicks.add(session, at=NOW, attachment_id=number, post_id=None, bot=False)
    database.close()


def fill_up(url: str, limit: str) -> None:
    """Write until the operating system refuses to let a file grow; print the error's name."""
    database = Database(url)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), hard))
    written = 0
    try:
        for number in range(10_000):
            with database.write() as session:
                for _ in range(50):
                    clicks.add(session, at=NOW, attachment_id=number, post_id=None, bot=False)
            written += 50
    except Exception as error:
        print(type(error).__name__, written)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])

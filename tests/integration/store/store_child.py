"""A process that works on a database beside the test's own: says `ready`, waits for a word, begins."""

from __future__ import annotations

import resource
import sys
from datetime import timedelta

from sqlalchemy import text

from smi_desktop.store import clicks, tasks
from smi_desktop.store.database import Database
from tests.integration.store.rows import NOW

KINDS = ("send_mail",)


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
    for _ in range(int(times)):
        with database.write() as session:
            value = session.execute(text("SELECT value FROM counter")).scalar_one()
            session.execute(text("UPDATE counter SET value = :value"), {"value": value + 1})
    database.close()


def claim(url: str, owner: str) -> None:
    """Claim and finish tasks until there is none left; print the key of each."""
    database = Database(url)
    _start()
    keys = []
    while True:
        with database.write() as session:
            task = tasks.claim(session, KINDS, owner=owner, now=NOW, lease=timedelta(seconds=60))
        if task is None:
            break
        keys.append(task.key)
        with database.write() as session:
            tasks.finish(session, task, now=NOW)
    database.close()
    print("\n".join(keys))


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

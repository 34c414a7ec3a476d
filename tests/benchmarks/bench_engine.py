"""How many orders an engine brings from the paid webhook to the mail, beside what the disk could do at most.

Providers answer at once (fakes), the database is a real SQLite file with its real settings. The limit is the
number of commits a second of the same file, in the same run, divided by the commits that an order needs.

    PYTHONPATH=. .venv/bin/python tests/benchmarks/bench_engine.py --orders 200
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from sqlalchemy import event, func, select

from smi_desktop.engine.engine import Engine
from smi_desktop.store import settings as settings_rows
from smi_desktop.store.database import Database
from smi_desktop.store.models import OutboxMail
from tests.world import World


class CommitCounter:
    """Counts the commits of a database."""

    def __init__(self, database: Database) -> None:
        self.count = 0
        event.listen(database.engine, "commit", self._add)

    def _add(self, _connection: object) -> None:
        self.count += 1


def commits_a_second(world: World, seconds: float) -> float:
    """Return how many small writing transactions the database takes, one after another."""
    ends_at = time.perf_counter() + seconds
    count = 0
    began = time.perf_counter()
    while time.perf_counter() < ends_at:
        with world.database.write() as session:
            settings_rows.beat(session, "bench", now=world.clock.now(), facts={"n": count})
        count += 1
    return count / (time.perf_counter() - began)


def mails_sent(world: World) -> int:
    """Return how many orders have come to their mail."""
    with world.database.read() as session:
        query = select(func.count()).select_from(OutboxMail).where(OutboxMail.state == "sent")
        return session.scalar(query) or 0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--orders", type=int, default=200)
    orders = parser.parse_args().orders
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database = Database(f"sqlite:///{folder / 'shop.db'}")
        database.migrate()
        world = World(folder, database)
        world.set(upscaler="embedded")
        picture = world.add_image()
        before = commits_a_second(world, 3)
        for _ in range(orders):
            world.buy(attachment_id=picture)
        counter = CommitCounter(database)
        began = time.perf_counter()
        with Engine(world.shop, folder / "engines"):
            while mails_sent(world) < orders:
                time.sleep(0.05)
            seconds = time.perf_counter() - began
        each = counter.count / orders
        after = commits_a_second(world, 3)
        limit = (before + after) / 2
        print(f"{orders} orders in {seconds:.1f} s: {orders / seconds:.1f} orders/s")
        print(f"{each:.1f} commits an order in the engine")
        print(f"limit: {limit:.0f} commits/s = {limit / each:.0f} orders/s")
        print(f"share of the limit: {orders / seconds / (limit / each):.2f}")
        database.close()


if __name__ == "__main__":
    main()

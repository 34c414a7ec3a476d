"""An engine in a process of its own, over the test's database; it is killed or stopped from outside."""

from __future__ import annotations

import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from apscheduler.schedulers.background import BackgroundScheduler

from smi_desktop.engine.engine import Engine, Pace
from smi_desktop.store import settings as settings_rows
from smi_desktop.store.database import Database
from tests.integration.engine.parts import GatedMailer
from tests.world import World


def hang(folder: str, url: str) -> None:
    """Take work, begin it, and never finish."""
    mailer = GatedMailer()
    world = World(Path(folder), Database(url), mailer=mailer)
    Engine(world.shop, Path(folder) / "engines").start()
    mailer.gate.begun.wait()
    print("working", flush=True)
    threading.Event().wait()


class _RealClock:
    def now(self) -> datetime:
        """Return the present moment."""
        return datetime.now(UTC)


def beat(folder: str, url: str, seconds: str) -> None:
    """Give signs of life; beside it a scheduler as APScheduler makes it gives others, named `control`."""
    world = World(Path(folder), Database(url), clock=cast("Any", _RealClock()))

    def control() -> None:
        with world.database.write() as session:
            settings_rows.beat(session, "control", now=world.clock.now(), facts={})

    plain = BackgroundScheduler(timezone="UTC")
    plain.add_job(control, "interval", seconds=float(seconds))
    control()
    plain.start()
    Engine(world.shop, Path(folder) / "engines", pace=Pace(beat=float(seconds))).start()
    print("working", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])

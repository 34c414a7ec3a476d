"""The engine: APScheduler's loops around a few workers that lease tasks and run them.

Loops: look for due work, hold on to the leases of what is being worked on, sweep, give a sign of life.
A loop that is late runs once, never not at all (APScheduler's default drops what is a second late).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from apscheduler.executors.pool import ThreadPoolExecutor as SchedulerPool
from apscheduler.schedulers.background import BackgroundScheduler

from smi_desktop.domain.errors import TransientError
from smi_desktop.engine.presence import Presence
from smi_desktop.engine.runner import run_task
from smi_desktop.services.cleanup import sweep
from smi_desktop.services.shop import Shop
from smi_desktop.services.work import IMAGE_KINDS, NETWORK_KINDS
from smi_desktop.store import settings as settings_rows
from smi_desktop.store import tasks
from smi_desktop.store.tasks import Claim

_log = logging.getLogger(__name__)

LEASE: Final = timedelta(seconds=60)
_NETWORK_WORKERS: Final = 6
_IMAGE_WORKERS: Final = 1


@dataclass(frozen=True, slots=True)
class Pace:
    """How often the loops run, in seconds of the machine's clock."""

    look: float = 0.2
    renew: float = 15.0
    beat: float = 15.0


_PACE: Final = Pace()


class Engine:
    """Does the shop's work until it is stopped.

    Args:
        shop: The open shop.
        presence_dir: Where the engines of this machine tell each other that they live.
        pace: How often the loops run; a lease must last several renewals.
    """

    def __init__(self, shop: Shop, presence_dir: Path, *, pace: Pace = _PACE) -> None:
        self._shop = shop
        self._pace = pace
        self._presence = Presence(presence_dir)
        self._held: dict[int, Claim] = {}
        self._held_lock = threading.Lock()
        self._stopping = threading.Event()
        self._lanes = (
            _Lane(self, IMAGE_KINDS, _IMAGE_WORKERS, "image"),
            _Lane(self, NETWORK_KINDS, _NETWORK_WORKERS, "network"),
        )
        self._scheduler = BackgroundScheduler(
            executors={"default": SchedulerPool(4)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone="UTC",
        )

    def start(self) -> None:
        """Start the loops; returns at once. A database that is away is waited for by the loops.

        Raises:
            SmiError: The settings cannot be read; nothing was started.
        """
        loops: list[tuple[Callable[[], None], float]] = [
            (_survive(self._look), self._pace.look),
            (_survive(self._renew), self._pace.renew),
            (_survive(self._sweep), self._shop.settings().cleanup_seconds),
            (_survive(self._beat), self._pace.beat),
        ]
        _survive(self._release_dead)()
        for loop, seconds in loops:
            self._scheduler.add_job(loop, "interval", seconds=seconds)
        self._scheduler.start()
        _survive(self._beat)()

    def stop(self) -> None:
        """Finish what is being worked on and stop. Work that was not begun waits for the next engine."""
        self._stopping.set()
        # The loops go on until then: a lease that nobody renews would be taken over in the middle.
        for lane in self._lanes:
            lane.close()
        self._scheduler.shutdown(wait=True)
        self._presence.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def run_one(self, kinds: Collection[str]) -> bool:
        """Claim one due task and run it; return False if there was none."""
        if self._stopping.is_set():
            return False
        task = self._claim(kinds)
        if task is None:
            return False
        try:
            run_task(self._shop, task)
        finally:
            with self._held_lock:
                self._held.pop(task.id, None)
        return True

    def _claim(self, kinds: Collection[str]) -> Claim | None:
        now = self._shop.now()
        with self._held_lock:
            held = list(self._held)
        with self._shop.database.read() as session:
            if not tasks.is_due(session, kinds, now, held):
                return None
        # One claim at a time, so that no worker takes what another has just claimed for itself.
        with self._held_lock:
            with self._shop.database.write() as session:
                task = tasks.claim(
                    session,
                    kinds,
                    owner=self._presence.name,
                    now=now,
                    lease=LEASE,
                    held=list(self._held),
                )
            if task is not None:
                self._held[task.id] = task
        return task

    def _look(self) -> None:
        for lane in self._lanes:
            lane.wake()

    def _renew(self) -> None:
        with self._held_lock:
            held = list(self._held)
        if held:
            with self._shop.database.write() as session:
                tasks.renew(
                    session, held, owner=self._presence.name, until=self._shop.now() + LEASE
                )
        self._release_dead()

    def _sweep(self) -> None:
        sweep(self._shop)

    def _beat(self) -> None:
        with self._held_lock:
            facts: dict[str, Any] = {"working_on": len(self._held)}
        with self._shop.database.write() as session:
            settings_rows.beat(session, "engine", now=self._shop.now(), facts=facts)

    def _release_dead(self) -> None:
        for name in self._presence.dead_engines():
            with self._shop.database.write() as session:
                count = tasks.release_owner(session, name, self._shop.now())
            self._presence.forget(name)
            _log.info("Took over %d tasks of an engine that died.", count)


class _Lane:
    """A few workers for some kinds of work; each goes on until nothing is due."""

    def __init__(self, engine: Engine, kinds: Collection[str], workers: int, name: str) -> None:
        self._engine = engine
        self._kinds = kinds
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix=f"smi-{name}")
        self._idle = threading.Semaphore(workers)

    def wake(self) -> None:
        """Send one idle worker to look for work; with work found, it calls the next."""
        if self._idle.acquire(blocking=False):
            self._pool.submit(self._work)

    def close(self) -> None:
        """Wait until every worker is idle; none is sent after that."""
        for _ in range(self._workers):
            self._idle.acquire()
        self._pool.shutdown(wait=True)

    def _work(self) -> None:
        try:
            while self._engine.run_one(self._kinds):
                self.wake()
        except TransientError as error:
            _log.warning("The database is away: %s", error.message)
        except Exception:
            _log.exception("A worker failed.")
        finally:
            self._idle.release()


def _survive(loop: Callable[[], None]) -> Callable[[], None]:
    """Keep a loop going when one round of it fails."""

    def run() -> None:
        try:
            loop()
        except TransientError as error:
            _log.warning("A round was left out: %s", error.message)
        except Exception:
            _log.exception("A round failed.")

    run.__name__ = loop.__name__
    return run

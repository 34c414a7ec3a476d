"""A stream of orders while processes are killed with -9 at random moments; then the invariants.

A longer run: `SMI_KILLS=200 SMI_SEED=7 pytest tests/reliability/test_kill9.py`. The seed is printed.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests
from sqlalchemy import select

from smi_desktop.bootstrap import open_shop
from smi_desktop.cli.rehearsal import Rehearsal
from smi_desktop.sandbox.customer import Customer, UnexpectedError
from smi_desktop.store.models import InboxEntry, Order, Task
from tests.e2e.watching import Watched, wait_until
from tests.reliability.conftest import QUICK
from tests.reliability.invariants import broken

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("SMI_KILLS", "8"))
SEED = int(os.environ.get("SMI_SEED", "0")) or random.randrange(1, 10**6)
PLANTED = Path(__file__).parent / "planted"
# The upscaler of a rehearsal makes one picture after another: a queue is no lack of progress.
CHANGES = {**QUICK, "upsampler_deadline_seconds": 900}
_UNSETTLED = ("pending", "processing")


@contextmanager
def buying(watched: Watched, customers: int) -> Iterator[list[str]]:
    """Let customers buy one picture after another until the block ends; give the orders they have paid."""
    stopping = threading.Event()
    paid: list[str] = []

    def buy_on() -> None:
        while not stopping.is_set():
            address = f"{uuid.uuid4().hex[:12]}@example.com"
            customer = Customer(watched.shop.relay_url, watched.shop.mailbox_dir, address)
            # The relay may be killed just now; this customer sees an error and comes again.
            with suppress(requests.RequestException, UnexpectedError):
                paid.append(watched.buy(customer).job_id)
            # Pictures take a second each; a stream, not a flood.
            stopping.wait(0.6)

    threads = [threading.Thread(target=buy_on) for _ in range(customers)]
    for thread in threads:
        thread.start()
    try:
        yield paid
    finally:
        stopping.set()
        for thread in threads:
            thread.join(30)


def kill_at_random(watched: Watched, choice: random.Random, names: list[str], kills: int) -> None:
    """Kill one process after another, each at a random moment of the stream."""
    for _ in range(kills):
        time.sleep(choice.uniform(0.05, 0.6))  # The moment is what is random here.
        watched.restart(choice.choice(names))


def settled(watched: Watched) -> bool:
    """Tell whether nothing is left to do."""
    with open_shop(watched.shop.config()) as shop, shop.database.read() as session:
        tasks = session.scalars(select(Task.id).where(Task.state.in_(("ready", "leased")))).first()
        events = session.scalars(select(InboxEntry.id).where(InboxEntry.state == "new")).first()
        working = session.scalars(select(Order.id).where(Order.status.in_(_UNSETTLED))).first()
    return tasks is None and events is None and working is None


def test_nothing_is_lost_or_done_twice_however_often_processes_are_killed(tmp_path: Path) -> None:
    print(f"seed {SEED}, {KILLS} kills")
    choice = random.Random(SEED)
    with Rehearsal(tmp_path / "data", seed=SEED, changes=CHANGES) as rehearsal:
        watched = Watched(rehearsal)
        watched.fault("upsampler", "job", "fail", skip=3, times=2)
        with buying(watched, customers=1) as paid:
            kill_at_random(watched, choice, ["engine", "relay"], KILLS)
        assert paid
        wait_until(lambda: settled(watched), "everything has come to its end", 240)
        assert broken(rehearsal) == []


def test_control_a_relay_that_answers_before_it_stores_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(PLANTED / "acknowledge_first"), *sys.path])
    choice = random.Random(SEED)
    with Rehearsal(tmp_path / "data", seed=SEED, changes=CHANGES) as rehearsal:
        watched = Watched(rehearsal)
        found: list[str] = []
        for _ in range(10):
            with buying(watched, customers=2):
                kill_at_random(watched, choice, ["relay"], 3)
            found = [line for line in broken(rehearsal) if line.startswith("I1")]
            if found:
                break
        assert found

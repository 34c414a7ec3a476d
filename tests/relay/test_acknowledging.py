"""Whoever was told "received" finds his event after a kill -9; and a control that shows this check can fail."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from sqlalchemy import text

from smi_desktop.store.database import Database
from tests.relay.conftest import HOST, wait_for
from tests.world import World
from webhook_relay.server import check_port

ROOT = Path(__file__).resolve().parents[2]
SENDERS = 6
ENOUGH = 40


@contextmanager
def receiver(folder: Path, kind: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a receiver; give it with the address for its webhooks."""
    port = check_port(HOST, 0)
    command = [sys.executable, "-m", "tests.relay.receiver", str(folder), str(port), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process, f"http://{HOST}:{port}/smi-webhook/stripe/"
        finally:
            process.kill()


def acknowledged_before_the_kill(folder: Path, world: World, kind: str) -> set[str]:
    """Send events from several senders, kill the receiver amid them; return what it has acknowledged."""
    acknowledged: set[str] = set()
    session_id = world.pay(world.start_checkout().order_id)
    with receiver(folder, kind) as (process, url):

        def send(sender: int) -> None:
            with requests.Session() as http:
                for number in range(10_000):
                    event_id = f"evt_{kind}_{sender}_{number}"
                    raw, signature = world.event("x", session_id, event_id=event_id)
                    try:
                        answer = http.post(url, data=raw, headers={"Stripe-Signature": signature})
                    except requests.ConnectionError:
                        return
                    if answer.ok:
                        acknowledged.add(event_id)

        senders = [threading.Thread(target=send, args=(sender,)) for sender in range(SENDERS)]
        for thread in senders:
            thread.start()
        wait_for(lambda: len(acknowledged) >= ENOUGH)
        process.kill()
        for thread in senders:
            thread.join()
    return acknowledged


def lost(database: Database, acknowledged: set[str]) -> set[str]:
    """Which of them a restarted shop does not find, with or without the task that applies them."""
    with database.read() as session:
        assert session.scalar(text("PRAGMA integrity_check")) == "ok"
        rows = session.execute(
            text("SELECT event_id FROM inbox JOIN tasks ON tasks.key = 'apply:' || inbox.id")
        )
        return acknowledged - set(rows.scalars())


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_to_a_kill_and_the_planted_bug_is_caught(
    world: World, tmp_path: Path
) -> None:
    for _ in range(2):
        ours = acknowledged_before_the_kill(tmp_path, world, "ours")
        assert lost(world.database, ours) == set()
    planted = acknowledged_before_the_kill(tmp_path, world, "acknowledges-first")
    assert lost(world.database, planted), "the check does not see an event that was lost"

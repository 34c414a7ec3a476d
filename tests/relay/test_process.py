"""`python -m smi_desktop relay` as what it is: a process that starts, is killed and ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from smi_desktop.store.database import Database
from tests.relay.conftest import HOST, wait_for
from tests.world import WEBHOOK_SECRET, World
from webhook_relay.server import check_port

pytestmark = pytest.mark.slow

SECRETS = {
    "SMI_SECRETS_BACKEND": "environment",
    "SMI_SECRET_STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
    "SMI_SECRET_STRIPE_SECRET_KEY": "sk_test_1",
    "SMI_SECRET_TOKEN_KEY": "ab" * 32,
}


@dataclass
class Process:
    """A relay that was started."""

    popen: subprocess.Popen[str]
    port: int

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{HOST}:{self.port}"

    def line(self) -> str:
        """Wait for a line on its standard output."""
        assert self.popen.stdout is not None
        return self.popen.stdout.readline()

    def end(self, number: signal.Signals = signal.SIGTERM, seconds: float = 15.0) -> int:
        """Send a signal and wait for the end; return the exit code."""
        self.popen.send_signal(number)
        return self.popen.wait(seconds)


Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start relays over the test's folder."""
    started: list[subprocess.Popen[str]] = []
    files = ExitStack()

    def run(*options: str, port: int | None = None, **environment: str) -> Process:
        chosen = check_port(HOST, 0) if port is None else port
        command = [
            sys.executable, "-m", "smi_desktop", "--data", str(tmp_path), "relay",
            "--port", str(chosen), *options,
        ]  # fmt: skip
        popen = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=files.enter_context((tmp_path / f"stderr-{len(started)}").open("w")),
            text=True,
            env={**os.environ, **SECRETS, **environment},
        )
        started.append(popen)
        return Process(popen, chosen)

    yield run
    with files:
        for popen in started:
            popen.kill()
            popen.wait()
            for pipe in (popen.stdin, popen.stdout):
                assert pipe is not None
                pipe.close()


def stderr(folder: Path, number: int = 0) -> str:
    """What a relay wrote to its standard error."""
    return (folder / f"stderr-{number}").read_text()


def event(world: World, event_id: str) -> dict[str, Any]:
    """A request that delivers an event signed now."""
    body = {"id": event_id, "type": "x", "livemode": False, "data": {"object": {}}}
    raw = json.dumps(body).encode()
    age = world.clock.now().timestamp() - time.time()
    return {"data": raw, "headers": {"Stripe-Signature": world.sign(raw, age=age)}, "timeout": 10}


def test_it_says_when_it_is_ready_and_ends_when_told(start: Start, tmp_path: Path) -> None:
    for options, wanted in (
        (("--json",), '{"relay_url": "%s"}\n'),
        ((), "The relay listens on %s\n"),
    ):
        relay = start(*options)
        assert relay.line() == wanted % relay.url
        assert requests.get(f"{relay.url}/healthz", timeout=5).json() == {"status": "ok"}
        assert relay.end() == 0
    assert "Traceback" not in stderr(tmp_path) + stderr(tmp_path, 1)


def test_a_busy_port_is_told_in_one_line(start: Start, tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        relay = start(port=port)
        assert relay.popen.wait(30) == 1
    lines = stderr(tmp_path).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("The port is busy: ")
    assert str(port) in lines[0]


def test_without_a_signing_secret_it_refuses_to_start(start: Start, tmp_path: Path) -> None:
    relays = [start(SMI_SECRET_STRIPE_WEBHOOK_SECRET=secret) for secret in ("", " ")]
    for number, relay in enumerate(relays):
        assert relay.popen.wait(30) == 1
        lines = stderr(tmp_path, number).splitlines()
        assert len(lines) == 1
        assert "stripe_webhook_secret" in lines[0]
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((HOST, relay.port), timeout=1)


def test_it_ends_within_three_seconds_with_requests_open(start: Start, tmp_path: Path) -> None:
    relay = start("--json")
    relay.line()
    half_body = b"POST /smi/v1/images HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"
    kinds = (b"", b"GET /healthz HTTP/1.1\r\n", half_body)
    opened = [socket.create_connection((HOST, relay.port)) for _ in range(9)]
    for number, connection in enumerate(opened):
        connection.sendall(kinds[number % len(kinds)])
    requests.get(f"{relay.url}/healthz", timeout=5)
    started = time.monotonic()
    code = relay.end()
    elapsed = time.monotonic() - started
    for connection in opened:
        connection.close()
    assert code == 0
    assert elapsed < 3.0, f"{elapsed:.1f} s"
    assert "Traceback" not in stderr(tmp_path)


def test_it_ends_within_three_seconds_though_a_checkout_waits_for_stripe(
    start: Start, tmp_path: Path
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'shop.db'}")
    database.migrate()
    world = World(tmp_path / "world", database)
    number = world.add_image()
    with socket.create_server((HOST, 0)) as silent, ThreadPoolExecutor(1) as pool:
        silent.settimeout(20)
        world.set(stripe_api_base=f"http://{HOST}:{silent.getsockname()[1]}")
        database.close()
        relay = start("--json", SMI_MODE="rehearsal")
        relay.line()
        body = {"attachment_id": number, "resolution": "4x"}
        asked = pool.submit(requests.post, f"{relay.url}/smi/v1/create-checkout", json=body)
        try:
            connection, _ = silent.accept()
        except TimeoutError:
            pytest.fail(f"Stripe was never asked: {asked.result(20).text} {stderr(tmp_path)}")
        started = time.monotonic()
        code = relay.end()
        elapsed = time.monotonic() - started
        connection.close()
        left_alone = asked.exception(10)
        assert isinstance(left_alone, requests.ConnectionError) or not asked.result().ok
    assert code == 0
    assert elapsed < 3.0, f"{elapsed:.1f} s"
    assert "Traceback" not in stderr(tmp_path)


def test_it_ends_with_the_program_that_started_it(start: Start) -> None:
    relay = start("--json", "--exit-with-parent")
    relay.line()
    assert relay.popen.stdin is not None
    relay.popen.stdin.close()
    assert relay.popen.wait(10) == 0


def test_after_a_kill_the_port_is_free_and_what_was_acknowledged_is_there(
    start: Start, tmp_path: Path
) -> None:
    relay = start("--json")
    relay.line()
    database = Database(f"sqlite:///{tmp_path / 'shop.db'}")
    world = World(tmp_path / "world", database)
    hook = "/smi-webhook/stripe/"
    with requests.Session() as kept_alive:
        assert kept_alive.post(relay.url + hook, **event(world, "evt_1")).status_code == 200
        assert relay.end(signal.SIGKILL) == -signal.SIGKILL
        started = time.monotonic()
        again = start("--json", port=relay.port)

        def accepted() -> bool:
            try:
                return requests.post(again.url + hook, **event(world, "evt_2")).ok
            except requests.ConnectionError:
                return False

        wait_for(accepted, 20)
        elapsed = time.monotonic() - started
    known = requests.post(again.url + hook, **event(world, "evt_1")).json()
    assert known == {"received": True, "duplicate": True}
    database.close()
    print(f"from the start to the first accepted webhook: {elapsed:.2f} s")
    assert elapsed < 10, "the goal is 3 s on an idle machine"
    assert again.end() == 0


def test_its_files_belong_to_their_owner_alone(start: Start, tmp_path: Path) -> None:
    relay = start("--json", SMI_DATA_DIR=str(tmp_path))
    relay.line()
    for path in tmp_path.rglob("*"):
        if path.name.startswith("stderr"):
            continue
        assert path.stat().st_mode & 0o077 == 0, path
    assert relay.end() == 0

"""The real server over a test's world, on a free port, in a thread of this process."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from smi_desktop.services.shop import Shop
from smi_desktop.store.database import Database
from tests.world import World
from webhook_relay.app import create_app
from webhook_relay.server import check_port, serve_until

HOST = "127.0.0.1"
SECONDS = 10.0


@contextmanager
def serving(application: Any, *, header_seconds: float = 10.0) -> Iterator[int]:
    """Serve an application from a thread; give its port."""
    port = check_port(HOST, 0)
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stopping = asyncio.Event()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(
                serve_until(
                    stopping,
                    application,
                    HOST,
                    port,
                    on_ready=ready.set,
                    header_seconds=header_seconds,
                )
            )

    thread = threading.Thread(target=run, name="relay under test")
    thread.start()
    try:
        assert ready.wait(SECONDS), "the relay does not start"
        yield port
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(SECONDS)
    assert not thread.is_alive(), "the relay does not stop"


@dataclass
class Relay:
    """A running relay and the world behind it."""

    world: World
    port: int
    http: requests.Session
    open_sockets: list[socket.socket] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{HOST}:{self.port}"

    def get(self, path: str, **how: Any) -> requests.Response:
        """Send a GET."""
        return self.request("GET", path, **how)

    def post(self, path: str, **how: Any) -> requests.Response:
        """Send a POST."""
        return self.request("POST", path, **how)

    def request(self, method: str, path: str, **how: Any) -> requests.Response:
        """Send a request; redirects are not followed."""
        how.setdefault("timeout", SECONDS)
        return self.http.request(method, self.url + path, allow_redirects=False, **how)

    def checkout(self, attachment_id: int | None = None, **fields: Any) -> requests.Response:
        """Ask for a checkout, of a new picture if none is named."""
        number = self.world.add_image() if attachment_id is None else attachment_id
        body = {"attachment_id": number, "post_id": 7, "resolution": "4x", **fields}
        return self.post("/smi/v1/create-checkout", json=body)

    def stripe(self, raw: bytes, signature: str, **how: Any) -> requests.Response:
        """Deliver a Stripe webhook."""
        headers = {"Stripe-Signature": signature, "Content-Type": "application/json"}
        return self.post(
            "/smi-webhook/stripe/", data=raw, headers={**headers, **how.pop("headers", {})}, **how
        )

    def connect(self) -> socket.socket:
        """Open a bare connection; it is closed with the test."""
        opened = socket.create_connection((HOST, self.port), timeout=SECONDS)
        self.open_sockets.append(opened)
        return opened

    def exchange(self, raw: bytes) -> bytes:
        """Send bytes on a connection of their own and return all that comes back."""
        connection = self.connect()
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(raw)
        return read_all(connection)

    def hang_up(self) -> None:
        """Close the bare connections."""
        for connection in self.open_sockets:
            connection.close()

    def rows(self, model: Any) -> list[Any]:
        """Return every row of a table."""
        with self.world.database.read() as session:
            return list(session.query(model).all())


def read_all(connection: socket.socket) -> bytes:
    """Read until the other side closes, or nothing has come for a second after something did."""
    parts = bytearray()
    try:
        while part := connection.recv(65536):
            parts += part
            connection.settimeout(1.0)
    except (TimeoutError, ConnectionResetError):
        pass
    return bytes(parts)


def wait_for(condition: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """Return the condition's value once it is true; fail after the deadline."""
    deadline = time.monotonic() + seconds
    nudge = threading.Event()
    while True:
        if value := condition():
            return value
        assert time.monotonic() < deadline, "it never came true"
        nudge.wait(0.01)


StartRelay = Callable[..., Relay]


@pytest.fixture
def start_relay() -> Iterator[StartRelay]:
    """Start relays over given worlds; `shop` stands in for a world's own."""
    with ExitStack() as stack:

        def start(world: World, *, shop: Shop | None = None, header_seconds: float = 10.0) -> Relay:
            port = stack.enter_context(
                serving(create_app(shop or world.shop), header_seconds=header_seconds)
            )
            relay = Relay(world, port, stack.enter_context(requests.Session()))
            stack.callback(relay.hang_up)
            return relay

        yield start


@pytest.fixture
def relay(world: World, start_relay: StartRelay) -> Relay:
    """A relay over SQLite."""
    return start_relay(world)


@pytest.fixture
def any_relay(tmp_path: Path, database: Database, start_relay: StartRelay) -> Relay:
    """A relay over each database in turn."""
    return start_relay(World(tmp_path, database))

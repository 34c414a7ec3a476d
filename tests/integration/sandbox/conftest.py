"""A rehearsal for all tests, rehearsals of a test's own, and a receiver for what they send."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import pyvips
from sandbox_running import WEBHOOK_SECRET, Receiver, Sandbox

from smi_desktop.resources import resource_path


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A server that takes webhooks and serves a picture."""
    picture = resource_path("samples/espresso.jpg").read_bytes()
    small: bytes = pyvips.Image.thumbnail_buffer(picture, 120).pngsave_buffer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = got.answers.pop(0) if got.answers else 200
            got.posts.append((self.path, dict(self.headers), body))
            self._answer(status, b"")

        def do_GET(self) -> None:
            self._answer(200, {"/text": b"no picture", "/small": small}.get(self.path, picture))

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    got = Receiver(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield got
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="package")
def shared_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One rehearsal for all tests that leave it as they found it."""
    running = Sandbox(tmp_path_factory.mktemp("rehearsal"), "--quick-upscale", "--no-rate-limit")
    yield running.start()
    running.close()


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Iterator[Sandbox]:
    """The shared rehearsal with no fault, no endpoint and the right time."""
    shared_sandbox.clear()
    yield shared_sandbox
    shared_sandbox.clear()


@pytest.fixture
def own_sandbox(tmp_path: Path) -> Iterator[Callable[..., Sandbox]]:
    """Makes rehearsals that a test may kill."""
    made: list[Sandbox] = []

    def make(*options: str) -> Sandbox:
        made.append(Sandbox(tmp_path / f"rehearsal-{len(made)}", *options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def hooked(sandbox: Sandbox, receiver: Receiver) -> Receiver:
    """The receiver, registered for every event."""
    sandbox.control("endpoints", {"url": f"{receiver.url}/hook", "secret": WEBHOOK_SECRET})
    return receiver

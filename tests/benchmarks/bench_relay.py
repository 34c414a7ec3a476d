"""Measure the relay: prices and durable webhooks beside a bare endpoint on the same server.

    python tests/benchmarks/bench_relay.py [--seconds 5] [--connections 8 32]

Three things are measured in turns, each by a client in a process of its own over keep-alive connections:
a Starlette endpoint that returns a constant JSON, `calculate-all-prices`, and signed webhooks that are on
disk (SQLite, synchronous=FULL) before they are answered. The relay is the real command with its access log
on; the bare endpoint runs on the same server with the same settings. The client is the asyncio one below,
so on a small machine the bare endpoint's figure is partly the client's.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import text
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from smi_desktop.store import settings as settings_rows
from smi_desktop.store.database import Database
from smi_desktop.store.models import Image
from webhook_relay.server import check_port, serve_until

HOST = "127.0.0.1"
SECRET = "whsec_bench"
EVENT_BYTES = 2000
MOST_EVENTS = 3000
"""How many signed events are prepared for each second of a run."""
NO_LIMIT = 10**9
ENVIRONMENT = {
    "SMI_SECRETS_BACKEND": "environment",
    "SMI_SECRET_STRIPE_WEBHOOK_SECRET": SECRET,
    "SMI_SECRET_TOKEN_KEY": "ab" * 32,
    "SMI_SECRET_UPSAMPLER_API_KEY": "up_1",
}


class Client(asyncio.Protocol):
    """One connection that sends a request as soon as the answer to the last one is whole."""

    def __init__(self, requests: Iterator[bytes], times: list[float], until: float) -> None:
        self.done = asyncio.get_running_loop().create_future()
        self._requests, self._times, self._until = requests, times, until
        self._sent_at = 0.0
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        """Go on once the answer is whole."""
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().partition(b"content-length:")[2].split()[0]):
            return
        assert head.startswith(b"HTTP/1.1 200"), self._received[:500]
        self._times.append(time.perf_counter() - self._sent_at)
        self._received = b""
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        """End."""
        if not self.done.done():
            self.done.set_result(None)

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None or time.perf_counter() > self._until:
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)


def framed(method: str, path: str, body: bytes = b"", headers: str = "") -> bytes:
    """Return a request as it goes over the wire."""
    head = f"{method} {path} HTTP/1.1\r\nHost: shop\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


def events(seconds: float, run: str) -> Iterator[bytes]:
    """Prepare signed events, each with an id of its own."""
    prepared = []
    for number in range(int(MOST_EVENTS * seconds)):
        event = {
            "id": f"evt_{run}_{number}",
            "type": "checkout.session.completed",
            "livemode": False,
            "data": {"object": {"id": "cs_1", "padding": "x" * EVENT_BYTES}},
        }
        raw = json.dumps(event).encode()
        moment = int(time.time())
        value = hmac.new(SECRET.encode(), f"{moment}.".encode() + raw, hashlib.sha256).hexdigest()
        header = f"Stripe-Signature: t={moment},v1={value}\r\n"
        prepared.append(framed("POST", "/smi-webhook/stripe/", raw, header))
    return iter(prepared)


def always(request: bytes) -> Iterator[bytes]:
    """The same request for ever."""
    while True:
        yield request


async def load(port: int, kind: str, connections: int, seconds: float) -> dict[str, float]:
    """Put load on a server; return requests a second and milliseconds."""
    if kind == "webhooks":
        requests = events(seconds, f"{os.getpid()}")
    elif kind == "prices":
        requests = always(framed("GET", "/smi/v1/calculate-all-prices?attachment_id=1"))
    else:
        requests = always(framed("GET", "/"))
    times: list[float] = []
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    made = [
        await loop.create_connection(lambda: Client(requests, times, started + seconds), HOST, port)
        for _ in range(connections)
    ]
    await asyncio.gather(*(client.done for _, client in made))
    elapsed = time.perf_counter() - started
    times.sort()
    return {
        "rate": len(times) / elapsed,
        "p50": times[len(times) // 2] * 1000,
        "p99": times[len(times) * 99 // 100] * 1000,
    }


def serve_bare(port: int) -> None:
    """Serve a constant on the relay's own server until killed."""

    async def constant(_request: Request) -> JSONResponse:
        return JSONResponse({"success": True})

    application = Starlette(routes=[Route("/", constant)])
    asyncio.run(
        serve_until(
            asyncio.Event(), application, HOST, port, on_ready=lambda: print("ready", flush=True)
        )
    )


@contextmanager
def process(command: list[str], folder: Path) -> Iterator[None]:
    """Keep a server running."""
    with (
        (folder / "log").open("a") as log,
        subprocess.Popen(
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, **ENVIRONMENT},
        ) as running,
    ):
        assert running.stdout is not None
        assert running.stdout.readline(), "the server does not start"
        try:
            yield
        finally:
            running.kill()


def measure(port: int, kind: str, connections: int, seconds: float) -> dict[str, float]:
    """Run the client in a process of its own."""
    command = [
        sys.executable, __file__, "--load", kind, "--port", str(port),
        "--connections", str(connections), "--seconds", str(seconds),
    ]  # fmt: skip
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return dict(found)


def prepare(database: Database) -> None:
    """Put a picture into the catalogue and lift the limit."""
    now = datetime.now(UTC)
    with database.write() as session:
        settings_rows.save(session, {"rate_per_address_per_minute": NO_LIMIT}, now=now)
        session.add(
            Image(
                attachment_id=1, title="Harbour", source_kind="file", source="/none", source_sha256="0" * 64,
                source_bytes=1, format="png", width=2000, height=1000, for_sale=True, created_at=now, updated_at=now,
            )
        )  # fmt: skip


def bench(connections: list[int], seconds: float) -> None:
    """Measure everything side by side and print a table."""
    with tempfile.TemporaryDirectory(prefix="bench-relay-") as name:
        folder = Path(name)
        database = Database(f"sqlite:///{folder / 'shop.db'}")
        database.migrate()
        prepare(database)
        bare, relay = check_port(HOST, 0), check_port(HOST, 0)
        command = ["-m", "smi_desktop", "--data", name, "relay", "--json", "--port", str(relay)]
        with (
            process([__file__, "--bare", "--port", str(bare)], folder),
            process(command, folder),
        ):
            print(f"{'':10}{'conns':>6}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'of bare':>9}")
            for count in connections:
                base = 0.0
                for kind in ("bare", "prices", "webhooks"):
                    port = bare if kind == "bare" else relay
                    found = measure(port, kind, count, seconds)
                    base = base or found["rate"]
                    print(
                        f"{kind:10}{count:6}{found['rate']:9.0f}{found['p50']:9.2f}"
                        f"{found['p99']:9.2f}{found['rate'] / base:9.2f}",
                        flush=True,
                    )
        with database.read() as session:
            print("events on disk:", session.scalar(text("SELECT count(*) FROM inbox")))
        database.close()


def main() -> None:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--load", help=argparse.SUPPRESS)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        serve_bare(options.port)
    elif options.load:
        found = asyncio.run(
            load(options.port, options.load, options.connections[0], options.seconds)
        )
        print(json.dumps(found))
    else:
        bench(options.connections, options.seconds)


if __name__ == "__main__":
    main()

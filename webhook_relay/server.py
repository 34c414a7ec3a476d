"""Running the application on one socket in one process.

One process, because the server's multi-process form leaves an orphan worker on the port after a kill -9.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
from collections.abc import Callable
from typing import Any, Final

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server
from starlette.types import ASGIApp

from smi_desktop.domain.errors import ConfigurationError
from smi_desktop.services.shop import Shop
from webhook_relay.app import create_app

_log = logging.getLogger(__name__)

_BACKLOG: Final = 8192
_HEADER_SECONDS: Final = 10.0
_GRACE_SECONDS: Final = 2.0
# What the kernel holds for a client that has gone looks sent. Small buffers keep that under about a
# megabyte, and still carry some 5 MB/s to a client 100 ms away.
_SEND_BUFFER: Final = 256 * 1024
_SERVER_BUFFER: Final = 64 * 1024


class RelayServer(Server):
    """Granian's embedded server with a small send buffer on the listening socket, which connections inherit."""

    def _init_shared_socket(self) -> None:
        super()._init_shared_socket()  # type: ignore[no-untyped-call]
        server: Any = self
        if server._shd is None:
            # On Linux the worker would open the socket itself, out of our reach.
            server._shd = server._ssp.build()
            server._sfd = server._shd.get_fd()
            server._ssp = None
        with socket.socket(fileno=os.dup(server._sfd)) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)


def check_port(host: str, port: int) -> int:
    """Make sure that nobody else listens there; return the port, a free one for 0.

    Raises:
        ConfigurationError: It is in use, or may not be opened.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As the server does it: a port whose last owner was killed a second ago is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ConfigurationError(
                    f"Port {port} on {host} is in use by another program. Stop it, or choose another "
                    "port with --port.",
                    title="The port is busy",
                ) from error
            raise ConfigurationError(
                f"{host}:{port} cannot be opened: {error.strerror}.",
                title="The port cannot be used",
            ) from error
        return int(probe.getsockname()[1])


def serve(shop: Shop, host: str, port: int, *, on_ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT; returns when open requests have ended or a few seconds are over."""
    asyncio.run(_serve_until_signal(shop, host, port, on_ready))


async def _serve_until_signal(
    shop: Shop, host: str, port: int, on_ready: Callable[[], None]
) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopping.set)
    await serve_until(stopping, create_app(shop), host, port, on_ready=on_ready)


async def serve_until(
    stopping: asyncio.Event,
    application: ASGIApp,
    host: str,
    port: int,
    *,
    on_ready: Callable[[], None],
    header_seconds: float = _HEADER_SECONDS,
) -> None:
    """Serve an ASGI application until an event is set.

    Args:
        stopping: Ends the server; open requests get a few seconds.
        application: What answers.
        host: The address to listen on.
        port: The port; one that `check_port` has found free.
        on_ready: Called once connections are taken.
        header_seconds: How long a client may take to send a request's headers.
    """
    target: Any = application
    server = RelayServer(
        target,
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        # HTTP/2's streams know no time limit for headers; a proxy in front speaks HTTP/1 to us.
        http=HTTPModes.http1,
        websockets=False,
        backlog=_BACKLOG,
        backpressure=_BACKLOG,
        http1_settings=HTTP1Settings(
            header_read_timeout=int(header_seconds * 1000), max_buffer_size=_SERVER_BUFFER
        ),
        log_enabled=False,
    )
    serving = asyncio.create_task(server.serve())
    ready = asyncio.create_task(_announce(host, port, on_ready))
    stopped = asyncio.create_task(stopping.wait())
    done, _ = await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    stopped.cancel()
    if serving in done:
        await serving
        raise ConfigurationError("The relay's server has ended by itself.")
    server.stop()  # type: ignore[no-untyped-call]
    done, _ = await asyncio.wait({serving}, timeout=_GRACE_SECONDS)
    if not done:
        _log.info("Requests were still open at the end; they are cut.")
        # The server reports its own end to a loop that has closed by then, with a traceback of no use.
        asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)


async def _announce(host: str, port: int, on_ready: Callable[[], None]) -> None:
    """Call `on_ready` once connections are taken."""
    while True:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            await asyncio.sleep(0.02)
            continue
        writer.close()
        on_ready()
        return

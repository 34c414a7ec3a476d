"""A server on loopback that answers exactly the bytes that a test wants, or breaks off among them."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


Answer = Callable[[Request, socket.socket], None]


def reply(status: int, body: bytes | str = b"", **headers: str) -> Answer:
    """Return an answer with a right length; `Retry_After="3"` becomes `Retry-After: 3`."""
    content = body.encode() if isinstance(body, str) else body
    fields = {"Content-Length": str(len(content)), "Connection": "close"}
    fields.update({name.replace("_", "-"): value for name, value in headers.items()})
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return raw(f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + content)


def raw(content: bytes) -> Answer:
    """Return an answer of exactly these bytes, after which the connection is closed."""

    def answer(_: Request, connection: socket.socket) -> None:
        connection.sendall(content)

    return answer


def reset(_: Request, connection: socket.socket) -> None:
    """Break the connection without an answer."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")


@dataclass
class LoopbackServer:
    """Gives the answers in turn; the last one for ever.

    Attributes:
        url: Such as `http://127.0.0.1:40000`.
        requests: What was asked, in order.
        stopping: Set when the test is over; an answer that dawdles waits on it.
    """

    answers: list[Answer]
    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    url: str = ""
    port: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _workers: list[threading.Thread] = field(default_factory=list)

    def serve(self, listener: socket.socket) -> None:
        """Accept until the listener is closed."""
        while not self.stopping.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            worker = threading.Thread(target=self._handle, args=(connection,), daemon=True)
            self._workers.append(worker)
            worker.start()

    def join(self) -> None:
        """Wait for every connection to end."""
        for worker in self._workers:
            worker.join(_SECONDS)

    def _handle(self, connection: socket.socket) -> None:
        connection.settimeout(_SECONDS)
        with suppress(OSError), connection:
            if self.tls is not None:
                connection = self.tls.wrap_socket(connection, server_side=True)
            with connection:
                request = _read(connection)
                if request is None:
                    return
                with self._lock:
                    self.requests.append(request)
                    place = min(len(self.requests), len(self.answers)) - 1
                self.answers[place](request, connection)


@contextmanager
def serving(*answers: Answer, tls: ssl.SSLContext | None = None) -> Iterator[LoopbackServer]:
    """Run a server for the length of a with block."""
    server = LoopbackServer(list(answers), tls)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server.port = listener.getsockname()[1]
        server.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.port}"
        acceptor = threading.Thread(target=server.serve, args=(listener,), daemon=True)
        acceptor.start()
        try:
            yield server
        finally:
            server.stopping.set()
            # A closed listener does not wake a thread that waits in accept(); a shut-down one does.
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join(_SECONDS)
            server.join()


def dripping(
    server_of: Callable[[], LoopbackServer], head: bytes, drop: bytes, seconds: float
) -> Answer:
    """Return an answer that sends `head` and then a hundred drops, one every so many seconds."""

    def answer(_: Request, connection: socket.socket) -> None:
        connection.sendall(head)
        for _drop in range(100):
            if server_of().stopping.wait(seconds):
                return
            connection.sendall(drop)

    return answer


def closed_port() -> int:
    """Return a port of loopback on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _read(connection: socket.socket) -> Request | None:
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = connection.recv(65536)
        if not chunk:
            return None
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        body += connection.recv(65536)
    return Request(method, target, headers, body)

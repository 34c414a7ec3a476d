"""The providers' HTTP: requests in, replies out, and the faults that strike on the wire.

Built on the standard library's threaded server because a rehearsal must be able to do what no web
framework lets an application do: close a connection without an answer, lie about a length, drip bytes.
Knows nothing of any provider: a provider is a `HttpService`, a table of routes.
"""

from __future__ import annotations

import logging
import re
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from smi_desktop.sandbox import http_faults
from smi_desktop.sandbox.faults import FaultScript, Layer
from smi_desktop.sandbox.http_messages import (
    HttpError,
    NoReplyError,
    Reply,
    Request,
    Sending,
    json_reply,
)

_LOG: Final = logging.getLogger(__name__)
_BODY_LIMIT: Final = 4 * 2**20
_CHUNK: Final = 256 * 1024
_IDLE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Route:
    """One address of a provider.

    Attributes:
        operation: The name under which faults are scripted; empty for an address that is never faulty.
        pattern: The path, with `{name}` for one segment.
    """

    method: str
    pattern: str
    operation: str
    handler: Callable[[Request], Reply]

    @property
    def regex(self) -> re.Pattern[str]:
        """The pattern as a regular expression."""
        return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.pattern))


class HttpService:
    """A provider: its routes, and its own shape of errors.

    Args:
        provider: The name under which faults are scripted.
        explain: Makes the reply to an error in the provider's own shape.
    """

    def __init__(
        self,
        provider: str,
        routes: Sequence[Route],
        faults: FaultScript,
        explain: Callable[[HttpError], Reply],
    ) -> None:
        self._provider = provider
        self._routes = [(route, route.regex) for route in routes]
        self._faults = faults
        self._explain = explain
        self.stopping = threading.Event()

    def answer(self, request: Request) -> Reply:
        """Answer a request, faults included.

        Raises:
            NoReplyError: The connection is to be closed without an answer.
        """
        try:
            route, names = self._find(request)
            request = replace(request, names=names)
            return self._answer_route(route, request)
        except HttpError as error:
            return self._explain(error)

    def _answer_route(self, route: Route, request: Request) -> Reply:
        facts = {
            **request.names,
            "path": request.path,
            "body": request.body.decode("utf-8", "replace"),
        }
        if not route.operation:
            return route.handler(request)
        before = self._faults.take(self._provider, route.operation, Layer.REQUEST, facts)
        if before is not None:
            instead = http_faults.before_effect(before, self.stopping, self._explain)
            if instead is not None:
                return instead
        try:
            reply = route.handler(request)
        except HttpError as error:
            reply = self._explain(error)
        after = self._faults.take(self._provider, route.operation, Layer.REPLY, facts)
        return (
            reply
            if after is None
            else http_faults.after_effect(after, reply, self.stopping, self._explain)
        )

    def _find(self, request: Request) -> tuple[Route, dict[str, str]]:
        allowed = False
        wanted = "GET" if request.method == "HEAD" else request.method
        for route, regex in self._routes:
            found = regex.fullmatch(request.path)
            if found and route.method == wanted:
                return route, found.groupdict()
            allowed = allowed or bool(found)
        if allowed:
            raise HttpError(405, f"{request.method} is not allowed here.")
        raise HttpError(404, f"Unrecognized request URL ({request.method}: {request.path}).")


class ProviderServer(ThreadingHTTPServer):
    """A service on a loopback port of its own, one thread a connection.

    Args:
        port: 0 lets the system choose.

    Raises:
        OSError: The port is taken.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024

    def __init__(self, service: HttpService, port: int) -> None:
        self.service = service
        super().__init__(("127.0.0.1", port), _Handler)

    def server_bind(self) -> None:
        """Bind without asking the name service for the host's name, which can take seconds."""
        socketserver.TCPServer.server_bind(self)

    @property
    def port(self) -> int:
        """The port that it serves."""
        return int(self.server_address[1])

    def start(self) -> None:
        """Serve in a thread until `stop`."""
        threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
        ).start()

    def stop(self) -> None:
        """Stop serving and free the port; faults that wait are let go."""
        self.service.stopping.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """Log what went wrong, unless the other side merely went away."""
        _LOG.debug("connection from %s ended", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    """One connection: reads requests, asks the service, writes replies."""

    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    disable_nagle_algorithm = True
    server: ProviderServer

    def do_GET(self) -> None:
        """Answer any request, whatever its method."""
        try:
            reply = self._reply()
            self._send(reply)
        except NoReplyError:
            self._hang_up()

    # The base class looks for these names.
    do_POST = do_DELETE = do_HEAD = do_PUT = do_PATCH = do_OPTIONS = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Keep the standard error free of an access log."""

    def _reply(self) -> Reply:
        length = int(self.headers.get("Content-Length") or 0)
        if length > _BODY_LIMIT or self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            message = "The body is too large or of unknown length."
            return json_reply({"error": message}, 413, {"Connection": "close"})
        body = self.rfile.read(length)
        parts = urlsplit(self.path)
        request = Request(
            method=self.command,
            path=unquote(parts.path),
            query=parse_qsl(parts.query, keep_blank_values=True),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=body,
        )
        try:
            return self.server.service.answer(request)
        except NoReplyError:
            raise
        except Exception:
            _LOG.exception("%s %s", request.method, request.path)
            return json_reply(
                {
                    "error": {
                        "type": "api_error",
                        "message": "The rehearsal itself failed.",
                    }
                },
                500,
            )

    def _send(self, reply: Reply) -> None:
        start, end = reply.span()
        length = end - start
        sending = reply.sending
        limit = sending.limit(length)
        declared = limit if sending.honest else length
        head = self._head(reply, declared)
        pieces = (
            ()
            if self.command == "HEAD"
            else reply.pieces(start, start + limit, sending.piece or _CHUNK)
        )
        self._write(head, iter(pieces), sending)
        if limit < declared:
            self._hang_up()

    def _head(self, reply: Reply, length: int) -> bytes:
        phrase = self.responses.get(reply.status, ("", ""))[0]
        lines = [f"HTTP/1.1 {reply.status} {phrase}"]
        fields = {
            "Date": self.date_time_string(),
            "Server": "rehearsal",
            **reply.headers,
            "Content-Length": str(length),
        }
        lines += [f"{name}: {value}" for name, value in fields.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")

    def _write(self, head: bytes, pieces: Iterator[bytes], sending: Sending) -> None:
        # One write for a small reply: two would meet Nagle and the delayed acknowledgement.
        self.wfile.write(head + next(pieces, b""))
        for piece in pieces:
            if sending.pause and self.server.service.stopping.wait(sending.pause):
                break
            self.wfile.write(piece)

    def _hang_up(self) -> None:
        self.close_connection = True
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            _LOG.debug("the other side was gone already")

"""Sending a file in chunks, and knowing how much of it arrived.

The server's own file sending reports the end before the bytes are sent, so it cannot tell a download from
an aborted one. Here each chunk waits until the one before was handed over, and at the end the kernel is asked
whether the client has taken everything (wire.py); a small send buffer keeps what is under way small (server.py).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from typing import BinaryIO, Final

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from smi_desktop.domain.filenames import content_disposition
from smi_desktop.services.delivery import BeingRestoredError, Ticket
from webhook_relay.wire import Wire

_CHUNK: Final = 256 * 1024
_ONE_RANGE: Final = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")

Sent = Callable[[int, int, bool], Awaitable[None]]
"""Told the first byte, how many bytes were sent, and whether all that was asked for went out."""


class UnsatisfiableRangeError(Exception):
    """A range that lies outside of the file."""


@dataclass(frozen=True, slots=True)
class Part:
    """Which bytes are sent: from `first` for `length`."""

    first: int
    length: int
    whole: bool


class FileResponse(Response):
    """A ticket's file, whole or one range of it (RFC 9110 section 14).

    A request for several ranges gets the whole file, which the standard allows and which cannot be abused.
    """

    def __init__(self, ticket: Ticket, on_sent: Sent) -> None:
        super().__init__()
        self._ticket = ticket
        self._on_sent = on_sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        ticket = self._ticket
        request_headers = Headers(scope=scope)
        headers = {
            "accept-ranges": "bytes",
            "content-type": ticket.media_type,
            "content-disposition": content_disposition(ticket.name),
            "etag": ticket.etag,
            "last-modified": _http_date(ticket.modified_at),
            "cache-control": "private, no-store",
            "referrer-policy": "no-referrer",
            "x-robots-tag": "noindex",
            # So that a client's end of the connection tells at once whether it got everything.
            "connection": "close",
        }
        try:
            part = choose_part(ticket, request_headers, scope["method"])
        except UnsatisfiableRangeError:
            headers["content-range"] = f"bytes */{ticket.bytes}"
            headers["content-length"] = "0"
            await _start(send, 416, headers)
            await send({"type": "http.response.body", "body": b""})
            return
        headers["content-length"] = str(part.length)
        if not part.whole:
            last = part.first + part.length - 1
            headers["content-range"] = f"bytes {part.first}-{last}/{ticket.bytes}"
        try:
            file = await asyncio.to_thread(ticket.path.open, "rb")
        except OSError as error:
            raise BeingRestoredError from error
        with file:
            if scope["method"] == "HEAD":
                await _start(send, 200, headers)
                await send({"type": "http.response.body", "body": b""})
                return
            # Found before the first byte goes out, so that whatever the client does after it is seen.
            wire = await asyncio.to_thread(Wire.find, scope)
            sent = 0
            finished = False
            try:
                await _start(send, 200 if part.whole else 206, headers)
                sent = await self._send(file, part, receive, send)
                finished = sent == part.length and (wire is None or await wire.has_arrived())
            finally:
                if wire is not None:
                    if not finished:
                        sent = min(sent, wire.arrived_bytes())
                    wire.close()
                await asyncio.shield(self._on_sent(part.first, sent, finished))

    async def _send(self, file: BinaryIO, part: Part, receive: Receive, send: Send) -> int:
        """Send a part and return how many bytes were handed over."""
        gone = asyncio.ensure_future(_wait_until_gone(receive))
        sent = 0
        try:
            await asyncio.to_thread(file.seek, part.first)
            while sent < part.length and not gone.done():
                chunk = await asyncio.to_thread(file.read, min(_CHUNK, part.length - sent))
                if not chunk:
                    # Cut short on disk: breaking off is the only honest answer left.
                    break
                more = sent + len(chunk) < part.length
                await send({"type": "http.response.body", "body": chunk, "more_body": more})
                sent += len(chunk)
        finally:
            gone.cancel()
            with suppress(asyncio.CancelledError):
                await gone
        return sent


def choose_part(ticket: Ticket, headers: Headers, method: str) -> Part:
    """Return which bytes a request asks for; only a GET has ranges.

    Raises:
        UnsatisfiableRangeError: The range begins behind the end.
    """
    whole = Part(0, ticket.bytes, whole=True)
    match = _ONE_RANGE.fullmatch(headers.get("range", "").replace(" ", ""))
    if method != "GET" or match is None or match.groups() == ("", ""):
        return whole
    if_range = headers.get("if-range")
    if if_range is not None and if_range not in {ticket.etag, _http_date(ticket.modified_at)}:
        return whole
    first_text, last_text = match.groups()
    if first_text == "":
        length = min(int(last_text), ticket.bytes)
        if length == 0:
            raise UnsatisfiableRangeError
        return Part(ticket.bytes - length, length, whole=False)
    first = int(first_text)
    last = min(int(last_text) if last_text else ticket.bytes - 1, ticket.bytes - 1)
    if last_text and int(last_text) < first:
        return whole
    if first >= ticket.bytes:
        raise UnsatisfiableRangeError
    return Part(first, last - first + 1, whole=False)


def _http_date(moment: datetime) -> str:
    return format_datetime(moment.replace(microsecond=0), usegmt=True)


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _start(send: Send, status: int, headers: dict[str, str]) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})

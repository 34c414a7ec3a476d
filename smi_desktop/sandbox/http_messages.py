"""A request and a reply as plain values, and how a reply may leave in pieces."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

JSON_TYPE: Final = "application/json"
HTML_TYPE: Final = "text/html; charset=utf-8"


class NoReplyError(Exception):
    """The connection is closed without an answer."""


class HttpError(Exception):
    """A request is refused.

    Args:
        status: HTTP status.
        message: What a person reads.
        details: Further fields of the provider's own error shape.
        headers: Further headers of the reply.
    """

    def __init__(
        self,
        status: int,
        message: str,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.details = dict(details or {})
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class Request:
    """What came in.

    Attributes:
        headers: By lower-case name.
        names: What stood in the path's `{…}`.
    """

    method: str
    path: str
    query: Sequence[tuple[str, str]]
    headers: Mapping[str, str]
    body: bytes
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def bearer(self) -> str:
        """The key of the Authorization header, or an empty text."""
        scheme, _, key = self.headers.get("authorization", "").partition(" ")
        return key.strip() if scheme.lower() == "bearer" else ""

    def json(self) -> dict[str, Any]:
        """Return the body as a JSON object.

        Raises:
            HttpError: It is none.
        """
        try:
            value = json.loads(self.body or b"{}")
        except ValueError as error:
            raise HttpError(400, f"The body is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise HttpError(400, "The body is not a JSON object.")
        return value


@dataclass(frozen=True, slots=True)
class Sending:
    """How a reply leaves.

    Attributes:
        cut_at: The connection is closed after so many bytes of the body.
        cut_share: Or after this share of it.
        honest: Content-Length tells what is really sent, so that the cut does not show.
        piece: Bytes a write; 0 for the default.
        pause: Seconds between two writes.
    """

    cut_at: int | None = None
    cut_share: float | None = None
    honest: bool = False
    piece: int = 0
    pause: float = 0.0

    def limit(self, length: int) -> int:
        """Return how many bytes of a body of `length` bytes are sent."""
        if self.cut_at is not None:
            return min(self.cut_at, length)
        return length if self.cut_share is None else int(length * self.cut_share)


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes out.

    Attributes:
        body: The bytes, or the file that holds them.
        byte_range: First and last byte of the file, for a 206.
    """

    status: int = 200
    body: bytes | Path = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    byte_range: tuple[int, int] | None = None
    sending: Sending = Sending()

    def span(self) -> tuple[int, int]:
        """Return the first byte and the one after the last."""
        if self.byte_range is not None:
            return self.byte_range[0], self.byte_range[1] + 1
        return 0, len(self.body) if isinstance(self.body, bytes) else self.body.stat().st_size

    def pieces(self, start: int, end: int, size: int) -> Iterator[bytes]:
        """Yield the bytes from `start` to `end` in pieces of `size`."""
        if isinstance(self.body, bytes):
            for at in range(start, end, size):
                yield self.body[at : min(at + size, end)]
            return
        with self.body.open("rb") as file:
            file.seek(start)
            while start < end and (piece := file.read(min(size, end - start))):
                start += len(piece)
                yield piece


def json_reply(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Return a JSON reply."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return Reply(status, body, {"Content-Type": JSON_TYPE, **(headers or {})})


def html_reply(text: str, status: int = 200) -> Reply:
    """Return an HTML page that is never stored."""
    return Reply(status, text.encode(), {"Content-Type": HTML_TYPE, "Cache-Control": "no-store"})


def redirect(location: str) -> Reply:
    """Return a 303: go there with a GET."""
    return Reply(303, b"", {"Location": location})

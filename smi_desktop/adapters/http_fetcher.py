"""Download results and sources, resuming where a cut left off. Whole or not at all.

Decides alone when a part may be continued: the server must take the range under the same validator
(If-Range), name the same total, and the address must be the same but for its signature. Otherwise
the download starts anew. `_safe_http` decides which addresses may be asked at all.
"""

from __future__ import annotations

import errno
import http.client
import logging
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import urljoin

from smi_desktop.adapters._http_answers import retry_after_seconds
from smi_desktop.adapters._partial_file import PartialFile, Validator
from smi_desktop.adapters._safe_http import (
    CheckedUrl,
    Resolver,
    check_url,
    open_connection,
    resolve,
)
from smi_desktop.domain.errors import LinkExpiredError, RejectedError, TransientError

_log = logging.getLogger(__name__)

_CHUNK_BYTES: Final = 1 << 18
_MOST_REDIRECTS: Final = 3
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_EXPIRED: Final = frozenset({403, 404, 410})
_AGAIN_LATER: Final = frozenset({408, 425, 429})
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """How long a download may take.

    Attributes:
        idle_seconds: The longest wait for connecting and for the next byte.
        whole_seconds: The longest time for one call of `fetch`; what came is kept for the next.
    """

    idle_seconds: float = 30.0
    whole_seconds: float = 1800.0


class HttpFetcher:
    """Implements Fetcher. Safe from several threads, as long as they write to different files.

    Args:
        allow_loopback: For the rehearsal shop alone: also http to the literal 127.0.0.1 and [::1].
        limits: How long a download may take.
        tls: Verifies certificates; the system's authorities if left out.
        resolver: Resolves names; the system's if left out.
    """

    def __init__(
        self,
        *,
        allow_loopback: bool,
        limits: FetchLimits | None = None,
        tls: ssl.SSLContext | None = None,
        resolver: Resolver = resolve,
    ) -> None:
        self._allow_loopback = allow_loopback
        self._limits = limits or FetchLimits()
        self._tls = tls
        self._resolver = resolver

    def fetch(self, url: str, destination: Path, *, max_bytes: int) -> None:
        """Download into `destination`, which appears only when the file is whole.

        Raises:
            LinkExpiredError: 403, 404 or 410: ask for a fresh address.
            RejectedError: The address is not allowed, or the body is larger than `max_bytes`.
            TransientError: Cut, slow, or the server is away; a part may remain for the next try.
        """
        ends_at = time.monotonic() + self._limits.whole_seconds
        for _ in range(_MOST_REDIRECTS + 1):
            checked = self._check(url)
            location = self._fetch_once(checked, destination, max_bytes, ends_at)
            if location is None:
                return
            url = urljoin(url, location)
        raise RejectedError("The address leads from one to the next without end.")

    def _check(self, url: str) -> CheckedUrl:
        return check_url(url, allow_loopback=self._allow_loopback, resolver=self._resolver)

    def _fetch_once(
        self, url: CheckedUrl, destination: Path, max_bytes: int, ends_at: float
    ) -> str | None:
        """Ask one address. Return where it redirects to, or None once the file is there."""
        part = PartialFile(
            destination, source=f"{url.host}:{url.port}{url.target.partition('?')[0]}"
        )
        with _translated(part), self._connected(url, ends_at) as connection:
            # No "Connection: close": with it, some servers leave the length out of their answer.
            headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
            headers.update(part.resume_headers(max_bytes))
            connection.request("GET", url.target, headers=headers)
            with connection.getresponse() as response:
                if response.status in _REDIRECTS:
                    return _location(response)
                if response.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    part.discard()
                    raise TransientError("The server does not continue this download: start anew.")
                _refuse_errors(response)
                total = _begin(response, part, max_bytes)
                _receive(response, part, max_bytes, ends_at)
            part.finish(total)
        return None

    @contextmanager
    def _connected(self, url: CheckedUrl, ends_at: float) -> Iterator[http.client.HTTPConnection]:
        """Open a connection that is torn down when the time is over, wherever it waits then."""
        left = ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError
        idle = min(self._limits.idle_seconds, left)
        connection = open_connection(url, timeout=idle, tls=self._tls)
        # A server that sends one byte of a header at a time never runs into a socket's own limit.
        alarm = threading.Timer(ends_at - time.monotonic(), _tear_down, [connection.sock])
        alarm.daemon = True
        alarm.start()
        try:
            yield connection
        finally:
            alarm.cancel()
            alarm.join()
            connection.close()


def _tear_down(connected: socket.socket) -> None:
    with suppress(OSError):
        # Not SSLSocket's own: that one takes the TLS object away under the reader's hands.
        socket.socket.shutdown(connected, socket.SHUT_RDWR)


def _location(response: http.client.HTTPResponse) -> str:
    location = response.getheader("Location")
    if not location:
        raise TransientError("The server redirects to nowhere.")
    return location


def _refuse_errors(response: http.client.HTTPResponse) -> None:
    status = response.status
    if status in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
        encoding = (response.getheader("Content-Encoding") or "identity").strip().lower()
        if encoding != "identity":
            raise RejectedError("The server packs the file although it was asked not to.")
        return
    if status in _EXPIRED:
        raise LinkExpiredError(f"The address does not give the file any more (HTTP {status}).")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _AGAIN_LATER or status < 400:
        wait = retry_after_seconds(dict(response.getheaders()))
        raise TransientError(f"The server gives no file (HTTP {status}).", retry_after=wait)
    raise RejectedError(f"The server refuses to give the file (HTTP {status}).")


def _begin(response: http.client.HTTPResponse, part: PartialFile, max_bytes: int) -> int | None:
    """Continue the part or empty it, as the answer says. Return the file's size, if it is told."""
    validator = Validator.of(response.getheader("ETag"), response.getheader("Last-Modified"))
    length = response.length  # what is still to come, from Content-Length
    if length is None and not response.chunked:
        # Its end looks like a cut. A cut among the headers also ends here, as an empty file.
        raise TransientError("The server does not tell where the file ends.")
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        named = _CONTENT_RANGE.fullmatch(response.getheader("Content-Range") or "")
        told = (int(named[1]), int(named[2]), int(named[3])) if named else (-1, -1, -1)
        if not part.continues(told):
            part.discard()
            raise TransientError("The server continues another file: start anew.")
        total: int | None = told[2]
    else:
        total = length
        part.restart(validator, total)
    if total is not None and total > max_bytes:
        part.discard()
        raise RejectedError(f"The file is larger than {max_bytes} bytes.")
    return total


def _receive(
    response: http.client.HTTPResponse, part: PartialFile, max_bytes: int, ends_at: float
) -> None:
    with part.opened() as sink:
        size = part.size
        # read1 returns with what is there, so that drops are counted against the time as they come.
        while chunk := response.read1(_CHUNK_BYTES):
            size += len(chunk)
            if size > max_bytes:
                sink.close()
                part.discard()
                raise RejectedError(f"The file is larger than {max_bytes} bytes.")
            sink.write(chunk)
            if time.monotonic() > ends_at:
                raise TimeoutError
        sink.flush()
        os.fsync(sink.fileno())


@contextmanager
def _translated(part: PartialFile) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise TransientError("The download took too long.") from error
    except ssl.SSLCertVerificationError as error:
        raise TransientError("The server's certificate cannot be trusted.") from error
    except (OSError, http.client.HTTPException) as error:
        if getattr(error, "errno", None) in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            part.discard()
            raise TransientError("The download cannot be stored: the disk is full.") from error
        _log.info("A download broke off: %s", type(error).__name__)
        raise TransientError("The download broke off.") from error

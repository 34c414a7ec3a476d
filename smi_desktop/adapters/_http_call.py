"""Make one HTTP call to an API and tell whether it can have arrived.

Owns the limits of such a call (no redirects, an answer of at most 1 MiB, a time limit for the
whole of it) and the one distinction that a call without an idempotency key needs: `NotSentError`
when nothing of the body has left, `AnswerLostError` when it may have.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from smi_desktop.adapters._addresses import is_loopback_url

_MAX_ANSWER_BYTES: Final = 1 << 20
_TIMEOUT: Final = (5.0, 30.0)
_WHOLE_SECONDS: Final = 60.0
_CHUNK_BYTES: Final = 1 << 16


class NotSentError(Exception):
    """No byte of the body was handed to the network: the call surely had no effect."""


class AnswerLostError(Exception):
    """The call may have arrived, and its answer did not, or not in full."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    def text(self) -> str:
        """The body as one line of text."""
        return " ".join(self.body.decode("utf-8", errors="replace").split())

    def json_object(self) -> dict[str, Any] | None:
        """The body as a JSON object, or None if it is anything else."""
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None


def call(method: str, url: str, *, bearer: str, body: bytes | None) -> Answer:
    """Send a request and return the whole answer, whatever its status.

    `body` is JSON, or None for a request without one, which counts as sent in any case.

    Raises:
        NotSentError: The call surely had no effect.
        AnswerLostError: It may have arrived; the answer is missing, cut, too slow or too large.
    """
    sent = _TracedBody(body) if body is not None else None
    headers = {"Accept": "application/json", "Connection": "close", "Accept-Encoding": "identity"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    ends_at = time.monotonic() + _WHOLE_SECONDS
    try:
        # A session and so a connection for each call: the other side may just be closing one that is
        # used again, and then nobody can tell whether the request arrived.
        with (
            _open_session(url) as session,
            session.request(
                method,
                url,
                data=sent,
                headers=headers,
                auth=_Bearer(bearer),
                timeout=_TIMEOUT,
                allow_redirects=False,
                stream=True,
            ) as response,
        ):
            return Answer(response.status_code, response.headers, _read(response, ends_at))
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        if sent is not None and not sent.began:
            raise NotSentError(type(error).__name__) from error
        raise AnswerLostError(type(error).__name__) from error


def _open_session(url: str) -> requests.Session:
    """Return a session that never retries by itself and reaches loopback without a proxy."""
    session = requests.Session()
    session.trust_env = not is_loopback_url(url)
    adapter = HTTPAdapter(max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def _read(response: requests.Response, ends_at: float) -> bytes:
    parts: list[bytes] = []
    size = 0
    # read1 returns after each packet, so that a body in drops cannot outlast the time limit.
    while chunk := response.raw.read1(_CHUNK_BYTES):
        size += len(chunk)
        if size > _MAX_ANSWER_BYTES:
            raise AnswerLostError("the answer is larger than 1 MiB")
        if time.monotonic() > ends_at:
            raise AnswerLostError("the answer took too long")
        parts.append(chunk)
    return b"".join(parts)


class _TracedBody(io.BytesIO):
    """A body that knows whether it was handed to the socket; that happens after the connection."""

    began = False

    def read(self, size: int | None = -1, /) -> bytes:
        self.began = True
        return super().read(size)


class _Bearer(AuthBase):
    """Sets the token itself, so that a .netrc entry for the host cannot replace it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request

"""Upsampler's HTTP API, with the field names that two public clients use against the live one.

https://github.com/cedarconnor/upsampler (nodes.py): addresses, fields, statuses, limits, words of errors.
"""

from __future__ import annotations

import hmac
import re
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import requests

from smi_desktop.sandbox.clock import SandboxClock
from smi_desktop.sandbox.enlarge import BadPictureError, measure
from smi_desktop.sandbox.http_messages import HttpError, Reply, Request, json_reply
from smi_desktop.sandbox.http_server import Route
from smi_desktop.sandbox.store import Json
from smi_desktop.sandbox.upsampler_jobs import NoCreditError, UpscaleJobs

_OUTPUT_PIXELS: Final = 50_000_000
_FACTORS: Final = (1.0, 16.0)
_IMAGE_TYPES: Final = ("realism", "anime", "universal")
_INPUT_TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    "imageUrl": str,
    "inputImageType": str,
    "upscaleFactor": (int, float),
    "shouldEnhanceFaces": bool,
    "shouldPreserveBlur": bool,
}
_POSTS_A_MINUTE: Final = 90
_STATUSES_A_MINUTE: Final = 240
_MINUTE: Final = 60.0
_SOURCE_LIMIT: Final = 200 * 2**20
_CHUNK: Final = 256 * 1024
_TIMEOUT: Final = (3.0, 20.0)
_KINDS: Final = {".png": "image/png", ".jpg": "image/jpeg"}
_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)")


class UpsamplerApi:
    """Answers what an Upsampler client asks, and serves the results.

    Args:
        api_key: The only key that is accepted.
        limited: Keep the published rate limits; a load test may switch them off.
    """

    def __init__(
        self, jobs: UpscaleJobs, clock: SandboxClock, api_key: str, *, limited: bool
    ) -> None:
        self._jobs = jobs
        self._key = api_key
        self._posts = _RateLimit(_POSTS_A_MINUTE if limited else None, clock)
        self._statuses = _RateLimit(_STATUSES_A_MINUTE if limited else None, clock)

    def routes(self) -> Sequence[Route]:
        """Return every address of the API."""
        return [
            Route("POST", "/api/v1/precise-upscale", "submit", self._submit),
            Route("GET", "/api/v1/status/{id}", "status", self._status),
            Route("GET", "/results/{random}/{name}", "result", self._result),
        ]

    def _submit(self, request: Request) -> Reply:
        self._authorize(request)
        self._posts.take()
        body = request.json()
        given = _checked_input(body)
        webhook = body.get("webhook", "")
        if not isinstance(webhook, str) or (webhook and not _is_url(webhook)):
            raise HttpError(400, "webhook is not a URL")
        source = self._jobs.source_path()
        try:
            _fetch(given["imageUrl"], source)
            job = self._queue(source, float(given["upscaleFactor"]), webhook)
        except (HttpError, BadPictureError):
            source.unlink(missing_ok=True)
            raise
        return json_reply({name: job[name] for name in ("id", "status", "creditCost")})

    def _queue(self, source: Path, factor: float, webhook: str) -> Json:
        try:
            width, height = measure(source)
        except BadPictureError as error:
            raise HttpError(400, str(error)) from error
        pixels = round(width * factor) * round(height * factor)
        if pixels > _OUTPUT_PIXELS:
            raise HttpError(
                400,
                f"output of {pixels:,} pixels exceeds the limit of {_OUTPUT_PIXELS:,}",
            )
        try:
            return self._jobs.submit(source, factor, pixels, webhook)
        except NoCreditError as error:
            raise HttpError(402, "Insufficient credits") from error

    def _status(self, request: Request) -> Reply:
        self._authorize(request)
        self._statuses.take()
        job = self._jobs.show(request.names["id"])
        if job is None:
            raise HttpError(404, "Job not found")
        return json_reply(job)

    def _result(self, request: Request) -> Reply:
        path = self._jobs.result(request.names["random"], request.names["name"])
        if path is None:
            raise HttpError(403, "This link has expired")
        headers = {
            "Content-Type": _KINDS[path.suffix],
            "Accept-Ranges": "bytes",
            "ETag": f'"{path.stat().st_mtime_ns:x}"',
        }
        return _ranged(request, path, headers)

    def _authorize(self, request: Request) -> None:
        if not hmac.compare_digest(request.bearer.encode(), self._key.encode()):
            raise HttpError(401, "Unauthorized: invalid api key")


class _RateLimit:
    """At most so many in any minute of the rehearsal's time."""

    def __init__(self, most: int | None, clock: SandboxClock) -> None:
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._times: deque[float] = deque()

    def take(self) -> None:
        """Count one in.

        Raises:
            HttpError: 429 with Retry-After: the minute is full.
        """
        if self._most is None:
            return
        with self._lock:
            now = self._clock.now()
            while self._times and self._times[0] <= now - _MINUTE:
                self._times.popleft()
            if len(self._times) >= self._most:
                wait = max(1, int(self._times[0] + _MINUTE - now) + 1)
                raise HttpError(429, "Rate limit exceeded", headers={"Retry-After": str(wait)})
            self._times.append(now)


def explain(error: HttpError) -> Reply:
    """Return an error in Upsampler's shape."""
    return json_reply({"error": error.message, **error.details}, error.status, error.headers)


def _checked_input(body: Json) -> Json:
    unknown = set(body) - {"webhook", "input"}
    given: Any = body.get("input")
    if unknown or not isinstance(given, dict):
        raise HttpError(
            400,
            f"unknown field {min(unknown)}" if unknown else "input is missing",
        )
    for name, value in given.items():
        if name not in _INPUT_TYPES:
            raise HttpError(400, f"unknown input field {name}")
        kinds = _INPUT_TYPES[name]
        if not isinstance(value, kinds) or (kinds is not bool and isinstance(value, bool)):
            raise HttpError(400, f"input field {name} has the wrong type")
    for name in ("imageUrl", "upscaleFactor"):
        if name not in given:
            raise HttpError(400, f"input field {name} is missing")
    if given.get("inputImageType", "universal") not in _IMAGE_TYPES:
        raise HttpError(400, f"inputImageType must be one of {', '.join(_IMAGE_TYPES)}")
    if not _FACTORS[0] <= given["upscaleFactor"] <= _FACTORS[1]:
        raise HttpError(400, "upscaleFactor must be between 1 and 16")
    if not _is_url(given["imageUrl"]):
        raise HttpError(400, "imageUrl is not a URL")
    return given


def _is_url(text: str) -> bool:
    parts = urlsplit(text)
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _fetch(url: str, destination: Path) -> None:
    try:
        with requests.Session() as session:
            session.trust_env = False
            with session.get(url, timeout=_TIMEOUT, stream=True) as response:
                response.raise_for_status()
                _save(response.iter_content(_CHUNK), destination)
    except (requests.RequestException, OSError) as error:
        raise HttpError(400, f"imageUrl could not be fetched ({type(error).__name__})") from error


def _save(pieces: Iterable[bytes], destination: Path) -> None:
    size = 0
    with destination.open("wb") as file:
        for piece in pieces:
            size += len(piece)
            if size > _SOURCE_LIMIT:
                raise HttpError(400, "the image is too large")
            file.write(piece)


def _ranged(request: Request, path: Path, headers: dict[str, str]) -> Reply:
    size = path.stat().st_size
    wanted = _RANGE.fullmatch(request.headers.get("range", ""))
    changed = request.headers.get("if-range", headers["ETag"]) != headers["ETag"]
    if not wanted or changed or wanted.groups() == ("", ""):
        return Reply(200, path, headers)
    first, last = wanted.groups()
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last), size - 1) if first and last else size - 1
    if start > end:
        return Reply(416, b"", {**headers, "Content-Range": f"bytes */{size}"})
    content = {"Content-Range": f"bytes {start}-{end}/{size}"}
    return Reply(206, path, {**headers, **content}, byte_range=(start, end))

"""Plain ASGI middleware: limits on bodies, headers that every answer carries, CORS, and the access log."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from smi_desktop.config import ShopSettings
from smi_desktop.domain.errors import SmiError
from smi_desktop.services.checkout import is_own_origin
from webhook_relay.answers import answer_error, json_error, unexpected

_access = logging.getLogger("webhook_relay.access")
_WEBHOOK_PREFIX: Final = "/smi-webhook/"
# What is secret in an address: download tokens, callback secrets, source tokens, job ids.
_SECRET_PATH: Final = re.compile(
    r"(/smi/v1/(?:download|job-status|source)/|/smi-webhook/upsampler/|/order/)([^/?]{4})[^/?]*"
)
_LONGEST_LOGGED: Final = 500

Settings = Callable[[], Awaitable[ShopSettings]]


def mask_path(path: str) -> str:
    """Return a path without the secrets that travel in it, on one line and of bounded length."""
    masked = _SECRET_PATH.sub(r"\1\2…", path[:_LONGEST_LOGGED])
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in masked)


class BodyLimits:
    """Reads a request's whole body before the application sees it, within limits of bytes and time.

    A body that drips keeps a connection but never a worker; one that is too large is refused at the first
    byte over, or at once where it says so.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD", "OPTIONS"}:
            await self._app(scope, receive, send)
            return
        settings = await self._settings()
        webhook = scope["path"].startswith(_WEBHOOK_PREFIX)
        limit = settings.webhook_max_bytes if webhook else settings.body_max_bytes
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdigit() and int(declared) > limit:
            await _too_large(scope, receive, send)
            return
        try:
            async with asyncio.timeout(settings.body_seconds):
                body = await _read(receive, limit)
        except TimeoutError:
            answer = json_error(
                HTTPStatus.REQUEST_TIMEOUT, "too_slow", "The request took too long.",
                {"Connection": "close"},
            )  # fmt: skip
            await answer(scope, receive, send)
            return
        except ValueError:
            await _too_large(scope, receive, send)
            return
        if body is not None:
            await self._app(scope, _replay(body, receive), send)


class CommonHeaders:
    """Headers for every answer, CORS for the studio's origins, and one masked line in the access log.

    The outermost of our own: whatever fails inside becomes an answer here, so that it carries them too.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        status = 0
        cors: dict[str, str] = {}

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Cache-Control", "no-store")
                for name, value in cors.items():
                    headers[name] = value
            await send(message)

        try:
            cors = await self._cors(scope)
            if cors and scope["method"] == "OPTIONS":
                await _answer_preflight(send_with_headers)
            else:
                await self._app(scope, receive, send_with_headers)
        except Exception as error:
            answer = answer_error(error) if isinstance(error, SmiError) else unexpected(error)
            if not status:
                await answer(scope, receive, send_with_headers)
        finally:
            _access.info(
                "%s %s %d %.0f ms",
                scope["method"],
                mask_path(scope["path"]),
                status,
                (time.monotonic() - started) * 1000,
            )

    async def _cors(self, scope: Scope) -> dict[str, str]:
        origin = Headers(scope=scope).get("origin")
        if origin is None or not scope["path"].startswith("/smi/v1/"):
            return {}
        settings = await self._settings()
        if not is_own_origin(settings, origin):
            return {"Vary": "Origin"}
        return {
            "Vary": "Origin",
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": "GET, HEAD, POST, OPTIONS",
            "Access-Control-Allow-Headers": "Content-Type, X-WP-Nonce, Range",
            "Access-Control-Expose-Headers": "Content-Disposition, Content-Range, ETag, Retry-After",
            "Access-Control-Max-Age": "600",
        }


async def _answer_preflight(send: Send) -> None:
    start = {"type": "http.response.start", "status": 204, "headers": []}
    await send(start)
    await send({"type": "http.response.body", "body": b""})


async def _read(receive: Receive, limit: int) -> bytes | None:
    """Return the whole body, or None if the client left.

    Raises:
        ValueError: It is larger than `limit` bytes.
    """
    parts = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts += message.get("body", b"")
        if len(parts) > limit:
            raise ValueError("too large")
        if not message.get("more_body", False):
            return bytes(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _too_large(scope: Scope, receive: Receive, send: Send) -> None:
    answer = json_error(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", "The request is too large.",
        {"Connection": "close"},
    )  # fmt: skip
    await answer(scope, receive, send)

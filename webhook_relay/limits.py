"""How many requests are taken: per address, per picture and for the whole shop. Kept in memory by one process."""

from __future__ import annotations

import math
import time
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.requests import Request
from starlette.responses import JSONResponse

from smi_desktop.config import ShopSettings
from webhook_relay.answers import json_error


class TooManyRequestsError(Exception):
    """A limit was reached.

    Args:
        seconds: How long to wait.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__("too many requests")
        self.seconds = seconds

    def answer(self) -> JSONResponse:
        """Return the answer that says so."""
        headers = {"Retry-After": str(max(1, math.ceil(self.seconds)))}
        message = "Too many requests. Please wait a moment and try again."
        return json_error(HTTPStatus.TOO_MANY_REQUESTS, "too_many_requests", message, headers)


class RateLimits:
    """Counts requests in sliding minutes."""

    def __init__(self) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def take(self, per_minute: int, *what: str) -> None:
        """Count one request.

        Raises:
            TooManyRequestsError: There were too many of them in the last minute.
        """
        item = RateLimitItemPerMinute(per_minute)
        if not self._limiter.hit(item, *what):
            window = self._limiter.get_window_stats(item, *what)
            raise TooManyRequestsError(window.reset_time - time.time())

    def check(self, per_minute: int, *what: str) -> None:
        """Refuse if the limit is reached already, without counting.

        Raises:
            TooManyRequestsError: There were too many of them in the last minute.
        """
        item = RateLimitItemPerMinute(per_minute)
        if not self._limiter.test(item, *what):
            window = self._limiter.get_window_stats(item, *what)
            raise TooManyRequestsError(window.reset_time - time.time())


def client_address(request: Request, settings: ShopSettings) -> str:
    """Return the address that a request really comes from.

    X-Forwarded-For is believed only where a named proxy handed the request over, and read from the right:
    the first address that is not one of ours is the client's. What is no address is believed of nobody.
    """
    peer = request.client.host if request.client else "unknown"
    if not _is_trusted(_read_address(peer), settings):
        return peer
    for hop in reversed(request.headers.get("x-forwarded-for", "").split(",")):
        address = _read_address(hop.strip())
        if address is None:
            return peer
        if not _is_trusted(address, settings):
            return str(address)
    return peer


def client_network(address: str) -> str:
    """Return what counts as one client: an IPv4 address, or the /64 that one household is handed."""
    ip = _read_address(address)
    return str(ip_network((ip, 64), strict=False)) if isinstance(ip, IPv6Address) else address


def _read_address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        ip = ip_address(text)
    except ValueError:
        return None
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return mapped or ip


def _is_trusted(ip: IPv4Address | IPv6Address | None, settings: ShopSettings) -> bool:
    if ip is None:
        return False
    try:
        return any(ip in ip_network(proxy, strict=False) for proxy in settings.trusted_proxies)
    except ValueError:
        return False

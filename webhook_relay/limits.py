"""How many requests are taken: per address, per picture and for the whole shop. Kept in memory by one process."""

from __future__ import annotations

import math
import time
from collections import Counter
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse

from smi_desktop.config import ShopSettings
from webhook_relay.answers import json_error

_SECONDS: Final = 60.0


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
    """Counts requests in sliding minutes, for one event loop.

    Two counters a client: of this minute, and of the last one, which fades as this one passes. Libraries for
    this start a thread every few requests to tidy up, which was a third of a request's cost; here a minute's
    counters are simply dropped when it has faded.
    """

    def __init__(self) -> None:
        self._minute = 0
        self._present: Counter[tuple[str, ...]] = Counter()
        self._last: Counter[tuple[str, ...]] = Counter()

    def take(self, per_minute: int, *what: str) -> None:
        """Count one request.

        Raises:
            TooManyRequestsError: There were too many of them in the last minute.
        """
        self.check(per_minute, *what)
        self._present[what] += 1

    def check(self, per_minute: int, *what: str) -> None:
        """Refuse if the limit is reached already, without counting.

        Raises:
            TooManyRequestsError: There were too many of them in the last minute.
        """
        elapsed = self._turn_over()
        present, last = self._present[what], self._last[what]
        if present + last * (1 - elapsed / _SECONDS) + 1 <= per_minute:
            return
        # The last minute has faded enough, or this one is over.
        enough = 1 - (per_minute - present - 1) / last if last and present < per_minute else 1.0
        raise TooManyRequestsError(enough * _SECONDS - elapsed)

    def _turn_over(self) -> float:
        """Begin a new minute if the old one is over; return the seconds of it that have passed."""
        now = time.monotonic()
        minute = int(now // _SECONDS)
        if minute != self._minute:
            following = minute == self._minute + 1
            self._last = self._present if following else Counter()
            self._present = Counter()
            self._minute = minute
        return now % _SECONDS


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

"""Connect to addresses that others gave us, and to nothing inside our own network (SSRF).

Decides alone which address may be asked. A name is resolved once, every address it has must be
public, and the connection goes to the address that was checked, so a name that answers differently
the second time (rebinding) gains nothing. No proxy is used: it would resolve the name by itself.
Each redirect is a new address and passes the same check.

OWASP "Server-Side Request Forgery Prevention"; CVE-2026-57569 is such a download without pinning.
"""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from smi_desktop.adapters._addresses import IpAddress, is_public
from smi_desktop.domain.errors import RejectedError, TransientError

Resolver = Callable[[str, int], "list[str]"]

_HTTPS_PORT: Final = 443
_HTTP_PORT: Final = 80
_LONGEST_URL: Final = 8192
# Printable ASCII without the backslash, which some parsers take for a slash.
_URL: Final = re.compile(r"[!-\[\]-~]+")
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?\.?|[0-9A-Fa-f:.]+")


@dataclass(frozen=True, slots=True)
class CheckedUrl:
    """A web address that may be asked, with the network addresses that were checked.

    Attributes:
        host: As in the URL, without brackets; also the name that the certificate must carry.
        target: Path and query.
    """

    secure: bool
    host: str
    port: int
    target: str
    addresses: tuple[str, ...]


def resolve(host: str, port: int) -> list[str]:
    """Return every address of a name.

    Raises:
        OSError: The name does not exist or nobody can tell.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def check_url(url: str, *, allow_loopback: bool, resolver: Resolver = resolve) -> CheckedUrl:
    """Return the address if it may be asked.

    With `allow_loopback` also `http` and any port, but for the literal 127.0.0.1 and [::1] alone.

    Raises:
        RejectedError: Not `https` on port 443 of a public host, or not well-formed.
        TransientError: The name cannot be resolved at the moment.
    """
    if len(url) > _LONGEST_URL or not _URL.fullmatch(url):
        raise RejectedError("The address holds characters that no web address has.")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise RejectedError("This is not a web address.") from error
    secure = parts.scheme == "https"
    if parts.scheme not in {"https", "http"} or not _HOST.fullmatch(host):
        raise RejectedError("This is not a web address.")
    if "@" in parts.netloc:
        raise RejectedError("An address with a user name is not allowed.")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if allow_loopback and host in {"127.0.0.1", "::1"}:
        default = _HTTPS_PORT if secure else _HTTP_PORT
        return CheckedUrl(secure, host, default if port is None else port, target, (host,))
    if not secure or port not in {None, _HTTPS_PORT}:
        raise RejectedError("Only https on its usual port is allowed.")
    return CheckedUrl(True, host, _HTTPS_PORT, target, _public_addresses(host, resolver))


def open_connection(
    url: CheckedUrl, *, timeout: float, tls: ssl.SSLContext | None = None
) -> http.client.HTTPConnection:
    """Connect to one of the checked addresses; `tls` verifies the certificate for the URL's host.

    `timeout` is in seconds, for connecting and for each wait on the connection after that.

    Raises:
        OSError: No address answers, or the certificate is not the host's.
    """
    context = (tls or ssl.create_default_context()) if url.secure else None
    connection = _PinnedConnection(url, context, timeout)
    connection.connect()
    return connection


class _PinnedConnection(http.client.HTTPConnection):
    """Speaks for the URL's host (Host header, SNI, certificate) over a checked address."""

    def __init__(self, url: CheckedUrl, context: ssl.SSLContext | None, timeout: float) -> None:
        # http.client leaves a port out of the Host header only when it knows it for the default.
        self.default_port = _HTTPS_PORT if url.secure else _HTTP_PORT
        super().__init__(url.host, url.port, timeout=timeout)
        self._addresses = url.addresses
        self._context = context
        self._seconds = timeout

    def connect(self) -> None:
        """Try the checked addresses in turn."""
        failure: OSError = OSError("there is no address")
        for address in self._addresses:
            try:
                plain = socket.create_connection((address, self.port), self._seconds)
            except OSError as error:
                failure = error
                continue
            try:
                self.sock = self._encrypted(plain)
            except BaseException:
                plain.close()
                raise
            return
        raise failure

    def _encrypted(self, plain: socket.socket) -> socket.socket:
        if self._context is None:
            return plain
        return self._context.wrap_socket(plain, server_hostname=self.host.rstrip("."))


def _public_addresses(host: str, resolver: Resolver) -> tuple[str, ...]:
    try:
        found = resolver(host, _HTTPS_PORT)
    except (OSError, UnicodeError) as error:
        raise TransientError("The name in the address cannot be resolved.") from error
    if not found or not all(is_public(_parsed(address)) for address in found):
        raise RejectedError("The address leads into a network that is not public.")
    return tuple(found)


def _parsed(address: str) -> IpAddress:
    try:
        return ipaddress.ip_address(address.partition("%")[0])
    except ValueError as error:
        raise RejectedError("The address leads nowhere.") from error

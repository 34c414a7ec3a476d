"""Which network addresses are this machine, and which are the public internet.

Sole owner of that line: the guard against being sent to inner addresses (SSRF) and the leave to
speak without encryption both draw on it. The lists of special addresses are Python's `ipaddress`
(IANA's registries), made stricter where that lets an inner address through.
"""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import urlsplit

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# RFC 4291 2.4 and IANA: all global unicast addresses given out so far lie in this block.
_GLOBAL_UNICAST: Final = ipaddress.ip_network("2000::/3")
# Addresses in it that carry an IPv4 address (6to4) or are for documentation (RFC 9637).
_NOT_GLOBAL: Final = (ipaddress.ip_network("2002::/16"), ipaddress.ip_network("3fff::/20"))
# RFC 6052: an IPv6-only network reaches IPv4 through this prefix; the last 32 bits count.
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


def is_public(address: IpAddress) -> bool:
    """Tell whether an address belongs to the public internet, seen through IPv6 wrappings."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address not in _GLOBAL_UNICAST or any(address in each for each in _NOT_GLOBAL):
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def is_loopback_host(host: str) -> bool:
    """Tell whether a host, as it stands in a setting, is this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_loopback_url(url: str) -> bool:
    """Tell whether a web address names this machine."""
    return is_loopback_host(urlsplit(url).hostname or "")

"""Which addresses may be asked (the table of the SSRF rule)."""

from __future__ import annotations

import ipaddress

import pytest

from smi_desktop.adapters._addresses import is_loopback_host, is_loopback_url, is_public
from smi_desktop.adapters._safe_http import Resolver, check_url
from smi_desktop.domain.errors import RejectedError, TransientError

INNER = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.127.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "fe80::1",
    "fec0::1",
    "fc00::1",
    "fd00::1",
    "fd00:ec2::254",
    "ff02::1",
    "ff0e::1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::808:808",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::",
    "3fff::1",
    "5f00::1",
    "4000::1",
]
OUTER = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.215.14",
    "2606:4700::1111",
    "2a00:1450::1",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
]


def at(*addresses: str) -> Resolver:
    return lambda _host, _port: list(addresses)


@pytest.mark.parametrize("address", INNER)
def test_an_inner_address_is_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", OUTER)
def test_an_outer_address_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", INNER)
@pytest.mark.parametrize("allow_loopback", [False, True])
def test_a_name_of_an_inner_address_is_refused(address: str, allow_loopback: bool) -> None:
    with pytest.raises(RejectedError):
        check_url("https://cdn.example/", allow_loopback=allow_loopback, resolver=at(address))


def test_one_inner_address_among_public_ones_is_enough_to_refuse() -> None:
    both = at("8.8.8.8", "2606:4700::1111", "10.0.0.1")
    with pytest.raises(RejectedError):
        check_url("https://cdn.example/", allow_loopback=False, resolver=both)


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://127.1/",
        "https://0x7f.1/",
        "https://0x7f000001/",
        "https://2130706433/",
        "https://017700000001/",
        "https://0/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:7f00:1]/",
        "https://[fd00::1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://0.0.0.0/",
        "https://169.254.169.254/latest/meta-data/",
        "https://100.64.0.1/",
        "https://localhost/",
    ],
)
def test_every_spelling_of_an_inner_address_is_refused_with_the_real_resolver(url: str) -> None:
    with pytest.raises(RejectedError):
        check_url(url, allow_loopback=False)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "cdn.example/r.png",
        "//cdn.example/r.png",
        "http://cdn.example/",
        "ftp://cdn.example/",
        "file:///etc/passwd",
        "gopher://cdn.example:70/",
        "data:text/plain,x",
        "https://",
        "https:///r.png",
        "https://cdn.example:80/",
        "https://cdn.example:8443/",
        "https://cdn.example:0/",
        "https://cdn.example:99999/",
        "https://cdn.example:x/",
        "https://user@cdn.example/",
        "https://user:pass@cdn.example/",
        "https://@cdn.example/",
        "https://cdn.example\\@127.0.0.1/",
        "https://cdn.example\\.evil.example/",
        "https://cdn.example/\r\nX: y",
        "https://cdn.example/ x",
        "https://cdn.example/\x00",
        "https://cdn%2eexample/",
        "https://[fe80::1%25eth0]/",
        "https://[::1/",
        "https://cdn.exämple/",
        "https://-cdn.example/",
        "https://cdn.example/" + "x" * 9000,
    ],
)
def test_an_address_that_is_not_plain_https_is_refused(url: str) -> None:
    for allow_loopback in (False, True):
        with pytest.raises(RejectedError):
            check_url(url, allow_loopback=allow_loopback, resolver=at("8.8.8.8"))


def test_a_public_https_address_keeps_its_parts() -> None:
    found = check_url(
        "https://CDN.example:443/a/b.png?X-Sig=1%2F2#x",
        allow_loopback=False,
        resolver=at("8.8.8.8", "2606:4700::1111"),
    )
    assert (found.secure, found.host, found.port) == (True, "cdn.example", 443)
    assert found.target == "/a/b.png?X-Sig=1%2F2"
    assert found.addresses == ("8.8.8.8", "2606:4700::1111")


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("http://127.0.0.1:8080/r", 8080),
        ("http://127.0.0.1/r", 80),
        ("https://127.0.0.1:8443/r", 8443),
        ("http://[::1]:8080/r", 8080),
    ],
)
def test_a_rehearsal_reaches_the_two_literals_of_loopback(url: str, port: int) -> None:
    assert check_url(url, allow_loopback=True).port == port


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.2/",
        "http://localhost/",
        "http://127.1/",
        "http://2130706433/",
        "http://0.0.0.0/",
        "http://169.254.169.254/",
        "http://[::ffff:127.0.0.1]/",
        "http://127.0.0.1.nip.example/",
        "http://user@127.0.0.1/",
    ],
)
def test_a_rehearsal_reaches_nothing_else_inside(url: str) -> None:
    with pytest.raises(RejectedError):
        check_url(url, allow_loopback=True, resolver=at("127.0.0.1"))


def test_a_name_that_nobody_can_resolve_now_may_be_tried_again() -> None:
    def away(_host: str, _port: int) -> list[str]:
        raise OSError("no DNS")

    with pytest.raises(TransientError):
        check_url("https://cdn.example/", allow_loopback=False, resolver=away)


def test_a_name_without_an_address_is_refused() -> None:
    with pytest.raises(RejectedError):
        check_url("https://cdn.example/", allow_loopback=False, resolver=at())


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "[::1]", "localhost"])
def test_this_machine_is_known_by_its_names(host: str) -> None:
    assert is_loopback_host(host)


@pytest.mark.parametrize(
    "host", ["", "mail.example", "127.0.0.1.example", "10.0.0.1", "localhost.example"]
)
def test_other_machines_are_not_this_one(host: str) -> None:
    assert not is_loopback_host(host)
    assert not is_loopback_url(f"https://{host}/")

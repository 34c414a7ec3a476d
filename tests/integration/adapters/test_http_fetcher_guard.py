"""Where a download may lead: redirects, certificates, pinned addresses."""

from __future__ import annotations

from pathlib import Path

import pytest

from smi_desktop.adapters._safe_http import CheckedUrl, check_url, open_connection
from smi_desktop.adapters.http_fetcher import HttpFetcher
from smi_desktop.domain.errors import RejectedError, TransientError
from tests.integration.adapters.certificates import TestAuthority
from tests.integration.adapters.loopback import reply, serving

BODY = b"picture" * 1000
ENOUGH = 1_000_000


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "work" / "result.png"


@pytest.fixture
def fetcher() -> HttpFetcher:
    return HttpFetcher(allow_loopback=True)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_and_checked(
    fetcher: HttpFetcher, destination: Path, status: int
) -> None:
    with serving(reply(200, BODY)) as end, serving(reply(status, Location=f"{end.url}/b")) as start:
        fetcher.fetch(f"{start.url}/a", destination, max_bytes=ENOUGH)
    assert destination.read_bytes() == BODY


def test_a_relative_redirect_stays_on_the_server(fetcher: HttpFetcher, destination: Path) -> None:
    with serving(reply(302, Location="../b?c=1"), reply(200, BODY)) as server:
        fetcher.fetch(f"{server.url}/x/a", destination, max_bytes=ENOUGH)
    assert server.requests[1].target == "/b?c=1"
    assert destination.read_bytes() == BODY


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "https://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "https://127.1/",
        "https://[::ffff:127.0.0.1]/",
        "https://[fd00::1]/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:70/",
        "https://user@127.0.0.1/",
        "http://localhost:1/",
        "//0.0.0.0/",
    ],
)
def test_a_redirect_inwards_is_refused(
    fetcher: HttpFetcher, destination: Path, location: str
) -> None:
    with serving(reply(302, Location=location)) as server, pytest.raises(RejectedError):
        fetcher.fetch(f"{server.url}/a", destination, max_bytes=ENOUGH)
    assert len(server.requests) == 1
    assert not destination.exists()


def test_a_fourth_redirect_is_refused(fetcher: HttpFetcher, destination: Path) -> None:
    with serving(reply(302, Location="/again")) as server, pytest.raises(RejectedError):
        fetcher.fetch(f"{server.url}/a", destination, max_bytes=ENOUGH)
    assert len(server.requests) == 4


def test_the_shop_itself_never_asks_loopback(destination: Path) -> None:
    with serving(reply(200, BODY)) as server, pytest.raises(RejectedError):
        HttpFetcher(allow_loopback=False).fetch(server.url, destination, max_bytes=ENOUGH)
    assert server.requests == []


def pinned(host: str, port: int) -> CheckedUrl:
    """What a check returns for a public host, with this machine in the public address's place."""
    return CheckedUrl(True, host, port, "/", ("127.0.0.1",))


def test_the_connection_goes_to_the_checked_address_under_the_hosts_own_name(
    authority: TestAuthority,
) -> None:
    with serving(reply(200, BODY), tls=authority.server_context("cdn.example")) as server:
        url = pinned("cdn.example", server.port)
        connection = open_connection(url, timeout=5, tls=authority.client_context())
        connection.request("GET", "/")
        with connection.getresponse() as response:
            assert response.status == 200
        connection.close()
    assert server.requests[0].headers["host"] == f"cdn.example:{server.port}"


@pytest.mark.parametrize(
    ("name", "expired"), [("other.example", False), ("127.0.0.1", False), ("cdn.example", True)]
)
def test_a_certificate_of_another_name_or_time_is_refused(
    authority: TestAuthority, name: str, expired: bool
) -> None:
    tls = authority.server_context(name, expired=expired)
    refused = pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED")
    with serving(reply(200), tls=tls) as server, refused:
        url = pinned("cdn.example", server.port)
        open_connection(url, timeout=5, tls=authority.client_context())
    assert server.requests == []


def test_a_certificate_that_nobody_vouches_for_is_refused(
    authority: TestAuthority, destination: Path
) -> None:
    fetcher = HttpFetcher(allow_loopback=True)
    with (
        serving(reply(200), tls=authority.server_context("127.0.0.1")) as server,
        pytest.raises(TransientError, match="certificate"),
    ):
        fetcher.fetch(server.url, destination, max_bytes=ENOUGH)
    assert server.requests == []


def test_a_whole_download_over_tls(authority: TestAuthority, destination: Path) -> None:
    fetcher = HttpFetcher(allow_loopback=True, tls=authority.client_context())
    with serving(reply(200, BODY), tls=authority.server_context("127.0.0.1")) as server:
        fetcher.fetch(server.url, destination, max_bytes=ENOUGH)
    assert destination.read_bytes() == BODY


def test_a_name_that_changes_its_address_gains_nothing() -> None:
    """Rebinding: the second answer of the resolver is never asked for."""
    answers: list[list[str]] = [["93.184.215.14"], ["127.0.0.1"]]

    def resolver(_host: str, _port: int) -> list[str]:
        return answers.pop(0)

    checked = check_url("https://rebind.example/", allow_loopback=False, resolver=resolver)
    assert checked.addresses == ("93.184.215.14",)
    assert answers == [["127.0.0.1"]]

"""Downloads over real sockets: whole or not at all, resumed where that is safe, never inwards."""

from __future__ import annotations

import hashlib
import json
import socket
import time
from pathlib import Path

import pytest

from smi_desktop.adapters.http_fetcher import FetchLimits, HttpFetcher
from smi_desktop.domain.errors import LinkExpiredError, RejectedError, TransientError
from tests.integration.adapters.loopback import (
    Answer,
    LoopbackServer,
    Request,
    closed_port,
    dripping,
    raw,
    reply,
    reset,
    serving,
)
from tests.integration.adapters.small_disk import files_no_larger_than

BODY = hashlib.shake_256(b"picture").digest(300_000)
ENOUGH = 1_000_000
SHORT_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"
QUICK = FetchLimits(idle_seconds=0.3, whole_seconds=1.0)


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "work" / "result.png"


@pytest.fixture
def fetcher() -> HttpFetcher:
    return HttpFetcher(allow_loopback=True)


def cut_after(share: int, **headers: str) -> Answer:
    """Promise the whole body, send this many bytes of it and close."""
    fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\n{fields}\r\n".encode()
    return raw(head + BODY[:share])


def ranged(etag: str, body: bytes = BODY) -> Answer:
    """Answer as a real file server does, with If-Range."""

    def answer(request: Request, connection: socket.socket) -> None:
        asked = request.headers.get("range", "")
        if asked and request.headers.get("if-range") == etag:
            first = int(asked.removeprefix("bytes=").rstrip("-"))
            span = f"bytes {first}-{len(body) - 1}/{len(body)}"
            reply(206, body[first:], Content_Range=span, ETag=etag)(request, connection)
        else:
            reply(200, body, ETag=etag)(request, connection)

    return answer


def left_over(destination: Path) -> list[str]:
    return sorted(path.name for path in destination.parent.glob("*"))


def test_a_whole_file_appears_under_its_name_and_nothing_else(
    fetcher: HttpFetcher, destination: Path
) -> None:
    with serving(reply(200, BODY, ETag='"1"')) as server:
        fetcher.fetch(f"{server.url}/r.png?X-Signature=abc", destination, max_bytes=ENOUGH)
    assert destination.read_bytes() == BODY
    assert left_over(destination) == ["result.png"]
    assert server.requests[0].target == "/r.png?X-Signature=abc"
    assert server.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("share", [0, 3_000, 150_000, 299_999])
def test_a_cut_download_is_continued_where_it_broke_off(
    fetcher: HttpFetcher, destination: Path, share: int
) -> None:
    with serving(cut_after(share, ETag='"1"'), ranged('"1"')) as server:
        with pytest.raises(TransientError):
            fetcher.fetch(f"{server.url}/r.png?sig=1", destination, max_bytes=ENOUGH)
        assert not destination.exists()
        fetcher.fetch(f"{server.url}/r.png?sig=2", destination, max_bytes=ENOUGH)
    assert destination.read_bytes() == BODY
    if share:
        assert server.requests[1].headers["range"] == f"bytes={share}-"
        assert server.requests[1].headers["if-range"] == '"1"'


def test_a_changed_file_is_started_anew(fetcher: HttpFetcher, destination: Path) -> None:
    other = b"another picture" * 1000
    with serving(cut_after(5_000, ETag='"1"'), ranged('"2"', other)) as server:
        with pytest.raises(TransientError):
            fetcher.fetch(f"{server.url}/r.png", destination, max_bytes=ENOUGH)
        fetcher.fetch(f"{server.url}/r.png", destination, max_bytes=ENOUGH)
    assert destination.read_bytes() == other


def test_a_server_that_ignores_ranges_gives_the_whole_file_again(
    fetcher: HttpFetcher, destination: Path
) -> None:
    dated = "Tue, 13 Jan 2026 10:00:00 GMT"
    with serving(cut_after(5_000, Last_Modified=dated), reply(200, BODY)) as server:
        with pytest.raises(TransientError):
            fetcher.fetch(f"{server.url}/r.png", destination, max_bytes=ENOUGH)
        fetcher.fetch(f"{server.url}/r.png", destination, max_bytes=ENOUGH)
    assert server.requests[1].headers["if-range"] == dated
    assert destination.read_bytes() == BODY


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"1"'}])
def test_a_part_without_a_strong_validator_is_not_continued(
    fetcher: HttpFetcher, destination: Path, headers: dict[str, str]
) -> None:
    with serving(cut_after(5_000, **headers), reply(200, BODY)) as server:
        with pytest.raises(TransientError):
            fetcher.fetch(f"{server.url}/r.png", destination, max_bytes=ENOUGH)
        fetcher.fetch(f"{server.url}/r.png", destination, max_bytes=ENOUGH)
    assert "range" not in server.requests[1].headers
    assert destination.read_bytes() == BODY


def test_a_part_of_another_address_is_not_continued(
    fetcher: HttpFetcher, destination: Path
) -> None:
    with serving(cut_after(5_000, ETag='"1"'), reply(200, BODY)) as server:
        with pytest.raises(TransientError):
            fetcher.fetch(f"{server.url}/one.png", destination, max_bytes=ENOUGH)
        fetcher.fetch(f"{server.url}/two.png", destination, max_bytes=ENOUGH)
    assert "range" not in server.requests[1].headers
    assert destination.read_bytes() == BODY


@pytest.mark.parametrize(
    "content_range",
    [
        "bytes 0-299999/300000",
        "bytes 5000-299999/300001",
        "bytes 5000-299998/300000",
        "bytes 5001-299999/300000",
        "bytes 5000-299999/*",
        "nonsense",
    ],
)
def test_a_continuation_that_does_not_fit_is_thrown_away(
    fetcher: HttpFetcher, destination: Path, content_range: str
) -> None:
    wrong = reply(206, BODY[5_000:], Content_Range=content_range, ETag='"1"')
    with serving(cut_after(5_000, ETag='"1"'), wrong, reply(200, BODY)) as server:
        for _ in range(2):
            with pytest.raises(TransientError):
                fetcher.fetch(f"{server.url}/r.png", destination, max_bytes=ENOUGH)
        assert left_over(destination) == []
        fetcher.fetch(f"{server.url}/r.png", destination, max_bytes=ENOUGH)
    assert destination.read_bytes() == BODY


def test_a_range_that_nobody_asked_for_is_refused(fetcher: HttpFetcher, destination: Path) -> None:
    unasked = reply(206, BODY[:10], Content_Range=f"bytes 0-9/{len(BODY)}")
    with serving(unasked) as server, pytest.raises(TransientError):
        fetcher.fetch(f"{server.url}/r.png", destination, max_bytes=ENOUGH)
    assert not destination.exists()


def test_an_unsatisfiable_range_drops_the_part(fetcher: HttpFetcher, destination: Path) -> None:
    with serving(cut_after(5_000, ETag='"1"'), reply(416), reply(200, BODY)) as server:
        for _ in range(2):
            with pytest.raises(TransientError):
                fetcher.fetch(f"{server.url}/r.png", destination, max_bytes=ENOUGH)
        fetcher.fetch(f"{server.url}/r.png", destination, max_bytes=ENOUGH)
    assert "range" not in server.requests[2].headers
    assert destination.read_bytes() == BODY


def test_a_damaged_note_beside_the_part_starts_anew(
    fetcher: HttpFetcher, destination: Path
) -> None:
    with serving(cut_after(5_000, ETag='"1"'), reply(200, BODY)) as server:
        with pytest.raises(TransientError):
            fetcher.fetch(f"{server.url}/r.png", destination, max_bytes=ENOUGH)
        note = destination.with_name("result.png.validator.part")
        note.write_text(json.dumps({"total": 3}), encoding="utf-8")
        fetcher.fetch(f"{server.url}/r.png", destination, max_bytes=ENOUGH)
    assert "range" not in server.requests[1].headers
    assert destination.read_bytes() == BODY


def test_a_chunked_file_is_whole_or_not_there(fetcher: HttpFetcher, destination: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"400\r\n" + BODY[:1024] + b"\r\n"
    with serving(raw(head + chunk + b"400\r\nhalf"), raw(head + chunk + b"0\r\n\r\n")) as server:
        with pytest.raises(TransientError):
            fetcher.fetch(f"{server.url}/r.png", destination, max_bytes=ENOUGH)
        assert not destination.exists()
        fetcher.fetch(f"{server.url}/r.png", destination, max_bytes=ENOUGH)
    assert destination.read_bytes() == BODY[:1024]


@pytest.mark.parametrize("status", [403, 404, 410])
def test_an_expired_link_is_told_apart(
    fetcher: HttpFetcher, destination: Path, status: int
) -> None:
    with serving(reply(status, "gone")) as server, pytest.raises(LinkExpiredError):
        fetcher.fetch(f"{server.url}/r.png", destination, max_bytes=ENOUGH)
    assert not destination.exists()


@pytest.mark.parametrize("status", [204, 304, 408, 429, 500, 503])
def test_a_server_that_is_away_may_be_asked_again(
    fetcher: HttpFetcher, destination: Path, status: int
) -> None:
    with serving(reply(status, Retry_After="7")) as server, pytest.raises(TransientError) as caught:
        fetcher.fetch(f"{server.url}/r.png", destination, max_bytes=ENOUGH)
    assert caught.value.retry_after == 7


@pytest.mark.parametrize("status", [400, 401, 405, 451])
def test_a_refusal_is_for_good(fetcher: HttpFetcher, destination: Path, status: int) -> None:
    with serving(reply(status)) as server, pytest.raises(RejectedError) as caught:
        fetcher.fetch(f"{server.url}/r.png", destination, max_bytes=ENOUGH)
    assert not isinstance(caught.value, LinkExpiredError)


def test_a_connection_that_is_reset_or_refused_may_be_tried_again(
    fetcher: HttpFetcher, destination: Path
) -> None:
    with serving(reset) as server, pytest.raises(TransientError):
        fetcher.fetch(f"{server.url}/r.png", destination, max_bytes=ENOUGH)
    with pytest.raises(TransientError):
        fetcher.fetch(f"http://127.0.0.1:{closed_port()}/", destination, max_bytes=ENOUGH)
    assert not destination.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\n\r\n" + BODY,
        b"<html>captive portal</html>",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
    ],
)
def test_nonsense_in_place_of_an_answer_may_be_tried_again(
    fetcher: HttpFetcher, destination: Path, content: bytes
) -> None:
    with serving(raw(content)) as server, pytest.raises(TransientError):
        fetcher.fetch(f"{server.url}/r.png", destination, max_bytes=ENOUGH)
    assert not destination.exists()


def test_a_packed_answer_is_refused(fetcher: HttpFetcher, destination: Path) -> None:
    with serving(reply(200, BODY, Content_Encoding="gzip")) as server, pytest.raises(RejectedError):
        fetcher.fetch(f"{server.url}/r.png", destination, max_bytes=ENOUGH)
    assert not destination.exists()


def test_a_file_that_is_too_large_is_refused_by_its_length(
    fetcher: HttpFetcher, destination: Path
) -> None:
    with serving(reply(200, BODY)) as server, pytest.raises(RejectedError):
        fetcher.fetch(f"{server.url}/r.png", destination, max_bytes=len(BODY) - 1)
    assert left_over(destination) == []


def test_a_file_that_is_too_large_is_refused_while_it_comes(
    fetcher: HttpFetcher, destination: Path
) -> None:
    chunk = f"{len(BODY):x}\r\n".encode() + BODY + b"\r\n0\r\n\r\n"
    endless = raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)
    with serving(endless) as server, pytest.raises(RejectedError):
        fetcher.fetch(f"{server.url}/r.png", destination, max_bytes=len(BODY) - 1)
    assert left_over(destination) == []


@pytest.mark.parametrize(
    "head",
    [
        SHORT_HEAD,
        b"HTTP/1.1 200 OK\r\nX-Slow: ",
    ],
    ids=["a dripping body", "a dripping header"],
)
def test_a_slow_drip_ends_with_the_time_that_a_download_may_take(
    destination: Path, head: bytes
) -> None:
    servers: list[LoopbackServer] = []
    fetcher = HttpFetcher(allow_loopback=True, limits=QUICK)
    with serving(dripping(lambda: servers[0], head, b"x", 0.05)) as server:
        servers.append(server)
        began = time.monotonic()
        with pytest.raises(TransientError):
            fetcher.fetch(f"{server.url}/r.png", destination, max_bytes=ENOUGH)
        took = time.monotonic() - began
    assert took < QUICK.whole_seconds + 1


def test_a_silent_server_is_left_after_the_idle_time(destination: Path) -> None:
    servers: list[LoopbackServer] = []
    fetcher = HttpFetcher(allow_loopback=True, limits=FetchLimits(0.2, 30.0))
    with serving(dripping(lambda: servers[0], SHORT_HEAD, b"", 0.05)) as server:
        servers.append(server)
        began = time.monotonic()
        with pytest.raises(TransientError):
            fetcher.fetch(f"{server.url}/r.png", destination, max_bytes=ENOUGH)
        took = time.monotonic() - began
    assert took < 2


def test_a_disk_that_takes_no_more_leaves_no_part(fetcher: HttpFetcher, destination: Path) -> None:
    refused = pytest.raises(TransientError, match="full")
    with serving(reply(200, BODY, ETag='"1"')) as server, files_no_larger_than(100_000), refused:
        fetcher.fetch(server.url, destination, max_bytes=ENOUGH)
    assert left_over(destination) == []


def test_files_are_readable_by_their_owner_alone(fetcher: HttpFetcher, destination: Path) -> None:
    with serving(reply(200, BODY)) as server:
        fetcher.fetch(server.url, destination, max_bytes=ENOUGH)
    assert destination.stat().st_mode & 0o777 == 0o600

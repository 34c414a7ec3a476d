"""Downloads over real HTTP: parts, resuming, ends, and what counts as downloaded."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import random
import socket
import struct
import time
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from smi_desktop.domain.errors import TransientError
from smi_desktop.domain.tokens import hash_token
from smi_desktop.services.shop import Shop
from smi_desktop.store import orders
from smi_desktop.store.models import Download, Order
from tests.fakes.file_store import FakeFileStore
from tests.relay.conftest import HOST, Relay, StartRelay, wait_for
from tests.relay.test_prices import assert_is_error
from tests.world import World

MEGABYTE = 2**20


def deliver(world: World, size: int = 200_000, **fields: Any) -> tuple[Order, bytes]:
    """Deliver an order whose file has this many random bytes; return both."""
    content = random.Random(size).randbytes(size)
    order = world.complete(world.buy(**fields))
    assert order.file_key is not None
    world.files.path(order.file_key).write_bytes(content)
    change(world, order.id, file_bytes=size, file_sha256=hashlib.sha256(content).hexdigest())
    return world.order(order.id), content


def change(world: World, order_id: str, **values: Any) -> None:
    """Put an order into a state that a test needs."""
    with world.database.write() as session:
        order = orders.get_locked(session, order_id)
        for name, value in values.items():
            setattr(order, name, value)


def link(world: World, order: Order) -> str:
    """The path of an order's present link."""
    return f"/smi/v1/download/{world.shop.token('download', order.id, order.generation)}"


def requests_of(relay: Relay, count: int) -> list[Download]:
    """The requests written down, once there are so many: they are written after the last byte."""

    def enough() -> list[Download] | None:
        rows = relay.rows(Download)
        return rows if len(rows) >= count else None

    found: list[Download] = wait_for(enough)
    return found


def test_a_link_gives_the_whole_file_with_the_contracts_headers(relay: Relay) -> None:
    order, content = deliver(relay.world)
    answer = relay.get(link(relay.world, order))
    assert answer.status_code == 200
    assert answer.content == content
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["Content-Length"] == str(len(content))
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["ETag"] == f'"{order.file_sha256}"'
    assert answer.headers["Content-Disposition"].startswith("attachment; ")
    assert parsedate_to_datetime(answer.headers["Last-Modified"]) == order.completed_at
    assert "no-store" in answer.headers["Cache-Control"]
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_head_tells_the_same_and_sends_nothing(relay: Relay) -> None:
    order, content = deliver(relay.world)
    path = link(relay.world, order)
    for headers in ({}, {"Range": "bytes=0-9"}):
        answer = relay.request("HEAD", path, headers=headers)
        assert answer.status_code == 200, "only a GET has ranges (RFC 9110, 14.2)"
        assert answer.headers["Content-Length"] == str(len(content))
        assert answer.content == b""
    assert relay.get("/healthz").status_code == 200
    assert relay.rows(Download) == []


def test_a_name_in_any_script_can_be_read(relay: Relay) -> None:
    for title in (
        'Größe "A"/B',
        "港の朝",
        "naïve\r\nX-Evil: 1",
        "../../etc/passwd",
        "\u202egpj.exe",
    ):
        number = relay.world.add_image(title="x" + hashlib.sha256(title.encode()).hexdigest()[:6])
        order, _ = deliver(relay.world, 1000, attachment_id=number)
        change(relay.world, order.id, title=title)
        header = relay.get(link(relay.world, order)).headers["Content-Disposition"]
        assert header.isascii()
        plain = header.partition('filename="')[2].partition('"')[0]
        true = unquote(header.partition("filename*=UTF-8''")[2])
        assert plain.endswith(f"_{order.number}.png")
        assert true.endswith(f"_4x_1600x1200_{order.number}.png")
        assert not set('/\\"\r\n\u202e') & set(true)
        assert "X-Evil" not in dict(relay.get(link(relay.world, order)).headers)
    assert "港の朝" in unquote(content_disposition_of(relay, "港の朝")), (
        "the customer's own letters are kept"
    )


def content_disposition_of(relay: Relay, title: str) -> str:
    """The header for a picture of this title."""
    order, _ = deliver(relay.world, 1000, attachment_id=relay.world.add_image(title="y"))
    change(relay.world, order.id, title=title)
    return relay.get(link(relay.world, order)).headers["Content-Disposition"]


def test_one_range_gives_just_those_bytes(relay: Relay) -> None:
    order, content = deliver(relay.world)
    path, size = link(relay.world, order), len(content)
    for asked, first, last in (
        ("bytes=0-0", 0, 0), ("bytes=0-99", 0, 99), ("bytes=1000-1999", 1000, 1999), ("bytes=-1", size - 1, size - 1),
        ("bytes=-500", size - 500, size - 1), (f"bytes={size - 1}-", size - 1, size - 1), ("bytes=0-", 0, size - 1),
        ("bytes=150000-", 150_000, size - 1), ("bytes=5-99999999", 5, size - 1), ("bytes=-99999999", 0, size - 1),
    ):  # fmt: skip
        answer = relay.get(path, headers={"Range": asked})
        assert answer.status_code == 206, asked
        assert answer.content == content[first : last + 1], asked
        assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{size}"
        assert answer.headers["Content-Length"] == str(last - first + 1)
        assert answer.headers["ETag"] == f'"{order.file_sha256}"'


def test_a_range_behind_the_end_is_416(relay: Relay) -> None:
    order, content = deliver(relay.world)
    for asked in (f"bytes={len(content)}-", "bytes=99999999-", f"bytes={'9' * 19}-", "bytes=-0"):
        answer = relay.get(link(relay.world, order), headers={"Range": asked})
        assert answer.status_code == 416, asked
        assert answer.headers["Content-Range"] == f"bytes */{len(content)}"


def test_several_or_absurd_ranges_give_the_whole_file_quickly(relay: Relay) -> None:
    order, content = deliver(relay.world)
    for asked in (
        "bytes=0-1,5-6", "bytes=" + "0-," * 10_000 + "0-", "bytes=a-b", "bytes=5-2", "bytes=-", "bytes=", "bytes",
        "lines=1-2", "bytes=0x1-2", "bytes=1-2-3", "bytes=+1-2", f"bytes={'9' * 5000}-", "bytes=--5", "bytes=1.5-2", "",
    ):  # fmt: skip
        started = time.monotonic()
        answer = relay.get(link(relay.world, order), headers={"Range": asked})
        assert (answer.status_code, answer.content) == (200, content), asked[:50]
        assert time.monotonic() - started < 1


def test_if_range_gives_the_part_only_of_the_same_file(relay: Relay) -> None:
    order, content = deliver(relay.world)
    path = link(relay.world, order)
    whole = relay.get(path)
    good = (whole.headers["ETag"], whole.headers["Last-Modified"])
    bad = ('"other"', f"W/{whole.headers['ETag']}", "Thu, 01 Jan 1970 00:00:00 GMT", "nonsense", "")
    for validator in good:
        answer = relay.get(path, headers={"Range": "bytes=10-19", "If-Range": validator})
        assert (answer.status_code, answer.content) == (206, content[10:20])
    for validator in bad:
        answer = relay.get(path, headers={"Range": "bytes=10-19", "If-Range": validator})
        assert (answer.status_code, answer.content) == (200, content), validator


def test_a_cut_download_resumes_to_the_same_bytes(relay: Relay) -> None:
    order, content = deliver(relay.world, 3 * MEGABYTE)
    path = link(relay.world, order)
    etag = relay.request("HEAD", path).headers["ETag"]
    first = read_some(relay, path, 1_000_000)
    rest = relay.get(path, headers={"Range": f"bytes={len(first)}-", "If-Range": etag})
    assert rest.status_code == 206
    assert first + rest.content == content


def read_some(relay: Relay, path: str, count: int) -> bytes:
    """Read the first bytes of a file and hang up."""
    body = bytearray()
    with raw_download(relay, path) as connection:
        while len(body) < count:
            body += connection.recv(count - len(body))
    return bytes(body)


def raw_download(relay: Relay, path: str) -> socket.socket:
    """Ask for a file; return the connection with the head read off."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
    connection.settimeout(10)
    connection.connect((HOST, relay.port))
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1)
    assert head.startswith(b"HTTP/1.1 200")
    return connection


def test_reading_consumes_nothing(relay: Relay) -> None:
    # A mail scanner opens the link before the customer does: HEAD, GET, a browser's GET and a POST.
    order, content = deliver(relay.world)
    path = link(relay.world, order)
    relay.request("HEAD", path)
    for _ in range(20):
        assert relay.get(path).content == content
    assert relay.post(path).status_code == 405
    assert relay.get(path, headers={"Accept": "text/html"}).content == content


def test_each_request_is_written_down_with_its_bytes(relay: Relay) -> None:
    order, content = deliver(relay.world)
    relay.get(link(relay.world, order), headers={"User-Agent": "a" * 5000})
    relay.get(link(relay.world, order), headers={"Range": "bytes=100-199"})
    whole, part = requests_of(relay, 2)
    assert (whole.first_byte, whole.bytes_sent, whole.finished) == (0, len(content), True)
    assert (part.first_byte, part.bytes_sent, part.finished) == (100, 100, True)
    assert {whole.bytes_total, part.bytes_total} == {len(content)}
    assert whole.address == HOST
    assert whole.agent is not None
    assert len(whole.agent) <= 300


def test_a_transfer_that_was_broken_off_is_never_downloaded(relay: Relay) -> None:
    order, _ = deliver(relay.world, 20 * MEGABYTE)
    assert len(read_some(relay, link(relay.world, order), 100_000)) == 100_000
    (row,) = requests_of(relay, 1)
    assert row.finished is False
    assert 100_000 <= row.bytes_sent < 4 * MEGABYTE
    assert relay.world.order(order.id).downloaded_at is None


def test_a_client_that_stops_reading_and_leaves_is_not_downloaded_either(relay: Relay) -> None:
    order, _ = deliver(relay.world, 20 * MEGABYTE)
    for _ in range(5):
        connection = raw_download(relay, link(relay.world, order))
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
    rows = requests_of(relay, 5)
    assert not any(row.finished for row in rows)
    assert relay.world.order(order.id).downloaded_at is None


@pytest.mark.parametrize("share", [0.001, 0.5, 0.97])
def test_a_small_file_that_was_broken_off_is_not_downloaded_either(
    relay: Relay, share: float
) -> None:
    """All of it fits into the buffers between server and client: only the kernel knows how it ended."""
    order, content = deliver(relay.world, MEGABYTE)
    wanted = int(len(content) * share)
    connection = raw_download(relay, link(relay.world, order))
    taken = 0
    while taken < wanted:
        taken += len(connection.recv(wanted - taken))
    # Closed with bytes unread, the connection is reset, as a browser does when its user cancels.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    (row,) = requests_of(relay, 1)
    assert row.finished is False
    assert relay.world.order(order.id).downloaded_at is None


def test_a_whole_transfer_over_a_connection_that_is_kept_is_downloaded_too(relay: Relay) -> None:
    order, content = deliver(relay.world, MEGABYTE)
    connection = raw_download(relay, link(relay.world, order))
    taken = 0
    while part := connection.recv(MEGABYTE):
        taken += len(part)
    assert taken >= len(content)
    wait_for(lambda: relay.world.order(order.id).downloaded_at)
    connection.close()


def test_a_whole_transfer_is_downloaded(relay: Relay) -> None:
    order, content = deliver(relay.world, 5 * MEGABYTE)
    assert relay.get(link(relay.world, order)).content == content
    wait_for(lambda: relay.world.order(order.id).downloaded_at)
    assert relay.get(f"/smi/v1/job-status/{order.id}").json()["data"]["status"] == "completed"


def test_two_halves_are_downloaded_and_one_half_twice_is_not(relay: Relay) -> None:
    order, content = deliver(relay.world)
    path, half = link(relay.world, order), len(content) // 2
    for _ in range(2):
        relay.get(path, headers={"Range": f"bytes=0-{half - 1}"})
    requests_of(relay, 2)
    assert relay.world.order(order.id).downloaded_at is None
    relay.get(path, headers={"Range": f"bytes={half}-"})
    wait_for(lambda: relay.world.order(order.id).downloaded_at)


def test_a_transfer_goes_on_when_the_file_is_removed_under_it(relay: Relay) -> None:
    order, content = deliver(relay.world, 8 * MEGABYTE)
    assert order.file_key is not None
    with raw_download(relay, link(relay.world, order)) as connection:
        body = bytearray(connection.recv(1000))
        relay.world.files.delete(order.file_key)
        while len(body) < len(content):
            body += connection.recv(MEGABYTE)
    assert bytes(body) == content


def test_a_file_that_is_cut_under_a_transfer_is_broken_off_and_not_downloaded(
    relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    order, content = deliver(relay.world, 20 * MEGABYTE)
    assert order.file_key is not None
    with caplog.at_level(logging.INFO), raw_download(relay, link(relay.world, order)) as connection:
        with relay.world.files.path(order.file_key).open("r+b") as file:
            file.truncate(10 * MEGABYTE)
        body = bytearray()
        while part := connection.recv(MEGABYTE):
            body += part
    assert len(body) <= 10 * MEGABYTE, "the connection ends; it does not hang"
    assert body == content[: len(body)]
    assert requests_of(relay, 1)[0].finished is False
    assert not [record for record in caplog.records if record.exc_info]


def test_unknown_and_revoked_links_cannot_be_told_apart(relay: Relay) -> None:
    world = relay.world
    order, _ = deliver(world)
    path = link(world, order)
    answers = [relay.get(f"/smi/v1/download/{'0' * 64}")]
    for values in (
        {"disputed_at": world.clock.now()},
        {"disputed_at": None, "status": "refunded"},
        {"status": "completed", "token_sha256": None},
    ):
        change(world, order.id, **values)
        answers.append(relay.get(path))
    for answer in answers:
        assert_is_error(answer, 404, "not_found")
        assert answer.content == answers[0].content
        assert set(answer.headers) == set(answers[0].headers)
    pages = [
        relay.get(one, headers={"Accept": "text/html"}) for one in (path, f"/smi/v1/download/{'0' * 64}")
    ]  # fmt: skip
    assert [page.status_code for page in pages] == [404, 404]
    assert pages[0].content == pages[1].content
    assert "text/html" in pages[0].headers["Content-Type"]


def test_what_is_no_token_is_not_found(relay: Relay) -> None:
    for word in ("x", "0" * 63, "0" * 65, "G" * 64, "A" * 64, "%00", "..%2f..%2fetc%2fpasswd"):
        assert_is_error(relay.get(f"/smi/v1/download/{word}"), 404, "not_found")


def test_an_ended_link_leads_on_in_json_and_as_a_page(relay: Relay) -> None:
    order, _ = deliver(relay.world)
    path = link(relay.world, order)
    relay.world.clock.advance(24 * 3600 + 1)
    answer = relay.get(path)
    assert_is_error(answer, 410, "link_expired")
    assert f"https://shop.example/order/{order.id}" in answer.json()["message"]
    page = relay.get(path, headers={"Accept": "text/html,*/*"})
    assert page.status_code == 410
    assert page.headers["Content-Type"].startswith("text/html")
    assert f"https://shop.example/order/{order.id}" in page.text
    for one in (answer, page):
        assert one.headers["Cache-Control"] == "no-store"
        assert one.headers["Referrer-Policy"] == "no-referrer"


def test_a_link_whose_order_is_not_completed_is_too_early(relay: Relay) -> None:
    order, _ = deliver(relay.world)
    change(relay.world, order.id, status="processing")
    assert_is_error(relay.get(link(relay.world, order)), 425, "not_ready")


def test_a_missing_file_is_503_and_a_person_is_asked_to_look(relay: Relay) -> None:
    order, _ = deliver(relay.world)
    assert order.file_key is not None
    relay.world.files.delete(order.file_key)
    answer = relay.get(link(relay.world, order))
    assert_is_error(answer, 503, "try_later")
    assert int(answer.headers["Retry-After"]) > 0
    assert "link stays good" in answer.json()["message"]
    assert relay.world.order(order.id).held_at is not None


class FoldersForFiles(FakeFileStore):
    """A store whose files have become folders: they are there and cannot be opened."""

    def path(self, key: str) -> Path:
        """Return a folder."""
        return super().path(key).parent


def test_a_file_that_cannot_be_opened_is_503_too(world: World, start_relay: StartRelay) -> None:
    order, _ = deliver(world)
    broken = FoldersForFiles(world.folder / "files", world.clock)
    assert order.file_key is not None
    broken.put(order.file_key, world.folder / "shop.db")
    change(world, order.id, file_bytes=broken.path(order.file_key).stat().st_size)
    relay = start_relay(world, shop=dataclasses.replace(world.shop, files=broken))
    assert_is_error(relay.get(link(world, order)), 503, "try_later")


def test_a_person_is_told_by_a_page_whatever_is_wrong(relay: Relay) -> None:
    order, _ = deliver(relay.world)
    path, browser = link(relay.world, order), {"Accept": "text/html,application/xhtml+xml"}
    change(relay.world, order.id, status="processing")
    pages = [relay.get(path, headers=browser)]
    change(relay.world, order.id, status="completed", file_bytes=1)
    pages.append(relay.get(path, headers=browser))
    relay.world.set(rate_bad_token_per_address_per_minute=1)
    unknown = f"/smi/v1/download/{'0' * 64}"
    relay.get(unknown)
    pages.append(relay.get(unknown, headers=browser))
    assert [page.status_code for page in pages] == [425, 503, 429]
    for page in pages:
        assert page.headers["Content-Type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert pages[1].headers["Retry-After"]
    assert pages[2].headers["Retry-After"]


def test_a_good_link_works_beside_somebody_who_guesses_from_the_same_address(relay: Relay) -> None:
    order, content = deliver(relay.world)
    relay.world.set(rate_bad_token_per_address_per_minute=1)
    guesses = [relay.get(f"/smi/v1/download/{'0' * 64}").status_code for _ in range(3)]
    assert guesses == [404, 429, 429]
    assert relay.get(link(relay.world, order)).content == content


class LockedDatabase:
    """A database that can be read and not be written."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def write(self) -> Any:
        """Fail as a locked one does."""
        raise TransientError("The database cannot be written at the moment: database is locked")


def locked(world: World) -> Shop:
    """The world's shop with such a database."""
    return dataclasses.replace(world.shop, database=LockedDatabase(world.database))  # type: ignore[arg-type]


def test_a_download_that_cannot_be_written_down_still_arrives(
    world: World, start_relay: StartRelay, caplog: pytest.LogCaptureFixture
) -> None:
    order, content = deliver(world)
    relay = start_relay(world, shop=locked(world))
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert relay.get(link(world, order)).content == content
        assert relay.get("/healthz").status_code == 200
    assert not [record for record in caplog.records if record.exc_info], "one line, no traceback"
    assert "was not written down" in caplog.text


def test_a_new_delivery_ends_the_old_link(relay: Relay) -> None:
    order, _ = deliver(relay.world)
    old = link(relay.world, order)
    with relay.world.database.write() as session:
        row = orders.get_locked(session, order.id)
        assert row is not None
        row.generation += 1
        row.token_sha256 = hash_token(relay.world.shop.token("download", row.id, row.generation))
    assert relay.get(old).status_code == 404
    assert relay.get(link(relay.world, relay.world.order(order.id))).status_code == 200


def test_the_link_stands_nowhere_in_the_database(world: World, start_relay: StartRelay) -> None:
    relay = start_relay(world)
    order, _ = deliver(world)
    relay.get(link(world, order))
    requests_of(relay, 1)
    token = link(world, order).rpartition("/")[2].encode()
    for path in Path(world.folder).glob("shop.db*"):
        assert token not in path.read_bytes()


def test_moments_in_headers_are_utc(relay: Relay) -> None:
    order, _ = deliver(relay.world)
    text = relay.get(link(relay.world, order)).headers["Last-Modified"]
    assert text.endswith(" GMT")
    assert isinstance(parsedate_to_datetime(text), datetime)

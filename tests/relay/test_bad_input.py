"""What strangers send: always an answer of the contract, never a 5xx, nothing stored."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import text

from smi_desktop.store.models import Base
from tests.relay.conftest import Relay, StartRelay
from tests.relay.test_prices import PRICES, assert_is_error
from tests.world import World

CHECKOUT = "/smi/v1/create-checkout"
PATIENT = {
    "rate_per_address_per_minute": 1_000_000,
    "rate_checkout_per_address_per_minute": 1_000_000,
    "rate_checkout_per_image_per_minute": 1_000_000,
    "rate_checkout_shop_per_minute": 1_000_000,
    "rate_bad_token_per_address_per_minute": 1_000_000,
}
NOT_NUMBERS: list[Any] = [
    None, "", " ", "a", "-1", -1, 0, "0", 1.5, "1.5", 1.0, True, False, [], [1], {}, {"a": 1}, 10**30, str(10**30),
    "1e3", "0x1", "+1", "１", "٣", "²", "1;DROP TABLE orders", "1 OR 1=1", "<script>alert(1)</script>", "1\x00",
    "\u202e1", "9" * 5000, 2**53 + 1, "1_0", "NaN", "Infinity", "1\n1", "\ud800",
]  # fmt: skip
NASTY_TEXTS: list[Any] = [
    "'; DROP TABLE orders; --", '" OR ""="', "<script>alert(1)</script>", "{{7*7}}", "${7*7}", "%00", "\x00",
    "a\r\nX-Evil: 1", "\ud800", "\u202egpj.exe", "../../etc/passwd", "😀" * 50, "x" * 5000, -1, 1.5, True, [], {},
    ["a"], {"a": "b"}, 10**30,
]  # fmt: skip


def snapshot(relay: Relay) -> dict[str, int]:
    """How many rows each table has."""
    with relay.world.database.read() as session:
        return {
            name: int(session.scalar(text(f"SELECT count(*) FROM {name}")) or 0)
            for name in Base.metadata.tables
        }


def assert_refused(answer: Any, what: object) -> None:
    """A 4xx in the contract's shape that repeats nothing of a script."""
    assert 400 <= answer.status_code < 500, (what, answer.status_code, answer.text[:200])
    assert_is_error(answer, answer.status_code, answer.json()["code"])
    assert "<script" not in answer.text


def as_json(body: object) -> dict[str, Any]:
    """How a body is sent as JSON, whatever it holds."""
    return {"data": json.dumps(body).encode(), "headers": {"Content-Type": "application/json"}}


def test_a_number_that_is_none_is_refused_everywhere(any_relay: Relay) -> None:
    relay = any_relay
    relay.world.set(**PATIENT)
    relay.world.add_image()
    before = snapshot(relay)
    for value in NOT_NUMBERS:
        assert_refused(relay.post(PRICES, **as_json({"attachment_id": value})), value)
        body = {"attachment_id": value, "resolution": "4x"}
        assert_refused(relay.post(CHECKOUT, **as_json(body)), value)
        assert_refused(relay.post("/smi/v1/images", **as_json({"attachment_ids": [value]})), value)
        if isinstance(value, str):
            form = f"attachment_id={quote(value, errors='replace')}&resolution=4x"
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            assert_refused(relay.post(CHECKOUT, data=form, headers=headers), value)
            path = f"{PRICES}?attachment_id={quote(value, errors='replace')}"
            assert_refused(relay.get(path), value)
    lists: list[Any] = [[], {}, "", "a,b", 1, None, True, [[1]], list(range(1, 202)), "1," * 300]
    for listed in lists:
        answer = relay.post("/smi/v1/images", **as_json({"attachment_ids": listed}))
        assert_refused(answer, listed)
    assert snapshot(relay) == before


def test_json_numbers_beyond_all_bounds_are_refused(relay: Relay) -> None:
    relay.world.add_image()
    before = snapshot(relay)
    headers = {"Content-Type": "application/json"}
    for number in (
        "1e400",
        "-1e400",
        "NaN",
        "Infinity",
        "-Infinity",
        "9" * 6000,
        "1E+2",
        "01",
        "1.",
    ):
        for path in (PRICES, CHECKOUT):
            raw = f'{{"attachment_id": {number}, "resolution": "4x"}}'
            assert_refused(relay.post(path, data=raw, headers=headers), number)
    assert snapshot(relay) == before


def test_nasty_texts_in_any_field_make_no_error_of_ours(any_relay: Relay) -> None:
    relay = any_relay
    relay.world.set(**PATIENT)
    number = relay.world.add_image()
    for value in NASTY_TEXTS:
        for field in ("resolution", "email"):
            body = {"attachment_id": number, "resolution": "4x", field: value}
            assert_refused(relay.post(CHECKOUT, **as_json(body)), (field, value))
        for field in ("post_id", "quote_id", "page_url", "terms_version", "terms_accepted"):
            body = {"attachment_id": number, "resolution": "4x", field: value}
            answer = relay.post(CHECKOUT, **as_json(body))
            assert answer.status_code in {200, 400}, (field, value, answer.text)
            if answer.status_code == 200:
                order = relay.world.order(answer.json()["job_id"])
                assert (order.post_id, order.quote_id, order.page_url) == (7, None, None)
        answer = relay.post("/smi/v1/lost-link", **as_json({"email": value}))
        assert answer.status_code in {200, 400}, (value, answer.text)
        answer = relay.post(
            "/smi/v1/track-button-click", **as_json({"attachment_id": number, "post_id": value})
        )
        assert answer.status_code == 200


def test_nasty_addresses_make_no_error_of_ours(any_relay: Relay) -> None:
    relay = any_relay
    relay.world.set(**PATIENT)
    for value in NASTY_TEXTS:
        word = quote(str(value).replace("\ud800", "�"), safe="")
        for path in (
            f"/smi/v1/job-status/{word}", f"/smi/v1/download/{word}", f"/order/{word}",
            f"/order/{word}/picture.jpg", f"/smi/v1/source/{word}/{word}", f"/assets/{word}", f"/{word}",
        ):  # fmt: skip
            assert relay.get(path).status_code == 404, path
        assert relay.post(f"/smi-webhook/upsampler/{word}", data=b"{}").status_code == 404


@pytest.mark.parametrize("path", [PRICES, CHECKOUT, "/smi/v1/images"])
def test_a_body_that_is_no_object_is_refused(relay: Relay, path: str) -> None:
    deep = b"[" * 30_000 + b"]" * 30_000
    bodies = [
        b"", b" ", b"null", b"[]", b"1", b'"a"', b"{", b'{"attachment_id": }', b"\xff\xfe\x00", deep,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000, b"\x00" * 100, b"&" * 1000, b"a=b&" * 1000, b"%ff%fe=%00",
        b'--x\r\nContent-Disposition: form-data; name="attachment_id"\r\n\r\n1\r\n--x--\r\n',
        '{"attachment_id": "１"}'.encode("utf-16"),
    ]  # fmt: skip
    kinds = [
        "application/json", "application/x-www-form-urlencoded", "text/plain", "", "application/xml",
        "multipart/form-data; boundary=x", "application/json; charset=utf-16", "x" * 1000,
    ]  # fmt: skip
    relay.world.set(**PATIENT)
    before = snapshot(relay)
    for body in bodies:
        for kind in kinds:
            answer = relay.post(path, data=body, headers={"Content-Type": kind})
            assert_refused(answer, (body[:30], kind))
    assert snapshot(relay) == before


def test_the_last_of_two_equal_names_counts_in_json_and_forms(relay: Relay) -> None:
    first = relay.world.add_image(2000, 1000, title="a")
    second = relay.world.add_image(100, 100, title="b")
    raw = f'{{"attachment_id": {first}, "attachment_id": {second}}}'
    form = f"attachment_id={first}&attachment_id={second}"
    kinds = {raw: "application/json", form: "application/x-www-form-urlencoded"}
    for body, kind in kinds.items():
        answer = relay.post(PRICES, data=body, headers={"Content-Type": kind})
        assert answer.json()["image_info"] == {"width": 100, "height": 100}


def test_a_body_beyond_the_limit_is_too_large(relay: Relay) -> None:
    before = snapshot(relay)
    large = b'{"attachment_id": 1, "x": "' + b"a" * 70_000 + b'"}'
    for path in (PRICES, CHECKOUT, "/smi/v1/track-button-click", "/smi/v1/lost-link", "/none"):
        assert_is_error(relay.post(path, data=large), 413, "too_large")
    assert_is_error(relay.post(PRICES, data=iter([large])), 413, "too_large")
    assert snapshot(relay) == before


def test_requests_that_are_no_http_get_a_4xx_or_nothing(
    world: World, start_relay: StartRelay
) -> None:
    relay = start_relay(world, header_seconds=0.5)
    for raw in (
        b"\r\n\r\n\r\n",
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
        b"POST /smi/v1/images HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /smi/v1/images HTTP/1.1\r\nHost: x\r\nContent-Length: \xb2\r\n\r\n",
        b"POST /smi/v1/images HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nA b: c\r\n\r\n",
        b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n",
    ):
        answer = relay.exchange(raw)
        good = answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))
        assert good, (raw[:60], answer[:60])
    assert relay.get("/healthz").status_code == 200


def test_a_smuggled_second_request_is_not_served(relay: Relay) -> None:
    raw = (
        b"POST /smi/v1/images HTTP/1.1\r\nHost: x\r\nContent-Length: 44\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    assert b'"status":"ok"' not in relay.exchange(raw)


def test_a_strange_host_changes_nothing(relay: Relay) -> None:
    number = relay.world.add_image()
    for host in ("evil.example", "[", "a b", "", "x" * 1000, "127.0.0.1:99999"):
        answer = relay.exchange(
            f"GET {PRICES}?attachment_id={number} HTTP/1.1\r\nHost: {host}\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 400")), (host, answer[:200])
        assert b"evil" not in answer


def test_the_other_version_of_the_protocol_is_not_spoken(relay: Relay) -> None:
    # Its streams know no time limit for headers.
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    answer = relay.exchange(preface)
    assert not answer.startswith(b"\x00"), "an HTTP/2 SETTINGS frame came back"

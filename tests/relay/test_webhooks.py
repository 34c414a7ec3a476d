"""Webhooks over real HTTP: what is believed, what is stored, and that nothing is acknowledged unstored."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from smi_desktop.services.shop import STRIPE_WEBHOOK_SECRET, STRIPE_WEBHOOK_SECRET_PREVIOUS
from smi_desktop.services.work import TaskKind
from smi_desktop.store.models import InboxEntry, Task
from tests.relay.conftest import Relay
from tests.relay.test_prices import assert_is_error
from tests.world import WEBHOOK_SECRET

COMPLETED = "checkout.session.completed"


def paid(relay: Relay) -> str:
    """A session that was paid; nothing has been delivered yet."""
    return relay.world.pay(relay.world.start_checkout().order_id)


def assert_nothing_stored(relay: Relay) -> None:
    """No entry and no task."""
    assert relay.rows(InboxEntry) == []
    assert [task for task in relay.rows(Task) if task.kind == TaskKind.APPLY_EVENT] == []


def test_a_signed_event_is_stored_as_it_came_with_its_task(any_relay: Relay) -> None:
    raw, signature = any_relay.world.event(COMPLETED, paid(any_relay), event_id="evt_a")
    answer = any_relay.stripe(raw, signature)
    assert answer.status_code == 200
    (entry,) = any_relay.rows(InboxEntry)
    assert (entry.event_id, entry.type, entry.body, entry.state) == ("evt_a", COMPLETED, raw, "new")
    (task,) = [task for task in any_relay.rows(Task) if task.kind == TaskKind.APPLY_EVENT]
    assert task.payload == {"inbox_id": entry.id}


def test_the_address_works_without_its_last_slash(relay: Relay) -> None:
    raw, signature = relay.world.event(COMPLETED, paid(relay))
    headers = {"Stripe-Signature": signature}
    assert relay.post("/smi-webhook/stripe", data=raw, headers=headers).status_code == 200
    assert len(relay.rows(InboxEntry)) == 1


def test_a_delivered_event_leads_to_a_fulfilled_order(relay: Relay) -> None:
    world = relay.world
    order_id = world.start_checkout().order_id
    raw, signature = world.event(COMPLETED, world.pay(order_id))
    assert relay.stripe(raw, signature).status_code == 200
    assert world.order(order_id).payment_status == "pending", "nothing is done before the answer"
    world.run_due()
    assert world.order(order_id).payment_status == "paid"


def signatures_that_must_fail(relay: Relay, raw: bytes) -> dict[str, str | bytes]:
    """Headers that Stripe did not make for this body at this moment, by what is wrong."""
    world = relay.world
    good = world.sign(raw)
    moment, _, value = good.partition(",v1=")
    return {
        "empty": "",
        "words": "hello",
        "other secret": world.sign(raw, secret="whsec_other"),
        "empty secret": world.sign(raw, secret=""),
        "v0 only": f"{moment},v0={value}",
        "truncated": good[:-1],
        "longer": good + "0",
        "upper case": f"{moment},v1={value.upper()}",
        "no time": f"v1={value}",
        "two times": f"{moment},{moment},v1={value}",
        "time is no number": f"t=x,v1={value}",
        "another time": f"t={int(moment[2:]) - 1},v1={value}",
        "negative time": f"t=-{moment[2:]},v1={value}",
        "endless time": f"t={'9' * 400},v1={value}",
        "stale": world.sign(raw, age=301),
        "very stale": world.sign(raw, age=10**8),
        "future": world.sign(raw, age=-301),
        "non-ASCII": f"{moment},v1=é{value}".encode(),
        "NUL-like": f"{moment},v1={value[:-2]}\t\t",
        "100,000 v1": f"{moment}" + ",v1=" + ",v1=".join(["0" * 64] * 100_000),
        "100 v1": f"{moment}" + ",v1=" + ",v1=".join(["0" * 64] * 100),
    }


def test_a_forged_event_is_refused_and_leaves_no_trace(relay: Relay) -> None:
    raw, _ = relay.world.event(COMPLETED, paid(relay))
    for what, signature in signatures_that_must_fail(relay, raw).items():
        headers = {"Stripe-Signature": signature}
        try:
            answer = relay.post("/smi-webhook/stripe/", data=raw, headers=headers)
        except requests.ConnectionError:
            # Headers of megabytes: the server hangs up while they are still being sent.
            assert what == "100,000 v1"
            continue
        if what == "100,000 v1":
            assert answer.status_code in {400, 431}
        else:
            assert_is_error(answer, 400, "bad_signature")
    assert_is_error(relay.post("/smi-webhook/stripe/", data=raw), 400, "bad_signature")
    assert_nothing_stored(relay)


def test_a_refusal_is_quick(relay: Relay) -> None:
    raw, _ = relay.world.event(COMPLETED, paid(relay))
    relay.stripe(raw, "t=1,v1=0")
    started = time.monotonic()
    for _ in range(20):
        relay.stripe(raw, relay.world.sign(raw, secret="whsec_other"))
    assert (time.monotonic() - started) / 20 < 0.05


def test_an_event_signed_five_minutes_ago_or_ahead_is_still_taken(relay: Relay) -> None:
    session_id = paid(relay)
    for age in (299, -299):
        raw, signature = relay.world.event(COMPLETED, session_id, age=age)
        assert relay.stripe(raw, signature).status_code == 200
    assert len(relay.rows(InboxEntry)) == 2


def test_both_secrets_are_good_while_the_secret_is_rolled(relay: Relay) -> None:
    world = relay.world
    world.secrets.set(STRIPE_WEBHOOK_SECRET, "whsec_new")
    world.secrets.set(STRIPE_WEBHOOK_SECRET_PREVIOUS, WEBHOOK_SECRET)
    session_id = paid(relay)
    for secret in ("whsec_new", WEBHOOK_SECRET):
        assert relay.stripe(*world.event(COMPLETED, session_id, secret=secret)).status_code == 200
    world.secrets.delete(STRIPE_WEBHOOK_SECRET_PREVIOUS)
    answer = relay.stripe(*world.event(COMPLETED, session_id, secret=WEBHOOK_SECRET))
    assert answer.status_code == 400


@pytest.mark.parametrize("secret", ["", " ", None])
def test_without_a_secret_nothing_is_believed(relay: Relay, secret: str | None) -> None:
    world = relay.world
    session_id = paid(relay)
    if secret is None:
        world.secrets.delete(STRIPE_WEBHOOK_SECRET)
    else:
        world.secrets.values[STRIPE_WEBHOOK_SECRET] = secret
    answer = relay.stripe(*world.event(COMPLETED, session_id, secret=secret or ""))
    assert_is_error(answer, 503, "try_later")
    assert_nothing_stored(relay)


def test_a_body_that_is_not_what_was_signed_is_refused(relay: Relay) -> None:
    raw, signature = relay.world.event(COMPLETED, paid(relay))
    changed = bytearray(raw)
    changed[len(raw) // 2] ^= 1
    bodies = [
        bytes(changed), json.dumps(json.loads(raw), indent=1).encode(), raw + b" ", raw[:-1], b"",
        raw.replace(b'"', b"'"), gzip.compress(raw), raw.decode().encode("utf-16"),
    ]  # fmt: skip
    for body in bodies:
        assert_is_error(relay.stripe(body, signature), 400, "bad_signature")
    zipped = relay.stripe(gzip.compress(raw), signature, headers={"Content-Encoding": "gzip"})
    assert_is_error(zipped, 400, "bad_signature")
    assert_nothing_stored(relay)


def test_a_chunked_body_is_the_same_body(relay: Relay) -> None:
    raw, signature = relay.world.event(COMPLETED, paid(relay))
    pieces: Any = iter([raw[:7], raw[7:20], raw[20:]])
    answer = relay.stripe(pieces, signature)
    assert answer.status_code == 200
    assert relay.rows(InboxEntry)[0].body == raw


def framed(raw: bytes, signature: str, length: int) -> bytes:
    """A request that declares this length."""
    head = (
        f"POST /smi-webhook/stripe/ HTTP/1.1\r\nHost: x\r\nStripe-Signature: {signature}\r\n"
        f"Content-Length: {length}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + raw


def test_a_length_that_is_too_short_or_too_long_stores_nothing(relay: Relay) -> None:
    relay.world.set(body_seconds=0.5)
    raw, signature = relay.world.event(COMPLETED, paid(relay))
    assert b" 400 " in relay.exchange(framed(raw, signature, len(raw) - 1))[:20]
    assert b" 408 " in relay.exchange(framed(raw, signature, len(raw) + 1))[:20]
    assert_nothing_stored(relay)


def test_a_client_that_leaves_half_way_stores_nothing(relay: Relay) -> None:
    raw, signature = relay.world.event(COMPLETED, paid(relay))
    for _ in range(5):
        connection = relay.connect()
        connection.sendall(framed(raw[:50], signature, len(raw)))
        connection.close()
    assert relay.stripe(raw, signature).status_code == 200
    assert len(relay.rows(InboxEntry)) == 1


def test_too_large_a_body_is_refused_at_once_where_it_says_so(relay: Relay) -> None:
    world = relay.world
    large = json.dumps({"id": "evt_1", "x": "a" * 300_000}).encode()
    assert_is_error(relay.stripe(large, world.sign(large)), 413, "too_large")
    pieces: Any = iter([large[:100_000], large[100_000:]])
    assert_is_error(relay.stripe(pieces, world.sign(large)), 413, "too_large")
    started = time.monotonic()
    answer = relay.exchange(framed(b"{", "t=1,v1=0", 2**30))
    assert b" 413 " in answer[:20]
    assert time.monotonic() - started < 2, "not a byte of the gigabyte is waited for"
    assert_nothing_stored(relay)


def test_just_under_the_limit_is_taken(relay: Relay) -> None:
    world = relay.world
    body = {"id": "evt_1", "type": "x", "livemode": False, "data": {"object": {"x": "a" * 200_000}}}
    raw = json.dumps(body).encode()
    assert relay.stripe(raw, world.sign(raw)).status_code == 200
    assert relay.rows(InboxEntry)[0].body == raw


STRANGE: list[bytes] = [
    b"[]", b"null", b"1", b'"a"', b"", b"{", b"\xff\xfe", b"{}", b"[" * 100_000,
    b'{"a":' * 20_000 + b"1" + b"}" * 20_000, b'{"id": 5, "type": "x", "livemode": false}',
    json.dumps({"id": "e" * 10_000, "type": "t" * 10_000, "livemode": False}).encode(),
    b'{"id": "evt_\\u0000", "type": "a\\u0000b", "livemode": false, "data": {"object": {"id": "\\u0000"}}}',
    b'{"id": "evt_\\ud800", "type": "\\ud800", "livemode": false, "data": {"object": {}}}',
    b'{"id": "\'; DROP TABLE inbox; --", "type": "x", "livemode": "yes", "data": []}',
    b'{"id": "evt_n", "type": "checkout.session.completed", "livemode": false, "data": {"object": {"id": 1e400}}}',
    b'{"id": "evt_a", "type": "checkout.session.completed", "livemode": false, "data": {"object": {"amount": 1e400}}}',
    b'{"id": "evt_b", "type": "unknown.kind", "api_version": "2199", "livemode": false, "data": {"object": {}}}',
    b'{"id": "evt_c", "type": "checkout.session.completed", "data": {"object": {"id": "cs_none"}}}',
    b'{"id": "evt_l", "type": "checkout.session.completed", "livemode": true, "data": {"object": {"id": "cs"}}}',
]  # fmt: skip


def test_what_is_signed_but_strange_is_kept_and_answered_with_2xx(any_relay: Relay) -> None:
    world = any_relay.world
    for raw in STRANGE:
        signature = sign(any_relay, raw)
        first, second = any_relay.stripe(raw, signature), any_relay.stripe(raw, signature)
        assert (first.status_code, second.status_code) == (200, 200), raw[:80]
    entries = any_relay.rows(InboxEntry)
    assert len(entries) == len(STRANGE), "each once"
    assert {entry.body for entry in entries} == set(STRANGE)
    world.run_due()
    assert {entry.state for entry in any_relay.rows(InboxEntry)} <= {"ignored", "new", "applied"}
    assert world.order(world.start_checkout().order_id).status == "awaiting_payment"


def sign(relay: Relay, raw: bytes) -> str:
    """Sign bytes that are no text: the scheme knows nothing of text."""
    moment = int(relay.world.clock.now().timestamp())
    value = hmac.new(WEBHOOK_SECRET.encode(), f"{moment}.".encode() + raw, hashlib.sha256)
    return f"t={moment},v1={value.hexdigest()}"


def test_an_event_of_the_other_mode_is_kept_and_ignored(relay: Relay) -> None:
    raw, signature = relay.world.event(COMPLETED, paid(relay), livemode=True)
    assert relay.stripe(raw, signature).status_code == 200
    assert relay.rows(InboxEntry)[0].state == "ignored"
    assert [task for task in relay.rows(Task) if task.kind == TaskKind.APPLY_EVENT] == []


def test_one_event_delivered_twenty_times_at_once_is_one(any_relay: Relay) -> None:
    raw, signature = any_relay.world.event(COMPLETED, paid(any_relay))
    together = threading.Barrier(20)

    def deliver(_: int) -> int:
        together.wait()
        headers = {"Stripe-Signature": signature}
        url = f"{any_relay.url}/smi-webhook/stripe/"
        return requests.post(url, data=raw, headers=headers, timeout=20).status_code

    with ThreadPoolExecutor(20) as pool:
        codes = list(pool.map(deliver, range(20)))
    assert codes == [200] * 20
    assert len(any_relay.rows(InboxEntry)) == 1
    tasks = [task for task in any_relay.rows(Task) if task.kind == TaskKind.APPLY_EVENT]
    assert len(tasks) == 1


def test_a_locked_database_is_told_as_503_in_time_while_prices_go_on(relay: Relay) -> None:
    world = relay.world
    session_id = paid(relay)
    events = [world.event(COMPLETED, session_id) for _ in range(20)]
    path = "/smi/v1/calculate-all-prices?attachment_id=1"
    other = sqlite3.connect(world.folder / "shop.db", isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        with ThreadPoolExecutor(len(events)) as pool:
            asked = [pool.submit(deliver_alone, relay, *event) for event in events]
            for _ in range(10):
                asked_at = time.monotonic()
                assert relay.get(path).status_code == 200
                assert time.monotonic() - asked_at < 1.0, "who only reads waits for no writer"
            answers = [future.result() for future in asked]
        elapsed = time.monotonic() - started
    finally:
        other.execute("ROLLBACK")
        other.close()
    for answer in answers:
        assert_is_error(answer, 503, "try_later")
        assert int(answer.headers["Retry-After"]) > 0
        assert "database" not in answer.text
    assert elapsed < 12, "a webhook's sender waits some ten seconds, however many wait with it"
    assert_nothing_stored(relay)
    assert {relay.stripe(*event).status_code for event in events} == {200}
    assert len(relay.rows(InboxEntry)) == len(events)


def deliver_alone(relay: Relay, raw: bytes, signature: str) -> requests.Response:
    """Deliver on a connection of its own."""
    url = f"{relay.url}/smi-webhook/stripe/"
    return requests.post(url, data=raw, headers={"Stripe-Signature": signature}, timeout=60)


def test_an_unknown_callback_is_not_found(relay: Relay) -> None:
    for secret in ("0" * 64, "x", "1", "A" * 64, "%00"):
        answer = relay.post(f"/smi-webhook/upsampler/{secret}", json={"status": "SUCCESS"})
        assert_is_error(answer, 404, "not_found")
    assert_nothing_stored(relay)


def callback_path(relay: Relay) -> str:
    """Where the upscaler was told to call."""
    (request,) = relay.world.upscaler.requests.values()
    assert request.callback_url is not None
    return request.callback_url.removeprefix("https://shop.example")


def test_a_callback_wakes_the_watch_and_its_words_are_not_believed(relay: Relay) -> None:
    world = relay.world
    order_id = world.buy()
    world.run_due()
    path = callback_path(relay)
    lie = {"id": "other", "status": "SUCCESS", "imageUrl": "https://evil.example/x.png"}
    assert relay.post(path, json=lie).status_code == 200
    world.run_due()
    assert "evil" not in str(world.fetcher.fetched)
    assert world.order(order_id).status == "processing"
    world.finish_upscale(order_id)
    assert relay.post(path, json={"status": "SUCCESS"}).status_code == 200
    world.run_due()
    assert world.order(order_id).status == "completed"


def test_strange_callbacks_are_stored_and_disturb_nothing(any_relay: Relay) -> None:
    world = any_relay.world
    order_id = world.buy()
    world.run_due()
    path = callback_path(any_relay)
    for raw in [*STRANGE, b'{"status": "\\u0000", "id": "\\u0000"}', b'{"status": "\\ud800"}']:
        assert any_relay.post(path, data=raw).status_code == 200, raw[:80]
    assert world.order(order_id).status == "processing"


def test_a_callback_that_is_too_large_is_refused(relay: Relay) -> None:
    answer = relay.post(f"/smi-webhook/upsampler/{'0' * 64}", data=b"x" * 300_000)
    assert_is_error(answer, 413, "too_large")

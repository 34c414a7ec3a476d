"""Webhooks: verified, stored once, and only then acknowledged."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest

from smi_desktop.config import Mode
from smi_desktop.domain.errors import ConfigurationError, NotFoundError, SignatureError
from smi_desktop.services.shop import STRIPE_WEBHOOK_SECRET, STRIPE_WEBHOOK_SECRET_PREVIOUS
from smi_desktop.services.webhooks import receive_stripe_event, receive_upsampler_callback
from smi_desktop.store import inbox, timeline, upscales
from smi_desktop.store.database import Database
from smi_desktop.store.models import InboxEntry, Upscale
from tests.world import WEBHOOK_SECRET, World

COMPLETED = "checkout.session.completed"


def entries(world: World) -> list[InboxEntry]:
    with world.database.read() as session:
        return list(session.query(InboxEntry).order_by(InboxEntry.id))


def sign(world: World, raw: bytes) -> str:
    """Sign bytes that need not be text."""
    moment = int(world.clock.now().timestamp())
    mark = hmac.new(WEBHOOK_SECRET.encode(), f"{moment}.".encode() + raw, hashlib.sha256)
    return f"t={moment},v1={mark.hexdigest()}"


def receive(world: World, body: Any) -> InboxEntry:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    receipt = receive_stripe_event(world.shop, raw, sign(world, raw))
    with world.database.read() as session:
        entry = inbox.get(session, receipt.inbox_id or 0)
    assert entry is not None
    return entry


def event(**changes: Any) -> dict[str, Any]:
    return {
        "id": "evt_1",
        "type": COMPLETED,
        "livemode": False,
        "data": {"object": {"id": "cs_1"}},
        **changes,
    }


def test_an_event_is_stored_raw_with_the_task_that_will_apply_it(world: World) -> None:
    entry = receive(world, event())
    assert (entry.state, entry.event_id, entry.type) == ("new", "evt_1", COMPLETED)
    assert json.loads(entry.body) == event()
    assert entry.received_at == world.clock.now()
    (task,) = world.tasks("ready")
    assert (task.kind, task.payload) == ("apply_event", {"inbox_id": entry.id})


def test_a_duplicate_adds_nothing(world: World) -> None:
    first = world.deliver(COMPLETED, "cs_1", event_id="evt_1")
    again = world.deliver(COMPLETED, "cs_1", event_id="evt_1")
    assert first.inbox_id is not None
    assert again.inbox_id is None
    assert len(entries(world)) == len(world.tasks()) == 1


@pytest.mark.parametrize(
    "signature", ["", "t=1", "v1=00", "nonsense", "t=1,v0=00", "t=x,v1=" + "0" * 64, "t=1,v1=é"]
)
def test_a_forged_event_leaves_nothing(world: World, signature: str) -> None:
    raw, _ = world.event(COMPLETED, "cs_1")
    with pytest.raises(SignatureError):
        receive_stripe_event(world.shop, raw, signature)
    assert entries(world) == []
    assert world.tasks() == []


def test_an_event_that_was_changed_on_its_way_leaves_nothing(world: World) -> None:
    raw, signature = world.event(COMPLETED, "cs_1")
    with pytest.raises(SignatureError):
        receive_stripe_event(world.shop, raw.replace(b"cs_1", b"cs_2"), signature)
    assert entries(world) == []


def test_an_event_signed_with_another_secret_leaves_nothing(world: World) -> None:
    with pytest.raises(SignatureError):
        world.deliver(COMPLETED, "cs_1", secret="whsec_other")
    assert entries(world) == []


@pytest.mark.parametrize("age", [301, 86_400, -301, -86_400])
def test_an_event_that_is_stale_or_from_the_future_leaves_nothing(world: World, age: int) -> None:
    with pytest.raises(SignatureError, match="too far"):
        world.deliver(COMPLETED, "cs_1", age=age)
    assert entries(world) == []


@pytest.mark.parametrize("age", [300, 0, -300])
def test_five_minutes_either_way_are_allowed(world: World, age: int) -> None:
    assert world.deliver(COMPLETED, "cs_1", age=age).inbox_id is not None


def test_while_the_secret_is_rolled_both_are_good_and_afterwards_the_new_one(
    world: World,
) -> None:
    world.secrets.values[STRIPE_WEBHOOK_SECRET] = "whsec_new"
    world.secrets.values[STRIPE_WEBHOOK_SECRET_PREVIOUS] = "whsec_test"
    assert world.deliver(COMPLETED, "cs_1").inbox_id is not None
    assert world.deliver(COMPLETED, "cs_1", secret="whsec_new").inbox_id is not None
    del world.secrets.values[STRIPE_WEBHOOK_SECRET_PREVIOUS]
    with pytest.raises(SignatureError):
        world.deliver(COMPLETED, "cs_1")


@pytest.mark.parametrize("secret", [None, "", "  "])
def test_without_a_secret_nothing_is_believed(world: World, secret: str | None) -> None:
    if secret is None:
        del world.secrets.values[STRIPE_WEBHOOK_SECRET]
    else:
        world.secrets.values[STRIPE_WEBHOOK_SECRET] = secret
    raw, _ = world.event(COMPLETED, "cs_1")
    for signed_with in ("", "  ", "None", "whsec_test"):
        with pytest.raises(ConfigurationError, match="stripe_webhook_secret"):
            receive_stripe_event(world.shop, raw, world.sign(raw, secret=signed_with))
    assert entries(world) == []


def test_an_empty_previous_secret_lets_nobody_in(world: World) -> None:
    world.secrets.values[STRIPE_WEBHOOK_SECRET_PREVIOUS] = ""
    with pytest.raises(SignatureError):
        world.deliver(COMPLETED, "cs_1", secret="")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"null", b"1", b'"text"', b"{", b"\xff\xfe\x00", b"{}",
        b"[" * 100_000, b'{"a":' * 100_000,
        b'{"id":"evt_1"}',
        b'{"id":"evt_1","type":5,"livemode":false}',
        b'{"id":"evt_1","type":"","livemode":false}',
        b'{"id":null,"type":"checkout.session.completed","livemode":false}',
        b'{"id":["evt_1"],"type":"checkout.session.completed","livemode":false}',
        b'{"id":"' + b"x" * 10_000 + b'","type":"checkout.session.completed","livemode":false}',
        b'{"id":"evt_1","type":"a","amount":1e400,"livemode":false}',
        b'{"id":"evt_1","type":"a","amount":' + b"9" * 5000 + b',"livemode":false}',
    ],
)  # fmt: skip
def test_what_is_signed_but_strange_is_kept_and_ignored(world: World, body: bytes) -> None:
    entry = receive(world, body)
    assert entry.state == "ignored"
    assert entry.body == body
    assert entry.note
    assert world.tasks() == []
    assert receive_stripe_event(world.shop, body, sign(world, body)).inbox_id is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"livemode": True}, "another mode"),
        ({"livemode": None}, "another mode"),
        ({"livemode": "false"}, "another mode"),
        ({"livemode": 0}, "another mode"),
        ({"data": None}, "no object"),
        ({"data": {}}, "no object"),
        ({"data": {"object": "cs_1"}}, "no object"),
        ({"data": [1]}, "no object"),
    ],
)
def test_a_signed_event_that_is_not_for_us_says_why(
    world: World, changes: dict[str, Any], words: str
) -> None:
    entry = receive(world, event(**changes))
    assert entry.state == "ignored"
    assert words in (entry.note or "")
    assert world.tasks() == []


def test_an_event_of_real_money_is_for_a_live_shop_alone(
    tmp_path_factory: pytest.TempPathFactory, sqlite_database: Database
) -> None:
    live = World(tmp_path_factory.mktemp("live"), sqlite_database, mode=Mode.LIVE)
    assert live.deliver(COMPLETED, "cs_1", livemode=True).inbox_id is not None
    assert live.tasks("ready")
    live.deliver(COMPLETED, "cs_2", livemode=False)
    assert [entry.state for entry in entries(live)] == ["new", "ignored"]


@pytest.mark.parametrize(
    "mark", ["\\u0000", "\\ud800", "\\ud83d\\ude00", "'; DROP TABLE orders;--"]
)
def test_hostile_characters_in_an_events_id_are_data(world: World, mark: str) -> None:
    body = f'{{"id":"evt_{mark}","type":"a{mark}","livemode":false,"data":{{"object":{{}}}}}}'
    entry = receive(world, body.encode())
    assert entry.state == "new"
    assert entry.event_id.startswith("evt_")
    assert "\x00" not in entry.event_id + entry.type


def test_an_event_of_a_kind_that_nothing_follows_from_is_ignored_when_it_is_applied(
    world: World,
) -> None:
    for number, body in enumerate(
        [event(type="customer.created"), event(data={"object": {"id": 5}}), event(type=COMPLETED)]
    ):
        receive(world, {**body, "id": f"evt_{number}"})
    world.run_due()
    assert [entry.state for entry in entries(world)][:2] == ["ignored", "ignored"]
    assert "Nothing follows" in (entries(world)[0].note or "")


def test_an_entry_that_is_applied_already_is_left_alone(world: World) -> None:
    entry = receive(world, event())
    with world.database.write() as session:
        inbox.mark(session, entry.id, "applied", at=world.clock.now())
    assert world.run_due() == ["apply_event"]
    assert world.payments.calls == []
    (task,) = world.tasks()
    assert task.state == "done"


# --- the upscaler's calls ---------------------------------------------------------------------------


def secret_of(world: World, order_id: str, attempt: int = 1) -> str:
    return world.shop.token("callback", order_id, attempt)


def attempt_of(world: World, order_id: str) -> Upscale:
    with world.database.read() as session:
        return upscales.of_order(session, order_id)[-1]


@pytest.mark.parametrize("secret", ["", "x", "0" * 64, "é" * 64])
def test_a_call_with_a_secret_that_we_did_not_issue_is_unknown(world: World, secret: str) -> None:
    order_id = world.buy()
    world.run_due()
    with pytest.raises(NotFoundError):
        receive_upsampler_callback(world.shop, secret, b"{}")
    with pytest.raises(NotFoundError):
        receive_upsampler_callback(world.shop, secret_of(world, order_id, 2), b"{}")
    assert len(entries(world)) == 1


def test_a_call_has_its_job_looked_at_now(world: World) -> None:
    order_id = world.buy()
    world.run_due()
    job_id = world.finish_upscale(order_id)
    body = json.dumps({"id": job_id, "status": "SUCCESS"}).encode()
    receive_upsampler_callback(world.shop, secret_of(world, order_id), body)
    assert world.run_due()[0] == "watch_upscale"
    assert world.order(order_id).status == "completed"


def test_the_same_call_twice_is_noted_once(world: World) -> None:
    order_id = world.buy()
    world.run_due()
    secret = secret_of(world, order_id)
    assert receive_upsampler_callback(world.shop, secret, b"{}").inbox_id is not None
    assert receive_upsampler_callback(world.shop, secret, b"{}").inbox_id is None
    with world.database.read() as session:
        kinds = [entry.kind for entry in timeline.of_order(session, order_id)]
    assert kinds.count("callback") == 1


def test_a_calls_words_are_worth_nothing(world: World) -> None:
    order_id = world.buy()
    world.run_due()
    body = {"id": "job-1", "status": "SUCCESS", "imageUrl": "https://evil.example/x.png"}
    receive_upsampler_callback(world.shop, secret_of(world, order_id), json.dumps(body).encode())
    world.run_due()
    assert world.order(order_id).status == "processing"
    assert "https://evil.example/x.png" not in world.fetcher.fetched


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"\xff", b'{"id":5,"status":["x"]}', b'{"status":"\\u0000"}',
        b'{"status":"\\ud800","id":"\\ud800"}', b'{"id":""}', b'{"id":"' + b"x" * 300 + b'"}',
    ],
)  # fmt: skip
def test_a_strange_call_is_stored_and_changes_nothing(world: World, body: bytes) -> None:
    order_id = world.buy()
    world.run_due()
    before = attempt_of(world, order_id)
    assert (
        receive_upsampler_callback(world.shop, secret_of(world, order_id), body).inbox_id
        is not None
    )
    after = attempt_of(world, order_id)
    assert (after.state, after.provider_job_id) == (before.state, before.provider_job_id)


def test_a_secret_stands_in_the_database_as_its_hash_alone(world: World) -> None:
    order_id = world.buy()
    world.run_due()
    assert attempt_of(world, order_id).callback_sha256 != secret_of(world, order_id)

"""Rate limits per address, per picture and for the whole shop."""

from __future__ import annotations

from typing import Any

from smi_desktop.store.models import Order, OutboxMail
from tests.relay.conftest import HOST, Relay
from tests.relay.test_prices import PRICES, assert_is_error


def assert_too_many(answer: Any) -> None:
    """429 with a time to wait."""
    assert_is_error(answer, 429, "too_many_requests")
    assert 1 <= int(answer.headers["Retry-After"]) <= 60


def test_one_address_may_ask_only_so_often(relay: Relay) -> None:
    relay.world.set(rate_per_address_per_minute=5)
    number = relay.world.add_image()
    codes = [relay.get(f"{PRICES}?attachment_id={number}").status_code for _ in range(7)]
    assert codes == [200] * 5 + [429] * 2
    assert_too_many(relay.get("/smi/v1/job-status/x"))


def test_webhooks_and_liveness_are_never_counted(relay: Relay) -> None:
    relay.world.set(rate_per_address_per_minute=1)
    world = relay.world
    session_id = world.pay(world.start_checkout().order_id)
    for _ in range(5):
        raw, signature = world.event("checkout.session.completed", session_id)
        assert relay.stripe(raw, signature).status_code == 200
        assert relay.get("/healthz").status_code == 200


def test_one_address_may_begin_only_so_many_checkouts(relay: Relay) -> None:
    relay.world.set(rate_checkout_per_address_per_minute=3)
    codes = [relay.checkout().status_code for _ in range(4)]
    assert codes == [200, 200, 200, 429]
    assert len(relay.rows(Order)) == 3


def test_one_picture_may_be_bought_only_so_often(relay: Relay) -> None:
    relay.world.set(rate_checkout_per_image_per_minute=2)
    first, second = relay.world.add_image(title="a"), relay.world.add_image(title="b")
    assert [relay.checkout(first).status_code for _ in range(3)] == [200, 200, 429]
    assert_too_many(relay.checkout(first))
    assert relay.checkout(second).status_code == 200


def test_the_whole_shop_may_begin_only_so_many_checkouts(relay: Relay) -> None:
    relay.world.set(rate_checkout_shop_per_minute=2, trusted_proxies=[HOST])
    number = relay.world.add_image()
    body = {"attachment_id": number, "resolution": "4x"}
    codes = [
        relay.post(
            "/smi/v1/create-checkout", json=body, headers={"X-Forwarded-For": f"203.0.113.{i}"}
        ).status_code
        for i in range(3)
    ]
    assert codes == [200, 200, 429]


def test_a_thousand_guesses_at_a_link_end_in_429(relay: Relay) -> None:
    answers = [relay.get(f"/smi/v1/download/{i:064x}") for i in range(1000)]
    codes = [answer.status_code for answer in answers]
    limit = 30
    assert codes[:limit] == [404] * limit
    # The window slides: on a slow machine the minute ends meanwhile and lets a few more through.
    assert set(codes) == {404, 429}
    assert codes.count(404) <= 3 * limit
    assert_too_many(next(answer for answer in answers if answer.status_code == 429))


def ask(relay: Relay, forwarded: str) -> int:
    """Ask for something as whoever the header names."""
    return relay.get("/smi/v1/job-status/x", headers={"X-Forwarded-For": forwarded}).status_code


def test_a_forwarded_address_of_a_stranger_is_not_believed(relay: Relay) -> None:
    relay.world.set(rate_per_address_per_minute=2)
    assert [ask(relay, f"203.0.113.{i}") for i in range(4)] == [404, 404, 429, 429]


def test_behind_a_named_proxy_each_client_has_his_own_limit(relay: Relay) -> None:
    relay.world.set(rate_per_address_per_minute=1, trusted_proxies=["127.0.0.0/8", "10.0.0.0/8"])
    assert ask(relay, "203.0.113.1") == 404
    assert ask(relay, "203.0.113.2, 10.0.0.1") == 404
    assert ask(relay, "203.0.113.1") == 429
    # What a client writes into the header itself stands to the left of what the proxy adds.
    assert ask(relay, "198.51.100.7, 203.0.113.2") == 429
    for forged in ("nonsense, 203.0.113.1", "203.0.113.9, 203.0.113.1, 10.1.1.1"):
        assert ask(relay, forged) == 429


def test_one_network_of_ipv6_is_one_client(relay: Relay) -> None:
    # A household is handed 2**64 addresses at least; each would be a fresh one.
    relay.world.set(rate_per_address_per_minute=2, trusted_proxies=[HOST])
    codes = [ask(relay, f"2001:db8:1:2::{i:x}") for i in range(1, 5)]
    assert codes == [404, 404, 429, 429]
    assert ask(relay, "2001:db8:1:3::1") == 404


def test_what_is_no_address_cannot_make_fresh_ones(relay: Relay) -> None:
    relay.world.set(rate_per_address_per_minute=2, trusted_proxies=[HOST])
    assert [ask(relay, f"unknown-{i}") for i in range(4)] == [404, 404, 429, 429]


def test_asking_for_lost_links_answers_the_same_for_every_address(relay: Relay) -> None:
    world = relay.world
    order = world.complete(world.buy(email="known@example.com"))
    known = relay.post("/smi/v1/lost-link", json={"email": "known@example.com"})
    unknown = relay.post("/smi/v1/lost-link", data={"email": "nobody@example.com"})
    none = relay.post("/smi/v1/lost-link", json={})
    assert known.status_code == unknown.status_code == none.status_code == 200
    assert known.content == unknown.content == none.content
    mails = [mail for mail in relay.rows(OutboxMail) if mail.kind == "lost_link"]
    assert [(mail.order_id, mail.to_address) for mail in mails] == [(order.id, "known@example.com")]
    codes = {
        relay.post("/smi/v1/lost-link", json={"email": "Known@example.com"}).status_code
        for _ in range(5)
    }
    assert codes == {200, 429}
    assert len([mail for mail in relay.rows(OutboxMail) if mail.kind == "lost_link"]) == 1

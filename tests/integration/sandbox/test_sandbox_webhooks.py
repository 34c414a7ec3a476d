"""Events: signed, delivered until they are taken, listed, and out of order when a script says so."""

from __future__ import annotations

import json
import time

import pytest
import stripe
from sandbox_running import WEBHOOK_SECRET, Receiver, Sandbox, wait_for

PAID_EVENTS = {"payment_intent.succeeded", "charge.succeeded", "checkout.session.completed"}


def test_paying_sends_three_signed_events(hooked: Receiver, sandbox: Sandbox) -> None:
    paid = sandbox.paid()
    wait_for(lambda: len(hooked.posts) == 3)
    events = {event.type: event for event in hooked.events()}
    assert set(events) == PAID_EVENTS
    about = events["checkout.session.completed"].data.object
    assert (about["id"], about["payment_status"]) == (paid.id, "paid")
    assert abs(events["charge.succeeded"].created - time.time()) < 10


def test_signatures_carry_the_rehearsals_time(hooked: Receiver, sandbox: Sandbox) -> None:
    sandbox.control("clock", {"advance_seconds": 7200})
    sandbox.paid()
    wait_for(lambda: len(hooked.posts) == 3)
    stamp = int(hooked.posts[0][1]["Stripe-Signature"].split(",")[0].removeprefix("t="))
    assert abs(stamp - time.time() - 7200) < 10


def test_while_a_secret_is_rolled_both_sign(sandbox: Sandbox, receiver: Receiver) -> None:
    body = {"url": f"{receiver.url}/hook", "secrets": ["whsec_new", WEBHOOK_SECRET]}
    sandbox.control("endpoints", body)
    sandbox.paid()
    wait_for(lambda: len(receiver.posts) == 3)
    assert receiver.posts[0][1]["Stripe-Signature"].count("v1=") == 2
    assert len(receiver.events()) == 3


def test_an_endpoint_gets_only_the_types_it_asked_for(sandbox: Sandbox, receiver: Receiver) -> None:
    body = {"url": receiver.url, "secret": WEBHOOK_SECRET, "events": ["charge.succeeded"]}
    sandbox.control("endpoints", body)
    sandbox.paid()
    wait_for(lambda: receiver.types() == ["charge.succeeded"])
    assert sandbox.control("endpoints", body)["events"] == ["charge.succeeded"]


def test_an_event_that_meets_a_500_comes_again_and_is_told_as_undelivered_meanwhile(
    hooked: Receiver, sandbox: Sandbox
) -> None:
    hooked.answers[:] = [500, 500, 500]
    sandbox.paid()
    wait_for(lambda: len(hooked.posts) >= 3)
    events = sandbox.sdk.v1.events
    waiting = {event.id for event in events.list({"delivery_success": False}).data}
    came = {event.id for event in hooked.events()}
    assert len(came) == 3
    assert came <= waiting
    wait_for(lambda: len(hooked.posts) == 6)
    wait_for(
        lambda: not came & {event.id for event in events.list({"delivery_success": False}).data}
    )
    assert {event.id for event in hooked.events()} == came


def test_events_are_listed_by_type_time_and_page(sandbox: Sandbox) -> None:
    first, second = sandbox.paid(), sandbox.paid()
    events = sandbox.sdk.v1.events
    kinds = ["checkout.session.completed", "checkout.session.expired"]
    newest = events.list({"types": kinds, "limit": 2})
    assert [row.data.object["id"] for row in newest.data] == [second.id, first.id]
    later = events.list({"types": kinds, "ending_before": newest.data[1].id})
    assert [row.id for row in later.data] == [newest.data[0].id]
    assert events.list({"created": {"gte": int(time.time()) + 99 * 86_400}}).data == []
    assert events.retrieve(newest.data[0].id).type == "checkout.session.completed"
    with pytest.raises(stripe.InvalidRequestError):
        events.list({"types": [f"a.{number}" for number in range(21)]})


def test_events_are_gone_after_thirty_days(sandbox: Sandbox) -> None:
    sandbox.paid()
    event = sandbox.sdk.v1.events.list({"limit": 1}).data[0]
    sandbox.control("clock", {"advance_seconds": 31 * 86_400})
    kinds = ["checkout.session.completed"]
    assert sandbox.sdk.v1.events.list({"types": kinds}).data == []
    with pytest.raises(stripe.InvalidRequestError):
        sandbox.sdk.v1.events.retrieve(event.id)


def test_an_event_can_be_sent_again(hooked: Receiver, sandbox: Sandbox) -> None:
    sandbox.paid()
    wait_for(lambda: len(hooked.posts) == 3)
    event = hooked.events()[0]
    assert sandbox.control(f"events/{event.id}/resend", {}) == {"deliveries": 1}
    wait_for(lambda: [each.id for each in hooked.events()].count(event.id) == 2)


def test_held_events_go_out_in_the_order_asked_for(hooked: Receiver, sandbox: Sandbox) -> None:
    sandbox.fault("stripe", "webhook", "hold", times=-1)
    sandbox.paid()
    made = {row.type: row.id for row in sandbox.sdk.v1.events.list({"limit": 3}).data}
    assert hooked.posts == []
    order = [made[kind] for kind in sorted(PAID_EVENTS, reverse=True)]
    assert sandbox.control("webhooks/release", {"ids": order}) == {"deliveries": 3}
    assert [event.id for event in hooked.events()] == order


def test_an_event_can_come_a_hundred_times_at_once(hooked: Receiver, sandbox: Sandbox) -> None:
    completed = {"type": "checkout.session.completed"}
    sandbox.fault("stripe", "webhook", "duplicate", match=completed, params={"copies": 100})
    sandbox.paid()
    wait_for(lambda: hooked.types().count("checkout.session.completed") == 100)
    assert len({event.id for event in hooked.events()}) == 3


def test_events_can_be_dropped_not_made_late_forged_or_changed(
    hooked: Receiver, sandbox: Sandbox
) -> None:
    succeeded, charged = {"type": "payment_intent.succeeded"}, {"type": "charge.succeeded"}
    sandbox.fault("stripe", "webhook", "drop", match=succeeded)
    sandbox.fault("stripe", "event", "not_made", match=charged)
    change = {"data": {"object": {"amount_total": 1}}}
    sandbox.fault("stripe", "webhook", "patch_event", params={"body": change})
    paid = sandbox.paid()
    wait_for(lambda: len(hooked.posts) == 1)
    about = hooked.events()[0].data.object
    assert (about["id"], about["amount_total"], about["currency"]) == (paid.id, 1, "usd")
    kinds = [row.type for row in sandbox.sdk.v1.events.list({"limit": 2}).data]
    assert kinds == ["checkout.session.completed", "payment_intent.succeeded"]


def test_a_forged_signature_is_followed_by_the_right_one(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    body = {"url": receiver.url, "secret": WEBHOOK_SECRET, "events": ["charge.succeeded"]}
    sandbox.control("endpoints", body)
    sandbox.fault("stripe", "webhook", "bad_signature")
    receiver.answers[:] = [400]
    sandbox.paid()
    wait_for(lambda: len(receiver.posts) == 2)
    forged, right = (post[1]["Stripe-Signature"] for post in receiver.posts)
    payload = receiver.posts[0][2].decode()
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.WebhookSignature.verify_header(payload, forged, WEBHOOK_SECRET)
    assert stripe.WebhookSignature.verify_header(payload, right, WEBHOOK_SECRET)


def test_a_delayed_event_is_overtaken(hooked: Receiver, sandbox: Sandbox) -> None:
    first = {"type": "payment_intent.succeeded"}
    sandbox.fault("stripe", "webhook", "delay_event", match=first, params={"seconds": 0.6})
    sandbox.paid()
    wait_for(lambda: len(hooked.posts) == 3)
    assert hooked.types()[-1] == "payment_intent.succeeded"


def test_any_event_can_be_made_about_any_object(hooked: Receiver, sandbox: Sandbox) -> None:
    made = sandbox.session()
    body = {"type": "checkout.session.expired", "kind": "session", "id": made.id}
    sandbox.control("events", body)
    sandbox.control("events", {"type": "made.up", "object": {"id": 7, "strange": [None]}})
    wait_for(lambda: len(hooked.posts) == 2)
    abouts = [json.loads(post[2])["data"]["object"] for post in hooked.posts]
    assert {about["id"] for about in abouts} == {made.id, 7}

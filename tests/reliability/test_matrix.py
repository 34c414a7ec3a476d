"""Cells of the failure matrix against the real processes; the name of each test begins with its cell."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from smi_desktop.bootstrap import open_shop
from smi_desktop.sandbox.customer import Customer
from smi_desktop.services import remedies
from smi_desktop.store import alerts
from tests.e2e.watching import Books, Watched, wait_until

pytestmark = pytest.mark.slow


def until(watched: Watched, order_id: str, status: str, seconds: float = 60) -> Books:
    """Wait until an order has a status."""
    wait_until(lambda: watched.books(order_id).order.status == status, status, seconds)
    return watched.books(order_id)


def until_held(watched: Watched, order_id: str, kind: str) -> Books:
    """Wait until an order is held for this reason."""
    wait_until(lambda: watched.books(order_id).order.held_kind == kind, f"held: {kind}", 60)
    return watched.books(order_id)


def refunds_at_stripe(watched: Watched, order_id: str) -> list[dict[str, Any]]:
    """Return what Stripe knows of an order's refunds."""
    intent = watched.books(order_id).order.payment_intent_id
    return [r for r in watched.shop.sandbox_state()["refunds"] if r["payment_intent"] == intent]


def fail(watched: Watched) -> None:
    """Let the upscaler fail the next picture."""
    watched.fault("upsampler", "job", "fail")


def test_d4_a_picture_that_is_refused_is_refunded_once_and_explained(
    watched: Watched, customer: Customer
) -> None:
    watched.fault("upsampler", "submit", "http_400")
    order_id = watched.buy(customer).job_id
    until(watched, order_id, "refunded")
    assert [r["status"] for r in refunds_at_stripe(watched, order_id)] == ["succeeded"]
    assert "back" in customer.wait_for_words("could not", 30)
    assert len(watched.mails_to(customer.address)) == 1


@pytest.mark.parametrize(
    "fault",
    [
        "drop_reply_after_effect",
        "http_500_after_effect",
        "html_after_effect",
        "http_409",
        "http_429",
        "http_503",
        "drop_request",
    ],
)
def test_l1_a_lost_answer_to_a_refund_makes_no_second_one(
    watched: Watched, customer: Customer, fault: str
) -> None:
    fail(watched)
    watched.fault("stripe", "create_refund", fault, times=3)
    order_id = watched.buy(customer).job_id
    until(watched, order_id, "refunded")
    assert len(refunds_at_stripe(watched, order_id)) == 1


@pytest.mark.parametrize("effect", [True, False])
def test_l1_an_error_that_is_kept_under_the_key_does_not_last(
    watched: Watched, customer: Customer, effect: bool
) -> None:
    fail(watched)
    watched.fault("stripe", "create_refund", "stored_500", params={"effect": effect})
    order_id = watched.buy(customer).job_id
    until(watched, order_id, "refunded", 90)
    assert len(refunds_at_stripe(watched, order_id)) == 1


def test_l2_l3_a_pending_refund_is_not_called_done_and_one_that_fails_is_reopened(
    watched: Watched, customer: Customer
) -> None:
    fail(watched)
    watched.fault("stripe", "create_refund", "refund_status", params={"status": "pending"})
    order_id = watched.buy(customer).job_id
    until(watched, order_id, "refunded")
    told = customer.wait_for_words("could not", 30)
    assert "on its way" in told
    refund = refunds_at_stripe(watched, order_id)[0]
    watched.shop.post_to_sandbox(
        f"refunds/{refund['id']}", {"status": "failed", "failure_reason": "insufficient_funds"}
    )
    held = until_held(watched, order_id, "refund_failed")
    assert held.order.status == "failed"
    assert held.order.refunded_minor == 0


def test_c2_a_payment_of_another_amount_is_held_and_can_be_refunded(
    watched: Watched, customer: Customer
) -> None:
    watched.fault("stripe", "retrieve_session", "patch_reply", params={"body": {"amount_total": 1}})
    order_id = watched.buy(customer).job_id
    until_held(watched, order_id, "payment_differs")
    assert watched.jobs_of(order_id) == []
    with open_shop(watched.shop.config()) as shop:
        remedies.refund(shop, order_id)
    until(watched, order_id, "refunded")
    assert len(refunds_at_stripe(watched, order_id)) == 1


def test_d3_a_dead_key_makes_orders_wait_with_one_alert_and_no_refund(
    watched: Watched, customer: Customer
) -> None:
    dead = watched.fault("upsampler", "submit", "http_401", times=-1)
    orders = [watched.buy(customer).job_id for _ in range(4)]
    wait_until(lambda: watched.fired(dead) >= 3, "the key was refused three times", 60)
    wait_until(lambda: open_alerts(watched, "circuit:upsampler") == 1, "one alert", 30)
    assert not [r for order_id in orders for r in refunds_at_stripe(watched, order_id)]
    watched.clear_faults()
    for order_id in orders:
        until(watched, order_id, "completed", 90)
    assert open_alerts(watched, "circuit:upsampler") == 0


def test_e6_no_progress_until_the_deadline_is_held_for_a_person_who_tries_again(
    watched: Watched, customer: Customer
) -> None:
    watched.fault("upsampler", "job", "never_finish")
    order_id = watched.buy(customer).job_id
    until_held(watched, order_id, "deadline")
    with open_shop(watched.shop.config()) as shop:
        remedies.retry(shop, order_id)
    until(watched, order_id, "completed")


def test_f3_a_result_of_another_size_is_never_delivered(
    watched: Watched, customer: Customer
) -> None:
    watched.fault("upsampler", "job", "wrong_size", params={"width": 10, "height": 10})
    order_id = watched.buy(customer).job_id
    books = until(watched, order_id, "refunded")
    assert books.order.token_sha256 is None


def test_c6_a_refund_in_the_dashboard_is_mirrored_and_ends_the_link(
    watched: Watched, customer: Customer
) -> None:
    order_id = watched.buy(customer).job_id
    books = until(watched, order_id, "completed")
    _, link = customer.wait_for_mail(30)
    intent = books.order.payment_intent_id
    part = {"payment_intent": intent, "amount": 10}
    watched.shop.post_to_sandbox("refunds", part)
    wait_until(lambda: watched.books(order_id).order.refunded_minor == 10, "the part is here")
    assert customer.try_link(link) == 200
    watched.shop.post_to_sandbox("refunds", {"payment_intent": intent})
    until(watched, order_id, "refunded")
    assert customer.try_link(link) == 404


def test_c5_a_dispute_closes_the_link_and_one_that_is_won_opens_it(
    watched: Watched, customer: Customer
) -> None:
    order_id = watched.buy(customer).job_id
    books = until(watched, order_id, "completed")
    _, link = customer.wait_for_mail(30)
    opened = watched.shop.post_to_sandbox(
        "disputes", {"payment_intent": books.order.payment_intent_id}
    )
    until_held(watched, order_id, "disputed")
    assert customer.try_link(link) == 404
    watched.shop.post_to_sandbox(f"disputes/{opened['id']}", {"status": "won"})
    wait_until(lambda: watched.books(order_id).order.held_at is None, "the hold ends")
    assert customer.try_link(link) == 200


def test_i2f_an_address_that_does_not_exist_is_told_and_can_be_corrected(
    watched: Watched, customer: Customer
) -> None:
    watched.fault("smtp", "rcpt", "refuse_550")
    order_id = watched.buy(customer).job_id
    until_held(watched, order_id, "mail_undeliverable")
    with open_shop(watched.shop.config()) as shop:
        remedies.resend(shop, order_id, email=customer.address)
    _, link = customer.wait_for_mail(30)
    assert customer.try_link(link) == 200


def open_alerts(watched: Watched, key: str) -> int:
    """Return how many open alerts have a key."""
    with open_shop(watched.shop.config()) as shop, shop.database.read() as session:
        return sum(alert.key == key for alert in alerts.list_open(session))


def test_e1_twenty_calls_of_the_upscaler_at_once_make_one_file_one_link_and_one_mail(
    watched: Watched, customer: Customer
) -> None:
    order_id = watched.buy(customer).job_id
    wait_until(lambda: len(watched.jobs_of(order_id)) == 1, "the upscaler has the job")
    with open_shop(watched.shop.config()) as shop:
        secret = shop.token("callback", order_id, 1)
    said = {"id": watched.jobs_of(order_id)[0], "status": "SUCCESS", "imageUrl": "http://x.example"}
    url = f"{watched.shop.relay_url}/smi-webhook/upsampler/{secret}"
    with ThreadPoolExecutor(20) as callers:
        calls = [
            callers.submit(requests.post, url, json={**said, "n": n % 2}, timeout=20)
            for n in range(20)
        ]
    assert [call.result().status_code for call in calls] == [200] * 20
    books = until(watched, order_id, "completed")
    customer.wait_for_mail(30)
    results = watched.shop.data_dir / "files" / "results" / books.order.number
    assert books.order.generation == 1
    assert len(list(results.iterdir())) == 1
    assert len(watched.mails_to(customer.address)) == 1

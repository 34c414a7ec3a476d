"""A process killed with -9 anywhere on the happy path, and started again, finishes the order: once."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
import requests

from smi_desktop.bootstrap import open_shop
from smi_desktop.sandbox.customer import GOOD_CARD, Customer
from smi_desktop.store import settings as settings_rows
from tests.e2e.watching import Watched, wait_until

pytestmark = pytest.mark.slow

# Where the engine is held fast by its provider when it is killed. The last figure is how many copies of
# the mail may have been accepted: two only where the answer to the final dot was lost.
ENGINE_POINTS = [
    pytest.param("stripe", "retrieve_session", "timeout", 1, id="before-stripe-answers"),
    pytest.param("stripe", "retrieve_session", "delay_reply", 1, id="while-stripe-answers"),
    pytest.param("upsampler", "submit", "timeout", 1, id="before-the-upscaler-has-it"),
    pytest.param("upsampler", "submit", "delay_reply", 1, id="while-the-upscaler-answers"),
    pytest.param("upsampler", "status", "timeout", 1, id="while-asking-how-far-it-is"),
    pytest.param("upsampler", "result", "timeout", 1, id="before-the-result-comes"),
    pytest.param("upsampler", "result", "slow_reply", 1, id="while-the-result-comes"),
    pytest.param("smtp", "rcpt", "slow", 1, id="before-the-mail-is-taken"),
    pytest.param("smtp", "dot", "slow", 2, id="while-the-mail-is-acknowledged"),
]


@pytest.mark.parametrize(("provider", "operation", "fault", "mails"), ENGINE_POINTS)
def test_an_engine_killed_at_a_step_finishes_the_order_when_started_again(
    watched: Watched, customer: Customer, provider: str, operation: str, fault: str, mails: int
) -> None:
    params = {"bytes_per_second": 2000} if fault == "slow_reply" else {"seconds": 60}
    held = watched.fault(provider, operation, fault, params=params)
    purchase = watched.buy(customer)
    wait_until(lambda: watched.fired(held) > 0, f"{operation} is being asked for")

    watched.shop.kill("engine")
    watched.clear_faults()
    watched.shop.start_process("engine")

    assert_bought_once(watched, customer, purchase.job_id, mails=mails)


def test_an_engine_killed_while_it_enlarges_the_picture_itself_starts_again(
    watched: Watched, customer: Customer
) -> None:
    choose_upscaler(watched, "embedded")
    try:
        purchase = watched.buy(customer)
        wait_until(lambda: (customer.status(purchase.job_id)["progress"] or 0) > 0.05, "progress")
        watched.restart("engine")
        assert_bought_once(watched, customer, purchase.job_id, jobs=0)
    finally:
        choose_upscaler(watched, "upsampler, then embedded")


def test_an_event_stored_while_no_engine_lives_is_applied_by_the_next_one(
    watched: Watched, customer: Customer
) -> None:
    watched.shop.kill("engine")
    before = watched.inbox_states().get("new", 0)
    purchase = watched.buy(customer)
    wait_until(lambda: watched.inbox_states().get("new", 0) > before, "the event is stored")
    watched.shop.start_process("engine")
    assert_bought_once(watched, customer, purchase.job_id)


def test_a_relay_that_is_dead_when_stripe_calls_gets_the_event_later(
    watched: Watched, customer: Customer
) -> None:
    purchase = watched.start(customer)
    watched.shop.kill("relay")
    assert customer.pay(purchase, GOOD_CARD).status_code == 303
    watched.shop.start_process("relay")
    assert_bought_once(watched, customer, purchase.job_id)


def test_a_relay_killed_right_after_storing_the_event_loses_nothing(
    watched: Watched, customer: Customer
) -> None:
    before = sum(watched.inbox_states().values())
    purchase = watched.buy(customer)
    wait_until(lambda: sum(watched.inbox_states().values()) > before, "the event is stored")
    watched.restart("relay")
    assert_bought_once(watched, customer, purchase.job_id)


def test_a_relay_that_is_dead_when_the_upscaler_calls_is_not_needed(
    watched: Watched, customer: Customer
) -> None:
    held = watched.fault("upsampler", "submit", "delay_reply", params={"seconds": 1})
    purchase = watched.buy(customer)
    wait_until(lambda: watched.fired(held) > 0, "the job is there")
    watched.shop.kill("relay")
    wait_until(lambda: watched.books(purchase.job_id).order.status == "completed", "polling", 60)
    watched.shop.start_process("relay")
    assert_bought_once(watched, customer, purchase.job_id)


def test_a_relay_killed_during_the_checkout_leaves_a_shop_that_sells(
    watched: Watched, customer: Customer
) -> None:
    held = watched.fault("stripe", "create_session", "delay_reply", params={"seconds": 60})
    failed: list[BaseException] = []

    def try_to_buy() -> None:
        try:
            watched.start(customer)
        except requests.RequestException as error:
            failed.append(error)

    buying = threading.Thread(target=try_to_buy)
    buying.start()
    wait_until(lambda: watched.fired(held) > 0, "Stripe has made the session")
    watched.shop.kill("relay")
    buying.join(20)
    assert failed, "the customer should have seen an error"
    watched.clear_faults()
    watched.shop.start_process("relay")

    purchase = watched.buy(customer)
    assert_bought_once(watched, customer, purchase.job_id)


def test_a_download_cut_by_a_killed_relay_goes_on_where_it_was(
    watched: Watched, customer: Customer
) -> None:
    purchase = watched.buy(customer)
    link = assert_bought_once(watched, customer, purchase.job_id)
    whole = customer.download(link).content
    half = requests.get(link, headers={"Range": "bytes=0-9999"}, timeout=10)
    watched.restart("relay", "engine")
    rest = requests.get(
        link, headers={"Range": "bytes=10000-", "If-Range": half.headers["ETag"]}, timeout=10
    )
    assert rest.status_code == 206
    assert half.content + rest.content == whole


def test_one_webhook_delivered_twenty_times_at_once_has_one_effect(
    watched: Watched, customer: Customer
) -> None:
    watched.fault("stripe", "checkout.session.completed", "drop")
    purchase = watched.buy(customer)
    session = watched.books(purchase.job_id).order.stripe_session_id
    body = {
        "id": "evt_twenty_times",
        "object": "event",
        "type": "checkout.session.completed",
        "livemode": False,
        "data": {"object": {"id": session, "object": "checkout.session"}},
    }
    codes = deliver_at_once(watched, json.dumps(body).encode(), copies=20)

    assert codes == [200] * 20
    assert len(watched.inbox_entry("evt_twenty_times")) == 1
    assert_bought_once(watched, customer, purchase.job_id)


def assert_bought_once(
    watched: Watched, customer: Customer, order_id: str, *, mails: int = 1, jobs: int = 1
) -> str:
    """Check that one payment has led to one picture, one job and one mail; return the link."""
    customer.wait_for_status(order_id, "completed", 90)
    _, link = customer.wait_for_mail(30)
    wait_until(
        lambda: all(task.state == "done" for task in watched.books(order_id).tasks),
        "all work is done",
    )
    books = watched.books(order_id)
    assert books.order.payment_status == "paid"
    assert books.order.held_at is None, books.order.held_reason
    assert books.order.generation == 1
    assert books.count("payment") == 1
    assert len(watched.jobs_of(order_id)) == jobs
    message_ids = watched.mails_to(customer.address)
    assert len(message_ids) in range(1, mails + 1)
    assert len(set(message_ids)) == 1
    delivery = customer.download(link)
    assert delivery.sha256 == books.order.file_sha256
    return link


def choose_upscaler(watched: Watched, name: str) -> None:
    """Change the setting, and wait until the relay has seen it."""
    with open_shop(watched.shop.config()) as shop, shop.database.write() as session:
        settings_rows.save(session, {"upscaler": name}, now=shop.now())
    # Settings are taken for current for a second at most.
    threading.Event().wait(1.1)


def deliver_at_once(watched: Watched, raw: bytes, *, copies: int) -> list[int]:
    """Post the same signed event from many threads in the same instant; return the status codes."""
    import stripe

    header = stripe.WebhookSignature.generate_signature_header(
        raw.decode(), watched.shop.webhook_secret
    )
    url = f"{watched.shop.relay_url}/smi-webhook/stripe/"
    barrier = threading.Barrier(copies)
    codes: list[int] = []

    def deliver() -> None:
        headers: dict[str, Any] = {"Stripe-Signature": header, "Content-Type": "application/json"}
        barrier.wait()
        codes.append(requests.post(url, data=raw, headers=headers, timeout=20).status_code)

    threads = [threading.Thread(target=deliver) for _ in range(copies)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return codes

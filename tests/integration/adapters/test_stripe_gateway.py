"""How Stripe's answers are read: the SDK over real sockets, against answers good, bad and broken."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import parse_qs

import pytest

from smi_desktop.adapters.stripe_gateway import StripeGateway
from smi_desktop.domain.errors import (
    NotFoundError,
    ProviderAccountError,
    RejectedError,
    SmiError,
    TransientError,
)
from smi_desktop.domain.money import Money
from tests.integration.adapters.loopback import Answer, closed_port, raw, reply, serving
from tests.integration.adapters.stripe_samples import (
    KEY,
    PAYMENT,
    REFUND,
    REQUEST,
    SESSION,
    answer,
    error,
    gateway_for,
)


def test_a_session_is_read_in_full() -> None:
    paid = {
        **SESSION,
        "status": "complete",
        "payment_status": "paid",
        "payment_intent": {**PAYMENT},
        "customer_details": {"email": "bob@example.com", "name": "Bob"},
        "url": None,
        "livemode": True,
    }
    with serving(answer(paid)) as server:
        found = gateway_for(server.url).retrieve_session("cs_test_1")
    assert found.amount_total == Money(199, "usd")
    assert (found.status, found.payment_status) == ("complete", "paid")
    assert (found.payment_intent_id, found.url) == ("pi_1", None)
    assert (found.customer_email, found.customer_name) == ("bob@example.com", "Bob")
    assert found.livemode is True
    assert found.expires_at == datetime(2026, 1, 15, 13, tzinfo=UTC)
    assert found.metadata == {"order_id": "order-1"}


def test_words_that_we_do_not_know_are_passed_on() -> None:
    new = {**SESSION, "status": "archived", "payment_status": "half", "amount_total": None}
    with serving(answer(new)) as server:
        found = gateway_for(server.url).retrieve_session("cs_test_1")
    assert (found.status, found.payment_status) == ("archived", "half")
    assert found.amount_total is None
    assert found.customer_email == "ada@example.com"


def test_the_idempotency_key_and_the_shops_key_are_sent() -> None:
    with serving(answer(SESSION)) as server:
        gateway_for(server.url).create_session(REQUEST, idempotency_key="session:order-1:1")
    sent = server.requests[0]
    form = parse_qs(sent.body.decode())
    assert sent.headers["idempotency-key"] == "session:order-1:1"
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert form["line_items[0][price_data][unit_amount]"] == ["199"]
    assert form["payment_intent_data[metadata][order_id]"] == ["order-1"]
    assert not any(name.startswith("idempotency") for name in form)


def test_a_server_error_is_tried_again_under_the_same_key() -> None:
    busy = reply(500, "{}")
    with serving(busy, answer(REFUND)) as server:
        refund = gateway_for(server.url).create_refund(
            "pi_1", Money(199, "usd"), metadata={}, idempotency_key="refund:order-1:1"
        )
    assert refund.id == "re_1"
    keys = {request.headers["idempotency-key"] for request in server.requests}
    assert (len(server.requests), keys) == (2, {"refund:order-1:1"})


CALLS: list[Callable[[StripeGateway], object]] = [
    lambda gateway: gateway.create_session(REQUEST, idempotency_key="k"),
    lambda gateway: gateway.retrieve_session("cs_test_1"),
    lambda gateway: gateway.expire_session("cs_test_1"),
    lambda gateway: gateway.retrieve_payment("pi_1"),
    lambda gateway: gateway.create_refund(
        "pi_1", Money(1, "usd"), metadata={}, idempotency_key="k"
    ),
    lambda gateway: gateway.list_refunds("pi_1"),
    lambda gateway: gateway.capture_payment("pi_1", idempotency_key="k"),
    lambda gateway: gateway.cancel_payment("pi_1", idempotency_key="k"),
    lambda gateway: gateway.list_disputes("pi_1"),
]


@pytest.mark.parametrize("call", CALLS, ids=range(len(CALLS)))
@pytest.mark.parametrize(
    ("scripted", "expected"),
    [
        (error(400), RejectedError),
        (error(402, type="card_error"), RejectedError),
        (error(400, code="charge_already_refunded"), RejectedError),
        (error(400, type="idempotency_error"), RejectedError),
        (error(401), ProviderAccountError),
        (error(403), ProviderAccountError),
        (error(404, code="resource_missing"), NotFoundError),
        (error(400, code="resource_missing"), NotFoundError),
        (error(409, code="lock_timeout"), TransientError),
        (error(429), TransientError),
        (error(400, code="rate_limit"), TransientError),
        (error(500, type="api_error"), TransientError),
        (error(503), TransientError),
    ],
)
def test_an_error_is_told_apart(
    call: Callable[[StripeGateway], object], scripted: Answer, expected: type[SmiError]
) -> None:
    with serving(scripted) as server, pytest.raises(SmiError) as caught:
        call(gateway_for(server.url))
    assert type(caught.value) is expected


STRANGE: list[Answer] = [
    answer({}),
    answer([]),
    answer(None),
    answer("words"),
    answer({"id": None}),
    answer({"id": "cs_test_1", "object": "checkout.session"}),
    answer({"object": "list", "data": None}),
    answer({"object": "list", "data": [{}], "has_more": False}),
    answer({"object": "list", "data": ["x"], "has_more": False}),
    answer({"error": "words"}, 400),
    answer({"error": {}}, 418),
    answer("words", 400),
    answer([], 404),
    answer({"error": None}, 401),
    reply(200, "<html>Please log in to this network</html>", Stripe_Should_Retry="false"),
    reply(404, "<html>not found</html>", Stripe_Should_Retry="false"),
    reply(200, b"\xff\xfe", Stripe_Should_Retry="false"),
    reply(200, "", Stripe_Should_Retry="false"),
]


@pytest.mark.parametrize("call", CALLS, ids=range(len(CALLS)))
@pytest.mark.parametrize("scripted", STRANGE, ids=range(len(STRANGE)))
def test_an_answer_that_is_not_stripes_is_no_answer(
    call: Callable[[StripeGateway], object], scripted: Answer
) -> None:
    with serving(scripted) as server, pytest.raises(SmiError) as caught:
        call(gateway_for(server.url))
    assert isinstance(caught.value, TransientError | RejectedError | ProviderAccountError)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", 7),
        ("id", ""),
        ("status", None),
        ("payment_status", 1),
        ("amount_total", "199"),
        ("amount_total", 1.99),
        ("amount_total", True),
        ("currency", None),
        ("currency", "dollars"),
        ("livemode", None),
        ("livemode", "false"),
        ("expires_at", "soon"),
        ("expires_at", 10**18),
        ("metadata", "x"),
        ("customer_details", "x"),
    ],
)
def test_a_session_with_a_field_that_cannot_be_is_not_believed(field: str, value: object) -> None:
    with serving(answer({**SESSION, field: value})) as server, pytest.raises(TransientError):
        gateway_for(server.url).retrieve_session("cs_test_1")


def test_the_wait_that_stripe_asks_for_is_passed_on() -> None:
    slow = answer({"error": {"type": "x", "message": "slow"}}, 429, Retry_After="11")
    with serving(slow) as server, pytest.raises(TransientError) as caught:
        gateway_for(server.url).retrieve_session("cs_test_1")
    assert caught.value.retry_after == 11


def test_a_server_that_is_not_there_may_be_asked_again() -> None:
    gateway = gateway_for(f"http://127.0.0.1:{closed_port()}")
    with pytest.raises(TransientError):
        gateway.retrieve_session("cs_test_1")


def test_a_lost_answer_may_be_asked_for_again_under_the_same_key() -> None:
    lost = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")
    with serving(lost, answer(SESSION)) as server:
        gateway = gateway_for(server.url)
        with pytest.raises(TransientError):
            gateway.create_session(REQUEST, idempotency_key="k")
        found = gateway.create_session(REQUEST, idempotency_key="k")
    assert found.id == "cs_test_1"
    assert {request.headers["idempotency-key"] for request in server.requests} == {"k"}


def test_no_key_is_an_error_of_the_account() -> None:
    with pytest.raises(ProviderAccountError):
        StripeGateway(" ")


def test_the_key_is_in_no_error_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    seen = ""
    for scripted in (error(401, "Invalid API Key"), error(400, "No."), error(500), answer({})):
        with serving(scripted) as server, pytest.raises(SmiError) as caught:
            gateway_for(server.url).create_session(REQUEST, idempotency_key="k")
        seen += repr(caught.value) + str(caught.value) + repr(caught.value.__cause__)
    assert KEY not in seen
    assert KEY not in caplog.text


def test_no_answer_whatever_makes_anything_but_an_error_of_ours() -> None:
    """A seeded storm of answers with one field of any shape; nothing but our errors comes out."""
    draw = random.Random(20261123)
    shapes: list[object] = [None, 0, -1, 10**30, 1.5, True, "", "x", [], [1], {}, {"id": 3}]
    scripted = []
    for _ in range(300):
        body = dict(SESSION)
        for field in draw.sample(sorted(body), draw.randint(1, 4)):
            body[field] = draw.choice(shapes)
        scripted.append(answer(body))
    refused = 0
    with serving(*scripted) as server:
        gateway = gateway_for(server.url)
        for _ in scripted:
            try:
                gateway.retrieve_session("cs_test_1")
            except SmiError:
                refused += 1
    assert 100 < refused < 300

"""The fault script over HTTP: before the effect, after it, on the wire; counted and cleared."""

from __future__ import annotations

import time
from typing import Any

import pytest
import requests
import stripe
from sandbox_running import Receiver, Sandbox, session_params

REFERENCE = "order-with-a-fault"


def sessions_of(sandbox: Sandbox, reference: str) -> int:
    """Count the sessions that were really made for an order."""
    listed = sandbox.sdk.v1.checkout.sessions.list({"limit": 100})
    return sum(row.client_reference_id == reference for row in listed.data)


@pytest.mark.parametrize(
    ("fault", "params", "error", "made"),
    [
        ("http_500", {}, stripe.APIError, 0),
        ("http_503", {"message": "Away"}, stripe.APIError, 0),
        ("http_429", {"retry_after": 7}, stripe.RateLimitError, 0),
        ("http_401", {}, stripe.AuthenticationError, 0),
        ("http_409", {}, stripe.StripeError, 0),
        ("drop_request", {}, stripe.APIConnectionError, 0),
        ("timeout", {"seconds": 0.2}, stripe.APIConnectionError, 0),
        ("html", {}, stripe.APIError, 0),
        ("empty", {}, stripe.APIError, 0),
        ("drop_reply_after_effect", {}, stripe.APIConnectionError, 1),
        ("timeout_after_effect", {"seconds": 0.2}, stripe.APIConnectionError, 1),
        ("http_500_after_effect", {}, stripe.APIError, 1),
        ("cut_reply", {"at": 40}, stripe.APIConnectionError, 1),
        ("cut_reply", {"share": 0.99}, stripe.APIConnectionError, 1),
        ("truncate_reply", {}, stripe.APIError, 1),
        ("html_after_effect", {}, stripe.APIError, 1),
    ],
)
def test_a_fault_strikes_once_before_or_after_the_effect(
    sandbox: Sandbox, fault: str, params: dict[str, Any], error: type[Exception], made: int
) -> None:
    reference = f"{fault}-{params}"[:200]
    sandbox.fault("stripe", "create_session", fault, params=params)
    with pytest.raises(error) as raised:
        sandbox.session(client_reference_id=reference)
    if "retry_after" in params:
        assert isinstance(raised.value, stripe.StripeError)
        assert raised.value.headers is not None
        assert raised.value.headers["Retry-After"] == "7"
    assert sessions_of(sandbox, reference) == made
    assert sandbox.control("faults")["faults"][0]["fired"] == 1
    sandbox.session(client_reference_id=reference)
    assert sessions_of(sandbox, reference) == made + 1


def test_the_sdks_own_retry_after_a_lost_reply_finds_the_first_session(sandbox: Sandbox) -> None:
    sandbox.fault("stripe", "create_session", "drop_reply_after_effect")
    client = sandbox.client(sandbox.sdk._requestor.api_key or "", retries=2)
    made = client.v1.checkout.sessions.create(session_params(client_reference_id="retried"))
    assert made.last_response.headers["Idempotent-Replayed"] == "true"
    assert sessions_of(sandbox, "retried") == 1


def test_a_stored_500_is_replayed_under_its_key_though_the_refund_was_made(
    sandbox: Sandbox,
) -> None:
    intent = str(sandbox.paid().payment_intent)
    sandbox.fault("stripe", "create_refund", "stored_500")
    for _ in range(2):
        with pytest.raises(stripe.APIError):
            sandbox.sdk.v1.refunds.create({"payment_intent": intent}, {"idempotency_key": intent})
    assert len(sandbox.sdk.v1.refunds.list({"payment_intent": intent}).data) == 1


def test_faults_are_skipped_matched_repeated_listed_and_cleared(sandbox: Sandbox) -> None:
    first, second = sandbox.session(), sandbox.session()
    retrieve = sandbox.sdk.v1.checkout.sessions.retrieve
    sandbox.fault(
        "stripe", "retrieve_session", "http_500", times=2, skip=1, match={"id": second.id}
    )
    assert retrieve(first.id).id == first.id
    assert retrieve(second.id).id == second.id
    for _ in range(2):
        with pytest.raises(stripe.APIError):
            retrieve(second.id)
    assert retrieve(second.id).id == second.id
    line = sandbox.control("faults")["faults"][0]
    assert (line["fired"], line["seen"]) == (2, 3)
    sandbox.fault("stripe", "*", "http_500", times=-1)
    sandbox.http.delete(f"{sandbox.stripe_url}/_sandbox/faults")
    assert retrieve(second.id).id == second.id
    assert sandbox.control("faults") == {"faults": []}


@pytest.mark.parametrize(
    "line",
    [
        {"provider": "paypal", "operation": "x", "fault": "http_500"},
        {"provider": "stripe", "operation": "x", "fault": "explode"},
        {"provider": "smtp", "operation": "rcpt", "fault": "http_500"},
        {"provider": "stripe", "operation": "x", "fault": "http_500", "colour": 1},
    ],
)
def test_a_line_that_the_table_does_not_have_is_refused(
    sandbox: Sandbox, line: dict[str, object]
) -> None:
    url = f"{sandbox.stripe_url}/_sandbox/faults"
    assert sandbox.http.post(url, json=line).status_code == 400


def test_the_table_of_faults_can_be_read(sandbox: Sandbox) -> None:
    names = sandbox.control("fault-names")
    assert {"http_NNN", "cut_reply", "refuse_NNN", "hold"} <= set(names)
    assert all(row["meaning"] for row in names.values())


@pytest.mark.parametrize(
    ("fault", "params", "status", "body"),
    [
        ("http_429", {"retry_after": 3}, 429, None),
        ("json", {"body": {"id": None}}, 200, {"id": None}),
        ("empty", {}, 200, None),
        ("html", {}, 200, None),
        ("http_402", {"message": "Insufficient credits"}, 402, {"error": "Insufficient credits"}),
    ],
)
def test_upsampler_can_answer_anything(
    sandbox: Sandbox,
    receiver: Receiver,
    fault: str,
    params: dict[str, Any],
    status: int,
    body: object,
) -> None:
    before = sandbox.control("state")["counts"]["job"]
    sandbox.fault("upsampler", "submit", fault, params=params)
    answer = sandbox.submit(f"{receiver.url}/x.jpg")
    assert answer.status_code == status
    if body is not None:
        assert answer.json() == body
    assert sandbox.control("state")["counts"]["job"] == before


def test_a_status_can_be_patched_into_an_unknown_word_and_back(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    job = sandbox.finished(sandbox.submit(f"{receiver.url}/x.jpg").json()["id"])
    sandbox.fault("upsampler", "status", "patch_reply", params={"body": {"status": "ARCHIVED"}})
    strange = sandbox.upsampler("GET", f"status/{job['id']}").json()
    assert strange == {**job, "status": "ARCHIVED"}
    assert sandbox.upsampler("GET", f"status/{job['id']}").json() == job


def test_a_result_can_expire_be_cut_lied_about_redirected_or_replaced(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    url = sandbox.finished(sandbox.submit(f"{receiver.url}/x.jpg").json()["id"])["imageUrl"]
    whole = sandbox.http.get(url).content
    sandbox.fault("upsampler", "result", "http_410")
    assert sandbox.http.get(url).status_code == 410
    sandbox.fault("upsampler", "result", "cut_reply", params={"share": 0.999})
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        sandbox.http.get(url)
    sandbox.fault("upsampler", "result", "truncate_reply", params={"at": 1000})
    assert sandbox.http.get(url).content == whole[:1000]
    sandbox.fault("upsampler", "result", "html")
    assert sandbox.http.get(url).headers["Content-Type"].startswith("text/html")
    target = "http://169.254.169.254/"
    sandbox.fault("upsampler", "result", "redirect", params={"location": target})
    assert sandbox.http.get(url, allow_redirects=False).headers["Location"] == target
    other = sandbox.folder / "other.bin"
    other.write_bytes(b"another file")
    sandbox.fault("upsampler", "result", "file", params={"path": str(other)})
    assert sandbox.http.get(url).content == b"another file"
    assert sandbox.http.get(url).content == whole


def test_a_reply_can_drip_or_come_late(sandbox: Sandbox) -> None:
    url = f"{sandbox.stripe_url}/v1/balance"
    for fault, params in (
        ("delay", {"seconds": 0.3}),
        ("delay_reply", {"seconds": 0.3}),
        ("slow_reply", {"bytes_per_second": 100}),
    ):
        sandbox.fault("stripe", "*", fault, params=params)
        began = time.monotonic()
        sandbox.http.get(url)
        assert sandbox.control("faults")["faults"][-1]["fired"] == 1
        assert time.monotonic() - began >= 0.1

"""The Upsampler client over real sockets: above all, what it says when it cannot know."""

from __future__ import annotations

import json
import logging
import random
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from smi_desktop.adapters.upsampler_client import UpsamplerClient
from smi_desktop.domain.errors import (
    AmbiguousError,
    ProviderAccountError,
    RejectedError,
    SmiError,
    TransientError,
)
from smi_desktop.services.ports import RemoteState, UpscaleRequest
from tests.integration.adapters.certificates import TestAuthority
from tests.integration.adapters.loopback import (
    Answer,
    Request,
    closed_port,
    raw,
    reply,
    reset,
    serving,
)

KEY = "ups_canary_key_4711"
PICTURE = UpscaleRequest("https://shop.example/s/1.jpg", 4, "https://shop.example/callback/x")
QUEUED = {"id": "job-1", "status": "IN_QUEUE", "creditCost": 4}


def client_for(url: str) -> UpsamplerClient:
    return UpsamplerClient(KEY, api_base=f"{url}/api/v1", image_type="realism")


def answer(body: object, status: int = 200, **headers: str) -> Answer:
    return reply(status, json.dumps(body), **headers)


def test_a_job_is_submitted_as_the_live_interface_wants_it() -> None:
    with serving(answer(QUEUED)) as server:
        job = client_for(server.url).submit(PICTURE)
    assert (job.id, job.state, job.credit_cost) == ("job-1", RemoteState.QUEUED, 4)
    sent = server.requests[0]
    assert (sent.method, sent.target) == ("POST", "/api/v1/precise-upscale")
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert sent.headers["content-type"] == "application/json"
    assert json.loads(sent.body) == {
        "webhook": PICTURE.callback_url,
        "input": {
            "imageUrl": PICTURE.image_url,
            "inputImageType": "realism",
            "upscaleFactor": 4,
            "shouldEnhanceFaces": False,
            "shouldPreserveBlur": True,
        },
    }


def test_a_job_that_failed_at_once_is_told_as_failed() -> None:
    body = {"id": "job-1", "status": "FAILED", "error": "Oops. Your credits have been refunded."}
    with serving(answer(body)) as server:
        job = client_for(server.url).submit(PICTURE)
    assert job.state is RemoteState.FAILED
    assert job.error == "Oops. Your credits have been refunded."


@pytest.mark.parametrize(
    ("status", "words", "expected"),
    [
        (401, "nope", ProviderAccountError),
        (402, "pay first", ProviderAccountError),
        (403, "forbidden", ProviderAccountError),
        (400, "Invalid API key", ProviderAccountError),
        (400, "Insufficient credits", ProviderAccountError),
        (404, "no such endpoint", ProviderAccountError),
        (405, "method", ProviderAccountError),
        (400, "bad image", RejectedError),
        (413, "", RejectedError),
        (415, "", RejectedError),
        (422, "", RejectedError),
        (403, "This image type is not allowed", RejectedError),
        (400, "Output would exceed 50 MP", RejectedError),
        (400, "Image too large", RejectedError),
        (429, "slow down", TransientError),
        # The order for work went out whole: sent again it might be paid for twice.
        (408, "", AmbiguousError),
        (500, "Insufficient credits", AmbiguousError),
        (502, "<html>", AmbiguousError),
        (504, "", AmbiguousError),
        (503, "", TransientError),
        (302, "", TransientError),
        (303, "", AmbiguousError),
    ],
)
def test_a_refusal_to_take_a_job_is_told_apart(
    status: int, words: str, expected: type[SmiError]
) -> None:
    scripted = answer({"error": words}, status, Location="http://127.0.0.1:1/")
    with serving(scripted) as server, pytest.raises(expected) as caught:
        client_for(server.url).submit(PICTURE)
    assert type(caught.value) is expected
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "body",
    ["Invalid API key", '{"message": "unauthorized"}', '{"error": {"message": "Unauthorised"}}'],
)
def test_the_words_count_in_each_form_that_they_come_in(body: str) -> None:
    with serving(reply(400, body)) as server, pytest.raises(ProviderAccountError):
        client_for(server.url).submit(PICTURE)


@pytest.mark.parametrize(
    ("words", "expected"),
    [("Insufficient credits", ProviderAccountError), ("Unsupported file", RejectedError)],
)
def test_an_error_in_an_answer_of_200_counts_too(words: str, expected: type[SmiError]) -> None:
    with serving(answer({"error": words})) as server, pytest.raises(expected):
        client_for(server.url).submit(PICTURE)


@pytest.mark.parametrize(
    ("header", "at_least", "at_most"),
    [
        ("17", 17, 17),
        (timedelta(seconds=90), 60, 90),
        (timedelta(days=-1), 0, 0),
        ("999999999", 86400, 86400),
    ],
)
def test_the_wait_that_was_asked_for_is_passed_on(
    header: str | timedelta, at_least: float, at_most: float
) -> None:
    # A date is made now, not when the tests were collected: that may be minutes ago.
    if isinstance(header, timedelta):
        header = format_datetime(datetime.now(UTC) + header, usegmt=True)
    scripted = reply(429, "", Retry_After=header)
    with serving(scripted) as server, pytest.raises(TransientError) as caught:
        client_for(server.url).submit(PICTURE)
    assert caught.value.retry_after is not None
    assert at_least <= caught.value.retry_after <= at_most


@pytest.mark.parametrize("header", ["", "soon", "nan", "inf", "Sat, 99 Foo 2026 25:00:00 GMT"])
def test_a_wait_that_makes_no_sense_is_ignored(header: str) -> None:
    scripted = reply(503, "", Retry_After=header)
    with serving(scripted) as server, pytest.raises(TransientError) as caught:
        client_for(server.url).submit(PICTURE)
    assert caught.value.retry_after is None


def test_a_server_that_is_not_there_surely_did_not_start_the_job() -> None:
    with pytest.raises(TransientError):
        client_for(f"http://127.0.0.1:{closed_port()}").submit(PICTURE)


def test_a_name_that_does_not_exist_surely_did_not_start_the_job() -> None:
    with pytest.raises(TransientError):
        client_for("http://upsampler.invalid").submit(PICTURE)


def test_an_untrusted_certificate_surely_did_not_start_the_job(authority: TestAuthority) -> None:
    tls = authority.server_context("127.0.0.1")
    with serving(answer(QUEUED), tls=tls) as server, pytest.raises(TransientError):
        client_for(server.url).submit(PICTURE)
    assert server.requests == []


def test_no_connection_is_used_twice() -> None:
    """One that the other side is just closing would leave open whether a job was taken."""
    content = json.dumps(QUEUED).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    said_later: list[bytes] = []

    def keep_open(_request: Request, connection: socket.socket) -> None:
        connection.sendall(head + content)
        said_later.append(connection.recv(65536))

    with serving(keep_open) as server:
        client = client_for(server.url)
        client.submit(PICTURE)
        client.submit(PICTURE)
        client.status("job-1")
    assert said_later == [b"", b"", b""]
    assert len(server.requests) == 3


LOST: list[Answer] = [
    reset,
    raw(b""),
    raw(b"HTTP/1.1 20"),
    raw(b"HTTP/1.1 200 OK\r\nContent-Le"),
    raw(b'HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"id": "job-1", "sta'),
    raw(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"id'),
    raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
    reply(200, ""),
    reply(204, ""),
    reply(200, "<html>Please log in to this network</html>"),
    reply(200, "[]"),
    reply(200, "null"),
    reply(200, "{}"),
    reply(200, '{"id": null, "status": "IN_QUEUE"}'),
    reply(200, '{"id": "", "status": "IN_QUEUE"}'),
    reply(200, '{"id": 7, "status": "IN_QUEUE"}'),
    reply(200, '{"id": "../../x?y", "status": "IN_QUEUE"}'),
    reply(200, '{"id": "job-1"}'),
    reply(200, '{"id": "job-1", "status": 3}'),
    reply(200, "[" * 200_000),
    reply(200, b"\xff\xfe\x00"),
    reply(200, b" " * (1 << 20) + json.dumps(QUEUED).encode()),
]


@pytest.mark.parametrize("lost", LOST, ids=range(len(LOST)))
def test_an_answer_that_was_lost_or_is_unusable_leaves_it_open(lost: Answer) -> None:
    with serving(lost) as server, pytest.raises(AmbiguousError):
        client_for(server.url).submit(PICTURE)
    assert len(server.requests) == 1, "a submit is never repeated by the client itself"


@pytest.mark.parametrize("lost", LOST, ids=range(len(LOST)))
def test_a_status_that_is_lost_or_unusable_may_be_asked_for_again(lost: Answer) -> None:
    with serving(lost) as server, pytest.raises(TransientError):
        client_for(server.url).status("job-1")


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ("IN_QUEUE", RemoteState.QUEUED),
        ("IN_PROGRESS", RemoteState.RUNNING),
        ("SUCCESS", RemoteState.SUCCEEDED),
        ("FAILED", RemoteState.FAILED),
        ("archived", RemoteState.UNKNOWN),
        ("success", RemoteState.UNKNOWN),
        ("", RemoteState.UNKNOWN),
    ],
)
def test_each_status_word_is_known_or_unknown(said: str, state: RemoteState) -> None:
    with serving(answer({"id": "job-1", "status": said})) as server:
        job = client_for(server.url).status("job-1")
    assert (job.state, job.said) == (state, said)
    assert server.requests[0].target == "/api/v1/status/job-1"


def test_a_finished_job_names_its_picture_and_its_price() -> None:
    body = {
        "id": "job-1",
        "status": "SUCCESS",
        "imageUrl": "https://cdn.example/r.png",
        "compressedImageUrl": "https://cdn.example/r.jpg",
        "creditCost": 12,
        "progress": 150,
    }
    with serving(answer(body)) as server:
        job = client_for(server.url).status("job-1")
    assert (job.image_url, job.credit_cost) == ("https://cdn.example/r.png", 12)


@pytest.mark.parametrize("cost", [None, "4", 4.5, True, -1, [], {}])
def test_a_price_that_is_no_number_of_credits_is_left_out(cost: Any) -> None:
    with serving(answer({**QUEUED, "creditCost": cost})) as server:
        assert client_for(server.url).status("job-1").credit_cost is None


def test_the_answer_for_another_job_is_no_answer() -> None:
    with serving(answer({**QUEUED, "id": "job-2"})) as server, pytest.raises(TransientError):
        client_for(server.url).status("job-1")


@pytest.mark.parametrize("status", [400, 404, 409, 410, 429, 500, 301])
def test_a_job_that_is_not_known_may_become_known(status: int) -> None:
    with serving(answer({"error": "not found"}, status)) as server, pytest.raises(TransientError):
        client_for(server.url).status("job-1")


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_key_that_is_refused_is_told_when_asking_too(status: int) -> None:
    with serving(answer({}, status)) as server, pytest.raises(ProviderAccountError):
        client_for(server.url).status("job-1")


def test_a_job_id_cannot_lead_to_another_address() -> None:
    with serving(answer(QUEUED)) as server, pytest.raises(TransientError):
        client_for(server.url).status("../account?x=1")
    assert server.requests[0].target == "/api/v1/status/..%2Faccount%3Fx%3D1"


def test_the_ninety_first_submit_of_a_minute_waits() -> None:
    with serving(answer(QUEUED)) as server:
        client = client_for(server.url)
        with ThreadPoolExecutor(8) as pool:
            done = list(pool.map(lambda _: client.submit(PICTURE).id, range(90)))
        with pytest.raises(TransientError) as caught:
            client.submit(PICTURE)
        assert client.status("job-1").id == "job-1", "asking has a limit of its own"
    assert done == ["job-1"] * 90
    assert caught.value.retry_after is not None
    assert 1 <= caught.value.retry_after <= 60
    assert len(server.requests) == 91


def test_the_key_is_in_no_error_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    calls: list[Callable[[UpsamplerClient], object]] = [
        lambda client: client.submit(PICTURE),
        lambda client: client.status("job-1"),
    ]
    seen = ""
    for scripted in (reset, reply(401, "Invalid API key"), reply(500), reply(200, "{}")):
        for call in calls:
            with serving(scripted) as server, pytest.raises(SmiError) as caught:
                call(client_for(server.url))
            seen += repr(caught.value) + repr(caught.value.__cause__)
    assert KEY not in seen
    assert KEY not in caplog.text


def test_no_answer_whatever_makes_anything_but_an_error_of_ours() -> None:
    """A seeded storm of mutated answers; a job comes out only of an answer that names one."""
    draw = random.Random(20261123)
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 52\r\n\r\n" + json.dumps(QUEUED).encode()
    answers = [raw(_mutated(draw, good)) for _ in range(300)]
    outcomes: set[str] = set()
    with serving(*answers) as server:
        for _ in range(4):
            client = client_for(server.url)
            for _ in range(75):
                try:
                    outcomes.add(client.submit(PICTURE).id[:3])
                except SmiError as error:
                    outcomes.add(type(error).__name__)
    assert "AmbiguousError" in outcomes


def _mutated(draw: random.Random, good: bytes) -> bytes:
    content = bytearray(good)
    for _ in range(draw.randint(1, 6)):
        place = draw.randrange(len(content))
        content[place : place + draw.randint(0, 3)] = draw.randbytes(draw.randint(0, 3))
    return bytes(content[: draw.choice([len(content), draw.randrange(len(content))])])

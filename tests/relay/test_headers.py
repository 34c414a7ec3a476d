"""What every answer carries: CORS, methods, caching, sniffing; and what none may carry."""

from __future__ import annotations

import dataclasses
import logging

import pytest

from smi_desktop.services.ports import TemplateRenderer
from tests.relay.conftest import Relay, StartRelay
from tests.relay.test_prices import PRICES, assert_is_error
from tests.world import World

STUDIO = "https://studio.example"
ALLOW = "Access-Control-Allow-Origin"


class BrokenTemplates:
    """A renderer with a bug in it."""

    def page(self, name: str, values: object) -> str:
        """Fail with words that nobody may read."""
        raise RuntimeError("secret inside: /srv/shop/shop.db")

    mail = page


@pytest.fixture
def broken(world: World, start_relay: StartRelay) -> Relay:
    """A relay whose pages fail with a bug."""
    templates: TemplateRenderer = BrokenTemplates()  # type: ignore[assignment]
    return start_relay(world, shop=dataclasses.replace(world.shop, templates=templates))


def test_the_studios_origin_is_allowed_without_credentials(relay: Relay) -> None:
    relay.world.set(site_origins=[STUDIO])
    number = relay.world.add_image()
    answer = relay.get(f"{PRICES}?attachment_id={number}", headers={"Origin": STUDIO})
    assert answer.headers[ALLOW] == STUDIO
    assert "Origin" in answer.headers["Vary"]
    assert "Access-Control-Allow-Credentials" not in answer.headers


def test_no_other_origin_is_allowed(relay: Relay) -> None:
    relay.world.set(site_origins=[STUDIO])
    path = f"{PRICES}?attachment_id={relay.world.add_image()}"
    for origin in (
        "https://evil.example", "null", "https://studio.example.evil.example",
        "https://sub.studio.example.evil", "https://sub.studio.example", "http://studio.example",
        "https://studio.example:8443", "https://studio.example/", "*", "", "studio.example",
        "http://127.0.0.1", "http://localhost:3000", "http://[::1]", "https://[", "file://",
    ):  # fmt: skip
        for method in ("GET", "OPTIONS"):
            answer = relay.request(method, path, headers={"Origin": origin})
            assert ALLOW not in answer.headers, origin
            assert "Access-Control-Allow-Credentials" not in answer.headers, origin


def test_the_rehearsal_allows_every_loopback_origin(relay: Relay) -> None:
    relay.world.set(allow_loopback_origins=True)
    for origin in ("http://127.0.0.1:3000", "http://localhost", "http://[::1]:80"):
        assert relay.get(PRICES, headers={"Origin": origin}).headers[ALLOW] == origin


def test_the_rehearsal_allows_nothing_that_only_looks_like_loopback(relay: Relay) -> None:
    relay.world.set(allow_loopback_origins=True)
    for origin in (
        "http://localhost.evil.example", "http://127.0.0.1.evil.example", "http://127.0.0.2",
        "http://user@localhost", "ftp://localhost", "http://localhost/x", "null",
        "http://evil.example:80#@localhost",
    ):  # fmt: skip
        assert ALLOW not in relay.get(PRICES, headers={"Origin": origin}).headers, origin


def test_a_preflight_is_answered_for_the_studio(relay: Relay) -> None:
    relay.world.set(site_origins=[STUDIO])
    answer = relay.request(
        "OPTIONS",
        "/smi/v1/create-checkout",
        headers={
            "Origin": STUDIO,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type,x-wp-nonce",
        },
    )
    assert answer.status_code == 204
    assert answer.content == b""
    assert answer.headers[ALLOW] == STUDIO
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    allowed = answer.headers["Access-Control-Allow-Headers"].lower()
    assert "content-type" in allowed
    assert "x-wp-nonce" in allowed


def test_webhooks_and_pages_are_not_for_other_sites_scripts(relay: Relay) -> None:
    relay.world.set(site_origins=[STUDIO])
    for path in ("/smi-webhook/stripe/", "/order/x", "/healthz"):
        assert ALLOW not in relay.get(path, headers={"Origin": STUDIO}).headers


def test_errors_can_be_read_by_the_studios_script(broken: Relay) -> None:
    broken.world.set(site_origins=[STUDIO])
    headers = {"Origin": STUDIO}
    for answer in (
        broken.get("/smi/v1/nothing", headers=headers),
        broken.get(f"/smi/v1/download/{'0' * 64}", headers={**headers, "Accept": "text/html"}),
        broken.post("/smi/v1/create-checkout", data="{" * 70_000, headers=headers),
    ):
        assert answer.status_code in {404, 500, 413}
        assert answer.headers[ALLOW] == STUDIO


def test_a_method_that_is_not_declared_is_refused(relay: Relay) -> None:
    for method, path in (
        ("GET", "/smi/v1/create-checkout"), ("PUT", "/smi/v1/create-checkout"),
        ("GET", "/smi/v1/track-button-click"), ("POST", "/smi/v1/job-status/x"),
        ("DELETE", "/smi/v1/job-status/x"), ("GET", "/smi-webhook/stripe/"),
        ("GET", "/smi-webhook/upsampler/x"), ("POST", "/smi/v1/download/x"),
        ("PATCH", "/order/x"), ("TRACE", "/healthz"), ("POST", "/healthz"),
    ):  # fmt: skip
        answer = relay.request(method, path)
        assert_is_error(answer, 405, "method_not_allowed")
        assert answer.headers["Allow"]


def test_an_unknown_path_is_not_found_and_never_redirected(relay: Relay) -> None:
    for path in (
        "/",
        "/smi/v1",
        "/smi/v1/none",
        "/healthz/",
        "/smi/v1/lost-link/",
        "//evil.example",
    ):
        for method in ("GET", "POST"):
            answer = relay.request(method, path, headers={"Host": "evil.example"})
            assert answer.status_code in {404, 405}, path
            assert "Location" not in answer.headers


def test_every_answer_forbids_sniffing_and_keeping(broken: Relay) -> None:
    number = broken.world.add_image()
    job_id = broken.world.start_checkout().order_id
    paths = [
        "/healthz", "/none", f"{PRICES}?attachment_id={number}", PRICES, f"/smi/v1/job-status/{job_id}",
        "/smi/v1/job-status/none", f"/smi/v1/download/{'0' * 64}", "/smi/v1/create-checkout",
        f"/order/{job_id}", "/order", "/assets/none",
    ]  # fmt: skip
    for path in paths:
        answer = broken.get(path)
        assert answer.headers["X-Content-Type-Options"] == "nosniff", path
        assert "no-store" in answer.headers["Cache-Control"], path


def test_answers_that_carry_an_id_or_a_link_are_private(relay: Relay) -> None:
    order = relay.world.complete(relay.world.buy())
    url = relay.get(f"/smi/v1/job-status/{order.id}").json()["data"]["download_url"]
    answers = [
        relay.checkout(),
        relay.get(f"/smi/v1/job-status/{order.id}"),
        relay.get(f"/order/{order.id}"),
        relay.get(url.removeprefix("https://shop.example")),
    ]
    for answer in answers:
        assert answer.status_code == 200
        assert "no-store" in answer.headers["Cache-Control"]
        assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_a_head_has_the_headers_of_a_get_and_no_body(relay: Relay) -> None:
    number = relay.world.add_image()
    path = f"{PRICES}?attachment_id={number}"
    head, get = relay.request("HEAD", path), relay.get(path)
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["Content-Length"] == get.headers["Content-Length"]
    raw = relay.exchange(b"HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert raw.endswith(b"\r\n\r\n")


def test_a_bug_tells_nothing_of_the_inside(broken: Relay, caplog: pytest.LogCaptureFixture) -> None:
    job_id = broken.world.start_checkout().order_id
    with caplog.at_level(logging.INFO):
        answer = broken.get(f"/order/{job_id}")
    assert_is_error(answer, 500, "internal_error")
    for word in ("secret", "srv", "Traceback", "RuntimeError"):
        assert word not in answer.text
        assert word not in str(answer.headers)
    bugs = [record for record in caplog.records if record.exc_info]
    assert len(bugs) == 1, "told to the log once, whole"
    access = [r.getMessage() for r in caplog.records if r.name == "webhook_relay.access"]
    assert " 500 " in access[-1]
    assert broken.get("/healthz").json() == {"status": "ok"}


def test_the_log_masks_what_is_secret_in_addresses(
    relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = relay.world.start_checkout().order_id
    token, secret = "a1" * 32, "b2" * 32
    with caplog.at_level(logging.DEBUG):
        relay.get(f"/smi/v1/job-status/{job_id}")
        relay.get(f"/order/{job_id}?smi_payment=success&job_id={job_id}")
        relay.get(f"/order/{job_id}/picture.jpg")
        relay.get(f"/smi/v1/download/{token}")
        relay.get(f"/smi/v1/download/{token}/")
        relay.get(f"/smi/v1/source/{token}/SMI-1")
        relay.post(f"/smi-webhook/upsampler/{secret}", json={})
    # The client's own library logs addresses too; those are not ours.
    ours = "\n".join(
        r.getMessage() for r in caplog.records if r.name.startswith(("webhook", "smi"))
    )
    for secret_text in (job_id, token, secret):
        assert secret_text not in ours
    assert "/smi/v1/download/a1a1…" in ours


def test_no_address_can_forge_a_line_of_the_log(
    relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        relay.get("/x%0A2026-01-01 INFO webhook_relay.access: GET /forged 200%0D%1b[31m%e2%80%a8y")
        relay.get("/" + "x" * 20_000)
    lines = [r.getMessage() for r in caplog.records if r.name == "webhook_relay.access"]
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    assert max(len(line) for line in lines) < 2000

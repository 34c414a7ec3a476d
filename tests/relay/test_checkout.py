"""`create-checkout` and `job-status` over real HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from smi_desktop.domain.errors import (
    AmbiguousError,
    ProviderAccountError,
    RejectedError,
    TransientError,
)
from smi_desktop.store import images
from smi_desktop.store.models import Order
from tests.relay.conftest import Relay
from tests.relay.test_prices import PRICES, assert_is_error

CHECKOUT = "/smi/v1/create-checkout"


def test_a_checkout_answers_with_exactly_the_fields_of_the_contract(relay: Relay) -> None:
    number = relay.world.add_image(2000, 1000)
    answer = relay.checkout(number, email="jo@example.com")
    body = answer.json()
    assert answer.status_code == 200
    assert set(body) == {"success", "job_id", "checkout_url", "amount", "message"}
    assert body["success"] is True
    assert body["amount"] == 0.96
    assert body["checkout_url"].startswith("https://checkout.example/")
    assert len(body["job_id"]) >= 22, "128 random bits need 22 address-safe characters"
    assert body["message"]


def test_a_form_makes_the_same_checkout_as_json(relay: Relay) -> None:
    number = relay.world.add_image(2000, 1000)
    form = {
        "attachment_id": str(number),
        "post_id": "7",
        "resolution": "8x",
        "email": "jo@example.com",
        "action": "smi_create_checkout",
    }
    answer = relay.post(CHECKOUT, data=form, headers={"X-WP-Nonce": "0123456789"})
    assert answer.status_code == 200
    order = relay.world.order(answer.json()["job_id"])
    assert (order.attachment_id, order.post_id, order.resolution) == (number, 7, "8x")
    assert order.email == "jo@example.com"


def test_no_two_checkouts_share_an_id(relay: Relay) -> None:
    number = relay.world.add_image()
    ids = {relay.checkout(number).json()["job_id"] for _ in range(10)}
    assert len(ids) == 10


def test_what_a_client_says_of_prices_and_sizes_is_not_believed(relay: Relay) -> None:
    number = relay.world.add_image(2000, 1000)
    lies = {
        "amount": 0.01, "price": -5, "customer_price": "0", "currency": "jpy", "quantity": -1,
        "width": 1, "height": 1, "title": "free", "file": "/etc/passwd", "credits": 0,
    }  # fmt: skip
    answer = relay.checkout(number, **lies)
    assert answer.json()["amount"] == 0.96
    order = relay.world.order(answer.json()["job_id"])
    assert (order.amount_minor, order.currency, order.output_width) == (96, "usd", 8000)
    assert order.title == "Harbour"


def test_the_amount_is_the_price_that_was_shown_though_it_has_changed_since(relay: Relay) -> None:
    number = relay.world.add_image(2000, 1000)
    shown = relay.get(f"{PRICES}?attachment_id={number}").json()
    relay.world.set(markup_percentage="900")
    answer = relay.checkout(number, quote_id=shown["quote_id"]).json()
    assert answer["amount"] == shown["pricing"]["4x"]["customer_price"]
    assert relay.world.order(answer["job_id"]).amount_minor == 96


def test_an_ended_quote_with_another_price_is_a_conflict_that_names_the_new_one(
    relay: Relay,
) -> None:
    number = relay.world.add_image(2000, 1000)
    quote = relay.get(f"{PRICES}?attachment_id={number}").json()["quote_id"]
    relay.world.set(markup_percentage="400")
    relay.world.clock.advance(15 * 60 + 1)
    answer = relay.checkout(number, quote_id=quote)
    assert_is_error(answer, 409, "price_changed")
    assert "1.60" in answer.json()["message"]
    assert relay.rows(Order) == []


def test_an_ended_quote_with_the_same_price_is_taken(relay: Relay) -> None:
    number = relay.world.add_image(2000, 1000)
    quote = relay.get(f"{PRICES}?attachment_id={number}").json()["quote_id"]
    relay.world.clock.advance(24 * 3600)
    assert relay.checkout(number, quote_id=quote).json()["amount"] == 0.96


def test_a_quote_in_a_currency_that_the_shop_has_left_is_a_conflict(relay: Relay) -> None:
    relay.world.set(currency="jpy", usd_rate="150", usd_rate_as_of="2026-01-01")
    number = relay.world.add_image(2000, 1000)
    quote = relay.get(f"{PRICES}?attachment_id={number}").json()["quote_id"]
    relay.world.set(currency="usd", usd_rate=None, usd_rate_as_of=None)
    assert_is_error(relay.checkout(number, quote_id=quote), 409, "price_changed")


def test_a_quote_that_is_not_ours_changes_nothing_and_is_not_kept(relay: Relay) -> None:
    number = relay.world.add_image(2000, 1000)
    for quote in ("nonsense", "e30.00", "é", "a" * 1000, "' OR 1=1 --"):
        answer = relay.checkout(number, quote_id=quote).json()
        assert answer["amount"] == 0.96
        assert relay.world.order(answer["job_id"]).quote_id is None


def test_a_quote_for_another_picture_does_not_count(relay: Relay) -> None:
    small, large = relay.world.add_image(100, 100, title="s"), relay.world.add_image(2000, 1000)
    quote = relay.get(f"{PRICES}?attachment_id={small}").json()["quote_id"]
    assert relay.checkout(large, quote_id=quote).json()["amount"] == 0.96


def test_missing_terms_are_refused_where_the_shop_requires_them(relay: Relay) -> None:
    relay.world.set(terms_required=True, terms_version="2026-01")
    number = relay.world.add_image()
    refused: list[Any] = [None, False, "", "0", "no", "off", [], {}, 0, 2]
    for value in refused:
        answer = relay.checkout(number, terms_accepted=value)
        assert_is_error(answer, 422, "terms_required")
    accepted: list[Any] = [True, "true", "1", "on", 1]
    for value in accepted:
        answer = relay.checkout(number, terms_accepted=value, terms_version="2026-01")
        assert answer.status_code == 200
        assert relay.world.order(answer.json()["job_id"]).terms_version == "2026-01"


def test_terms_that_have_changed_since_the_page_was_made_must_be_accepted_anew(
    relay: Relay,
) -> None:
    relay.world.set(terms_required=True, terms_version="2026-02")
    answer = relay.checkout(terms_accepted=True, terms_version="2026-01")
    assert_is_error(answer, 422, "terms_required")


def test_a_picture_or_size_that_cannot_be_sold_is_refused(relay: Relay) -> None:
    relay.world.set(upscaler="upsampler")
    number = relay.world.add_image(1500, 1000)
    assert_is_error(relay.checkout(number, resolution="8x"), 422, "not_for_sale")
    with relay.world.database.write() as session:
        image = images.get(session, number)
        assert image is not None
        image.for_sale = False
    assert_is_error(relay.checkout(number), 422, "not_for_sale")
    assert_is_error(relay.checkout(999), 404, "not_found")
    assert relay.rows(Order) == []


def test_an_address_that_is_not_exactly_one_is_refused(relay: Relay) -> None:
    number = relay.world.add_image()
    for email in ("jo", "a@b, c@d", "jo@x.example\r\nBcc: all@x", "<jo@x.y>", "j" * 300 + "@x.y"):
        assert_is_error(relay.checkout(number, email=email), 400, "invalid_request")
    assert relay.rows(Order) == []


def test_an_empty_address_is_left_to_the_checkout_page(relay: Relay) -> None:
    for email in ("", None, "  "):
        answer = relay.checkout(email=email)
        assert answer.status_code == 200
        assert relay.world.order(answer.json()["job_id"]).email is None


def success_url(relay: Relay, job_id: str) -> str:
    """Where Stripe was told to send the customer."""
    session_id = relay.world.order(job_id).stripe_session_id
    assert session_id is not None
    return relay.world.payments.requests[session_id].success_url


def test_the_customer_returns_to_the_page_he_came_from(relay: Relay) -> None:
    relay.world.set(site_origins=["https://studio.example"])
    page = "https://studio.example/gallery/harbour?lang=de#top"
    job_id = relay.checkout(page_url=page).json()["job_id"]
    url = success_url(relay, job_id)
    assert url == (
        "https://studio.example/gallery/harbour?lang=de"
        f"&smi_payment=success&job_id={job_id}&session_id={{CHECKOUT_SESSION_ID}}"
    )


def test_the_referer_tells_the_page_where_the_form_does_not(relay: Relay) -> None:
    relay.world.set(site_origins=["https://studio.example"])
    number = relay.world.add_image()
    answer = relay.post(
        CHECKOUT,
        json={"attachment_id": number, "resolution": "4x"},
        headers={"Referer": "https://studio.example/a"},
    )
    assert success_url(relay, answer.json()["job_id"]).startswith("https://studio.example/a?")


def test_any_other_page_leads_back_to_our_own_order_page(relay: Relay) -> None:
    relay.world.set(site_origins=["https://studio.example"])
    number = relay.world.add_image()
    for page in (
        "https://evil.example/", "https://studio.example.evil.example/x", "javascript:alert(1)",
        "https://studio.example@evil.example/x", "//evil.example/x", "https://studio.example:444/x",
        "https://evil.example\\@studio.example/x", "http://studio.example/x", "/x", "https://[",
    ):  # fmt: skip
        job_id = relay.checkout(number, page_url=page).json()["job_id"]
        assert success_url(relay, job_id).startswith(f"https://shop.example/order/{job_id}?")


def test_a_second_purchase_from_the_page_of_the_first_returns_with_its_own_id_alone(
    relay: Relay,
) -> None:
    relay.world.set(site_origins=["https://studio.example"])
    first = "https://studio.example/a?x=1&smi_payment=success&session_id=cs_1&job_id=old"
    job_id = relay.checkout(page_url=first).json()["job_id"]
    query = parse_qs(urlsplit(success_url(relay, job_id)).query)
    assert query == {
        "x": ["1"],
        "smi_payment": ["success"],
        "job_id": [job_id],
        "session_id": ["{CHECKOUT_SESSION_ID}"],
    }
    assert "old" not in str(relay.world.order(job_id).page_url)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (TransientError("Stripe secret detail", retry_after=7), 503, "try_later"),
        (ProviderAccountError("sk_test_secret detail"), 503, "try_later"),
        (AmbiguousError("secret detail"), 503, "try_later"),
        (RejectedError("secret detail"), 502, "payment_refused"),
    ],
)
def test_a_payment_provider_that_fails_is_told_without_its_words(
    relay: Relay, error: Exception, status: int, code: str
) -> None:
    relay.world.payments.fail_next(error, method="create_session")
    answer = relay.checkout()
    assert_is_error(answer, status, code)
    assert "secret" not in answer.text
    if isinstance(error, TransientError):
        assert answer.headers["Retry-After"] == "7"


def test_the_status_of_a_job_has_exactly_the_fields_of_the_contract(relay: Relay) -> None:
    job_id = relay.checkout().json()["job_id"]
    body = relay.get(f"/smi/v1/job-status/{job_id}").json()
    assert body == {
        "success": True,
        "data": {
            "job_id": job_id,
            "status": "awaiting_payment",
            "payment_status": "pending",
            "resolution": "4x",
            "created_at": "2026-01-15T12:00:00Z",
            "progress": None,
        },
    }


def test_the_status_follows_the_job_and_names_the_download_only_while_it_is_live(
    relay: Relay,
) -> None:
    world = relay.world
    job_id = world.buy()
    path = f"/smi/v1/job-status/{job_id}"
    world.run_due()
    assert relay.get(path).json()["data"]["status"] == "processing"
    world.finish_upscale(job_id)
    world.clock.advance(31)
    world.run_due()
    data = relay.get(path).json()["data"]
    assert (data["status"], data["payment_status"], data["progress"]) == ("completed", "paid", 1.0)
    url = data["download_url"]
    assert url.startswith("https://shop.example/smi/v1/download/")
    assert len(url.rpartition("/")[2]) == 64
    world.clock.advance(25 * 3600)
    assert "download_url" not in relay.get(path).json()["data"]


def test_an_unknown_job_is_not_found_in_the_contracts_words(any_relay: Relay) -> None:
    for job_id in (
        "x", "1", "0", "%00", "é", "%F0%9F%92%A9", "..%2f", "a" * 65, "a" * 5000, "' OR 1=1", "%ff",
    ):  # fmt: skip
        answer = any_relay.get(f"/smi/v1/job-status/{job_id}")
        assert_is_error(answer, 404, "job_not_found")
        assert answer.json()["message"] == "Job not found"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_orders_cannot_be_found_by_their_numbers(relay: Relay) -> None:
    order = relay.world.order(relay.checkout().json()["job_id"])
    for guess in (order.number, str(order.attachment_id), order.stripe_session_id):
        assert relay.get(f"/smi/v1/job-status/{guess}").status_code == 404


def test_moments_are_told_in_utc_whatever_their_fraction(relay: Relay) -> None:
    relay.world.clock.set(datetime(2026, 1, 15, 12, 0, 0, 123456, tzinfo=UTC))
    job_id = relay.checkout().json()["job_id"]
    text = relay.get(f"/smi/v1/job-status/{job_id}").json()["data"]["created_at"]
    assert datetime.fromisoformat(text).utcoffset() == timedelta(0)
    assert text.endswith("Z")

"""`calculate-all-prices`, `images` and `track-button-click` over real HTTP."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from smi_desktop.store import images
from smi_desktop.store.models import Click
from tests.relay.conftest import Relay

PRICES = "/smi/v1/calculate-all-prices"


def assert_is_error(answer: Any, status: int, code: str) -> None:
    """The contract's shape of an error, whole."""
    body = answer.json()
    assert answer.status_code == status, body
    assert set(body) == {"code", "message", "data"}
    assert body["code"] == code
    assert body["data"] == {"status": status}
    assert isinstance(body["message"], str)
    assert body["message"]
    assert answer.headers["Content-Type"] == "application/json"


def test_prices_have_exactly_the_fields_of_the_contract(relay: Relay) -> None:
    number = relay.world.add_image(2000, 1000)
    body = relay.post(PRICES, json={"attachment_id": number, "post_id": 7}).json()
    assert set(body) == {
        "success", "pricing", "unavailable", "quote_id", "expires_at", "image_info",
    }  # fmt: skip
    assert body["success"] is True
    assert body["image_info"] == {"width": 2000, "height": 1000}
    assert body["unavailable"] == {}
    assert body["pricing"]["4x"] == {
        "customer_price": 0.96,
        "credits": 8,
        "cost_usd": 0.32,
        "markup_percentage": 200,
        "output_megapixels": 32.0,
        "output_dimensions": {"width": 8000, "height": 4000},
        "currency": "usd",
        "label": "Standard quality (4x)",
        "description": "Web and print ready",
    }
    assert body["pricing"]["8x"]["label"] == "Premium quality (8x)"
    assert body["pricing"]["8x"]["description"] == "Professional print quality"


@pytest.mark.parametrize(
    ("width", "height", "size", "megapixels", "credits", "cost", "price"),
    [
        (2000, 1000, "4x", 32.0, 8, 0.32, 0.96),
        (1000, 750, "8x", 48.0, 12, 0.48, 1.44),
        (100, 100, "4x", 0.16, 1, 0.04, 0.50),
    ],
)
def test_the_contracts_check_figures_are_quoted(
    relay: Relay, width: int, height: int, size: str, megapixels: float, credits: int, cost: float, price: float
) -> None:  # fmt: skip
    number = relay.world.add_image(width, height)
    found = relay.get(f"{PRICES}?attachment_id={number}").json()["pricing"][size]
    assert found["output_megapixels"] == megapixels
    assert found["credits"] == credits
    assert found["cost_usd"] == cost
    assert found["customer_price"] == price


def test_json_form_and_query_give_the_same_prices(relay: Relay) -> None:
    number = relay.world.add_image()
    fields = {"attachment_id": number, "post_id": 7}
    answers = [
        relay.post(PRICES, json=fields),
        relay.post(PRICES, data={key: str(value) for key, value in fields.items()}),
        relay.get(PRICES, params=fields),
        relay.post(f"{PRICES}?attachment_id={number}&post_id=7"),
    ]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert len({answer.text for answer in answers}) == 1


def test_unknown_fields_and_a_nonce_change_nothing(relay: Relay) -> None:
    number = relay.world.add_image()
    plain = relay.post(PRICES, json={"attachment_id": number}).text
    extra = {"attachment_id": number, "price": 0.01, "width": 1, "action": "smi", "_wpnonce": "x"}
    assert relay.post(PRICES, json=extra, headers={"X-WP-Nonce": "stale"}).text == plain
    assert relay.post(PRICES, data=extra, headers={"X-WP-Nonce": "stale"}).text == plain


def test_the_quote_ends_at_a_moment_in_utc(relay: Relay) -> None:
    number = relay.world.add_image()
    text = relay.get(f"{PRICES}?attachment_id={number}").json()["expires_at"]
    assert text.endswith("Z")
    moment = datetime.fromisoformat(text)
    assert moment.utcoffset() == timedelta(0)
    assert moment == relay.world.clock.now() + timedelta(minutes=15)


def test_a_size_that_cannot_be_made_is_left_out_and_explained(relay: Relay) -> None:
    relay.world.set(upscaler="upsampler")
    number = relay.world.add_image(1500, 1000)
    body = relay.get(f"{PRICES}?attachment_id={number}").json()
    assert set(body["pricing"]) == {"4x"}
    assert set(body["unavailable"]) == {"8x"}
    assert "96.0 megapixels" in body["unavailable"]["8x"]


def test_a_currency_without_decimals_is_quoted_in_whole_units(relay: Relay) -> None:
    relay.world.set(currency="jpy", usd_rate="150", usd_rate_as_of="2026-01-01")
    number = relay.world.add_image(2000, 1000)
    found = relay.get(f"{PRICES}?attachment_id={number}").json()["pricing"]["4x"]
    assert found["currency"] == "jpy"
    assert found["customer_price"] == 144


def test_a_picture_that_is_not_in_the_shop_is_not_found(relay: Relay) -> None:
    assert_is_error(relay.get(f"{PRICES}?attachment_id=999"), 404, "not_found")


def test_a_picture_taken_out_of_sale_has_no_price(relay: Relay) -> None:
    number = relay.world.add_image()
    with relay.world.database.write() as session:
        image = images.get(session, number)
        assert image is not None
        image.for_sale = False
    assert_is_error(relay.get(f"{PRICES}?attachment_id={number}"), 422, "not_for_sale")


def test_images_tells_which_of_a_page_are_for_sale(relay: Relay) -> None:
    first = relay.world.add_image(2000, 1000, title="One")
    body = {"attachment_ids": [first, 999], "post_id": 7}
    answer = relay.post("/smi/v1/images", json=body).json()
    assert answer["success"] is True
    assert answer["images"]["999"]["for_sale"] is False
    assert answer["images"][str(first)]["for_sale"] is True
    assert answer["images"][str(first)]["sizes"] == ["4x", "8x"]
    assert (answer["images"][str(first)]["width"], answer["images"][str(first)]["height"]) == (2000, 1000)  # fmt: skip


@pytest.mark.parametrize(
    "form",
    [
        [("attachment_ids", "1,999")],
        [("attachment_ids[]", "1"), ("attachment_ids[]", "999")],
        [("attachment_ids", "1"), ("attachment_ids", "999")],
    ],
)
def test_a_form_may_list_pictures_in_the_usual_ways(
    relay: Relay, form: list[tuple[str, str]]
) -> None:
    assert relay.world.add_image() == 1
    answer = relay.post("/smi/v1/images", data=form).json()
    assert set(answer["images"]) == {"1", "999"}


def test_a_form_may_list_two_hundred_pictures(relay: Relay) -> None:
    form = [("attachment_ids[]", str(number)) for number in range(1, 201)]
    assert len(relay.post("/smi/v1/images", data=form).json()["images"]) == 200
    form.append(("attachment_ids[]", "201"))
    assert_is_error(relay.post("/smi/v1/images", data=form), 400, "invalid_request")


def test_a_click_is_counted_and_thanked(relay: Relay) -> None:
    answer = relay.post(
        "/smi/v1/track-button-click",
        data={"attachment_id": "3", "post_id": "7"},
        headers={"User-Agent": "Mozilla/5.0"},
    )
    assert answer.status_code == 200
    assert answer.json()["success"] is True
    assert isinstance(answer.json()["message"], str)
    (click,) = relay.rows(Click)
    assert (click.attachment_id, click.post_id, click.bot) == (3, 7, False)


@pytest.mark.parametrize("body", [b"", b"{", b"attachment_id=-1", b"attachment_id=a", b"[]"])
def test_a_click_that_cannot_be_counted_disturbs_nobody(relay: Relay, body: bytes) -> None:
    answer = relay.post("/smi/v1/track-button-click", data=body)
    assert answer.status_code == 200
    assert answer.json()["success"] is True
    assert relay.rows(Click) == []

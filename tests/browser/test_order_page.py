"""The order page in a real browser, under the real policy."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.browser.conftest import ShopFront
from tests.browser.page_values import JOB_ID, STATES, order_values

sync_api = pytest.importorskip("playwright.sync_api")
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 800}


class Visitor:
    """A browser tab that remembers everything that went wrong in it."""

    def __init__(self, chromium: Any, **options: Any) -> None:
        self.context = chromium.new_context(viewport=PHONE, **options)
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("requestfailed", self._on_request_failed)

    def _on_request_failed(self, request: Any) -> None:
        # A page that is left while its icon loads is no problem.
        if request.failure != "net::ERR_ABORTED":
            self.problems.append(f"{request.failure} {request.url}")

    def see(self, text: str) -> None:
        """Wait until the words are on the page."""
        sync_api.expect(self.page.locator("body")).to_contain_text(text, timeout=8_000)


@pytest.fixture
def visitor(chromium: Any) -> Iterator[Visitor]:
    """Return a tab on a phone."""
    tab = Visitor(chromium)
    yield tab
    tab.context.close()


def test_the_page_follows_the_order_until_the_download_without_a_complaint(
    shop_front: ShopFront, visitor: Visitor
) -> None:
    shop_front.values = order_values("pending")
    visitor.page.goto(shop_front.order_url)
    visitor.see("Your picture is next in line")
    shop_front.values = order_values("processing-unknown")
    visitor.see("We are enlarging your picture")
    assert visitor.page.locator("progress").get_attribute("value") is None
    shop_front.values = order_values("processing", progress=0.62)
    visitor.see("Processing, 62%")
    assert visitor.page.locator("progress").get_attribute("value") == "62"
    shop_front.values = order_values("completed", expires_at=_in(hours=23, minutes=30))
    visitor.see("Your picture is ready")
    visitor.see("23 h 29 min left")
    button = visitor.page.get_by_role("link", name="Download PNG, 68.2 MB")
    assert button.get_attribute("href") == shop_front.values["download_url"]
    assert visitor.problems == []


@pytest.mark.parametrize("state", STATES)
def test_every_state_fits_a_phone_and_a_desk_and_is_easy_to_touch(
    shop_front: ShopFront, visitor: Visitor, state: str
) -> None:
    long = {"title": "W" * 200, "studio_name": "A studio with quite a long name " * 2}
    shop_front.values = order_values(state, **long)
    visitor.page.goto(shop_front.order_url)
    for size in (PHONE, DESKTOP):
        visitor.page.set_viewport_size(size)
        width = visitor.page.evaluate("document.documentElement.scrollWidth")
        heights = visitor.page.evaluate(
            "[...document.querySelectorAll('a,summary,button')].filter(part => part.offsetParent)"
            ".map(part => part.getBoundingClientRect().height)"
        )
        assert width <= size["width"]
        assert min(heights) >= 44
    assert visitor.problems == []


def test_a_script_in_a_title_does_not_run(shop_front: ShopFront, visitor: Visitor) -> None:
    attack = "<script>window.ran = 1</script><img src=x onerror='window.ran = 1'>"
    fields = ("title", "studio_name", "number", "email_masked", "contact_email")
    shop_front.values = order_values("processing", **dict.fromkeys(fields, attack))
    visitor.page.goto(f"{shop_front.order_url}?q=<script>window.ran=1</script>")
    visitor.see(attack)
    assert visitor.page.evaluate("window.ran") is None
    assert visitor.problems == []


def test_the_address_bar_no_longer_shows_the_order_and_a_reload_leads_back(
    shop_front: ShopFront, visitor: Visitor
) -> None:
    shop_front.values = order_values("completed")
    visitor.page.goto(shop_front.order_url)
    visitor.page.wait_for_url(f"{shop_front.url}/order")
    assert JOB_ID not in visitor.page.url
    visitor.page.reload()
    visitor.see("Your picture is ready")


def test_an_outage_is_told_and_forgotten_by_itself(shop_front: ShopFront, visitor: Visitor) -> None:
    shop_front.values = order_values("processing", progress=0.1)
    visitor.page.goto(shop_front.order_url)
    note = visitor.page.get_by_text("No connection.")
    sync_api.expect(note).to_be_hidden()
    visitor.context.set_offline(True)
    sync_api.expect(note).to_be_visible()
    shop_front.values = order_values("processing", progress=0.5)
    visitor.context.set_offline(False)
    visitor.see("Processing, 50%")
    sync_api.expect(note).to_be_hidden()


def test_a_server_that_stumbles_is_asked_again(shop_front: ShopFront, visitor: Visitor) -> None:
    shop_front.values = order_values("processing", progress=0.1)
    shop_front.away = True
    with visitor.page.expect_response(lambda answer: answer.status == 503):
        visitor.page.goto(shop_front.order_url)
    shop_front.away = False
    shop_front.values = order_values("processing", progress=0.4)
    visitor.see("Processing, 40%")


def test_who_just_paid_is_not_offered_to_pay_again(shop_front: ShopFront, visitor: Visitor) -> None:
    shop_front.values = order_values("awaiting")
    visitor.page.goto(f"{shop_front.order_url}?smi_payment=success&session_id=cs_1")
    visitor.see("Please do not pay again.")
    sync_api.expect(visitor.page.get_by_role("link", name="Go to payment")).to_be_hidden()
    visitor.page.goto(f"{shop_front.order_url}?smi_payment=cancelled")
    sync_api.expect(visitor.page.get_by_text("You left the payment")).to_be_visible()
    sync_api.expect(visitor.page.get_by_role("link", name="Go to payment")).to_be_visible()
    assert visitor.problems == []


def test_a_finished_order_is_left_in_peace_even_by_a_clock_that_runs_ahead(
    shop_front: ShopFront, visitor: Visitor
) -> None:
    shop_front.values = order_values("completed", expires_at=_in(hours=-1))
    visitor.page.clock.install()
    visitor.page.goto(shop_front.order_url)
    visitor.page.clock.fast_forward("10:00")
    visitor.see("Link works until")
    assert (shop_front.questions, shop_front.page_views) == (0, 1)
    assert visitor.problems == []


def test_the_page_notices_that_its_link_has_ended(shop_front: ShopFront, visitor: Visitor) -> None:
    shop_front.values = order_values("completed", expires_at=_in(minutes=2))
    visitor.page.clock.install()
    visitor.page.goto(shop_front.order_url)
    visitor.see("1 min left")
    shop_front.values = order_values("expired")
    visitor.page.clock.fast_forward("03:00")
    visitor.see("This download link has expired")


def test_without_scripts_the_page_still_says_everything(
    shop_front: ShopFront, chromium: Any
) -> None:
    shop_front.values = order_values("completed")
    visitor = Visitor(chromium, java_script_enabled=False)
    visitor.page.goto(shop_front.order_url)
    visitor.see("Your picture is ready")
    visitor.see("Tue, Nov 24, 6:34 PM EST")
    visitor.context.close()
    assert visitor.problems == []


@pytest.mark.parametrize("scripts", [True, False])
def test_an_ended_link_is_made_good_by_one_press(
    shop_front: ShopFront, chromium: Any, scripts: bool
) -> None:
    shop_front.values = order_values("expired-renewable")
    visitor = Visitor(chromium, java_script_enabled=scripts)
    visitor.page.goto(shop_front.order_url)
    visitor.page.get_by_role("button", name="Get a fresh link").click()
    visitor.see("Your picture is ready")
    visitor.context.close()
    assert shop_front.renewals == [f"/order/{JOB_ID}/renew"]
    assert visitor.problems == []


def test_a_button_for_a_fresh_link_works_from_the_keyboard(
    shop_front: ShopFront, visitor: Visitor
) -> None:
    shop_front.values = order_values("expired-renewable")
    visitor.page.goto(shop_front.order_url)
    visitor.page.get_by_role("button", name="Get a fresh link").press("Enter")
    visitor.see("Your picture is ready")
    assert visitor.problems == []


def _in(**span: float) -> datetime:
    return datetime.now(UTC) + timedelta(**span)

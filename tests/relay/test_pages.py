"""The order page and its companions over real HTTP."""

from __future__ import annotations

import logging

import pytest

from smi_desktop.services.work import TaskKind
from smi_desktop.store.models import Task
from tests.relay.conftest import Relay, StartRelay
from tests.relay.test_downloads import change, locked
from tests.relay.test_prices import assert_is_error
from tests.world import World


def settle_tasks(relay: Relay) -> list[Task]:
    """The questions to the payment provider that were asked for."""
    return [task for task in relay.rows(Task) if task.kind == TaskKind.SETTLE_ORDER]


def test_the_order_page_shows_each_state(relay: Relay) -> None:
    world = relay.world
    order_id = world.start_checkout().order_id
    seen: dict[str, str] = {}

    def look() -> str:
        answer = relay.get(f"/order/{order_id}")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        order = world.order(order_id)
        assert order.number in answer.text
        assert order.title in answer.text
        seen[order.status] = answer.text
        return answer.text

    assert "https://checkout.example/" in look()
    world.deliver("checkout.session.completed", world.pay(order_id))
    world.run_due([TaskKind.APPLY_EVENT])
    look()
    world.run_due()
    look()
    world.finish_upscale(order_id)
    world.clock.advance(31)
    world.run_due()
    assert "/smi/v1/download/" in look()
    world.clock.advance(25 * 3600)
    assert "/smi/v1/download/" not in look()
    for status, payment in (("failed", "paid"), ("refunded", "refunded"), ("abandoned", "failed")):
        change(world, order_id, status=status, payment_status=payment)
        look()
    assert len(set(seen.values())) == 7, "each state has words of its own"


def test_a_page_lets_nothing_in_and_tells_nobody(relay: Relay) -> None:
    order_id = relay.world.start_checkout().order_id
    for path in (f"/order/{order_id}", "/order/unknown", "/order"):
        headers = relay.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy, "nothing from anywhere else"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["X-Robots-Tag"] == "noindex"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Referrer-Policy"] == "no-referrer"


def test_an_unknown_order_gets_a_page_that_says_so(any_relay: Relay) -> None:
    for path in ("/order", "/order/unknown", "/order/%00", f"/order/{'x' * 3000}", "/order/%F0%9F"):
        answer = any_relay.get(path)
        assert answer.status_code == 404
        assert answer.headers["Content-Type"].startswith("text/html")
        assert "not known" in answer.text


def test_what_customers_and_owners_write_is_text_on_the_page(relay: Relay) -> None:
    nasty = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{7*7}}"
    relay.world.set(studio_name=nasty[:80])
    order_id = relay.world.start_checkout().order_id
    change(relay.world, order_id, title=nasty)
    text = relay.get(f"/order/{order_id}?smi_payment={nasty}&x={nasty}").text
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert "{{7*7}}" in text
    assert "&lt;script&gt;" in text


def test_the_page_shows_enough_of_an_address_for_its_owner_alone(relay: Relay) -> None:
    order_id = relay.world.buy(email="josephine@example.com")
    relay.world.run_due()
    text = relay.get(f"/order/{order_id}").text
    assert "josephine" not in text
    assert "j•••••@example.com" in text


def test_coming_back_from_an_unseen_payment_asks_the_provider_once_a_minute(relay: Relay) -> None:
    world = relay.world
    order_id = world.start_checkout().order_id
    path = f"/order/{order_id}?smi_payment=success&session_id=cs_test_1"
    relay.get(f"/order/{order_id}")
    relay.get(f"/order/{order_id}?smi_payment=cancelled")
    assert settle_tasks(relay) == []
    for _ in range(5):
        assert relay.get(path).status_code == 200
    assert len(settle_tasks(relay)) == 1
    world.clock.advance(60)
    for _ in range(5):
        relay.get(path)
    assert len(settle_tasks(relay)) == 2
    world.pay(order_id)
    world.run_due()
    assert world.order(order_id).payment_status == "paid"
    relay.get(path)
    assert len(settle_tasks(relay)) == 2, "a paid order is not asked about"


def test_the_page_is_shown_though_the_question_cannot_be_stored(
    world: World, start_relay: StartRelay
) -> None:
    order_id = world.start_checkout().order_id
    relay = start_relay(world, shop=locked(world))
    answer = relay.get(f"/order/{order_id}?smi_payment=success")
    assert answer.status_code == 200
    assert world.order(order_id).number in answer.text


def test_the_picture_that_was_bought_is_shown(relay: Relay) -> None:
    order_id = relay.world.start_checkout().order_id
    answer = relay.get(f"/order/{order_id}/picture.jpg")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.content
    assert "private" in answer.headers["Cache-Control"]
    assert_is_error(relay.get("/order/unknown/picture.jpg"), 404, "not_found")


def test_a_picture_that_is_gone_is_not_found(relay: Relay) -> None:
    order_id = relay.world.start_checkout().order_id
    for file in list(relay.world.files.files("previews/")):
        relay.world.files.delete(file.key)
    assert_is_error(relay.get(f"/order/{order_id}/picture.jpg"), 404, "not_found")
    assert "picture.jpg" not in relay.get(f"/order/{order_id}").text


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("customer.css", "text/css; charset=utf-8"),
        ("order.js", "text/javascript; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
        ("fonts/Inter-Regular.woff2", "font/woff2"),
    ],
)
def test_an_asset_has_its_type_and_is_kept_for_a_year(relay: Relay, name: str, kind: str) -> None:
    answer = relay.get(f"/assets/{name}?v=1")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == kind
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.content


def test_everything_that_a_page_names_is_there(relay: Relay) -> None:
    order_id = relay.world.start_checkout().order_id
    text = relay.get(f"/order/{order_id}").text
    named = {piece.partition('"')[0] for piece in text.split('"/assets/')[1:]}
    assert named
    for name in named:
        assert relay.get(f"/assets/{name}").status_code == 200, name


def test_no_path_leads_out_of_the_assets(relay: Relay) -> None:
    for path in (
        "../pages/order.html", "..%2fpages%2forder.html", "%2e%2e/pages/order.html", "..\\pages\\order.html",
        "/etc/passwd", "%2fetc%2fpasswd", "fonts/../../pages/base.html", "....//pages/order.html", "", ".", "fonts",
        "fonts/", "customer.css/", "customer.css%00.png", "C:%5cwindows", "%c0%ae%c0%ae/x", "a" * 5000, "CUSTOMER.CSS",
    ):  # fmt: skip
        raw = relay.exchange(
            f"GET /assets/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        )
        assert raw.startswith(b"HTTP/1.1 404"), path
        assert b"root:" not in raw
        assert b"{%" not in raw


def test_liveness_tells_nothing_but_itself(relay: Relay) -> None:
    answer = relay.get("/healthz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok"}


def test_liveness_says_so_when_the_database_is_away(
    relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    relay.get("/healthz")
    relay.world.database.close()
    for path in relay.world.folder.glob("shop.db*"):
        path.rename(path.with_name(f"away-{path.name}"))
    (relay.world.folder / "shop.db").mkdir()
    with caplog.at_level(logging.INFO):
        answer = relay.get("/healthz")
    assert_is_error(answer, 503, "try_later")
    assert str(relay.world.folder) not in answer.text


def test_the_source_is_handed_to_the_upscaler_alone_and_only_while_it_is_needed(
    any_relay: Relay,
) -> None:
    world = any_relay.world
    order_id = world.buy()
    world.run_due()
    (request,) = world.upscaler.requests.values()
    path = request.image_url.removeprefix("https://shop.example")
    order = world.order(order_id)
    answer = any_relay.get(path)
    assert answer.status_code == 200
    assert answer.content == world.files.path(order.source_key).read_bytes()
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["Cache-Control"] == "no-store"
    token = path.split("/")[4]
    for wrong in (
        f"/smi/v1/source/{'0' * 64}/{order.number}", f"/smi/v1/source/{token}/SMI-OTHER",
        f"/smi/v1/source/{token[:-1]}/{order.number}", f"/smi/v1/source/x/{order.number}",
        f"/smi/v1/source/%C3%A9/{order.number}", f"/smi/v1/source/{token}/%00", f"/smi/v1/source/{token}/{order_id}",
        f"/smi/v1/source/{world.shop.token('download', order_id, 1)}/{order.number}",
    ):  # fmt: skip
        assert_is_error(any_relay.get(wrong), 404, "not_found")
    world.finish_upscale(order_id)
    world.clock.advance(31)
    world.run_due()
    assert_is_error(any_relay.get(path), 404, "not_found")


def test_the_source_of_an_unpaid_order_is_nobodys(relay: Relay) -> None:
    order = relay.world.order(relay.world.start_checkout().order_id)
    token = relay.world.shop.token("source", order.id)
    assert_is_error(relay.get(f"/smi/v1/source/{token}/{order.number}"), 404, "not_found")

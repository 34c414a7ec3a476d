"""The defects of the product that this one follows, each by its number (P1 to P16), shown not to be here.

P11, P12 and P15 are about HTTP alone and stand in `tests/relay/test_defects_of_the_original.py`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, timedelta
from zoneinfo import ZoneInfo

import pytest

from smi_desktop.adapters.stripe_gateway import session_params
from smi_desktop.domain.errors import NotFoundError, PriceChangedError, TransientError
from smi_desktop.domain.money import Money
from smi_desktop.domain.pricing import Resolution
from smi_desktop.services.prices import quote_prices
from smi_desktop.services.report import choose_period, make_report
from smi_desktop.services.webhooks import receive_upsampler_callback
from tests.world import World


def test_p1_an_event_that_comes_again_buys_no_second_picture(world: World) -> None:
    order_id = world.buy()
    session_id = world.order(order_id).stripe_session_id or ""
    for event_id in ("evt_1", "evt_1", "evt_other"):
        world.deliver("checkout.session.completed", session_id, event_id=event_id)
    world.complete(order_id)
    world.deliver("checkout.session.completed", session_id, event_id="evt_late")
    world.run_due()
    assert len(world.upscaler.jobs) == 1
    assert len(world.mails(order_id, "ready")) == 1


def test_p2_a_session_that_is_completed_and_not_paid_starts_no_work(world: World) -> None:
    order_id = world.start_checkout().order_id
    session_id = world.pay(order_id, payment_status="unpaid")
    world.deliver("checkout.session.completed", session_id)
    world.run_due()
    assert world.order(order_id).status == "awaiting_payment"
    assert not world.upscaler.jobs
    world.payments.settle(session_id)
    world.deliver("checkout.session.async_payment_succeeded", session_id)
    world.run_due()
    assert len(world.upscaler.jobs) == 1


def test_p3_a_refund_is_recorded_and_leaves_the_revenue(world: World) -> None:
    order_id = world.buy()
    world.fail_picture(order_id)
    world.run_due()
    order = world.order(order_id)
    assert (order.status, order.payment_status) == ("refunded", "refunded")
    (revenue,) = make_report(world.shop, choose_period(world.shop)).total.revenue
    assert revenue.net == Money(0, order.currency)


def test_p4_a_picture_that_cannot_be_stored_is_not_called_completed(world: World) -> None:
    order_id = world.buy()
    world.run_due()
    world.finish_upscale(order_id)
    world.files.fail_next(*[TransientError("The disk is full.")] * 2, method="put")
    world.clock.advance(31)
    world.run_due()
    assert world.order(order_id).status == "processing"
    for _ in range(3):
        world.later(600)
    assert world.order(order_id).status == "completed"


def test_p5_a_refund_has_a_key_and_its_mail_tells_its_own_state(world: World) -> None:
    world.payments.next_refund_status = "pending"
    order_id = world.buy()
    world.fail_picture(order_id)
    world.run_due()
    (refund,) = world.payments.refunds.values()
    assert refund.metadata["smi_refund"] == f"{order_id}:failure"
    (mail,) = world.mails(order_id, "failed")
    assert "on its way" in (mail.text or "")
    assert "business days" not in (mail.text or "")


def test_p6_nobody_but_the_upscaler_can_finish_an_order(world: World) -> None:
    order_id = world.buy()
    world.run_due()
    job_id = next(iter(world.upscaler.jobs))
    forged = f'{{"id": "{job_id}", "status": "SUCCESS", "imageUrl": "https://evil.example/x"}}'
    with pytest.raises(NotFoundError):
        receive_upsampler_callback(world.shop, "0" * 64, forged.encode())
    # The right secret with the same lie only makes us ask the upscaler, who says that it is not done.
    secret = world.shop.token("callback", order_id, 1)
    receive_upsampler_callback(world.shop, secret, forged.encode())
    world.run_due()
    assert world.order(order_id).status == "processing"


def test_p7_a_call_that_never_comes_is_made_up_for_by_asking(world: World) -> None:
    order_id = world.buy()
    assert world.complete(order_id).status == "completed"


def test_p8_the_payment_carries_the_orders_name_as_the_session_does(world: World) -> None:
    order_id = world.start_checkout().order_id
    session_id = world.order(order_id).stripe_session_id or ""
    params = session_params(world.payments.requests[session_id])
    assert params["metadata"]["job_id"] == order_id
    assert params["payment_intent_data"]["metadata"]["job_id"] == order_id


def test_p9_money_is_whole_cents() -> None:
    assert Money.from_major("4.35", "usd").amount_minor == 435


def test_p10_the_link_ends_when_the_mail_says_in_a_named_zone(world: World) -> None:
    world.set(time_zone="America/New_York")
    order = world.complete(world.buy())
    assert order.expires_at is not None
    assert order.expires_at.tzinfo is UTC
    assert order.expires_at - world.clock.now() <= timedelta(hours=24)
    text = world.mails(order.id, "ready")[0].text or ""
    local = order.expires_at.astimezone(ZoneInfo("America/New_York"))
    assert f"{local.hour % 12 or 12}:{local:%M}" in text
    assert str(local.tzname()) in text


def test_p13_the_price_shown_is_the_price_charged_and_what_cannot_be_made_is_not_sold(
    world: World,
) -> None:
    number = world.add_image(1500, 1000)
    shown = quote_prices(world.shop, number)
    world.set(markup_percentage=1000)
    started = world.start_checkout(number, quote_id=shown.quote_id)
    assert started.amount == shown.offers[Resolution.STANDARD].price.price
    world.clock.advance(3600)
    with pytest.raises(PriceChangedError):
        world.start_checkout(number, quote_id=shown.quote_id)
    world.set(upscaler="upsampler")
    assert Resolution.PREMIUM not in quote_prices(world.shop, number).offers


def test_p14_a_payment_that_comes_late_revives_an_abandoned_order(world: World) -> None:
    order_id = world.start_checkout().order_id
    session_id = world.order(order_id).stripe_session_id or ""
    world.deliver("checkout.session.expired", session_id)
    world.clock.advance(2 * 3600)
    world.run_due()
    session = world.payments.sessions[session_id]
    assert world.order(order_id).status == "abandoned"
    world.payments.sessions[session_id] = replace(
        session, status="open", expires_at=world.clock.now() + timedelta(hours=1)
    )
    world.pay(order_id)
    world.deliver("checkout.session.completed", session_id)
    world.run_due()
    assert world.order(order_id).status == "processing"


def test_p16_the_links_hours_begin_when_its_mail_leaves_and_a_mail_that_fails_is_held(
    world: World,
) -> None:
    world.mailer.fail_next(*[TransientError("Away.")] * 3)
    order_id = world.buy()
    world.complete(order_id)
    for _ in range(4):
        world.later(3600)
    order = world.order(order_id)
    mail = world.mails(order_id, "ready")[0]
    assert mail.state == "sent"
    assert mail.sent_at is not None
    assert order.expires_at is not None
    assert order.expires_at - mail.sent_at >= timedelta(hours=23, minutes=59)
    assert mail.to_address == "jo@example.com"

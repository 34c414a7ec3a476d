"""The provider's books in ours: refunds, disputes and fees, whoever made them and however we hear of them."""

from __future__ import annotations

import pytest

from smi_desktop.domain.errors import IllegalTransitionError, NotFoundError
from smi_desktop.domain.money import Money
from smi_desktop.services import remedies
from smi_desktop.services.delivery import find_download
from smi_desktop.store import refunds
from smi_desktop.store.models import Dispute
from tests.world import PICTURE_KINDS, World


def delivered(world: World) -> str:
    order_id = world.buy()
    world.complete(order_id)
    return order_id


def state(world: World, order_id: str) -> tuple[str, str, str | None]:
    order = world.order(order_id)
    return order.status, order.payment_status, order.held_kind


def disputes(world: World, order_id: str) -> list[Dispute]:
    with world.database.read() as session:
        return list(refunds.disputes_of(session, order_id))


def tell(world: World, kind: str, order_id: str) -> None:
    world.tell(kind, order_id)
    world.run_due()


def link_works(world: World, order_id: str) -> bool:
    token = world.shop.token("download", order_id, world.order(order_id).generation)
    try:
        find_download(world.shop, token)
    except NotFoundError:
        return False
    return True


def test_a_part_that_the_dashboard_sends_back_keeps_the_delivery(world: World) -> None:
    order_id = delivered(world)
    world.payments.refund_in_dashboard(world.intent(order_id), Money(20, "usd"))
    tell(world, "charge.refunded", order_id)
    tell(world, "refund.created", order_id)

    assert state(world, order_id) == ("completed", "partially_refunded", None)
    assert world.order(order_id).refunded_minor == 20
    assert [(row.amount_minor, row.state) for row in world.refunds(order_id)] == [(20, "succeeded")]
    assert link_works(world, order_id)
    assert len(world.mails(order_id, "refund")) == 1


def test_a_whole_refund_in_the_dashboard_closes_the_link_and_sends_none_of_ours(
    world: World,
) -> None:
    order_id = delivered(world)
    intent = world.intent(order_id)
    world.payments.refund_in_dashboard(intent, world.payments.payments[intent].amount)
    tell(world, "charge.refunded", order_id)

    assert state(world, order_id) == ("refunded", "refunded", None)
    assert not link_works(world, order_id)
    assert "create_refund" not in world.payments.calls


def test_a_refund_that_fails_after_a_delivery_brings_the_link_back(world: World) -> None:
    order_id = delivered(world)
    remedies.refund(world.shop, order_id)
    world.run_due()
    assert not link_works(world, order_id)
    (refund_id,) = world.payments.refunds
    world.payments.settle_refund(refund_id, "failed", failure_reason="expired_or_canceled_card")
    tell(world, "refund.failed", order_id)

    assert state(world, order_id) == ("completed", "paid", "refund_failed")
    assert link_works(world, order_id)


def test_a_dispute_closes_the_link_and_its_end_in_our_favour_opens_it(world: World) -> None:
    order_id = delivered(world)
    dispute = world.payments.open_dispute(world.intent(order_id))
    tell(world, "charge.dispute.created", order_id)

    assert state(world, order_id) == ("completed", "disputed", "disputed")
    assert not link_works(world, order_id)
    (alert,) = world.alerts()
    assert "2026-01-22" in alert.text
    for act in (remedies.release, remedies.retry, remedies.refund, remedies.resend):
        with pytest.raises(IllegalTransitionError):
            act(world.shop, order_id)

    world.payments.close_dispute(dispute.id, "won")
    tell(world, "charge.dispute.closed", order_id)

    assert state(world, order_id) == ("completed", "paid", None)
    assert link_works(world, order_id)
    assert not world.alerts()
    assert [row.status for row in disputes(world, order_id)] == ["won"]


def test_a_dispute_before_the_picture_stops_it_and_a_won_one_lets_it_go_on(world: World) -> None:
    order_id = world.buy()
    dispute = world.payments.open_dispute(world.intent_of_session(order_id))
    world.run_due()
    assert state(world, order_id) == ("pending", "disputed", "disputed")
    assert not world.upscaler.jobs

    world.payments.close_dispute(dispute.id, "won")
    tell(world, "charge.dispute.closed", order_id)
    world.complete(order_id)

    assert state(world, order_id) == ("completed", "paid", None)
    assert len(world.upscaler.jobs) == 1


def test_a_picture_that_comes_while_its_payment_is_disputed_waits_for_the_end(
    world: World,
) -> None:
    order_id = world.buy()
    world.run_due(PICTURE_KINDS)
    dispute = world.payments.open_dispute(world.intent(order_id))
    tell(world, "charge.dispute.created", order_id)
    world.finish_upscale(order_id)
    world.later(31)
    assert state(world, order_id)[0] == "processing"
    assert not world.mails(order_id, "ready")

    world.payments.close_dispute(dispute.id, "won")
    tell(world, "charge.dispute.closed", order_id)
    world.later(61)
    world.later(601)

    assert state(world, order_id) == ("completed", "paid", None)
    assert len(world.upscaler.jobs) == 1


def test_a_lost_dispute_stays_closed(world: World) -> None:
    order_id = delivered(world)
    dispute = world.payments.open_dispute(world.intent(order_id))
    tell(world, "charge.dispute.created", order_id)
    world.payments.close_dispute(dispute.id, "lost")
    tell(world, "charge.dispute.closed", order_id)

    assert state(world, order_id) == ("completed", "disputed", "disputed")
    assert not link_works(world, order_id)
    assert not world.refunds(order_id)


def test_a_dispute_after_a_whole_refund_asks_nobody_to_do_anything(world: World) -> None:
    order_id = delivered(world)
    remedies.refund(world.shop, order_id)
    world.run_due()
    world.payments.open_dispute(world.intent(order_id))
    tell(world, "charge.dispute.created", order_id)

    assert state(world, order_id) == ("refunded", "disputed", None)
    assert not link_works(world, order_id)


def test_a_refund_and_a_dispute_that_are_seen_at_once_refund_the_order(world: World) -> None:
    order_id = delivered(world)
    intent = world.intent(order_id)
    world.payments.refund_in_dashboard(intent, world.payments.payments[intent].amount)
    world.payments.open_dispute(intent)
    tell(world, "charge.dispute.created", order_id)

    assert state(world, order_id) == ("refunded", "disputed", None)
    assert world.order(order_id).refunded_minor == world.order(order_id).amount_minor


def test_a_fee_that_is_known_later_is_written_down_then(world: World) -> None:
    world.payments.fees_known = False
    order_id = delivered(world)
    assert world.order(order_id).fee_minor is None

    world.payments.tell_fee(world.intent(order_id))
    tell(world, "refund.updated", order_id)

    order = world.order(order_id)
    assert order.fee_currency == "usd"
    assert order.fee_minor == (order.amount_minor * 29 + 500) // 1000 + 30


def test_a_warning_of_fraud_is_told_once_and_changes_nothing(world: World) -> None:
    order_id = delivered(world)
    for _ in range(3):
        tell(world, "radar.early_fraud_warning.created", order_id)

    assert state(world, order_id) == ("completed", "paid", None)
    (alert,) = world.alerts()
    assert "fraud" in alert.text


def test_an_event_about_a_payment_that_nobody_knows_is_set_aside_with_an_alert(
    world: World,
) -> None:
    order_id = delivered(world)
    world.tell_of_payment("charge.refunded", "pi_of_another_shop")
    for _ in range(6):
        world.later(1000)

    (alert,) = world.alerts()
    assert alert.key.startswith("unknown:")
    assert state(world, order_id) == ("completed", "paid", None)

"""Money that goes back: once, whatever is lost on the way, and never beside a delivered picture."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smi_desktop.domain.errors import (
    IllegalTransitionError,
    InvalidInputError,
    RejectedError,
    TransientError,
)
from smi_desktop.domain.money import Money
from smi_desktop.services import remedies
from smi_desktop.services.ledger import REFUND_KEY
from smi_desktop.services.work import TaskKind
from smi_desktop.store import timeline
from tests.world import PICTURE_KINDS, World

DAY = 24 * 3600


def failed(world: World) -> str:
    """Return a paid order whose picture could not be made; nothing has been sent back yet."""
    order_id = world.buy()
    assert world.fail_picture(order_id).status == "failed"
    return order_id


def price(world: World, order_id: str) -> Money:
    order = world.order(order_id)
    return Money(order.amount_minor, order.currency)


def state(world: World, order_id: str) -> tuple[str, str, str | None]:
    order = world.order(order_id)
    return order.status, order.payment_status, order.held_kind


def test_a_failed_picture_sends_the_money_back_once_and_says_so_once(world: World) -> None:
    order_id = failed(world)

    assert [row.state for row in world.refunds(order_id)] == ["planned"]
    assert not world.payments.refunds
    world.run_due()
    world.later(DAY)

    (there,) = world.payments.refunds.values()
    order = world.order(order_id)
    assert there.amount == price(world, order_id)
    assert there.metadata == {
        "job_id": order_id,
        "order_number": order.number,
        REFUND_KEY: f"{order_id}:failure",
    }
    assert state(world, order_id) == ("refunded", "refunded", None)
    assert order.refunded_minor == order.amount_minor
    (row,) = world.refunds(order_id)
    assert (row.state, row.stripe_refund_id) == ("succeeded", there.id)
    (mail,) = world.mailer.outbox
    assert [m.kind for m in world.mails(order_id)] == ["failed"]
    assert f"We sent {price(world, order_id)} back" in mail.text
    assert not world.alerts()


def test_the_mail_about_a_failure_waits_for_the_refund_but_not_for_ever(world: World) -> None:
    order_id = failed(world)
    errors = [TransientError("Stripe is away.") for _ in range(100)]
    world.payments.fail_next(*errors, method="list_refunds")

    world.run_due()
    assert not world.mailer.outbox
    world.later(601)

    assert len(world.mailer.outbox) == 1
    assert world.mails(order_id, "failed")[0].state == "sent"
    assert [row.state for row in world.refunds(order_id)] == ["planned"]


def test_a_refund_that_waits_at_the_bank_is_told_as_such_and_then_as_done(world: World) -> None:
    order_id = failed(world)
    world.payments.next_refund_status = "pending"
    world.run_due()

    assert world.order(order_id).status == "refunded"
    assert len(world.alerts()) == 1
    first = world.mailer.outbox[0]
    (refund_id,) = world.payments.refunds
    world.payments.settle_refund(refund_id, "succeeded")
    world.tell("refund.updated", order_id)
    world.run_due()

    assert [mail.kind for mail in world.mails(order_id)] == ["failed", "refund"]
    assert "The bank has not confirmed it yet" in first.text
    assert f"We sent {price(world, order_id)} back" in world.mailer.outbox[1].text
    assert [row.state for row in world.refunds(order_id)] == ["succeeded"]
    assert not world.alerts()
    assert len(world.payments.refunds) == 1


def test_a_refund_that_fails_at_the_bank_reopens_the_order_and_can_be_sent_again(
    world: World,
) -> None:
    order_id = failed(world)
    world.payments.next_refund_status = "pending"
    world.run_due()
    (refund_id,) = world.payments.refunds
    world.payments.settle_refund(refund_id, "failed", failure_reason="expired_or_canceled_card")
    world.tell("refund.failed", order_id)
    world.run_due()

    assert state(world, order_id) == ("failed", "paid", "refund_failed")
    assert any(alert.order_id == order_id for alert in world.alerts())
    assert world.order(order_id).refunded_minor == 0

    world.payments.next_refund_status = "succeeded"
    remedies.refund(world.shop, order_id)
    world.run_due()

    assert state(world, order_id) == ("refunded", "refunded", None)
    assert [row.state for row in world.refunds(order_id)] == ["failed", "succeeded"]
    assert (
        world.payments.refunded_minor(world.intent(order_id)) == price(world, order_id).amount_minor
    )


def test_a_refund_that_fails_after_it_had_succeeded_reopens_the_order(world: World) -> None:
    order_id = failed(world)
    world.run_due()
    (refund_id,) = world.payments.refunds
    world.payments.settle_refund(refund_id, "failed", failure_reason="lost_or_stolen_card")
    world.tell("refund.failed", order_id)
    world.run_due()

    assert state(world, order_id) == ("failed", "paid", "refund_failed")
    assert world.alerts()


def test_a_second_failure_after_a_failed_refund_asks_a_person(world: World) -> None:
    order_id = failed(world)
    world.payments.next_refund_status = "failed"
    world.run_due()
    assert state(world, order_id) == ("failed", "paid", "refund_failed")

    remedies.retry(world.shop, order_id)
    world.fail_picture(order_id)
    world.run_due()

    assert state(world, order_id) == ("failed", "paid", "refund_failed")
    assert len(world.payments.refunds) == 1
    assert any(alert.order_id == order_id for alert in world.alerts())


@pytest.mark.parametrize("lost", [1, 2, 5])
def test_a_lost_answer_to_a_refund_leads_to_no_second_one(world: World, lost: int) -> None:
    order_id = failed(world)
    errors = [TransientError("Read timed out.") for _ in range(lost)]
    world.payments.lose_reply(*errors, method="create_refund")

    world.run_due()
    for _ in range(lost):
        world.later(1000)

    assert len(world.payments.refunds) == 1
    assert state(world, order_id) == ("refunded", "refunded", None)
    assert world.payments.calls.count("create_refund") == 1, "the list had it already"


def test_a_refund_whose_answer_was_lost_is_found_after_its_key_is_forgotten(world: World) -> None:
    order_id = failed(world)
    world.payments.lose_reply(TransientError("Read timed out."), method="create_refund")
    world.run_due()
    world.payments._by_key.clear()  # Stripe forgets a key after 24 hours.
    world.later(3 * DAY)

    assert len(world.payments.refunds) == 1
    assert state(world, order_id) == ("refunded", "refunded", None)


def test_an_error_that_is_stored_under_a_key_does_not_stop_a_refund(world: World) -> None:
    order_id = failed(world)
    keys: list[str] = []
    create = world.payments.create_refund

    class Stored(type(world.payments)):  # type: ignore[misc]
        """A provider that answers with the same 500 for each use of the first key."""

        def create_refund(self, *args: object, idempotency_key: str, **how: object) -> object:
            """Refuse the first key for ever."""
            keys.append(idempotency_key)
            if idempotency_key == keys[0]:
                raise TransientError("Stripe answers 500.")
            return create(*args, idempotency_key=idempotency_key, **how)  # type: ignore[arg-type]

    stored = Stored(world.clock)
    stored.__dict__.update(world.payments.__dict__)
    world.shop = replace(world.shop, payments=lambda _settings: stored)

    world.run_due()
    for _ in range(4):
        world.later(1000)

    assert len(set(keys)) == 2
    assert len(world.payments.refunds) == 1
    assert state(world, order_id) == ("refunded", "refunded", None)


def test_money_that_the_dashboard_has_sent_back_is_not_sent_again(world: World) -> None:
    order_id = failed(world)
    world.payments.refund_in_dashboard(world.intent(order_id), price(world, order_id))
    world.run_due()
    done = world.later(DAY)

    assert "send_refund" not in done
    assert "create_refund" not in world.payments.calls
    assert state(world, order_id) == ("refunded", "refunded", None)
    assert sorted(row.state for row in world.refunds(order_id)) == ["canceled", "succeeded"]
    assert world.order(order_id).refunded_minor == price(world, order_id).amount_minor


def test_what_the_dashboard_has_left_is_what_goes_back(world: World) -> None:
    order_id = failed(world)
    whole = price(world, order_id)
    world.payments.refund_in_dashboard(world.intent(order_id), Money(20, whole.currency))
    world.run_due()
    world.tell("charge.refunded", order_id)
    world.run_due()

    assert world.payments.refunded_minor(world.intent(order_id)) == whole.amount_minor
    assert state(world, order_id) == ("refunded", "refunded", None)
    assert {r.amount_minor for r in world.refunds(order_id)} == {20, whole.amount_minor - 20}


def test_a_disputed_payment_is_not_sent_back_and_a_person_looks(world: World) -> None:
    order_id = failed(world)
    world.payments.open_dispute(world.intent(order_id))
    world.run_due()
    world.later(DAY)

    order = world.order(order_id)
    assert not world.payments.refunds
    assert world.payments.calls.count("create_refund") == 1
    assert (order.status, order.payment_status) == ("failed", "disputed")
    assert order.held_at is not None
    assert order.disputed_at is not None
    assert any(alert.order_id == order_id for alert in world.alerts())


def test_a_refund_that_is_refused_for_good_is_held_and_not_tried_for_ever(world: World) -> None:
    order_id = failed(world)
    world.payments.fail_next(RejectedError("This charge is too old."), method="create_refund")
    world.run_due()
    world.later(DAY)

    assert state(world, order_id) == ("failed", "paid", "refund_failed")
    assert world.payments.calls.count("create_refund") == 1
    remedies.refund(world.shop, order_id)
    world.run_due()
    assert state(world, order_id) == ("refunded", "refunded", None)


def test_the_owner_sends_back_parts_until_nothing_is_left(world: World) -> None:
    order_id = world.buy()
    world.complete(order_id)
    whole = price(world, order_id)
    part = Money(20, whole.currency)

    assert remedies.refund(world.shop, order_id, amount=part) == part
    world.run_due()
    assert state(world, order_id) == ("completed", "partially_refunded", None)
    with pytest.raises(InvalidInputError, match="is left"):
        remedies.refund(world.shop, order_id, amount=whole)
    with pytest.raises(InvalidInputError, match=whole.currency.upper()):
        remedies.refund(world.shop, order_id, amount=Money(1, "chf"))
    for nothing in (0, -1):
        with pytest.raises(InvalidInputError):
            remedies.refund(world.shop, order_id, amount=Money(nothing, whole.currency))
    rest = remedies.refund(world.shop, order_id, reason="As agreed on the telephone")
    world.run_due()

    assert rest == Money(whole.amount_minor - 20, whole.currency)
    assert state(world, order_id) == ("refunded", "refunded", None)
    assert [row.cause for row in world.refunds(order_id)] == ["owner-1", "owner-2"]
    assert len(world.payments.refunds) == 2


def test_a_double_click_on_refund_sends_the_money_back_once(world: World) -> None:
    order_id = world.buy()
    world.complete(order_id)

    remedies.refund(world.shop, order_id)
    with pytest.raises(IllegalTransitionError, match="on its way"):
        remedies.refund(world.shop, order_id)
    world.run_due()
    with pytest.raises(IllegalTransitionError):
        remedies.refund(world.shop, order_id)

    assert len(world.payments.refunds) == 1


def test_a_bad_day_pauses_refunds_with_one_alert_and_then_goes_on(world: World) -> None:
    world.set(refunds_per_hour=2)
    ordered = [failed(world) for _ in range(5)]
    world.run_due()

    assert len(world.payments.refunds) == 2
    paused = [alert for alert in world.alerts() if "Further refunds wait" in alert.text]
    assert len(paused) == 1
    assert len(world.alerts()) == 1
    for _ in range(13):
        world.later(601)

    assert len(world.payments.refunds) == 5
    assert {world.order(order_id).status for order_id in ordered} == {"refunded"}
    assert not world.alerts()


def test_the_owners_own_refunds_do_not_wait_for_the_pause(world: World) -> None:
    world.set(refunds_per_hour=0)
    order_id = world.buy()
    world.complete(order_id)
    remedies.refund(world.shop, order_id)
    world.run_due()

    assert state(world, order_id) == ("refunded", "refunded", None)


def test_an_owner_who_wants_to_be_asked_is_asked(world: World) -> None:
    world.set(refund_on_failure=False)
    order_id = failed(world)
    world.run_due()
    world.later(DAY)

    assert state(world, order_id) == ("failed", "paid", "failed")
    assert not world.refunds(order_id)
    assert len(world.alerts()) == 1
    assert len(world.mails(order_id, "failed")) == 1
    remedies.refund(world.shop, order_id)
    world.run_due()
    assert state(world, order_id) == ("refunded", "refunded", None)
    assert not world.alerts()


def test_a_picture_that_comes_after_its_refund_was_planned_is_not_delivered(world: World) -> None:
    order_id = world.buy()
    world.run_due(PICTURE_KINDS)
    remedies.refund(world.shop, order_id)
    world.finish_upscale(order_id)
    world.clock.advance(31)
    world.run_due(PICTURE_KINDS)

    order = world.order(order_id)
    assert (order.status, order.token_sha256) == ("failed", None)
    with world.database.read() as session:
        kinds = [entry.kind for entry in timeline.of_order(session, order_id)]
    assert "not_delivered" in kinds
    world.run_due()
    assert state(world, order_id) == ("refunded", "refunded", None)
    assert not world.mails(order_id, "ready")


def test_a_delivered_order_is_never_sent_back_by_itself(world: World) -> None:
    order_id = world.buy()
    world.complete(order_id)
    for kind in ("charge.refunded", "refund.updated", "charge.dispute.closed"):
        world.tell(kind, order_id)
    for _ in range(5):
        world.later(DAY)

    assert state(world, order_id) == ("completed", "paid", None)
    assert not world.refunds(order_id)
    assert not world.payments.refunds


# Money that is reserved at first


def reserved(world: World) -> str:
    world.set(capture_when_ready=True)
    return world.buy()


def test_reserved_money_is_taken_when_the_picture_is_ready(world: World) -> None:
    order_id = reserved(world)
    world.run_due(PICTURE_KINDS)
    assert state(world, order_id) == ("processing", "authorized", None)
    assert "capture_payment" not in world.payments.calls
    world.finish_upscale(order_id)
    world.later(31)

    assert state(world, order_id) == ("completed", "paid", None)
    assert world.payments.calls.count("capture_payment") == 1
    assert world.order(order_id).paid_at is not None
    assert len(world.mails(order_id, "ready")) == 1
    with world.database.read() as session:
        texts = [entry.text for entry in timeline.of_order(session, order_id)]
    taken = texts.index("The reserved money was taken.")
    assert taken < next(i for i, text in enumerate(texts) if text.startswith("Ready"))


def test_reserved_money_of_a_failed_picture_is_let_go_and_nothing_is_refunded(
    world: World,
) -> None:
    order_id = reserved(world)
    world.fail_picture(order_id)
    world.run_due()
    world.later(DAY)

    assert state(world, order_id) == ("failed", "canceled", None)
    assert world.payments.payments[world.intent(order_id)].status == "canceled"
    assert not world.refunds(order_id)
    assert not world.payments.refunds
    (mail,) = world.mailer.outbox
    assert [m.kind for m in world.mails(order_id)] == ["failed"]
    assert "You were not charged." in mail.text


def test_a_reservation_that_ends_in_the_middle_fails_the_order_and_a_person_looks(
    world: World,
) -> None:
    order_id = reserved(world)
    world.run_due(PICTURE_KINDS)
    world.payments.expire_authorization(world.intent(order_id))
    world.finish_upscale(order_id)
    world.later(31)
    world.later(DAY)

    assert state(world, order_id) == ("failed", "canceled", "capture_failed")
    assert world.order(order_id).token_sha256 is None
    assert not world.mails(order_id, "ready")
    assert len(world.mails(order_id, "failed")) == 1
    assert len(world.alerts()) == 1


@pytest.mark.parametrize("method", ["capture_payment", "retrieve_payment", "retrieve_session"])
def test_a_lost_answer_to_taking_the_money_takes_it_once(world: World, method: str) -> None:
    order_id = reserved(world)
    world.run_due(PICTURE_KINDS)
    world.finish_upscale(order_id)
    world.payments.lose_reply(TransientError("Read timed out."), method=method)
    world.later(31)
    world.later(1000)

    assert state(world, order_id) == ("completed", "paid", None)
    assert len(world.mails(order_id, "ready")) == 1


def test_a_method_that_cannot_be_reserved_is_paid_at_once(world: World) -> None:
    world.set(capture_when_ready=True)
    started = world.start_checkout()
    session_id = world.pay(started.order_id, payment_status="unpaid")
    world.deliver("checkout.session.completed", session_id)
    world.run_due()
    world.payments.settle(session_id)
    world.deliver("checkout.session.async_payment_succeeded", session_id)
    world.complete(started.order_id)

    assert state(world, started.order_id) == ("completed", "paid", None)
    assert "capture_payment" not in world.payments.calls


def test_the_owner_lets_reserved_money_go(world: World) -> None:
    order_id = reserved(world)
    world.run_due(PICTURE_KINDS)
    with pytest.raises(InvalidInputError, match="whole"):
        remedies.refund(world.shop, order_id, amount=Money(1, "usd"))

    assert remedies.refund(world.shop, order_id) == price(world, order_id)
    world.run_due([*TaskKind])

    assert state(world, order_id) == ("failed", "canceled", None)
    assert not world.payments.refunds

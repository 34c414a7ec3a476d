"""Moving an order, holding it, and saying so."""

from __future__ import annotations

import pytest

from smi_desktop.domain.errors import IllegalTransitionError, NotFoundError
from smi_desktop.domain.orders import OrderStatus, PaymentStatus
from smi_desktop.services.order_states import hold_order, lock_order, move_order, move_payment
from smi_desktop.store import timeline
from tests.world import World


def test_a_move_is_told_with_its_actor_and_its_facts(world: World) -> None:
    order_id = world.start_checkout().order_id
    at = world.clock.advance(60)
    with world.database.write() as session:
        order = lock_order(session, order_id)
        move_payment(session, order, PaymentStatus.PAID, "Paid.", at=at, facts={"by": "test"})
        move_order(session, order, OrderStatus.PENDING, "Paid.", at=at, actor="owner")
    with world.database.read() as session:
        payment, status = timeline.of_order(session, order_id)[1:]
    assert payment.facts == {"from": "pending", "to": "paid", "by": "test"}
    assert (payment.actor, status.actor) == ("stripe", "owner")
    assert status.facts == {"from": "awaiting_payment", "to": "pending"}
    assert world.order(order_id).updated_at == at


def test_a_move_that_the_table_does_not_allow_changes_nothing(world: World) -> None:
    order_id = world.start_checkout().order_id
    now = world.clock.now()
    with pytest.raises(IllegalTransitionError), world.database.write() as session:
        move_order(session, lock_order(session, order_id), OrderStatus.COMPLETED, "No.", at=now)
    with pytest.raises(IllegalTransitionError), world.database.write() as session:
        move_payment(session, lock_order(session, order_id), PaymentStatus.REFUNDED, "", at=now)
    order = world.order(order_id)
    assert (order.status, order.payment_status) == ("awaiting_payment", "pending")


def test_the_first_reason_to_hold_stays_and_each_is_told(world: World) -> None:
    order_id = world.start_checkout().order_id
    for reason in ("One.", "Two."):
        with world.database.write() as session:
            hold_order(session, lock_order(session, order_id), reason, at=world.clock.now())
    with world.database.read() as session:
        texts = [entry.text for entry in timeline.of_order(session, order_id)]
    assert world.order(order_id).held_reason == "One."
    assert texts[1:] == ["Held for a person: One.", "Held for a person: Two."]


def test_an_order_that_does_not_exist_cannot_be_locked(world: World) -> None:
    with pytest.raises(NotFoundError), world.database.write() as session:
        lock_order(session, "nobody")

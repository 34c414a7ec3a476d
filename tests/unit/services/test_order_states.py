"""Moving an order, holding it, and saying so."""

from __future__ import annotations

import pytest

from smi_desktop.domain.errors import IllegalTransitionError, NotFoundError
from smi_desktop.domain.holds import HoldKind
from smi_desktop.domain.orders import OrderStatus, PaymentStatus
from smi_desktop.services.order_states import hold_order, lock_order, move_order, move_payment
from smi_desktop.store import alerts, timeline
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
    for kind, reason in ((HoldKind.QUALITY, "One."), (HoldKind.OWNER, "Two.")):
        with world.database.write() as session:
            order = lock_order(session, order_id)
            hold_order(session, order, kind, reason, at=world.clock.now(), actor="owner")
    with world.database.read() as session:
        entries = timeline.of_order(session, order_id)[1:]
        (alert,) = alerts.list_open(session)
    order = world.order(order_id)
    assert (order.held_kind, order.held_reason) == ("quality", "One.")
    assert [(entry.text, entry.actor, entry.facts) for entry in entries] == [
        ("Held for a person: One.", "owner", {"kind": "quality"}),
        ("Held for a person: Two.", "owner", {"kind": "owner"}),
    ]
    assert (alert.order_id, alert.text) == (order_id, f"Order {order.number} waits for you: One.")


def test_an_order_that_does_not_exist_cannot_be_locked(world: World) -> None:
    with pytest.raises(NotFoundError), world.database.write() as session:
        lock_order(session, "nobody")

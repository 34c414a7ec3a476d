"""Changing an order's state, holding it, and saying so in its timeline. The only place that assigns a status."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from smi_desktop.domain.errors import NotFoundError
from smi_desktop.domain.holds import HoldKind
from smi_desktop.domain.orders import (
    OrderStatus,
    PaymentStatus,
    check_order_transition,
    check_payment_transition,
)
from smi_desktop.store import alerts, orders, timeline
from smi_desktop.store.models import Order


def lock_order(session: Session, order_id: str) -> Order:
    """Return an order that nobody else changes until this transaction ends.

    Raises:
        NotFoundError: There is none.
    """
    order = orders.get_locked(session, order_id)
    if order is None:
        raise NotFoundError("There is no such order.")
    return order


def move_order(
    session: Session,
    order: Order,
    status: OrderStatus,
    text: str,
    *,
    at: datetime,
    actor: str = "system",
    facts: dict[str, Any] | None = None,
) -> None:
    """Change an order's status along the table of transitions.

    Raises:
        IllegalTransitionError: The table has no such arrow.
    """
    before = OrderStatus(order.status)
    check_order_transition(before, status, PaymentStatus(order.payment_status))
    order.status = status.value
    order.updated_at = at
    facts = {"from": before.value, "to": status.value, **(facts or {})}
    timeline.add(session, order.id, "status", text, at=at, actor=actor, facts=facts)


def move_payment(
    session: Session,
    order: Order,
    status: PaymentStatus,
    text: str,
    *,
    at: datetime,
    actor: str = "stripe",
    facts: dict[str, Any] | None = None,
) -> None:
    """Change an order's payment status along the table of transitions.

    Raises:
        IllegalTransitionError: The table has no such arrow.
    """
    before = PaymentStatus(order.payment_status)
    check_payment_transition(before, status)
    order.payment_status = status.value
    order.updated_at = at
    facts = {"from": before.value, "to": status.value, **(facts or {})}
    timeline.add(session, order.id, "payment", text, at=at, actor=actor, facts=facts)


def hold_order(
    session: Session,
    order: Order,
    kind: HoldKind,
    reason: str,
    *,
    at: datetime,
    actor: str = "system",
) -> None:
    """Set an order aside for a person and tell the owner; the first reason stays, each is in the timeline."""
    if order.held_at is None:
        order.held_at = at
        order.held_kind = kind.value
        order.held_reason = reason
        key = f"held:{order.id}"
        text = f"Order {order.number} waits for you: {reason}"
        alerts.raise_once(session, key, text, at=at, order_id=order.id)
    order.updated_at = at
    facts = {"kind": kind.value}
    timeline.add(
        session, order.id, "held", f"Held for a person: {reason}", at=at, actor=actor, facts=facts
    )


def release_order(
    session: Session, order: Order, text: str, *, at: datetime, actor: str = "system"
) -> None:
    """End a hold, if there is one, and say why."""
    if order.held_at is None:
        return
    facts = {"kind": order.held_kind, "reason": order.held_reason}
    order.held_at = order.held_reason = order.held_kind = None
    order.updated_at = at
    alerts.resolve(session, f"held:{order.id}", at=at)
    timeline.add(session, order.id, "released", text, at=at, actor=actor, facts=facts)

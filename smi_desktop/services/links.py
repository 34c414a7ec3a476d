"""Giving out the link to a finished picture, and ending it. Sole owner of when an order is completed."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from sqlalchemy.orm import Session

from smi_desktop.domain.orders import OrderStatus, PaymentStatus
from smi_desktop.domain.tokens import hash_token
from smi_desktop.services.emails import queue_ready_mail
from smi_desktop.services.order_states import move_order
from smi_desktop.services.shop import Shop
from smi_desktop.services.work import TaskKind
from smi_desktop.store import tasks
from smi_desktop.store.models import Order

_DELIVERABLE: Final = frozenset({PaymentStatus.PAID, PaymentStatus.PARTIALLY_REFUNDED})


def deliver_order(shop: Shop, session: Session, order: Order) -> None:
    """Deliver an order whose file is stored: take reserved money first, then issue the link and the mail.

    The order is locked, `processing`, neither held nor disputed.
    """
    if order.payment_status == PaymentStatus.AUTHORIZED:
        tasks.add_once(
            session,
            TaskKind.TAKE_MONEY,
            f"capture:{order.id}",
            now=shop.now(),
            order_id=order.id,
            payload={"take": True},
        )
        return
    if order.payment_status not in _DELIVERABLE:
        return
    now = shop.now()
    issue_link(shop, order)
    order.completed_at = now
    order.progress = 1.0
    move_order(
        session,
        order,
        OrderStatus.COMPLETED,
        f"Ready: {order.output_width} × {order.output_height} pixels, {order.file_bytes or 0:,} bytes.",
        at=now,
        facts={"sha256": order.file_sha256},
    )
    queue_ready_mail(shop, session, order)


def issue_link(shop: Shop, order: Order) -> None:
    """Give an order a new link in the place of its present one, for the shop's number of hours."""
    order.generation += 1
    order.token_sha256 = hash_token(shop.token("download", order.id, order.generation))
    order.expires_at = shop.now() + timedelta(hours=shop.settings().link_hours)
    order.file_removed_at = order.downloaded_at = None

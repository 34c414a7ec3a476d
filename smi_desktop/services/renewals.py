"""A link that has ended, made good again by its customer. Nothing that a scanner does uses a renewal up."""

from __future__ import annotations

from datetime import timedelta

from smi_desktop.domain.errors import IllegalTransitionError
from smi_desktop.domain.orders import OrderStatus
from smi_desktop.services.order_states import lock_order
from smi_desktop.services.shop import Shop
from smi_desktop.store import timeline
from smi_desktop.store.models import Order


def can_renew(shop: Shop, order: Order) -> bool:
    """Tell whether an order's customer may renew his ended link now."""
    return has_ended(shop, order) and order.renewals < shop.settings().renewals_allowed


def has_ended(shop: Shop, order: Order) -> bool:
    """Tell whether an order's link has ended while its file is still kept."""
    return (
        order.status == OrderStatus.COMPLETED
        and order.disputed_at is None
        and order.file_key is not None
        and order.file_removed_at is None
        and order.expires_at is not None
        and order.expires_at <= shop.now()
    )


def renew_link(shop: Shop, order_id: str, *, actor: str = "customer") -> None:
    """Let an order's link live for the shop's hours again, under the same address.

    A link that still lives is left as it is, so whoever follows everything in a mail uses nothing up.

    Raises:
        NotFoundError: There is no such order.
        IllegalTransitionError: Its file is gone, or the customer has renewed it often enough.
    """
    now = shop.now()
    settings = shop.settings()
    with shop.database.write() as session:
        order = lock_order(session, order_id)
        if order.status == OrderStatus.COMPLETED and (order.expires_at or now) > now:
            return
        if not has_ended(shop, order):
            raise IllegalTransitionError(
                "This link cannot be renewed: its file is not kept any more."
            )
        if actor == "customer":
            if order.renewals >= settings.renewals_allowed:
                raise IllegalTransitionError(
                    "This link was renewed as often as it can be. Please write to us."
                )
            order.renewals += 1
        order.expires_at = now + timedelta(hours=settings.link_hours)
        order.updated_at = now
        timeline.add(
            session,
            order.id,
            "renewed",
            f"The link was renewed for {settings.link_hours:g} hours.",
            at=now,
            actor=actor,
        )

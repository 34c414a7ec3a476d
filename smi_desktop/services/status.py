"""What a customer may know of his order."""

from __future__ import annotations

from typing import Any

from smi_desktop.domain.errors import NotFoundError
from smi_desktop.domain.money import Money
from smi_desktop.services.catalogue import preview_key
from smi_desktop.services.checkout import allowed_page
from smi_desktop.services.delivery import download_url, is_live
from smi_desktop.services.emails import other_size, refund_state
from smi_desktop.services.renewals import can_renew
from smi_desktop.services.shop import Shop
from smi_desktop.store import orders, refunds
from smi_desktop.store.models import Order


def find_order(shop: Shop, order_id: str) -> Order:
    """Return an order by the id that only its buyer knows.

    Raises:
        NotFoundError: There is none.
    """
    # PostgreSQL's text cannot even be asked for NUL.
    if not 0 < len(order_id) <= 64 or not order_id.isascii() or not order_id.isprintable():
        raise NotFoundError("Job not found")
    with shop.database.read() as session:
        order = orders.get(session, order_id)
    if order is None:
        raise NotFoundError("Job not found")
    return order


def job_status(shop: Shop, order_id: str) -> dict[str, Any]:
    """Return the `data` of the contract's job-status.

    Raises:
        NotFoundError: There is no such order.
    """
    order = find_order(shop, order_id)
    data: dict[str, Any] = {
        "job_id": order.id,
        "status": order.status,
        "payment_status": order.payment_status,
        "resolution": order.resolution,
        "created_at": order.created_at.isoformat().replace("+00:00", "Z"),
        "progress": order.progress,
    }
    if is_live(order, shop.now()):
        data["download_url"] = download_url(shop, shop.settings(), order)
    return data


def mask_email(email: str) -> str:
    """Return an address that its owner recognises and a stranger cannot use."""
    local, _, domain = email.rpartition("@")
    return f"{local[:1]}{'•' * 5}@{domain}"


def order_page_values(shop: Shop, order: Order) -> dict[str, Any]:
    """Return the plain values of the order page."""
    settings = shop.settings()
    live = is_live(order, shop.now())
    waiting = order.status == "awaiting_payment" and shop.now() < order.checkout_expires_at
    key = preview_key(order.source_sha256)
    with shop.database.read() as session:
        refund = refunds.latest(session, order.id)
        # What is only on its way is never called sent back.
        sent_back = refunds.succeeded_minor(session, order.id)
    size, size_url = other_size(shop, order)
    failed = order.status in {"failed", "refunded"} or order.payment_status == "canceled"
    return {
        "refund_state": refund_state(order, refund) if refund or failed else None,
        "refund_amount": Money(refund.amount_minor, refund.currency) if refund else None,
        "refunded_amount": (
            Money(sent_back, order.paid_currency or order.currency) if sent_back else None
        ),
        "failure_reason": order.failure_reason,
        "other_size": size if failed else None,
        "other_size_url": size_url if failed else None,
        "can_renew": can_renew(shop, order),
        "renewals_left": max(0, settings.renewals_allowed - order.renewals),
        "disputed": order.disputed_at is not None,
        "studio_name": settings.studio_name,
        "contact_email": settings.contact_email,
        "number": order.number,
        "title": order.title,
        "resolution": order.resolution,
        "job_id": order.id,
        "status": order.status,
        "payment_status": order.payment_status,
        "held": order.held_at is not None,
        "progress": order.progress,
        "picture_url": f"/order/{order.id}/picture.jpg" if shop.files.exists(key) else None,
        "source_width": order.source_width,
        "source_height": order.source_height,
        "width": order.output_width,
        "height": order.output_height,
        "amount": Money(order.amount_minor, order.currency),
        "created_at": order.created_at,
        "paid_at": order.paid_at,
        "completed_at": order.completed_at,
        "expires_at": order.expires_at,
        "zone": settings.time_zone,
        "download_url": download_url(shop, settings, order) if live else None,
        "file_format": (order.file_format or "").upper() or None,
        "file_bytes": order.file_bytes,
        "sha256": order.file_sha256,
        "downloaded": order.downloaded_at is not None,
        "email_masked": mask_email(order.email) if order.email else None,
        "page_url": allowed_page(settings, order.page_url),
        "checkout_url": order.checkout_url if waiting else None,
    }

"""Values as the relay gives them to the customer's pages, and a picture of an order's life."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from smi_desktop.domain.money import Money

JOB_ID = "kq3WmD2vYtR8s1LZ0aHcXg"
TOKEN = "a1B2c3D4e5F6g7H8" * 4
CREATED_AT = datetime(2026, 11, 23, 23, 30, tzinfo=UTC)
LINK_END = datetime(2026, 11, 24, 23, 34, tzinfo=UTC)

_UNPAID: dict[str, Any] = {"payment_status": "pending", "paid_at": None, "email_masked": None}
_MADE: dict[str, Any] = {
    "status": "completed",
    "completed_at": CREATED_AT + timedelta(minutes=4),
    "expires_at": LINK_END,
    "file_format": "PNG",
    "file_bytes": 68_200_000,
    "sha256": "9f2c41" + "0" * 52 + "b07e5d",
}
STATES: dict[str, dict[str, Any]] = {
    "awaiting": {**_UNPAID, "status": "awaiting_payment", "checkout_url": "https://pay.example/c"},
    "pending": {"status": "pending"},
    "processing": {"status": "processing", "progress": 0.62},
    "processing-unknown": {"status": "processing"},
    "completed": {**_MADE, "download_url": f"/smi/v1/download/{TOKEN}"},
    "expired": dict(_MADE),
    "failed": {"status": "failed"},
    "failed-uncharged": {"status": "failed", "payment_status": "canceled", "paid_at": None},
    "held": {"status": "processing", "held": True},
    "refunded": {"status": "refunded", "payment_status": "refunded"},
    "abandoned": {**_UNPAID, "status": "abandoned"},
    "cancelled": {**_UNPAID, "status": "abandoned", "payment_status": "canceled"},
}


def order_values(state: str = "processing", **changes: object) -> dict[str, Any]:
    """Return everything that the order page takes, for one of `STATES`."""
    return {
        "studio_name": "Varga Studio",
        "contact_email": "hello@varga-studio.example",
        "number": "SMI-7K2M9",
        "title": "Falcon 9 at dusk, Cape Canaveral",
        "resolution": "8x",
        "job_id": JOB_ID,
        "payment_status": "paid",
        "held": False,
        "progress": None,
        "picture_url": "/picture.jpg",
        "source_width": 640,
        "source_height": 427,
        "width": 5120,
        "height": 3416,
        "amount": Money(156, "usd"),
        "created_at": CREATED_AT,
        "paid_at": CREATED_AT + timedelta(minutes=1),
        "completed_at": None,
        "expires_at": None,
        "zone": "America/New_York",
        "download_url": None,
        "file_format": None,
        "file_bytes": None,
        "sha256": None,
        "downloaded": False,
        "email_masked": "jo•••••@example.com",
        "page_url": "https://varga-studio.example/launches/",
        "checkout_url": None,
        "asset_version": "1",
        "mode": "live",
        **STATES[state],
        **changes,
    }

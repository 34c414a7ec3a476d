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
_PRICE = Money(156, "usd")
_PART = Money(50, "usd")
_WHY = "Two attempts came out with visible seams in the sky, so nothing was delivered."
_FAILED: dict[str, Any] = {
    "status": "failed",
    "failure_reason": _WHY,
    "refund_amount": _PRICE,
    "other_size": "4x",
    "other_size_url": "https://varga-studio.example/launches/",
}
STATES: dict[str, dict[str, Any]] = {
    "awaiting": {**_UNPAID, "status": "awaiting_payment", "checkout_url": "https://pay.example/c"},
    "pending": {"status": "pending"},
    "processing": {"status": "processing", "progress": 0.62},
    "processing-unknown": {"status": "processing"},
    "completed": {**_MADE, "download_url": f"/smi/v1/download/{TOKEN}"},
    "part-refunded": {
        **_MADE,
        "download_url": f"/smi/v1/download/{TOKEN}",
        "payment_status": "partially_refunded",
        "refund_state": "succeeded",
        "refund_amount": _PART,
        "refunded_amount": _PART,
    },
    "expired": dict(_MADE),
    "expired-renewable": {**_MADE, "can_renew": True, "renewals_left": 3},
    "expired-part-refund": {
        **_MADE,
        "can_renew": True,
        "renewals_left": 1,
        "refund_state": "pending",
        "refund_amount": _PART,
    },
    "failed": {"status": "failed", "refund_state": "none"},
    "failed-uncharged": {"status": "failed", "payment_status": "canceled", "paid_at": None},
    "failed-released": {
        **_FAILED,
        "payment_status": "canceled",
        "paid_at": None,
        "refund_state": "released",
        "refund_amount": None,
    },
    "failed-refund-planned": {**_FAILED, "refund_state": "planned"},
    "failed-refund-pending": {**_FAILED, "refund_state": "pending"},
    "failed-refund-failed": {**_FAILED, "refund_state": "failed", "held": True},
    "held": {"status": "processing", "held": True},
    "held-refund-pending": {**_FAILED, "refund_state": "pending", "held": True},
    "refunded": {
        **_FAILED,
        "status": "refunded",
        "payment_status": "refunded",
        "refund_state": "succeeded",
        "refunded_amount": _PRICE,
    },
    "refunded-pending": {
        **_FAILED,
        "status": "refunded",
        "refund_state": "pending",
    },
    "refunded-after-delivery": {
        **_MADE,
        "status": "refunded",
        "payment_status": "refunded",
        "refund_state": "succeeded",
        "refund_amount": _PRICE,
        "refunded_amount": _PRICE,
    },
    "disputed": {**_MADE, "payment_status": "disputed", "disputed": True},
    "abandoned": {**_UNPAID, "status": "abandoned"},
    # Where nothing was ever taken, the shop calls the money released.
    "cancelled": {
        **_UNPAID,
        "status": "abandoned",
        "payment_status": "canceled",
        "refund_state": "released",
    },
    "declined": {**_UNPAID, "status": "abandoned", "payment_status": "failed"},
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
        "amount": _PRICE,
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
        "refund_state": None,
        "refund_amount": None,
        "refunded_amount": None,
        "failure_reason": None,
        "other_size": None,
        "other_size_url": None,
        "can_renew": False,
        "renewals_left": 0,
        "disputed": False,
        "asset_version": "1",
        "mode": "live",
        **STATES[state],
        **changes,
    }

"""Values as the shop gives them to its mails, and a reader of what came out."""

from __future__ import annotations

from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

from smi_desktop.domain.money import Money
from smi_desktop.domain.printing import print_size
from tests.browser.page_values import CREATED_AT, LINK_END, TOKEN

LINK = f"https://shop.example/smi/v1/download/{TOKEN}"
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'-alert(1)-'",
    "</title><script>alert(1)</script>",
    "{{ 7*7 }}",
    "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
    "javascript:alert(1)",
]

PRICE = Money(156, "usd")
PART = Money(50, "usd")
WHY = "Two attempts came out with visible seams in the sky."
SHOP_PAGE = "https://varga-studio.example/launches/"


def mail_values(**changes: object) -> dict[str, Any]:
    """Return everything that the ready mail takes."""
    return {
        "studio_name": "Varga Studio",
        "studio_address": "12 Harbor Lane, Portland, ME",
        "contact_email": "hello@varga-studio.example",
        "title": "Falcon 9 at dusk",
        "resolution": "8x",
        "download_url": LINK,
        "order_url": "https://shop.example/order/kq3WmD2vYtR8s1LZ0aHcXg",
        "expires_at": LINK_END,
        "zone": "America/New_York",
        "width": 5120,
        "height": 3416,
        "format": "PNG",
        "bytes": 68_200_000,
        "print_300": print_size(5120, 3416, 300),
        "print_200": print_size(5120, 3416, 200),
        "amount": Money(156, "usd"),
        "number": "SMI-7K2M9",
        "before_cid": None,
        "after_cid": None,
        **changes,
    }


def common_values(**changes: object) -> dict[str, Any]:
    """Return what every mail about an order takes."""
    names = (
        "studio_name", "studio_address", "contact_email", "zone", "title", "resolution",
        "number", "order_url", "amount",
    )  # fmt: skip
    values = mail_values()
    return {**{name: values[name] for name in names}, **changes}


def failed_values(state: str = "pending", **changes: object) -> dict[str, Any]:
    """Return what the mail about a picture that could not be made takes."""
    return common_values(
        reason=WHY,
        refund_state=state,
        refund_amount=None if state in {"released", "none"} else PRICE,
        other_size="4x",
        other_size_url=SHOP_PAGE,
    ) | dict(changes)


def refund_values(state: str = "pending", **changes: object) -> dict[str, Any]:
    """Return what the mail about money on its way back takes."""
    return common_values(refund_state=state, refund_amount=PRICE, whole=True, reason=None) | dict(
        changes
    )


def alert_values(**changes: object) -> dict[str, Any]:
    """Return what the mail to the owner takes."""
    rows = [
        {"at": CREATED_AT, "text": "Order SMI-7K2M9: the refund failed.", "remedies": "refund"},
        {"at": CREATED_AT + timedelta(hours=1), "text": "The disk is nearly full.", "remedies": ""},
    ]
    return {
        "studio_name": "Varga Studio",
        "zone": "America/New_York",
        "alerts": rows,
        "count": len(rows),
        "mode": "live",
        **changes,
    }


# One full set of values for each mail beside "ready".
OTHER_MAILS: dict[str, dict[str, Any]] = {
    "failed": failed_values(),
    "refund": refund_values(),
    "payment_failed": common_values(cause="failed", try_again_url=SHOP_PAGE),
    "reminder": {
        name: value
        for name, value in mail_values().items()
        if name not in {"print_300", "print_200", "before_cid", "after_cid"}
    },
    "delayed": common_values(),
    "alert": alert_values(),
}


class Tags(HTMLParser):
    """Collects the tags of a page, its words and every attribute."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.extend(attrs)

    def handle_data(self, data: str) -> None:
        self.words += data

"""Counting clicks. A failure to count never disturbs a customer."""

from __future__ import annotations

import re
from typing import Final

from smi_desktop.services.shop import Shop
from smi_desktop.store import clicks

# What the common crawlers, monitors and libraries call themselves; Cubot makes telephones.
_BOT: Final = re.compile(
    r"(?<!cu)bot|crawl|spider|slurp|preview|scan|monitor|headless|curl|wget|python-requests|httpx|go-http|"
    r"facebookexternalhit|lighthouse",
    re.IGNORECASE,
)


def is_bot(agent: str | None) -> bool:
    """Tell whether a user agent is no person's browser; none at all is taken for a bot."""
    return not agent or _BOT.search(agent) is not None


def count_click(shop: Shop, attachment_id: int, post_id: int | None, agent: str | None) -> None:
    """Count one click on a button, marked if a bot made it.

    Raises:
        TransientError: It could not be stored.
    """
    with shop.database.write() as session:
        clicks.add(
            session,
            at=shop.now(),
            attachment_id=attachment_id,
            post_id=post_id,
            bot=is_bot(agent),
        )

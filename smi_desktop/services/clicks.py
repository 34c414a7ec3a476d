"""Counting clicks. Sole owner of who is a person; a failure to count never disturbs a customer."""

from __future__ import annotations

import re
from typing import Final

from smi_desktop.services.shop import Shop
from smi_desktop.store import clicks

# Every browser of our time begins so, telephones and mail programs' windows too (RFC 9110, 10.1.5 names
# the form; Opera and UC kept words of their own); libraries and command-line tools name themselves first.
_BROWSER: Final = re.compile(r"(?:mozilla|opera|ucweb)/\d", re.IGNORECASE)
# What crawlers, previewers, monitors and driven browsers put behind that. Most say "bot" or leave the
# address of a page about themselves, which no browser does. Cubot makes telephones.
_BOT: Final = re.compile(
    r"(?<!cu)bot|crawl|spider|slurp|preview|scan|monitor|headless|archive|validator|fetch|"
    r"https?:|www\.|compatible;(?! ?(?:msie|konqueror))|"
    r"externalhit|externalagent|lighthouse|pagespeed|gtmetrix|pingdom|statuscake|uptime|synthetic|"
    r"google-|googleother|mediapartners|feed|-user/|anthropic|cohere|embedly|"
    r"phantomjs|puppeteer|playwright|selenium|webdriver|electron|python|curl/|wget/|java/|nmap|nikto|"
    r"zgrab|sqlmap|nuclei",
    re.IGNORECASE,
)
# Values of Sec-Purpose (https://fetch.spec.whatwg.org/#sec-purpose-header) and of the older Purpose and
# X-Purpose: the browser loads ahead of a person who may never come.
_AHEAD: Final = re.compile(r"prefetch|prerender|preview", re.IGNORECASE)


def is_bot(agent: str | None, purpose: str | None = None) -> bool:
    """Tell whether a request was made by no person.

    Args:
        agent: The User-Agent header; none at all, or an empty one, is taken for a bot's.
        purpose: The Sec-Purpose or Purpose header, if the request had one.
    """
    text = (agent or "").strip()
    if not _BROWSER.match(text) or _BOT.search(text):
        return True
    return purpose is not None and _AHEAD.search(purpose) is not None


def count_click(
    shop: Shop,
    attachment_id: int,
    post_id: int | None,
    agent: str | None,
    purpose: str | None = None,
) -> None:
    """Count one click on a button, marked if a bot made it; every call adds a row, however many at once.

    Args:
        attachment_id: The picture.
        post_id: The page that the button is on, if told.
        agent, purpose: As for `is_bot`.

    Raises:
        TransientError: It could not be stored.
    """
    with shop.database.write() as session:
        clicks.add(
            session,
            at=shop.now(),
            attachment_id=attachment_id,
            post_id=post_id,
            bot=is_bot(agent, purpose),
        )

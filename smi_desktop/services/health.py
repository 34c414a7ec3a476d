"""Whether the shop can sell, told in words. The command line and the desktop read the same checks."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from smi_desktop.config import Mode, ShopSettings, UpscalerChoice
from smi_desktop.domain.errors import ConfigurationError, NotForSaleError, SmiError
from smi_desktop.domain.pricing import Resolution, price_upscale
from smi_desktop.services.shop import STRIPE_WEBHOOK_SECRET, TOKEN_KEY, Shop
from smi_desktop.store import alerts, images, inbox, orders, tasks
from smi_desktop.store import settings as settings_rows

_QUIET_ENGINE: Final = timedelta(seconds=60)
_LOW_DISK_SHARE: Final = 0.1
_PASSING_FAILURES: Final = 3
_MOST_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be right for the shop to sell."""

    name: str
    good: bool
    text: str


def check_health(shop: Shop) -> list[Check]:
    """Check everything that can be checked without calling anybody; never raises for a fault it finds."""
    try:
        settings = shop.settings()
    except SmiError as error:
        return [Check("Settings", False, error.message)]
    questions: list[tuple[str, Callable[[Shop, ShopSettings], str]]] = [
        ("Mode", _mode),
        ("Secrets", _secrets),
        ("Stripe", lambda s, st: _can(s.payments, st, "Checkout pages can be made.")),
        ("Webhooks", _webhooks),
        ("Address", _address),
        ("Upscaler", _upscaler),
        ("Mail", lambda s, st: _can(s.mailer, st, f"Mails leave through {st.smtp_host}.")),
        ("Prices", _prices),
        ("Catalogue", _catalogue),
        ("Engine", _engine),
        ("Work", _work),
        ("Orders", _orders),
        ("Alerts", _alerts),
        ("Disk", _disk),
        ("Database", _database),
    ]
    return [_ask(shop, settings, name, question) for name, question in questions]


def _ask(
    shop: Shop, settings: ShopSettings, name: str, question: Callable[[Shop, ShopSettings], str]
) -> Check:
    try:
        return Check(name, True, question(shop, settings))
    except SmiError as error:
        return Check(name, False, error.message)


def _mode(shop: Shop, _settings: ShopSettings) -> str:
    return {
        Mode.REHEARSAL: "A rehearsal shop: no real money moves.",
        Mode.TEST: "A test shop: Stripe's test cards alone.",
        Mode.LIVE: "A live shop: real money.",
    }[shop.mode]


def _secrets(shop: Shop, _settings: ShopSettings) -> str:
    shop.secret(TOKEN_KEY)
    return f"Kept {shop.secrets.describe()}."


def _can(door: Callable[[ShopSettings], object], settings: ShopSettings, text: str) -> str:
    door(settings)
    return text


def _webhooks(shop: Shop, _settings: ShopSettings) -> str:
    shop.secret(STRIPE_WEBHOOK_SECRET)
    with shop.database.read() as session:
        last = inbox.last_received_at(session, "stripe")
    return "None has arrived yet." if last is None else f"The last one arrived {_ago(shop, last)}."


def _address(shop: Shop, settings: ShopSettings) -> str:
    parts = urlsplit(settings.public_url)
    here = parts.hostname in {"127.0.0.1", "localhost", "::1"}
    if shop.mode is not Mode.REHEARSAL and here:
        raise ConfigurationError(
            "Customers and Stripe cannot reach this machine's own address: set public_url."
        )
    if parts.scheme != "https" and not here:
        raise ConfigurationError(f"{settings.public_url} is not encrypted: use https.")
    return f"The shop is at {settings.public_url}."


def _upscaler(shop: Shop, settings: ShopSettings) -> str:
    if settings.upscaler is UpscalerChoice.EMBEDDED:
        return "Pictures are made on this machine."
    shop.remote_upscaler(settings)
    return f"Set to: {settings.upscaler}."


def _prices(_shop: Shop, settings: ShopSettings) -> str:
    try:
        price = price_upscale(
            1000, 1000, Resolution.STANDARD, settings.price_rule, settings.exchange_rate
        )
    except NotForSaleError as error:
        raise ConfigurationError(error.message) from error
    rate = settings.exchange_rate
    dated = "" if rate is None else f", at the exchange rate of {rate.as_of}"
    return f"A 4x of one megapixel costs {price.price}{dated}."


def _catalogue(shop: Shop, _settings: ShopSettings) -> str:
    with shop.database.read() as session:
        if not images.list_page(session, limit=1):
            raise ConfigurationError("There is no picture yet: smi-desktop catalogue add FOLDER.")
        return f"{images.count(session)} pictures."


def _engine(shop: Shop, _settings: ShopSettings) -> str:
    with shop.database.read() as session:
        beat = settings_rows.heartbeats(session).get("engine")
    if beat is None or shop.now() - beat.at > _QUIET_ENGINE:
        when = "never ran" if beat is None else f"was last heard of {_ago(shop, beat.at)}"
        raise ConfigurationError(f"The engine {when}: paid orders wait. Start: smi-desktop engine.")
    return f"Heard of {_ago(shop, beat.at)}."


def _work(shop: Shop, _settings: ShopSettings) -> str:
    with shop.database.read() as session:
        counts = tasks.count_by_state(session)
        failing = tasks.worst_error(session, failures=_PASSING_FAILURES)
    dead = counts.get("dead", 0)
    if dead:
        raise ConfigurationError(f"{_count(dead, 'piece')} of work given up: a person must look.")
    if failing is not None:
        raise ConfigurationError(f"Work fails again and again: {failing}")
    return f"{_count(counts.get('ready', 0) + counts.get('leased', 0), 'piece')} of work open."


def _orders(shop: Shop, _settings: ShopSettings) -> str:
    with shop.database.read() as session:
        held = orders.list_held(session, limit=_MOST_NAMED + 1)
    if not held:
        return "None waits for a person."
    numbers = ", ".join(order.number for order in held[:_MOST_NAMED])
    more = " and more" if len(held) > _MOST_NAMED else ""
    raise ConfigurationError(f"These wait for a person: {numbers}{more}.")


def _alerts(shop: Shop, _settings: ShopSettings) -> str:
    with shop.database.read() as session:
        found = [row for row in alerts.list_open(session) if not row.key.startswith("held:")]
    if not found:
        return "Nothing else needs you."
    more = f" And {len(found) - 1} more: smi-desktop alerts." if len(found) > 1 else ""
    raise ConfigurationError(f"{found[0].text}{more}")


def _disk(shop: Shop, _settings: ShopSettings) -> str:
    try:
        usage = shutil.disk_usage(shop.work_dir)
    except OSError as error:
        raise ConfigurationError(f"{shop.work_dir} cannot be read: {error.strerror}.") from error
    return describe_space(usage.free, usage.total)


def describe_space(free: int, total: int) -> str:
    """Say how much of a disk is free, in bytes of the whole.

    Raises:
        ConfigurationError: Too little for pictures to be made.
    """
    text = f"{free / 2**30:.1f} GiB are free."
    if free < _LOW_DISK_SHARE * total and free < 5 * 2**30:
        raise ConfigurationError(f"Only {text}")
    return text


def _database(shop: Shop, _settings: ShopSettings) -> str:
    shop.database.check_version()
    return "SQLite in the data folder." if shop.database.is_sqlite else "PostgreSQL."


def _ago(shop: Shop, moment: datetime) -> str:
    seconds = max(0, int((shop.now() - moment).total_seconds()))
    for size, word in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            return f"{_count(seconds // size, word)} ago"
    return f"{_count(seconds, 'second')} ago"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"

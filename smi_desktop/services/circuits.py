"""Providers that refuse the shop's account: a dead key, no credit, no set-up. Orders wait, nobody is refunded.

After some refusals in a row the work for that provider stops, with one alert; every few minutes one piece of
work tries again, and the first that goes through sets all others going.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import update
from sqlalchemy.orm import Session

from smi_desktop.services.shop import Shop
from smi_desktop.services.work import TaskKind
from smi_desktop.store import alerts
from smi_desktop.store.models import Circuit, Task

UPSAMPLER: Final = "upsampler"
STRIPE: Final = "stripe"
MAIL: Final = "mail"

PROVIDER_OF: Final[dict[TaskKind, str]] = {
    TaskKind.APPLY_EVENT: STRIPE,
    TaskKind.SETTLE_ORDER: STRIPE,
    TaskKind.SEND_REFUND: STRIPE,
    TaskKind.TAKE_MONEY: STRIPE,
    TaskKind.SUBMIT_UPSCALE: UPSAMPLER,
    TaskKind.WATCH_UPSCALE: UPSAMPLER,
    TaskKind.COLLECT_RESULT: UPSAMPLER,
    TaskKind.SEND_MAIL: MAIL,
}
"""Whose account each kind of work needs."""

_NAMES: Final = {UPSAMPLER: "Upsampler", STRIPE: "Stripe", MAIL: "The mail server"}


def closed_until(shop: Shop, provider: str) -> datetime | None:
    """Return when a provider that refuses us may be tried again, or None if it may be called now.

    Whoever is told None while the circuit is open is the one who tries; the others wait another round.
    """
    now = shop.now()
    with shop.database.read() as session:
        found = alerts.circuit(session, provider)
    if found is None or found.opened_at is None or found.retry_at is None:
        return None
    if now < found.retry_at:
        return found.retry_at
    following = now + timedelta(seconds=shop.settings().account_wait_seconds)
    with shop.database.write() as session:
        won = session.execute(
            update(Circuit)
            .where(Circuit.name == provider, Circuit.retry_at == found.retry_at)
            .values(retry_at=following)
            .returning(Circuit.name)
            .execution_options(synchronize_session=False)
        ).first()
    return None if won else following


def is_open(shop: Shop, provider: str) -> bool:
    """Tell whether a provider refuses this shop's account at the moment."""
    with shop.database.read() as session:
        found = alerts.circuit(session, provider)
    return found is not None and found.opened_at is not None


def note_refusal(shop: Shop, session: Session, provider: str, reason: str) -> None:
    """Count a refusal of our account; enough of them in a row stop the work for this provider."""
    now = shop.now()
    settings = shop.settings()
    found = alerts.circuit(session, provider, lock=True)
    if found is None:
        found = Circuit(name=provider, failures=0, reason=reason)
        session.add(found)
    found.failures += 1
    found.reason = reason
    if found.failures < settings.account_failures:
        return
    if found.opened_at is None:
        found.opened_at = now
        text = f"{_NAMES[provider]} refuses this shop's account; orders wait. {reason}"
        alerts.raise_once(session, f"circuit:{provider}", text, at=now)
    found.retry_at = now + timedelta(seconds=settings.account_wait_seconds)


def note_accepted(shop: Shop, session: Session, provider: str) -> None:
    """Note that a provider takes our calls; work that waited for it goes on."""
    found = alerts.circuit(session, provider, lock=True)
    if found is None or found.failures == 0:
        return
    waiting = found.opened_at is not None
    found.failures = 0
    found.opened_at = found.retry_at = None
    if not waiting:
        return
    now = shop.now()
    alerts.resolve(session, f"circuit:{provider}", at=now)
    kinds = [kind.value for kind, name in PROVIDER_OF.items() if name == provider]
    session.execute(
        update(Task)
        .where(Task.kind.in_(kinds), Task.state == "ready", Task.last_error == found.reason)
        .values(run_at=now)
        .execution_options(synchronize_session=False)
    )

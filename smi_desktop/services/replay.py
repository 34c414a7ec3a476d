"""Applying a stored event again, or telling what that would change without changing it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from smi_desktop.domain.errors import IllegalTransitionError, NotFoundError
from smi_desktop.services.payments import find_order, fulfil, read_event
from smi_desktop.services.shop import Shop
from smi_desktop.services.webhooks import STRIPE
from smi_desktop.services.work import TaskKind
from smi_desktop.store import alerts, inbox, outbox, refunds, tasks
from smi_desktop.store.models import InboxEntry, Order


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that a replay would change: what, from what, to what."""

    what: str
    before: str
    after: str


class _Undo(Exception):  # noqa: N818 - not an error: it ends a transaction that must not be kept
    pass


def replay(shop: Shop, inbox_id: int) -> None:
    """Have a stored event applied again, as if it had just come.

    Raises:
        NotFoundError: There is no such event.
        IllegalTransitionError: It is not an event of the payment provider, or it is being applied.
    """
    now = shop.now()
    with shop.database.write() as session:
        entry = _stripe_entry(session, inbox_id)
        if entry.state == "new":
            raise IllegalTransitionError("This event is about to be applied already.")
        entry.state, entry.note = "new", None
        alerts.resolve(session, f"unknown:{inbox_id}", at=now)
        tasks.add_once(
            session,
            TaskKind.APPLY_EVENT,
            f"apply:{inbox_id}:again:{int(now.timestamp() * 1000)}",
            now=now,
            payload={"inbox_id": inbox_id},
        )


def dry_run(shop: Shop, inbox_id: int) -> list[Change]:
    """Tell what applying a stored event would change; nothing is kept.

    Raises:
        NotFoundError: There is no such event, or no order for it.
        TransientError, ProviderAccountError: The provider could not be asked.
    """
    with shop.database.read() as session:
        entry = _stripe_entry(session, inbox_id)
    facts = read_event(shop, entry)
    if facts is None:
        return []
    changes: list[Change] = []
    try:
        with shop.database.write() as session:
            order = find_order(session, facts.checkout)
            before = _picture(session, order)
            fulfil(shop, session, facts)
            session.flush()
            after = _picture(session, order)
            changes = [
                Change(name, before.get(name, "nothing"), after.get(name, "nothing"))
                for name in sorted(before.keys() | after.keys())
                if before.get(name) != after.get(name)
            ]
            raise _Undo
    except _Undo:
        return changes


def dismiss(shop: Shop, inbox_id: int) -> None:
    """Note that an event that belongs to no order is none of this shop's.

    Raises:
        NotFoundError: There is no such event.
        IllegalTransitionError: It is not one that was set aside.
    """
    now = shop.now()
    with shop.database.write() as session:
        entry = _stripe_entry(session, inbox_id)
        if entry.state not in {"unknown", "dead"}:
            raise IllegalTransitionError(f"This event is '{entry.state}', not set aside.")
        inbox.mark(session, inbox_id, "ignored", at=now, note="Dismissed by the owner.")
        alerts.resolve(session, f"unknown:{inbox_id}", at=now)


def _stripe_entry(session: Session, inbox_id: int) -> InboxEntry:
    entry = inbox.get(session, inbox_id)
    if entry is None:
        raise NotFoundError(f"There is no event {inbox_id}. See: smi-desktop inbox list")
    if entry.provider != STRIPE:
        raise IllegalTransitionError("Only the payment provider's events can be applied again.")
    return entry


def _picture(session: Session, order: Order) -> Mapping[str, str]:
    """Return everything about an order that an event can change, as plain text by name."""
    shown: dict[str, Any] = {
        f"order: {column.key.replace('_', ' ')}": getattr(order, column.key)
        for column in Order.__mapper__.column_attrs
        if column.key not in {"updated_at", "token_sha256", "quote_id", "price_rule"}
    }
    for refund in refunds.of_order(session, order.id):
        shown[f"refund: {refund.cause}"] = f"{refund.amount_minor} {refund.currency} {refund.state}"
    for dispute in refunds.disputes_of(session, order.id):
        shown[f"dispute: {dispute.id}"] = dispute.status
    for mail in outbox.of_order(session, order.id):
        shown[f"mail: {mail.kind} {mail.id}"] = mail.state
    for task in tasks.list_page(session, order_id=order.id):
        shown[f"work: {task.kind} {task.id}"] = task.state
    return {name: _text(value) for name, value in shown.items() if value is not None}


def _text(value: object) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S} UTC" if isinstance(value, datetime) else str(value)

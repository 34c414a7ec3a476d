"""Decide what may be deleted, and delete it through tasks. Sole owner of the rules of keeping.

A link ends by the clock alone; its file is kept for a grace period after that, then removed. Order records
stay. An order that is still being made, or is held for a person, loses nothing, however old it is: its
customer has paid.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy.orm import Session

from smi_desktop.config import ShopSettings
from smi_desktop.domain.orders import OrderStatus
from smi_desktop.services.emails import queue_alert_mail, queue_notice
from smi_desktop.services.shop import Shop
from smi_desktop.services.work import Done, Outcome, TaskKind
from smi_desktop.store import alerts, orders, outbox, refunds, tasks, timeline
from smi_desktop.store.models import Order
from smi_desktop.store.tasks import Claim

# A sweep plans this much at most; the next one goes on. A wrong clock cannot empty a shop at once.
_MOST_AT_ONCE = 200
# An event that says "expired" or "paid" deserves a head start before we ask ourselves.
_CHECKOUT_SLACK = timedelta(minutes=2)
# How long an abandoned order keeps its snapshot, so that a payment that arrives late can still be served.
_LATE_PAYMENT = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What one sweep asked for or removed."""

    unpaid_to_check: int
    files_to_remove: int
    temporary_removed: int
    unused_files_removed: int


def sweep(shop: Shop) -> SweepReport:
    """Ask for everything that is due, and remove temporary files that nobody needs any more."""
    settings = shop.settings()
    now = shop.now()
    with shop.database.read() as session:
        unpaid = orders.unpaid_since(
            session, expired_before=now - _CHECKOUT_SLACK, limit=_MOST_AT_ONCE
        )
        grace = timedelta(hours=settings.file_grace_hours)
        ended = orders.with_file_due(session, ended_before=now - grace, limit=_MOST_AT_ONCE)
        pending = refunds.orders_to_look_at(session, limit=_MOST_AT_ONCE)
    if unpaid or ended or pending:
        with shop.database.write() as session:
            for order in (*unpaid, *pending):
                key = f"settle:{order.id}:{int(now.timestamp()) // 3600}h"
                tasks.add_once(session, TaskKind.SETTLE_ORDER, key, now=now, order_id=order.id)
            for order in ended:
                _ask_to_remove(session, order, shop)
    _tell_people(shop, settings)
    keep = timedelta(hours=settings.temporary_file_hours)
    temporary = _remove_old_work(shop.work_dir, keep)
    return SweepReport(len(unpaid), len(ended), temporary, _remove_unused(shop, keep))


def _tell_people(shop: Shop, settings: ShopSettings) -> None:
    """Remind who has not downloaded yet, tell who waits long, and tell the owner what needs him."""
    now = shop.now()
    soon = now + timedelta(hours=settings.reminder_hours)
    late = now - timedelta(minutes=settings.delayed_minutes)
    with shop.database.read() as session:
        due = orders.ending_unfetched(session, now=now, before=soon, limit=_MOST_AT_ONCE)
        waiting = orders.in_work_since(session, paid_before=late, limit=_MOST_AT_ONCE)
        untold = settings.alert_email and any(
            alert.mailed_at is None for alert in alerts.list_open(session)
        )
        notices = [(order, "reminder") for order in due if settings.reminder_hours]
        notices += [(order, "delayed") for order in waiting if settings.delayed_minutes]
        notices = [
            (order, kind)
            for order, kind in notices
            if outbox.find_by_key(session, f"{kind}:{order.id}:{order.generation}") is None
        ]
    if not notices and not untold:
        return
    with shop.database.write() as session:
        for order, kind in notices:
            queue_notice(shop, session, order, kind)
        if untold and not outbox.is_waiting(session, "alert"):
            queue_alert_mail(shop, session, settings.alert_email)


def remove_file(shop: Shop, task: Claim) -> Outcome:
    """Remove a delivered file whose link has ended and whose grace is over."""
    now = shop.now()
    ended_before = now - timedelta(hours=shop.settings().file_grace_hours)
    generation = int(task.payload["generation"])
    marked: list[str] = []

    def record(session: Session) -> None:
        marked.clear()  # An earlier try to record may have been rolled back.
        order = orders.get_locked(session, task.order_id or "")
        if order is None or order.file_key is None or order.generation != generation:
            return
        if not _is_over(session, order, ended_before):
            return
        order.file_removed_at = order.updated_at = now
        marked.append(order.file_key)
        timeline.add(
            session,
            order.id,
            "file_removed",
            "The link has ended; the file was removed.",
            at=now,
            facts={"generation": generation},
        )

    def delete_marked() -> None:
        for key in marked:
            shop.files.delete(key)

    # The row is marked first: a file without a row is found by the next sweep, a row without a file is not.
    return Done(record, delete_marked)


def _is_over(session: Session, order: Order, ended_before: datetime) -> bool:
    """Tell whether nobody can need an order's file any more: it was not renewed or held meanwhile."""
    if order.expires_at is None or order.expires_at > ended_before:
        return False
    if order.status == OrderStatus.REFUNDED:
        return True
    # The link's hours begin when its mail leaves, which a machine that slept may still have to do.
    waiting = any(
        mail.state in {"queued", "sending"} for mail in outbox.of_order(session, order.id)
    )
    return order.held_at is None and not waiting


def _ask_to_remove(session: Session, order: Order, shop: Shop) -> None:
    tasks.add_once(
        session,
        TaskKind.REMOVE_FILE,
        # Once an hour: what is held or waiting now may be due later.
        f"remove:{order.id}:{order.generation}:{int(shop.now().timestamp()) // 3600}h",
        now=shop.now(),
        order_id=order.id,
        payload={"generation": order.generation},
    )


def _remove_old_work(folder: Path, keep: timedelta) -> int:
    """Remove leftovers by their age on disk; the disk's clock is the real one, whatever the shop's is."""
    if not folder.is_dir():
        return 0
    removed = 0
    for entry in folder.iterdir():
        try:
            old = time.time() - entry.stat().st_mtime > keep.total_seconds()
        except FileNotFoundError:
            continue
        if not old:
            continue
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
        removed += 1
    return removed


def _remove_unused(shop: Shop, keep: timedelta) -> int:
    """Remove results and snapshots that no order needs: what a crash between file and row left behind."""
    with shop.database.read() as session:
        wanted = _keys_in_use(shop, session)
        if not orders.list_page(session, limit=1):
            # No order at all beside files means the wrong database more often than an empty shop.
            return 0
    unused = [
        file.key
        for prefix in ("results/", "sources/")
        for file in shop.files.files(prefix)
        if file.key not in wanted
        and time.time() - file.modified_at.timestamp() > keep.total_seconds()
    ][:_MOST_AT_ONCE]
    if not unused:
        return 0
    # Looked at again behind the lock that every new order needs: one may have been bought meanwhile.
    with shop.database.write() as session:
        wanted = _keys_in_use(shop, session)
        unused = [key for key in unused if key not in wanted]
        for key in unused:
            shop.files.delete(key)
    return len(unused)


def _keys_in_use(shop: Shop, session: Session) -> set[str]:
    abandoned_after = shop.now() - _LATE_PAYMENT
    sources = orders.source_keys_in_use(session, abandoned_after=abandoned_after)
    return sources | orders.file_keys_in_use(session)

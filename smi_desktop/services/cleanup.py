"""Decide what may be deleted, and delete it through tasks. Sole owner of the rules of keeping.

A link ends by the clock alone; its file is kept for a grace period after that, then removed. Order records
stay. An order that is still being made, or is held for a person, loses nothing, however old it is: its
customer has paid.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy.orm import Session

from smi_desktop.services.order_states import lock_order
from smi_desktop.services.shop import Shop
from smi_desktop.services.work import Done, Outcome, TaskKind
from smi_desktop.store import orders, tasks, timeline
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
    if unpaid or ended:
        with shop.database.write() as session:
            for order in unpaid:
                key = f"settle:{order.id}:{int(now.timestamp()) // 3600}h"
                tasks.add_once(session, TaskKind.SETTLE_ORDER, key, now=now, order_id=order.id)
            for order in ended:
                _ask_to_remove(session, order, shop)
    keep = timedelta(hours=settings.temporary_file_hours)
    temporary = _remove_old_work(shop.work_dir, keep)
    return SweepReport(len(unpaid), len(ended), temporary, _remove_unused(shop, keep))


def remove_file(shop: Shop, task: Claim) -> Outcome:
    """Remove a delivered file whose link has ended and whose grace is over."""
    settings = shop.settings()
    grace = timedelta(hours=settings.file_grace_hours)
    with shop.database.read() as session:
        order = orders.get(session, task.order_id or "")
    generation = int(task.payload["generation"])
    if (
        order is None
        or order.file_key is None
        or order.generation != generation
        or order.expires_at is None
        or order.expires_at + grace > shop.now()
    ):
        # Renewed, replaced or held meanwhile.
        return Done()
    key = order.file_key

    def record(session: Session) -> None:
        row = lock_order(session, order.id)
        if row.file_key != key or row.generation != generation:
            return
        row.file_removed_at = row.updated_at = shop.now()
        timeline.add(
            session,
            row.id,
            "file_removed",
            "The link has ended; the file was removed.",
            at=shop.now(),
            facts={"generation": generation},
        )

    # The row is marked first: a file without a row is found by the next sweep, a row without a file is not.
    return Done(record, lambda: shop.files.delete(key))


def _ask_to_remove(session: Session, order: Order, shop: Shop) -> None:
    tasks.add_once(
        session,
        TaskKind.REMOVE_FILE,
        f"remove:{order.id}:{order.generation}:{int((order.expires_at or shop.now()).timestamp())}",
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
        wanted = orders.source_keys_in_use(
            session, abandoned_after=shop.now() - _LATE_PAYMENT
        ) | orders.file_keys_in_use(session)
    removed = 0
    for prefix in ("results/", "sources/"):
        for file in list(shop.files.files(prefix)):
            age = time.time() - file.modified_at.timestamp()
            if file.key not in wanted and age > keep.total_seconds():
                shop.files.delete(file.key)
                removed += 1
    return removed

"""What must hold after every run, whatever was broken in it: I1 to I10, read from the books of both sides.

Each check returns the sentences that say what does not hold; none means that all is well.
"""

from __future__ import annotations

import email
import email.policy
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from smi_desktop.bootstrap import open_shop
from smi_desktop.cli.rehearsal import Rehearsal
from smi_desktop.domain.errors import IllegalTransitionError
from smi_desktop.domain.orders import (
    OrderStatus,
    PaymentStatus,
    check_order_transition,
    check_payment_transition,
)
from smi_desktop.domain.tokens import hash_token
from smi_desktop.services.delivery import is_live
from smi_desktop.services.shop import STRIPE_SECRET_KEY, STRIPE_WEBHOOK_SECRET, UPSAMPLER_API_KEY
from smi_desktop.services.shop import Shop as OpenShop
from smi_desktop.store import alerts, outbox, refunds, timeline, upscales
from smi_desktop.store.models import InboxEntry, Order, Task

_ENDED = frozenset({"failed", "canceled"})
_LEASE_SLACK = timedelta(seconds=120)


@dataclass(frozen=True)
class World:
    """Both sides' books at one moment."""

    shop: OpenShop
    session: Session
    rehearsal: Rehearsal
    state: dict[str, Any]

    def orders(self) -> list[Order]:
        """Return all orders."""
        return list(self.session.scalars(select(Order)))

    def paid_intents(self) -> dict[str, dict[str, Any]]:
        """Return the payments that the provider has taken, by id."""
        rows = self.state["payment_intents"]
        return {row["id"]: row for row in rows if row["status"] == "succeeded"}


def broken(rehearsal: Rehearsal) -> list[str]:
    """Check everything; return what does not hold."""
    state = rehearsal.sandbox_state()
    with open_shop(rehearsal.config()) as shop, shop.database.read() as session:
        world = World(shop, session, rehearsal, state)
        return [f"{name}: {what}" for name, check in CHECKS.items() for what in check(world)]


def i1_events_are_kept(world: World) -> Iterator[str]:
    """Every event that was answered 2xx is in the inbox, and the database is whole."""
    known = set(world.session.scalars(select(InboxEntry.event_id)))
    for delivery in world.state["deliveries"]:
        event = str(delivery["about"])
        if delivery["status"] == "delivered" and event.startswith("evt_") and event not in known:
            yield f"{event} was acknowledged and is not in the inbox"
    if world.shop.database.is_sqlite:
        answer = world.session.scalar(text("PRAGMA integrity_check"))
        if answer != "ok":
            yield f"the database says: {answer}"
        if world.session.execute(text("PRAGMA foreign_key_check")).first():
            yield "a row refers to one that is not there"


def i2_paid_ends_well(world: World) -> Iterator[str]:
    """Who paid has his picture, his money, or a person who was told."""
    paid = world.paid_intents()
    by_session = {row["id"]: row["payment_intent"] for row in world.state["sessions"]}
    told = {alert.order_id for alert in alerts.list_open(world.session, limit=10_000)}
    seen = set()
    for order in world.orders():
        intent = by_session.get(order.stripe_session_id or "")
        if intent not in paid:
            continue
        seen.add(intent)
        back = any(row.state not in _ENDED for row in refunds.of_order(world.session, order.id))
        good = (
            order.status in {OrderStatus.COMPLETED, OrderStatus.REFUNDED}
            or (back and order.status == OrderStatus.FAILED)
            or (order.held_at is not None and order.id in told)
        )
        if not good:
            yield f"{order.number} is paid and '{order.status}', and nobody was told"
    for intent in paid.keys() - seen:
        yield f"the payment {intent} belongs to no order"


def i3_refunds_are_single(world: World) -> Iterator[str]:
    """No more goes back than came, once for each cause, and never by itself for a delivered order."""
    taken = world.paid_intents()
    sums: Counter[str] = Counter()
    causes: Counter[str] = Counter()
    for refund in world.state["refunds"]:
        if refund["status"] in _ENDED:
            continue
        sums[refund["payment_intent"]] += refund["amount"]
        mark = (refund["metadata"] or {}).get("smi_refund")
        if mark:
            causes[mark] += 1
    for intent, amount in sums.items():
        if intent in taken and amount > taken[intent]["amount_received"]:
            yield f"{amount} of {intent} went back, more than came"
    yield from (f"{count} refunds for {mark}" for mark, count in causes.items() if count > 1)
    for order in world.orders():
        automatic = refunds.find_by_cause(world.session, order.id, "failure")
        sent = (
            automatic is not None and automatic.stripe_refund_id and automatic.state not in _ENDED
        )
        if sent and order.completed_at is not None:
            yield f"{order.number} was delivered and refunded by itself"


def i4_upscales_are_bought_once(world: World) -> Iterator[str]:
    """No more jobs at the upscaler than one for each attempt that was sent, and one more per lost answer."""
    jobs = Counter(hash_token(row["webhook"].rsplit("/")[-1]) for row in world.state["jobs"])
    for order in world.orders():
        rows = upscales.of_order(world.session, order.id)
        for row in rows:
            if jobs[row.callback_sha256] > 1:
                yield f"{order.number}: {jobs[row.callback_sha256]} jobs for attempt {row.attempt}"


def i5_mails_are_single(world: World) -> Iterator[str]:
    """One mail of each kind, or two with the same Message-ID where an answer was lost."""
    copies: Counter[str] = Counter()
    for path in world.rehearsal.mailbox_dir.glob("*.eml"):
        mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        copies[str(mail["Message-ID"])] += 1
    for order in world.orders():
        for row in outbox.of_order(world.session, order.id):
            most = 2 if row.response and "unconfirmed" in row.response else 1
            if copies[row.message_id] > max(most, 1 + _may_be_double(row.response)):
                yield f"{order.number}: {copies[row.message_id]} copies of '{row.kind}'"


def _may_be_double(response: str | None) -> int:
    return int(response is not None and "again" in response)


def i6_only_paid_is_delivered(world: World) -> Iterator[str]:
    """No live link without the whole money, and none once it went back or is disputed."""
    paid = world.paid_intents()
    for order in world.orders():
        if not is_live(order, world.shop.now()):
            continue
        intent = paid.get(order.payment_intent_id or "")
        if intent is None:
            yield f"{order.number} has a live link and no payment at Stripe"
        elif intent["currency"] != order.currency:
            yield f"{order.number} was paid in another currency"
        back = sum(
            row["amount"]
            for row in world.state["refunds"]
            if row["payment_intent"] == order.payment_intent_id and row["status"] not in _ENDED
        )
        if intent is not None and back >= intent["amount_received"]:
            yield f"{order.number} has a live link, and all its money went back"


def i7_states_are_legal(world: World) -> Iterator[str]:
    """Every change of state in a timeline is an arrow of the table, and they form one path."""
    for order in world.orders():
        entries = timeline.of_order(world.session, order.id)
        for kind in ("status", "payment"):
            steps = [row.facts for row in entries if row.kind == kind]
            for before, after in pairwise(steps):
                if before["to"] != after["from"]:
                    yield f"{order.number}: {kind} jumps from {before['to']} to {after['from']}"
            for step in steps:
                try:
                    if kind == "status":
                        check_order_transition(
                            OrderStatus(step["from"]), OrderStatus(step["to"]), PaymentStatus.PAID
                        )
                    else:
                        check_payment_transition(
                            PaymentStatus(step["from"]), PaymentStatus(step["to"])
                        )
                except IllegalTransitionError as error:
                    yield f"{order.number}: {error.message}"


def i8_links_open_files(world: World) -> Iterator[str]:
    """Behind every live link lies the file that was delivered."""
    for order in world.orders():
        if not is_live(order, world.shop.now()) or order.held_kind == "file_missing":
            continue
        path = world.shop.files.path(order.file_key or "")
        if hashlib.sha256(path.read_bytes()).hexdigest() != order.file_sha256:
            yield f"{order.number}: the file is not the one that was delivered"


def i9_nothing_is_told_in_logs(world: World) -> Iterator[str]:
    """No key, no token, no order's id and no address stands in a log."""
    secrets = [
        world.shop.secret(name)
        for name in (STRIPE_SECRET_KEY, STRIPE_WEBHOOK_SECRET, UPSAMPLER_API_KEY)
    ]
    ids = [order.id for order in world.orders()]
    for path in sorted(world.rehearsal.log_dir.glob("*.log")):
        if path.name == "sandbox.log":
            continue
        log = path.read_text(errors="replace")
        for secret in (*secrets, *ids):
            if secret in log:
                yield f"{path.name} holds a secret that begins with {secret[:6]}"
        found = re.search(r"[\w.]+@example\.com", log)
        if found:
            yield f"{path.name} holds the address {found[0]}"


def i10_nothing_is_stuck(world: World) -> Iterator[str]:
    """No lease outlives its holder, and nothing that is due waits for ever."""
    now = world.shop.now()
    for task in world.session.scalars(select(Task).where(Task.state == "leased")):
        if task.lease_until is not None and task.lease_until + _LEASE_SLACK < now:
            yield f"{task.kind} {task.id} is held by somebody who is gone"


Check = Callable[[World], Iterator[str]]
CHECKS: dict[str, Check] = {
    "I1": i1_events_are_kept,
    "I2": i2_paid_ends_well,
    "I3": i3_refunds_are_single,
    "I4": i4_upscales_are_bought_once,
    "I5": i5_mails_are_single,
    "I6": i6_only_paid_is_delivered,
    "I7": i7_states_are_legal,
    "I8": i8_links_open_files,
    "I9": i9_nothing_is_told_in_logs,
    "I10": i10_nothing_is_stuck,
}

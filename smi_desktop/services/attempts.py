"""The attempts at an order's picture: asking for one, beginning it, and going on when it fails.

Sole owner of who is tried next and of when a person must look. A lost answer leads to one more request at the
same upscaler, a failure to the next one of the order's route, and its end to a refund or to a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from smi_desktop.config import ShopSettings
from smi_desktop.domain.holds import HoldKind
from smi_desktop.domain.orders import OrderStatus, PaymentStatus
from smi_desktop.domain.tokens import hash_token
from smi_desktop.services.links import deliver_order
from smi_desktop.services.order_states import hold_order, lock_order, move_order
from smi_desktop.services.ports import RemoteJob
from smi_desktop.services.prices import EMBEDDED
from smi_desktop.services.refunds import fail_order
from smi_desktop.services.shop import Shop
from smi_desktop.services.webhooks import watch_key
from smi_desktop.services.work import TaskKind
from smi_desktop.store import tasks, timeline, upscales
from smi_desktop.store.models import Order, Upscale
from smi_desktop.store.tasks import Claim

_TRIES_AFTER_LOST_ANSWER: Final = 1
_WORK: Final = (
    TaskKind.SUBMIT_UPSCALE,
    TaskKind.WATCH_UPSCALE,
    TaskKind.COLLECT_RESULT,
    TaskKind.UPSCALE_HERE,
)
_FOR_CUSTOMER: Final = "Our upscaler could not enlarge this picture well enough."
# A part of the money that went back does not take the picture away.
MONEY_IS_HERE: Final = frozenset(
    {PaymentStatus.PAID, PaymentStatus.AUTHORIZED, PaymentStatus.PARTIALLY_REFUNDED}
)


def ask_for_attempt(session: Session, order: Order, *, now: datetime, provider: str = "") -> None:
    """Ask for the next attempt at an order's picture, by its route's first upscaler unless another is named."""
    order.attempt += 1
    provider = provider or order.upscaler_route.split(",")[0]
    here = provider == EMBEDDED
    tasks.add_once(
        session,
        TaskKind.UPSCALE_HERE if here else TaskKind.SUBMIT_UPSCALE,
        f"upscale:{order.id}:{order.attempt}",
        now=now,
        order_id=order.id,
        payload={"attempt": order.attempt, "provider": provider},
    )


def begin_attempt(shop: Shop, task: Claim) -> tuple[Order, Upscale] | None:
    """Commit that an attempt is made, and the watch that will look after it, before anything is done.

    Returns:
        The order and the attempt (`planned` at a remote upscaler: nothing was sent), or None where nothing
        is left to do: the order was held, refunded or finished meanwhile, or the attempt is under way.
    """
    now = shop.now()
    settings = shop.settings()
    attempt = int(task.payload["attempt"])
    provider = str(task.payload["provider"])
    with shop.database.write() as session:
        order = lock_order(session, task.order_id or "")
        if not _may_be_made(order, attempt):
            return None
        upscale = upscales.find_attempt(session, order.id, attempt)
        if upscale is None:
            upscale = Upscale(
                order_id=order.id,
                attempt=attempt,
                provider=provider,
                state="planned",
                callback_sha256=hash_token(shop.token("callback", order.id, attempt)),
                created_at=now,
                deadline_at=now + time_allowed(settings, order, provider),
                polls=0,
            )
            session.add(upscale)
            session.flush()
            if order.status == OrderStatus.PENDING:
                move_order(
                    session, order, OrderStatus.PROCESSING, "The picture is being made.", at=now
                )
            order.processing_at = order.processing_at or now
            order.progress = None
            if provider != EMBEDDED:
                tasks.add_once(
                    session,
                    TaskKind.WATCH_UPSCALE,
                    watch_key(upscale.id),
                    now=now,
                    run_at=now + timedelta(seconds=settings.upsampler_first_poll_seconds),
                    order_id=order.id,
                    payload={"upscale_id": upscale.id},
                )
        if provider == EMBEDDED:
            upscale.state = "running"
        elif upscale.state != "planned":
            return None
        return order, upscale


def begin_sending(shop: Shop, settings: ShopSettings, upscale_id: int) -> bool:
    """Commit that a planned attempt is handed over now; its time begins. False if it must not be any more."""
    now = shop.now()
    with shop.database.write() as session:
        upscale = session.get_one(Upscale, upscale_id)
        order = lock_order(session, upscale.order_id)
        if upscale.state != "planned" or not _may_be_made(order, upscale.attempt):
            return False
        upscale.state = "submitting"
        upscale.deadline_at = now + time_allowed(settings, order, upscale.provider)
    return True


def is_last_resort(order: Order, upscale: Upscale) -> bool:
    """Tell whether the order's route names nobody after this attempt's upscaler."""
    return order.upscaler_route.split(",")[-1] == upscale.provider


def fail_attempt(
    shop: Shop, session: Session, *, upscale_id: int, reason: str, job: RemoteJob | None = None
) -> None:
    """Record that an attempt failed for good; go on with the route's next upscaler, else with a person."""
    now = shop.now()
    upscale = session.get_one(Upscale, upscale_id)
    order = lock_order(session, upscale.order_id)
    _close(upscale, "failed", now, reason)
    if job is not None:
        upscale.provider_job_id = job.id or upscale.provider_job_id
        upscale.credit_cost = job.credit_cost
    timeline.add(
        session,
        order.id,
        "attempt_failed",
        reason,
        at=now,
        actor=upscale.provider,
        facts={"attempt": upscale.attempt},
    )
    _go_on(shop, session, order, reason)


def _go_on(
    shop: Shop, session: Session, order: Order, reason: str, *, deadline: bool = False
) -> None:
    """After a failed attempt: the route's next upscaler, else the end: money back, or a person."""
    if order.status != OrderStatus.PROCESSING or order.held_at is not None:
        return
    tried = {row.provider for row in upscales.of_order(session, order.id)}
    left = [name for name in order.upscaler_route.split(",") if name not in tried]
    if left:
        ask_for_attempt(session, order, now=shop.now(), provider=left[0])
    elif deadline:
        hold_order(session, order, HoldKind.DEADLINE, reason, at=shop.now())
    else:
        fail_order(shop, session, order, reason, for_customer=_FOR_CUSTOMER)


def doubt_attempt(
    shop: Shop, session: Session, *, upscale_id: int, doubts: Sequence[str], key: str
) -> bool:
    """Record that a result is doubtful; True if another upscaler tries instead, False if a person must look.

    In the second case the file under `key` is kept with the order, so that it can be looked at and released.
    """
    now = shop.now()
    upscale = session.get_one(Upscale, upscale_id)
    order = lock_order(session, upscale.order_id)
    _close(upscale, "doubtful", now, " ".join(doubts))
    facts = {"attempt": upscale.attempt, "doubts": list(doubts)}
    text = "The result did not pass its check."
    timeline.add(session, order.id, "doubtful", text, at=now, actor=upscale.provider, facts=facts)
    if order.status != OrderStatus.PROCESSING or order.held_at is not None:
        return True
    tried = {row.provider for row in upscales.of_order(session, order.id)}
    left = [name for name in order.upscaler_route.split(",") if name not in tried]
    if left:
        ask_for_attempt(session, order, now=now, provider=left[0])
        return True
    order.file_key = key
    hold_order(session, order, HoldKind.QUALITY, " ".join(doubts), at=now)
    return False


def go_on(shop: Shop, session: Session, order: Order) -> None:
    """Let a paid order that nothing stands against go on where it is. Safe many times."""
    if order.held_at is not None or order.disputed_at is not None:
        return
    if order.payment_status not in MONEY_IS_HERE:
        return
    if order.status == OrderStatus.PENDING and order.attempt == 0:
        ask_for_attempt(session, order, now=shop.now())
    elif order.status == OrderStatus.PROCESSING and order.file_key is not None:
        deliver_order(shop, session, order)
    elif order.status in {OrderStatus.PROCESSING, OrderStatus.PENDING} and not tasks.is_any_open(
        session, order.id, _WORK
    ):
        ask_for_attempt(session, order, now=shop.now())


def _may_be_made(order: Order, attempt: int) -> bool:
    return (
        order.status in {OrderStatus.PENDING, OrderStatus.PROCESSING}
        and order.payment_status in MONEY_IS_HERE
        and order.held_at is None
        and order.disputed_at is None
        and order.attempt == attempt
    )


def time_allowed(settings: ShopSettings, order: Order, provider: str) -> timedelta:
    """Return how long an upscaler may take for an order's picture."""
    if provider != EMBEDDED:
        return timedelta(seconds=settings.upsampler_deadline_seconds)
    megapixels = order.output_width * order.output_height / 1_000_000
    return timedelta(
        seconds=settings.embedded_deadline_seconds
        + settings.embedded_deadline_seconds_per_megapixel * megapixels
    )


def give_up_lost(shop: Shop, session: Session, *, upscale_id: int) -> None:
    """After the deadline of an attempt whose answer was lost: once more, then as any failure."""
    now = shop.now()
    upscale = session.get_one(Upscale, upscale_id)
    order = lock_order(session, upscale.order_id)
    if upscale.state != "submitting":
        # The upscaler has called since the attempt was looked at: go on watching.
        key = f"{watch_key(upscale.id)}:called"
        payload = {"upscale_id": upscale.id}
        tasks.add_once(
            session, TaskKind.WATCH_UPSCALE, key, now=now, order_id=order.id, payload=payload
        )
        return
    reason = "The upscaler never answered."
    _close(upscale, "given_up", now, reason)
    lost = [row for row in upscales.of_order(session, order.id) if row.state == "given_up"]
    if len(lost) <= _TRIES_AFTER_LOST_ANSWER and _may_be_made(order, upscale.attempt):
        timeline.add(session, order.id, "resubmitted", f"{reason} Sent once more.", at=now)
        ask_for_attempt(session, order, now=now, provider=upscale.provider)
        return
    _go_on(shop, session, order, reason, deadline=True)


def _close(upscale: Upscale, state: str, now: datetime, error: str | None = None) -> None:
    upscale.state = state
    upscale.finished_at = now
    upscale.error = error

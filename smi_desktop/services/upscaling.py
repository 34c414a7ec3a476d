"""Having the picture made: one attempt after another, each bought at most once.

An upscaler takes no idempotency key, so what we intend is committed before the call (`submitting`), and the
watch that will look after the attempt is committed with it. A lost answer is never answered by a second
request: we wait for the upscaler's call, and only after the deadline is the attempt given up.
"""

from __future__ import annotations

import hmac
import random
import tempfile
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from sqlalchemy.orm import Session

from smi_desktop.config import ShopSettings
from smi_desktop.domain.errors import (
    AmbiguousError,
    NotFoundError,
    ProviderAccountError,
    RejectedError,
    SmiError,
    TransientError,
)
from smi_desktop.domain.orders import OrderStatus, PaymentStatus
from smi_desktop.domain.retry import backoff
from smi_desktop.domain.tokens import hash_token
from smi_desktop.services.order_states import hold_order, lock_order, move_order
from smi_desktop.services.ports import RemoteJob, RemoteState, UpscaleRequest
from smi_desktop.services.prices import EMBEDDED
from smi_desktop.services.shop import Shop
from smi_desktop.services.webhooks import watch_key
from smi_desktop.services.work import Done, Later, Outcome, TaskKind
from smi_desktop.store import orders, tasks, timeline, upscales
from smi_desktop.store.models import Order, Upscale
from smi_desktop.store.tasks import Claim

ACCOUNT_WAIT = timedelta(minutes=5)
_TRIES_AFTER_LOST_ANSWER = 1
_LATE_LOOK = timedelta(minutes=10)
_LATE_RESULT = timedelta(hours=24)


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


def _check_reachable(shop: Shop, settings: ShopSettings, image_url: str) -> None:
    shop.work_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=shop.work_dir, prefix="reach-") as folder:
        try:
            shop.fetcher(settings).fetch(
                image_url, Path(folder) / "source", max_bytes=settings.source_max_bytes
            )
        except RejectedError as error:
            raise TransientError(
                f"The shop's own address {settings.public_url} does not give the picture: "
                f"{error.message}"
            ) from error


def begin_attempt(shop: Shop, task: Claim) -> tuple[Order, Upscale] | None:
    """Commit what is about to be done, before it is done.

    Returns:
        The order and the attempt, or None where nothing is left to do: the order was held, refunded or
        finished meanwhile, or the attempt is under way already.
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
                deadline_at=now + _time_allowed(settings, order, provider),
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
        if upscale.state != "planned" and provider != EMBEDDED:
            return None
        upscale.state = "running" if provider == EMBEDDED else "submitting"
        return order, upscale


def submit_upscale(shop: Shop, task: Claim) -> Outcome:
    """Hand the picture to the remote upscaler, once.

    Raises:
        TransientError: Our own address does not answer from outside, so the upscaler could not fetch the
            picture either and would fail the order for it; nothing was begun.
    """
    settings = shop.settings()
    with shop.database.read() as session:
        wanted = orders.get(session, task.order_id or "")
    if wanted is None or not _may_be_made(wanted, int(task.payload["attempt"])):
        return Done()
    image_url = (
        f"{settings.public_url}/smi/v1/source/{shop.token('source', wanted.id)}/{wanted.number}"
    )
    _check_reachable(shop, settings, image_url)
    begun = begin_attempt(shop, task)
    if begun is None:
        return Done()
    order, upscale = begun
    request = UpscaleRequest(
        image_url=image_url,
        factor=order.factor,
        callback_url=(
            f"{settings.public_url}/smi-webhook/upsampler/"
            f"{shop.token('callback', order.id, upscale.attempt)}"
        ),
    )
    try:
        job = shop.remote_upscaler(settings).submit(request)
    except AmbiguousError as error:
        return Done(partial(_note_lost_answer, upscale_id=upscale.id, error=error, now=shop.now()))
    except RejectedError as error:
        return Done(partial(fail_attempt, shop, upscale_id=upscale.id, reason=error.message))
    except (TransientError, ProviderAccountError) as error:
        # It surely did not start, so the next try may send it again.
        wait = _wait(error, task.failures + 1)
        return Later(
            shop.now() + wait,
            partial(_set_state, upscale_id=upscale.id, state="planned"),
            error.message,
        )
    if job.state is RemoteState.FAILED:
        reason = job.error or "The upscaler refused the picture."
        return Done(partial(fail_attempt, shop, upscale_id=upscale.id, reason=reason, job=job))
    return Done(partial(_note_submitted, upscale_id=upscale.id, job=job, now=shop.now()))


def watch_upscale(shop: Shop, task: Claim) -> Outcome:
    """Ask the upscaler how far it is; wait, collect, fail or hold accordingly.

    After the deadline the order is held for a person, but looked after for another day: a picture that
    comes late is still the picture that was paid for.
    """
    upscale_id = int(task.payload["upscale_id"])
    with shop.database.read() as session:
        upscale = upscales.get(session, upscale_id)
    if upscale is None or upscale.state not in {"planned", "submitting", "running"}:
        return Done()
    settings = shop.settings()
    now = shop.now()
    if upscale.provider_job_id is None:
        if now < upscale.deadline_at:
            return Later(min(_next_poll(settings, upscale, now), upscale.deadline_at))
        if upscale.state == "submitting":
            return Done(partial(_give_up_lost, shop, upscale_id=upscale_id))
        return _overdue(upscale, now)
    try:
        job = shop.remote_upscaler(settings).status(upscale.provider_job_id)
    except (TransientError, ProviderAccountError) as error:
        if now >= upscale.deadline_at:
            return _overdue(upscale, now)
        wait = max(_next_poll(settings, upscale, now), now + _wait(error, 1))
        return Later(wait, error=error.message)
    if job.state is RemoteState.FAILED:
        reason = job.error or "The upscaler could not make the picture."
        return Done(partial(fail_attempt, shop, upscale_id=upscale_id, reason=reason, job=job))
    if job.state is RemoteState.SUCCEEDED and job.image_url:
        return Done(partial(_note_succeeded, upscale_id=upscale_id, job=job, now=now))
    if now >= upscale.deadline_at:
        return _overdue(upscale, now)
    return Later(_next_poll(settings, upscale, now), partial(_count_poll, upscale_id=upscale_id))


def find_source(shop: Shop, token: str, number: str) -> tuple[Path, str]:
    """Return the snapshot of an order's source, for the upscaler that was given its address.

    Returns:
        The file and its format (`jpeg`, `png` or `webp`).

    Raises:
        NotFoundError: The address is not one that we gave out, or its order is not being worked on.
    """
    with shop.database.read() as session:
        order = orders.find_by_number(session, number)
    if (
        order is None
        or order.status not in {OrderStatus.PENDING, OrderStatus.PROCESSING}
        or not hmac.compare_digest(shop.token("source", order.id).encode(), token.encode())
    ):
        raise NotFoundError("There is no such picture.")
    return shop.files.path(order.source_key), order.source_format


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
    _go_on(session, order, reason, now)


def _go_on(session: Session, order: Order, reason: str, now: datetime) -> None:
    if order.status != OrderStatus.PROCESSING or order.held_at is not None:
        return
    tried = {row.provider for row in upscales.of_order(session, order.id)}
    left = [name for name in order.upscaler_route.split(",") if name not in tried]
    if left:
        ask_for_attempt(session, order, now=now, provider=left[0])
        return
    move_order(session, order, OrderStatus.FAILED, "The picture could not be made.", at=now)
    hold_order(session, order, reason, at=now)


def _may_be_made(order: Order, attempt: int) -> bool:
    return (
        order.status in {OrderStatus.PENDING, OrderStatus.PROCESSING}
        and order.payment_status in {PaymentStatus.PAID, PaymentStatus.AUTHORIZED}
        and order.held_at is None
        and order.disputed_at is None
        and order.attempt == attempt
    )


def _time_allowed(settings: ShopSettings, order: Order, provider: str) -> timedelta:
    if provider != EMBEDDED:
        return timedelta(seconds=settings.upsampler_deadline_seconds)
    megapixels = order.output_width * order.output_height / 1_000_000
    return timedelta(
        seconds=settings.embedded_deadline_seconds
        + settings.embedded_deadline_seconds_per_megapixel * megapixels
    )


def _next_poll(settings: ShopSettings, upscale: Upscale, now: datetime) -> datetime:
    seconds = settings.upsampler_first_poll_seconds * 1.5 ** min(upscale.polls, 20)
    return now + timedelta(seconds=min(settings.upsampler_longest_poll_seconds, max(seconds, 0.5)))


def _wait(error: SmiError, failures: int) -> timedelta:
    if isinstance(error, ProviderAccountError):
        return ACCOUNT_WAIT
    asked = error.retry_after if isinstance(error, TransientError) else None
    return backoff(failures, jitter=random.random(), asked=asked)  # noqa: S311 - not a secret


def _close(upscale: Upscale, state: str, now: datetime, error: str | None = None) -> None:
    upscale.state = state
    upscale.finished_at = now
    upscale.error = error


def _set_state(session: Session, *, upscale_id: int, state: str) -> None:
    session.get_one(Upscale, upscale_id).state = state


def _count_poll(session: Session, *, upscale_id: int) -> None:
    session.get_one(Upscale, upscale_id).polls += 1


def _note_submitted(session: Session, *, upscale_id: int, job: RemoteJob, now: datetime) -> None:
    upscale = session.get_one(Upscale, upscale_id)
    known = upscales.find_by_job(session, upscale.provider, job.id)
    if known is not None and known.id != upscale_id:
        # The upscaler names a job of another order: its word is worth nothing, so wait as for a lost answer.
        error = AmbiguousError("The upscaler answered with the job of another order.")
        _note_lost_answer(session, upscale_id=upscale_id, error=error, now=now)
        return
    if upscale.state == "submitting":
        upscale.state = "running"
    upscale.provider_job_id = job.id
    upscale.credit_cost = job.credit_cost
    upscale.submitted_at = now
    timeline.add(
        session,
        upscale.order_id,
        "submitted",
        "Handed to the upscaler.",
        at=now,
        actor=upscale.provider,
        facts={"attempt": upscale.attempt, "job_id": job.id, "credits": job.credit_cost},
    )
    if job.state is RemoteState.SUCCEEDED:
        tasks.wake(session, watch_key(upscale_id), now)


def _note_lost_answer(
    session: Session, *, upscale_id: int, error: AmbiguousError, now: datetime
) -> None:
    upscale = session.get_one(Upscale, upscale_id)
    upscale.submitted_at = now
    timeline.add(
        session,
        upscale.order_id,
        "answer_lost",
        f"{error.message} Waiting for the upscaler's call; nothing is sent twice.",
        at=now,
        actor=upscale.provider,
        facts={"attempt": upscale.attempt},
    )


def _give_up_lost(shop: Shop, session: Session, *, upscale_id: int) -> None:
    """After the deadline of an attempt whose answer was lost: once more, then as any failure."""
    now = shop.now()
    upscale = session.get_one(Upscale, upscale_id)
    if upscale.state != "submitting":
        return
    order = lock_order(session, upscale.order_id)
    reason = "The upscaler never answered."
    _close(upscale, "given_up", now, reason)
    lost = [row for row in upscales.of_order(session, order.id) if row.state == "given_up"]
    if len(lost) <= _TRIES_AFTER_LOST_ANSWER and _may_be_made(order, upscale.attempt):
        timeline.add(session, order.id, "resubmitted", f"{reason} Sent once more.", at=now)
        ask_for_attempt(session, order, now=now, provider=upscale.provider)
        return
    _go_on(session, order, reason, now)


def _note_succeeded(session: Session, *, upscale_id: int, job: RemoteJob, now: datetime) -> None:
    upscale = session.get_one(Upscale, upscale_id)
    if job.credit_cost is not None:
        upscale.credit_cost = job.credit_cost
    upscale.polls += 1
    tasks.add_once(
        session,
        TaskKind.COLLECT_RESULT,
        f"collect:{upscale_id}",
        now=now,
        order_id=upscale.order_id,
        payload={"upscale_id": upscale_id},
    )


def _overdue(upscale: Upscale, now: datetime) -> Outcome:
    hold = partial(_hold_overdue, upscale_id=upscale.id, now=now)
    if now >= upscale.deadline_at + _LATE_RESULT:
        return Done(hold)
    return Later(now + _LATE_LOOK, hold)


def _hold_overdue(session: Session, *, upscale_id: int, now: datetime) -> None:
    upscale = session.get_one(Upscale, upscale_id)
    order = orders.get_locked(session, upscale.order_id)
    if order is not None and order.status == OrderStatus.PROCESSING and order.held_at is None:
        hold_order(session, order, "The upscaler has not finished in the time it is given.", at=now)

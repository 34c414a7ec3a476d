"""Talking to the remote upscaler: hand a picture over at most once, then wait for its call or ask.

An upscaler takes no idempotency key, so what we intend is committed before the call (`submitting`), and the
watch that will look after the attempt is committed before that. A lost answer is never answered by a second
request: we wait for the upscaler's call, and only after the deadline is the attempt given up.
"""

from __future__ import annotations

import hmac
import random
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from sqlalchemy.orm import Session

from smi_desktop.config import ShopSettings
from smi_desktop.domain.errors import (
    AmbiguousError,
    ConfigurationError,
    NotFoundError,
    ProviderAccountError,
    RejectedError,
    SmiError,
    TransientError,
)
from smi_desktop.domain.holds import HoldKind
from smi_desktop.domain.orders import OrderStatus
from smi_desktop.domain.retry import backoff
from smi_desktop.services.attempts import (
    begin_attempt,
    begin_sending,
    fail_attempt,
    give_up_lost,
    is_last_resort,
    time_allowed,
)
from smi_desktop.services.circuits import UPSAMPLER, closed_until, is_open
from smi_desktop.services.order_states import hold_order
from smi_desktop.services.ports import RemoteJob, RemoteState, UpscaleRequest
from smi_desktop.services.shop import Shop
from smi_desktop.services.webhooks import watch_key
from smi_desktop.services.work import Done, Later, Outcome, TaskKind
from smi_desktop.store import orders, tasks, timeline, upscales
from smi_desktop.store.models import Order, Upscale
from smi_desktop.store.tasks import Claim

_ACCOUNT_WAIT: Final = timedelta(minutes=5)
_UNSENT: Final = timedelta(hours=24)
_LATE_LOOK: Final = timedelta(minutes=10)
_LATE_RESULT: Final = timedelta(hours=24)


def _check_reachable(shop: Shop, settings: ShopSettings, image_url: str) -> None:
    with shop.temporary_folder("reach") as folder:
        try:
            shop.fetcher(settings).fetch(
                image_url, folder / "source", max_bytes=settings.source_max_bytes
            )
        except RejectedError as error:
            raise TransientError(
                f"The shop's own address {settings.public_url} does not give the picture: "
                f"{error.message}"
            ) from error


def submit_upscale(shop: Shop, task: Claim) -> Outcome:
    """Hand the picture to the remote upscaler, once."""
    begun = begin_attempt(shop, task)
    if begun is None:
        return Done()
    order, upscale = begun
    settings = shop.settings()
    if is_open(shop, UPSAMPLER) and not is_last_resort(order, upscale):
        reason = "This upscaler refuses the shop's account at the moment."
        return Done(partial(fail_attempt, shop, upscale_id=upscale.id, reason=reason))
    if (until := closed_until(shop, UPSAMPLER)) is not None:
        return Later(until)
    try:
        request = _request(shop, settings, order, upscale)
        upscaler = shop.remote_upscaler(settings)
        _check_reachable(shop, settings, request.image_url)
        if not begin_sending(shop, settings, upscale.id):
            return Done()
        job = upscaler.submit(request)
    except AmbiguousError as error:
        return Done(partial(_note_lost_answer, upscale_id=upscale.id, error=error, now=shop.now()))
    except RejectedError as error:
        return Done(partial(fail_attempt, shop, upscale_id=upscale.id, reason=error.message))
    except (TransientError, ProviderAccountError, ConfigurationError) as error:
        return _try_again(shop, order, upscale, error, task.failures + 1)
    if job.state is RemoteState.FAILED:
        reason = job.error or "The upscaler refused the picture."
        return Done(partial(fail_attempt, shop, upscale_id=upscale.id, reason=reason, job=job))
    note = partial(_note_submitted, upscale_id=upscale.id, job=job, now=shop.now())
    return Done(note, called=True)


def _request(shop: Shop, settings: ShopSettings, order: Order, upscale: Upscale) -> UpscaleRequest:
    source = f"{shop.token('source', order.id)}/{order.number}"
    return UpscaleRequest(
        image_url=f"{settings.public_url}/smi/v1/source/{source}",
        factor=order.factor,
        callback_url=(
            f"{settings.public_url}/smi-webhook/upsampler/"
            f"{shop.token('callback', order.id, upscale.attempt)}"
        ),
    )


def _try_again(
    shop: Shop, order: Order, upscale: Upscale, error: SmiError, failures: int
) -> Outcome:
    """It surely did not start, so the next try may send it again; but nobody waits for ever.

    After the time that the upscaler is given the route's next one is tried, which costs nothing, or, where
    there is none, after a day a person is asked.
    """
    now = shop.now()
    if not isinstance(error, TransientError):
        # Our account, not this order: it waits until the owner has mended that, and nobody is refunded.
        wait = timedelta(seconds=shop.settings().account_wait_seconds)
        record = partial(_plan_again, upscale_id=upscale.id)
        return Later(now + wait, record, error.message, refused=True)
    patience = (
        _UNSENT
        if is_last_resort(order, upscale)
        else time_allowed(shop.settings(), order, upscale.provider)
    )
    if now >= upscale.created_at + patience:
        return Done(partial(fail_attempt, shop, upscale_id=upscale.id, reason=error.message))
    record = partial(_plan_again, upscale_id=upscale.id)
    return Later(now + _wait(error, failures), record, error.message)


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
        if upscale.state == "submitting" and now >= upscale.deadline_at:
            return Done(partial(give_up_lost, shop, upscale_id=upscale_id))
        return _wait_for_the_start(shop, settings, upscale)
    try:
        job = shop.remote_upscaler(settings).status(upscale.provider_job_id)
    except (TransientError, ProviderAccountError, ConfigurationError) as error:
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


def _wait_for_the_start(shop: Shop, settings: ShopSettings, upscale: Upscale) -> Outcome:
    """Wait while the picture is being handed over, or until the answer to that is given up."""
    now = shop.now()
    with shop.database.read() as session:
        order = orders.get(session, upscale.order_id)
    if order is None or order.status != OrderStatus.PROCESSING:
        return Done()
    if order.held_at is not None:
        return Later(now + _LATE_LOOK)
    return Later(_next_poll(settings, upscale, now))


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


def _next_poll(settings: ShopSettings, upscale: Upscale, now: datetime) -> datetime:
    seconds = settings.upsampler_first_poll_seconds * 1.5 ** min(upscale.polls, 20)
    return now + timedelta(seconds=min(settings.upsampler_longest_poll_seconds, max(seconds, 0.5)))


def _wait(error: SmiError, failures: int) -> timedelta:
    if not isinstance(error, TransientError):
        return _ACCOUNT_WAIT
    jitter = random.random()  # noqa: S311 - not a secret
    return backoff(failures, jitter=jitter, asked=error.retry_after)


def _plan_again(session: Session, *, upscale_id: int) -> None:
    upscale = session.get_one(Upscale, upscale_id)
    # The upscaler may have called meanwhile: then it has the job after all.
    if upscale.state == "submitting":
        upscale.state = "planned"


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
        reason = "The upscaler has not finished in the time it is given."
        hold_order(session, order, HoldKind.DEADLINE, reason, at=now)

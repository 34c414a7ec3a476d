"""Runs one claimed task and settles it, whatever happens. Sole owner of retries and of giving up.

A result is recorded in the transaction that finishes the task. An error of the outside world is tried again
with growing waits; a bug of ours too, a few times, in case it was a passing state; then the task is dead,
its order held for a person, never silent.
"""

from __future__ import annotations

import logging
import random
import time
from datetime import timedelta
from typing import Final

from sqlalchemy.orm import Session

from smi_desktop.domain.errors import (
    ConfigurationError,
    ProviderAccountError,
    SmiError,
    TransientError,
)
from smi_desktop.domain.holds import HoldKind
from smi_desktop.domain.retry import backoff
from smi_desktop.engine.handlers import HANDLERS
from smi_desktop.services.circuits import (
    PROVIDER_OF,
    UPSAMPLER,
    closed_until,
    note_accepted,
    note_refusal,
)
from smi_desktop.services.order_states import hold_order, lock_order
from smi_desktop.services.shop import Shop
from smi_desktop.services.work import Done, Later, Outcome, TaskKind
from smi_desktop.store import alerts, inbox, tasks
from smi_desktop.store.tasks import Claim, LeaseLostError

_log = logging.getLogger(__name__)

# 2 s, 4 s, … 15 min: some seven hours of an absent network before a person is asked.
_PATIENCE_OUTSIDE: Final = 36
_PATIENCE_OWN_BUG: Final = 5
# A laptop's battery ends now and then; work that always ends its engine is another thing.
_MOST_DEATHS: Final = 12
# Seconds. Each try waits for the database some seconds by itself; longer than all that, the lease ends.
_SETTLE_AGAIN: Final = (0.5, 1.0, 2.0, 4.0, 8.0)


class DeadlyTaskError(SmiError):
    """A piece of work that has ended engine after engine."""

    title = "This work ends the engine"


def run_task(shop: Shop, task: Claim) -> None:
    """Run one task to its settlement. Never raises: the worker that calls it goes on."""
    try:
        outcome = _do(shop, task)
        _settle_patiently(shop, task, outcome)
    except LeaseLostError:
        _log.warning("%s was taken over by another engine.", _name(task))
    except Exception as error:
        try:
            _settle_failure(shop, task, error)
        except LeaseLostError:
            _log.warning("%s failed after another engine took it over.", _name(task))
        except Exception:
            # The database is away: the lease ends by itself and the task is claimed again.
            _log.exception("%s could not be settled.", _name(task))


def _do(shop: Shop, task: Claim) -> Outcome:
    if task.deaths >= _MOST_DEATHS:
        raise DeadlyTaskError(f"{task.deaths} engines have died of this piece of work.")
    kind = TaskKind(task.kind)
    # Handing a picture over may have a way on where its upscaler refuses us, so it looks by itself. Watching
    # one asks nobody before it was handed over: it must not use up the one try of a round.
    provider = PROVIDER_OF.get(kind)
    provider = None if provider == UPSAMPLER else provider
    if provider is not None and (until := closed_until(shop, provider)) is not None:
        return Later(until)
    return HANDLERS[kind](shop, task)


def _settle_patiently(shop: Shop, task: Claim, outcome: Outcome) -> None:
    """Record an outcome, also where the database is away for a moment.

    The effect has happened: whoever forgets it sends a mail or buys a picture a second time.
    """
    for wait in _SETTLE_AGAIN:
        try:
            _settle(shop, task, outcome)
        except TransientError as error:
            _log.warning("The outcome of %s waits: %s", _name(task), error.message)
            time.sleep(wait)
        else:
            return
    _settle(shop, task, outcome)


def _settle(shop: Shop, task: Claim, outcome: Outcome) -> None:
    with shop.database.write() as session:
        # Finishing comes first: whoever lost the lease must not record anything.
        if isinstance(outcome, Done):
            tasks.finish(session, task, now=shop.now())
        else:
            error = outcome.error
            tasks.postpone(
                session, task, run_at=outcome.run_at, error=error, counts=not outcome.refused
            )
        session.flush()
        outcome.record(session)
        _tell_circuit(shop, session, task, outcome)
    if isinstance(outcome, Done) and outcome.afterwards is not None:
        try:
            outcome.afterwards()
        except Exception:
            _log.exception("Tidying up after %s failed; the next sweep does it.", _name(task))


def _tell_circuit(shop: Shop, session: Session, task: Claim, outcome: Outcome) -> None:
    provider = PROVIDER_OF.get(TaskKind(task.kind))
    if provider is None:
        return
    if isinstance(outcome, Later) and outcome.refused:
        note_refusal(shop, session, provider, outcome.error or "")
    elif isinstance(outcome, Done) and outcome.called:
        note_accepted(shop, session, provider)


def _settle_failure(shop: Shop, task: Claim, error: Exception) -> None:
    failures = task.failures + 1
    message = error.message if isinstance(error, SmiError) else f"{type(error).__name__}: {error}"
    now = shop.now()
    if isinstance(error, ProviderAccountError | ConfigurationError):
        # Not this order's fault: it waits until the owner has mended the account, and uses up no patience.
        _log.warning("%s waits: %s", _name(task), message)
        waited = now + timedelta(seconds=shop.settings().account_wait_seconds)
        _settle(shop, task, Later(waited, error=message, refused=True))
        return
    outside = isinstance(error, TransientError)
    if not outside:
        told = isinstance(error, SmiError)
        _log.error("%s failed: %s", _name(task), message, exc_info=None if told else error)
    deadly = isinstance(error, DeadlyTaskError)
    if not deadly and failures < (_PATIENCE_OUTSIDE if outside else _PATIENCE_OWN_BUG):
        asked = error.retry_after if isinstance(error, TransientError) else None
        wait = backoff(failures, jitter=random.random(), asked=asked)  # noqa: S311 - no secret
        _postpone(shop, task, wait, message)
        return
    with shop.database.write() as session:
        tasks.bury(session, task, error=message, now=now)
        if task.kind == TaskKind.APPLY_EVENT:
            inbox.mark(session, int(task.payload["inbox_id"]), "dead", at=now, note=message)
        reason = message if deadly else f"Given up after {failures} tries: {message}"
        if task.order_id is not None:
            order = lock_order(session, task.order_id)
            hold_order(session, order, HoldKind.GIVEN_UP, reason, at=now)
        else:
            alerts.raise_once(session, f"task:{task.id}", f"Work was given up. {reason}", at=now)


def _name(task: Claim) -> str:
    """Name a task in the log; its key may hold an order's id, which is its buyer's secret."""
    return f"task {task.id} ({task.kind})"


def _postpone(shop: Shop, task: Claim, wait: timedelta, message: str) -> None:
    with shop.database.write() as session:
        tasks.postpone(session, task, run_at=shop.now() + wait, error=message)

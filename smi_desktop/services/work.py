"""The kinds of work and what a piece of it may come to.

A handler does the effect outside of any transaction and hands back how to write the result down; the engine
runs that in the one transaction that also finishes the task. So a result is recorded with its task or not
at all, and whoever lost the lease in the meantime records nothing.

The rule for every `record`: it may run again after its transaction was rolled back, and the world may have
moved since the effect. So it reads the rows anew, behind the lock, and keeps nothing of an earlier run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy.orm import Session

Record = Callable[[Session], None]


class TaskKind(StrEnum):
    """What can be asked for."""

    APPLY_EVENT = "apply_event"
    SETTLE_ORDER = "settle_order"
    SUBMIT_UPSCALE = "submit_upscale"
    WATCH_UPSCALE = "watch_upscale"
    COLLECT_RESULT = "collect_result"
    UPSCALE_HERE = "upscale_here"
    SEND_MAIL = "send_mail"
    REMOVE_FILE = "remove_file"
    SEND_REFUND = "send_refund"
    TAKE_MONEY = "take_money"


IMAGE_KINDS = frozenset({TaskKind.COLLECT_RESULT, TaskKind.UPSCALE_HERE})
"""Work that fills the processors: one at a time on a machine."""

NETWORK_KINDS = frozenset(TaskKind) - IMAGE_KINDS
"""Work that waits for others: many at a time."""


def record_nothing(_session: Session) -> None:
    """Record nothing besides that the task is done."""


@dataclass(frozen=True, slots=True)
class Done:
    """The task is finished.

    Attributes:
        record: Writes the result down, in the transaction that finishes the task.
        afterwards: Tidies up after the commit; its failure changes nothing.
        called: The provider was asked and took the call.
    """

    record: Record = record_nothing
    afterwards: Callable[[], None] | None = None
    called: bool = False


@dataclass(frozen=True, slots=True)
class Later:
    """The task goes on at another time.

    Attributes:
        error: What went wrong, if that is why; then it counts as a failure.
        refused: The provider refuses our account; that is not the task's failure.
    """

    run_at: datetime
    record: Record = record_nothing
    error: str | None = None
    refused: bool = False


Outcome = Done | Later

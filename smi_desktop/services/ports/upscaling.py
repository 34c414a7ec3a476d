"""Upscalers, remote and on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class UpscaleRequest:
    """One picture for a remote upscaler. `image_url` and `callback_url` must be reachable by it."""

    image_url: str
    factor: int
    callback_url: str


class RemoteState(StrEnum):
    """What a remote upscaler says of a job; UNKNOWN is a word that we do not know: still running."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class RemoteJob:
    """A job as the remote upscaler tells it.

    Attributes:
        image_url: A temporary address of the full result, once succeeded.
        credit_cost: Credits taken, if told.
        error: The upscaler's own words, if it failed.
        said: The status word as it came.
    """

    id: str
    state: RemoteState
    image_url: str | None
    credit_cost: int | None
    error: str | None
    said: str


class RemoteUpscaler(Protocol):
    """An upscaler somewhere else: submit, then wait for its call or ask."""

    @property
    def name(self) -> str:
        """The name under which its work is booked."""
        ...

    def submit(self, request: UpscaleRequest) -> RemoteJob:
        """Start a job.

        Raises:
            TransientError: It surely did not start; try again later.
            AmbiguousError: The request went out and no usable answer came.
            ProviderAccountError: Our key or credit.
            RejectedError: This picture is refused for good.
        """
        ...

    def status(self, job_id: str) -> RemoteJob:
        """Ask for a job.

        Raises:
            TransientError: No usable answer, or the job is not known (yet).
            ProviderAccountError: Our key.
        """
        ...


class LocalUpscaler(Protocol):
    """An upscaler on this machine: it runs while the caller waits."""

    @property
    def name(self) -> str:
        """The name under which its work is booked."""
        ...

    def upscale(
        self,
        source: Path,
        destination: Path,
        *,
        factor: int,
        on_progress: Callable[[float], None],
        cancelled: Callable[[], bool],
        seconds: float,
    ) -> None:
        """Write the enlarged picture to `destination` as a lossless file, or as JPEG by its suffix.

        Args:
            source: The picture to enlarge.
            destination: Where the result goes; `.jpg` makes it a JPEG.
            factor: 4 or 8.
            on_progress: Told the share that is done, 0..1, a few times a second at most.
            cancelled: Asked a few times a second; True ends the work.
            seconds: The longest that it may take.

        Raises:
            BadResultError: The source cannot be read.
            TransientError: The work was cancelled, killed or took too long.
        """
        ...

"""A remote upscaler whose jobs a test brings to an end, and a local one that is done at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from smi_desktop.domain.errors import BadResultError, TransientError
from smi_desktop.services.ports import RemoteJob, RemoteState, UpscaleRequest
from tests.fakes.fetcher import FakeFetcher
from tests.fakes.image_reader import fake_image
from tests.fakes.scripted import Scripted

_FAKE_SIZE = re.compile(rb"IMAGE \w+ (\d+)x(\d+) ")


class FakeRemoteUpscaler(Scripted):
    """Implements RemoteUpscaler.

    `lose_reply(AmbiguousError(…), method="submit")` starts the job and loses the answer.

    Attributes:
        jobs: Every job started, by id.
        requests: What was asked for, by job id.
        fetcher: Serves the results at the addresses that the jobs name.
    """

    def __init__(self, fetcher: FakeFetcher | None = None) -> None:
        super().__init__()
        self.jobs: dict[str, RemoteJob] = {}
        self.requests: dict[str, UpscaleRequest] = {}
        self.fetcher = fetcher or FakeFetcher()

    @property
    def name(self) -> str:
        """The name of the real one."""
        return "upsampler"

    def submit(self, request: UpscaleRequest) -> RemoteJob:
        """Queue a job."""
        self._begin("submit")
        job_id = f"job-{len(self.jobs) + 1}"
        job = RemoteJob(job_id, RemoteState.QUEUED, None, None, None, "IN_QUEUE")
        self.jobs[job_id] = job
        self.requests[job_id] = request
        self._end("submit")
        return job

    def status(self, job_id: str) -> RemoteJob:
        """Tell how a job stands."""
        self._begin("status")
        if job_id not in self.jobs:
            raise TransientError(f"The job {job_id} is not known yet.")
        return self.jobs[job_id]

    def run(self, job_id: str) -> RemoteJob:
        """Let a job begin."""
        return self._set(job_id, state=RemoteState.RUNNING, said="IN_PROGRESS")

    def succeed(self, job_id: str, image: bytes, *, credit_cost: int | None = 4) -> RemoteJob:
        """End a job well; `image` lies at its address."""
        url = f"https://results.example/{job_id}.png"
        self.fetcher.pages[url] = image
        return self._set(
            job_id,
            state=RemoteState.SUCCEEDED,
            said="SUCCESS",
            image_url=url,
            credit_cost=credit_cost,
        )

    def fail(self, job_id: str, error: str = "Your credits have been refunded.") -> RemoteJob:
        """End a job badly."""
        return self._set(job_id, state=RemoteState.FAILED, said="FAILED", error=error)

    def say(self, job_id: str, word: str) -> RemoteJob:
        """Answer with a status word that nobody knows."""
        return self._set(job_id, state=RemoteState.UNKNOWN, said=word)

    def expire_result(self, job_id: str) -> None:
        """Make the address of a result answer 404, as after three hours."""
        self.fetcher.pages.pop(self.jobs[job_id].image_url or "", None)

    def _set(
        self,
        job_id: str,
        *,
        state: RemoteState,
        said: str,
        image_url: str | None = None,
        credit_cost: int | None = None,
        error: str | None = None,
    ) -> RemoteJob:
        self.jobs[job_id] = replace(
            self.jobs[job_id],
            state=state,
            said=said,
            image_url=image_url,
            credit_cost=credit_cost,
            error=error,
        )
        return self.jobs[job_id]


class FakeLocalUpscaler(Scripted):
    """Implements LocalUpscaler for `fake_image` sources."""

    @property
    def name(self) -> str:
        """The name of the real one."""
        return "embedded"

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
        """Write the enlarged line."""
        self._begin("upscale")
        if cancelled() or seconds <= 0:
            raise TransientError("The upscaling was stopped.")
        found = _FAKE_SIZE.match(source.read_bytes())
        if found is None:
            raise BadResultError("The source cannot be read.")
        on_progress(0.5)
        kind = "jpeg" if destination.suffix in {".jpg", ".jpeg"} else "png"
        width, height = int(found[1]) * factor, int(found[2]) * factor
        destination.write_bytes(fake_image(width, height, format=kind, content="enlarged"))
        on_progress(1.0)
        self._end("upscale")

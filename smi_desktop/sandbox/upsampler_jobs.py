"""Upsampler's work: one picture at a time, its credits, its result and its callback.

Sole owner of what becomes of a job. Jobs that a killed rehearsal left unfinished are queued again.
"""

from __future__ import annotations

import json
import logging
import math
import secrets
import threading
from pathlib import Path
from typing import Final

from smi_desktop.domain.errors import SmiError
from smi_desktop.sandbox.clock import SandboxClock
from smi_desktop.sandbox.constants import RESULTS_FOLDER
from smi_desktop.sandbox.courier import CALLBACK_TRIES, Courier
from smi_desktop.sandbox.enlarge import BadPictureError, compress, enlarge, resize
from smi_desktop.sandbox.faults import Fault, FaultScript, Layer
from smi_desktop.sandbox.store import Json, ObjectStore, Selection

_LOG: Final = logging.getLogger(__name__)
LINK_SECONDS: Final = 3 * 60 * 60
"""A result's address is temporary: 3 hours. https://upsampler.com/image-upscaling-api"""
_KEPT_SECONDS: Final = 24 * 60 * 60
_PIXELS_PER_CREDIT: Final = 4_000_000
"""Precise costs 1 credit for 4 output megapixels, at least 1 (README of cedarconnor/upsampler)."""
FIRST_CREDITS: Final = 1_000_000
_REFUNDED: Final = "Your credits have been refunded."
_IDLE_SECONDS: Final = 0.1
_REMOVED_A_ROUND: Final = 100
_UNFINISHED: Final = ("IN_QUEUE", "IN_PROGRESS")


def credit_cost(pixels: int) -> int:
    """Return the credits for a result of so many pixels."""
    return max(1, math.ceil(pixels / _PIXELS_PER_CREDIT))


class NoCreditError(Exception):
    """The account cannot pay for the job."""


class UpscaleJobs:
    """The queue and its one worker. Safe to use from any thread.

    Args:
        folder: The rehearsal's data folder; results lie in `upsampler-results/`.
        quick: Enlarge by Lanczos instead of the network.

    Attributes:
        base_url: Where results are served; set once the port is known.
    """

    def __init__(
        self,
        folder: Path,
        store: ObjectStore,
        clock: SandboxClock,
        faults: FaultScript,
        courier: Courier,
        *,
        quick: bool,
    ) -> None:
        self._folder = folder / RESULTS_FOLDER
        self._folder.mkdir(parents=True, exist_ok=True)
        self._store = store
        self._clock = clock
        self._faults = faults
        self._courier = courier
        self._quick = quick
        self._stirred = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.base_url = ""

    def start(self) -> None:
        """Start working; unfinished jobs are queued again."""
        for job in self._store.rows("job", Selection(statuses=_UNFINISHED)):
            if not job.get("stuck"):
                self._file({**job, "status": "IN_QUEUE"})
        self._thread.start()

    def stop(self) -> None:
        """End the work that runs; its job is queued again at the next start."""
        self._stopping.set()
        self._stirred.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2)

    # --- what the API asks

    def credits(self) -> int:
        """Return the credits that are left."""
        return int(self._store.fact("credits", str(FIRST_CREDITS)))

    def set_credits(self, credits_left: int) -> None:
        """Fill the account up, or empty it."""
        self._store.set_fact("credits", str(credits_left))

    def source_path(self) -> Path:
        """Return a free path for a source."""
        return self._folder / f"{secrets.token_hex(8)}.source"

    def submit(self, source: Path, factor: float, pixels: int, webhook: str) -> Json:
        """Queue a job and take its credits.

        Raises:
            NoCreditError: There are not enough.
        """
        with self._store.transaction():
            job_id = self._store.new_id("job-", 20)
            script = self._faults.take("upsampler", "job", Layer.JOB, {"id": job_id})
            cost = credit_cost(pixels)
            if script is not None and script.name == "charge_times":
                cost *= int(script.params.get("factor", 2))
            if cost > self.credits():
                raise NoCreditError
            self.set_credits(self.credits() - cost)
            job = {
                "id": job_id,
                "created": self._clock.now(),
                "status": "IN_QUEUE",
                "creditCost": cost,
                "factor": factor,
                "source": source.name,
                "webhook": webhook,
                "script": [script.name, script.params] if script else None,
            }
            self._file(job)
        self._stirred.set()
        return job

    def show(self, job_id: str) -> Json | None:
        """Return a job as the API tells it, with fresh addresses if the old ones have ended."""
        with self._store.transaction():
            job = self._store.get("job", job_id)
            if job is None:
                return None
            ended = job["status"] == "SUCCESS" and job["link_ends"] <= self._clock.now()
            if ended and self._path(job, "png").exists():
                self._renew_link(job)
        return _public(job)

    def result(self, random: str, name: str) -> Path | None:
        """Return the file behind a temporary address, or None if it never was, or is not any more."""
        job = self._store.get("job", Path(name).stem)
        if job is None or job.get("link") != random or job["link_ends"] <= self._clock.now():
            return None
        path = self._folder / name
        return path if path.suffix in (".png", ".jpg") and path.exists() else None

    def remove_old_results(self) -> None:
        """Delete results a day after their jobs were made."""
        for job in self._store.due("job", "SUCCESS", self._clock.now(), _REMOVED_A_ROUND):
            for suffix in ("png", "jpg"):
                self._path(job, suffix).unlink(missing_ok=True)
            self._file({**job, "removed": True})

    # --- the worker

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._stirred.clear()
            waiting = Selection(statuses=("IN_QUEUE",), oldest_first=True)
            runnable = [job for job in self._store.rows("job", waiting) if not job.get("stuck")]
            if runnable:
                self._run(runnable[0])
            else:
                self._stirred.wait(_IDLE_SECONDS)

    def _run(self, job: Json) -> None:
        script = job["script"] or ["", {}]
        name, params = str(script[0]), dict(script[1])
        if name == "never_finish":
            self._file({**job, "status": params.get("status", "IN_PROGRESS"), "stuck": True})
            return
        self._file({**job, "status": "IN_PROGRESS"})
        try:
            if name == "fail":
                raise BadPictureError(str(params.get("error", "Processing failed.")))
            self._make(
                job,
                Fault("", "", "", name, params=params) if name == "wrong_size" else None,
            )
        except (BadPictureError, SmiError) as error:
            if self._stopping.is_set():
                return
            self._fail(job, str(error))
        except Exception:
            _LOG.exception("job %s", job["id"])
            self._fail(job, "Internal error.")
        else:
            self._renew_link(job)
            self._finish({**job, "status": "SUCCESS"})
        self._source(job).unlink(missing_ok=True)

    def _make(self, job: Json, wrong_size: Fault | None) -> None:
        png = self._path(job, "png")
        if wrong_size is not None:
            size = wrong_size.params
            resize(
                self._source(job),
                png,
                int(size.get("width", 1)),
                int(size.get("height", 1)),
            )
        else:
            enlarge(
                self._source(job),
                png,
                factor=job["factor"],
                quick=self._quick,
                scratch=self._folder / "scratch",
                cancelled=self._stopping.is_set,
            )
        compress(png, self._path(job, "jpg"))

    def _fail(self, job: Json, error: str) -> None:
        with self._store.transaction():
            self.set_credits(self.credits() + job["creditCost"])
            self._finish({**job, "status": "FAILED", "error": f"{error} {_REFUNDED}"})

    def _finish(self, job: Json) -> None:
        with self._store.transaction():
            self._file(job)
            if job["webhook"]:
                self._courier.send(
                    {
                        "about": job["id"],
                        "url": job["webhook"],
                        "body": json.dumps(_public(job)),
                        "secrets": [],
                        "provider": "upsampler",
                        "tries": CALLBACK_TRIES,
                    },
                    kind=job["status"],
                )

    def _renew_link(self, job: Json) -> None:
        job["link"] = self._store.new_id("", 24)
        job["link_ends"] = self._clock.now() + LINK_SECONDS
        for field, suffix in (("imageUrl", "png"), ("compressedImageUrl", "jpg")):
            job[field] = f"{self.base_url}/results/{job['link']}/{job['id']}.{suffix}"
        self._file(job)

    def _file(self, job: Json) -> None:
        kept = job["status"] == "SUCCESS" and not job.get("removed")
        due = job["created"] + _KEPT_SECONDS if kept else None
        self._store.put("job", job, status=job["status"], due=due)

    def _source(self, job: Json) -> Path:
        return self._folder / str(job["source"])

    def _path(self, job: Json, suffix: str) -> Path:
        return self._folder / f"{job['id']}.{suffix}"


def _public(job: Json) -> Json:
    names = ["id", "status", "creditCost"]
    names += {"SUCCESS": ["imageUrl", "compressedImageUrl"], "FAILED": ["error"]}.get(
        job["status"], []
    )
    return {name: job[name] for name in names}

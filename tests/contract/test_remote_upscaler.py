"""What every remote upscaler does: the fake, and the real one against the rehearsal's Upsampler."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from smi_desktop.adapters.http_fetcher import HttpFetcher
from smi_desktop.adapters.upsampler_client import UpsamplerClient
from smi_desktop.domain.errors import (
    AmbiguousError,
    LinkExpiredError,
    ProviderAccountError,
    RejectedError,
    TransientError,
)
from smi_desktop.resources import resource_path
from smi_desktop.sandbox.constants import UPSAMPLER_API_KEY
from smi_desktop.services.ports import (
    Fetcher,
    RemoteJob,
    RemoteState,
    RemoteUpscaler,
    UpscaleRequest,
)
from tests.contract.rehearsal import Rehearsal, wait_for
from tests.fakes import FakeRemoteUpscaler, fake_image
from tests.integration.adapters.loopback import reply, serving

ENDED = {RemoteState.SUCCEEDED, RemoteState.FAILED}
ENOUGH = 10**8


class UpscalerWorld(Protocol):
    """An upscaler, the web that its results lie in, and its fate."""

    @property
    def upscaler(self) -> RemoteUpscaler: ...

    @property
    def fetcher(self) -> Fetcher: ...

    @property
    def request(self) -> UpscaleRequest: ...

    def bring_to_an_end(self, job_id: str) -> RemoteJob: ...

    def fail_the_next_job(self) -> None: ...

    def break_next(self) -> None: ...

    def lose_next_answer(self) -> None: ...

    def refuse_next(self, kind: type[Exception]) -> None: ...

    def jobs_started(self) -> int: ...

    def end_the_links(self, job: RemoteJob) -> None: ...


@dataclass
class FakeWorld:
    upscaler: FakeRemoteUpscaler
    failing: bool = False

    @property
    def fetcher(self) -> Fetcher:
        return self.upscaler.fetcher

    @property
    def request(self) -> UpscaleRequest:
        return UpscaleRequest("https://shop.example/s.jpg", 2, "https://shop.example/callback")

    def bring_to_an_end(self, job_id: str) -> RemoteJob:
        self.upscaler.run(job_id)
        if self.failing:
            return self.upscaler.fail(job_id)
        return self.upscaler.succeed(job_id, fake_image(8, 6))

    def fail_the_next_job(self) -> None:
        self.failing = True

    def break_next(self) -> None:
        self.upscaler.fail_next(TransientError("busy", retry_after=7))

    def lose_next_answer(self) -> None:
        self.upscaler.lose_reply(AmbiguousError("lost"), method="submit")

    def refuse_next(self, kind: type[Exception]) -> None:
        self.upscaler.fail_next(kind("no"))

    def jobs_started(self) -> int:
        return len(self.upscaler.jobs)

    def end_the_links(self, job: RemoteJob) -> None:
        self.upscaler.expire_result(job.id)


@dataclass
class RealWorld:
    rehearsal: Rehearsal
    upscaler: UpsamplerClient
    fetcher: HttpFetcher
    request: UpscaleRequest
    before: int

    def bring_to_an_end(self, job_id: str) -> RemoteJob:
        def ended() -> RemoteJob | None:
            job = self.upscaler.status(job_id)
            return job if job.state in ENDED else None

        return wait_for(ended)

    def fail_the_next_job(self) -> None:
        self.rehearsal.fault("upsampler", "*", "fail", error="It broke.")

    def break_next(self) -> None:
        self.rehearsal.fault("upsampler", "*", "http_503", retry_after=7)

    def lose_next_answer(self) -> None:
        self.rehearsal.fault("upsampler", "submit", "drop_reply_after_effect")

    def refuse_next(self, kind: type[Exception]) -> None:
        if kind is ProviderAccountError:
            self.rehearsal.fault("upsampler", "*", "http_401", message="invalid api key")
        else:
            self.rehearsal.fault("upsampler", "*", "http_422", message="unsupported format")

    def jobs_started(self) -> int:
        return _jobs_of(self.rehearsal) - self.before

    def end_the_links(self, job: RemoteJob) -> None:
        self.rehearsal.control("clock", {"advance_seconds": 3 * 3600 + 1})


def _jobs_of(rehearsal: Rehearsal) -> int:
    counts = rehearsal.control("state?kinds=job")["counts"]["job"]
    return sum(int(count) for count in counts.values())


@pytest.fixture(params=["fake", "real"])
def world(request: pytest.FixtureRequest) -> Iterator[UpscalerWorld]:
    if request.param == "fake":
        yield FakeWorld(FakeRemoteUpscaler())
        return
    rehearsal: Rehearsal = request.getfixturevalue("rehearsal")
    picture = resource_path("samples/espresso.jpg").read_bytes()
    with serving(reply(200, picture)) as server:
        yield RealWorld(
            rehearsal,
            UpsamplerClient(
                UPSAMPLER_API_KEY, api_base=rehearsal.upsampler_url, image_type="realism"
            ),
            HttpFetcher(allow_loopback=True),
            UpscaleRequest(f"{server.url}/espresso.jpg", 2, ""),
            _jobs_of(rehearsal),
        )


def test_a_job_is_taken_works_and_ends_with_a_picture(world: UpscalerWorld, tmp_path: Path) -> None:
    taken = world.upscaler.submit(world.request)
    assert taken.state in {RemoteState.QUEUED, RemoteState.RUNNING}
    assert taken.image_url is None
    assert world.upscaler.status(taken.id).id == taken.id
    done = world.bring_to_an_end(taken.id)
    assert done.state is RemoteState.SUCCEEDED
    assert done.error is None
    assert done.image_url is not None
    assert done.credit_cost is not None
    assert done.credit_cost >= 1
    world.fetcher.fetch(done.image_url, tmp_path / "result.png", max_bytes=ENOUGH)
    assert (tmp_path / "result.png").stat().st_size > 0


def test_a_job_that_failed_says_why(world: UpscalerWorld) -> None:
    world.fail_the_next_job()
    failed = world.bring_to_an_end(world.upscaler.submit(world.request).id)
    assert failed.state is RemoteState.FAILED
    assert failed.error
    assert failed.image_url is None


def test_a_job_that_nobody_knows_may_become_known(world: UpscalerWorld) -> None:
    with pytest.raises(TransientError):
        world.upscaler.status("nothing")


def test_what_was_surely_not_taken_starts_nothing(world: UpscalerWorld) -> None:
    world.break_next()
    with pytest.raises(TransientError) as caught:
        world.upscaler.submit(world.request)
    assert caught.value.retry_after == 7
    assert world.jobs_started() == 0
    world.upscaler.submit(world.request)
    assert world.jobs_started() == 1


def test_a_lost_answer_leaves_a_job_behind(world: UpscalerWorld) -> None:
    world.lose_next_answer()
    with pytest.raises(AmbiguousError):
        world.upscaler.submit(world.request)
    assert world.jobs_started() == 1


@pytest.mark.parametrize("kind", [ProviderAccountError, RejectedError])
def test_a_refusal_is_told_apart(world: UpscalerWorld, kind: type[Exception]) -> None:
    world.refuse_next(kind)
    with pytest.raises(kind):
        world.upscaler.submit(world.request)
    assert world.jobs_started() == 0


def test_the_address_of_a_result_ends(world: UpscalerWorld, tmp_path: Path) -> None:
    done = world.bring_to_an_end(world.upscaler.submit(world.request).id)
    assert done.image_url is not None
    world.end_the_links(done)
    with pytest.raises(LinkExpiredError):
        world.fetcher.fetch(done.image_url, tmp_path / "result.png", max_bytes=ENOUGH)
    assert not (tmp_path / "result.png").exists()


def test_a_result_larger_than_allowed_is_refused(world: UpscalerWorld, tmp_path: Path) -> None:
    done = world.bring_to_an_end(world.upscaler.submit(world.request).id)
    assert done.image_url is not None
    with pytest.raises(RejectedError):
        world.fetcher.fetch(done.image_url, tmp_path / "result.png", max_bytes=3)
    assert not (tmp_path / "result.png").exists()


def test_each_books_its_work_under_the_same_name(world: UpscalerWorld) -> None:
    assert world.upscaler.name == "upsampler"

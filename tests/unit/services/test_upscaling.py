"""The remote upscaler: bought at most once, waited for, and gone on from when it fails."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from smi_desktop.config import UpscalerChoice
from smi_desktop.domain.errors import (
    AmbiguousError,
    ConfigurationError,
    NotFoundError,
    ProviderAccountError,
    RejectedError,
    TransientError,
)
from smi_desktop.domain.holds import HoldKind
from smi_desktop.domain.orders import OrderStatus, PaymentStatus
from smi_desktop.services.order_states import hold_order, move_order, move_payment
from smi_desktop.services.ports import RemoteJob, RemoteState, UpscaleRequest
from smi_desktop.services.shop import TOKEN_KEY, UPSAMPLER_API_KEY
from smi_desktop.services.upscaling import find_source, watch_upscale
from smi_desktop.services.webhooks import receive_upsampler_callback
from smi_desktop.services.work import Done, TaskKind
from smi_desktop.store import tasks, timeline, upscales
from smi_desktop.store.models import Order, Upscale
from smi_desktop.store.tasks import Claim
from tests.fakes.image_reader import fake_image
from tests.fakes.upscaler import FakeRemoteUpscaler
from tests.world import World

MINUTES = 60
DEADLINE = 15 * MINUTES


@pytest.fixture
def remote(world: World) -> World:
    """A shop whose orders go to the remote upscaler alone."""
    world.set(upscaler=UpscalerChoice.UPSAMPLER)
    return world


def attempts(world: World, order_id: str) -> list[Upscale]:
    with world.database.read() as session:
        return list(upscales.of_order(session, order_id))


def states(world: World, order_id: str) -> list[tuple[str, str]]:
    return [(row.provider, row.state) for row in attempts(world, order_id)]


def kinds(world: World, order_id: str) -> list[str]:
    with world.database.read() as session:
        return [entry.kind for entry in timeline.of_order(session, order_id)]


def submits(world: World) -> int:
    return world.upscaler.calls.count("submit")


def go_on(world: World, seconds: float, step: float = 60.0) -> None:
    """Let time pass, doing what falls due on the way."""
    for _ in range(int(seconds / step)):
        world.clock.advance(step)
        world.run_due()


def hold(world: World, order_id: str, reason: str = "A person looks.") -> None:
    with world.database.write() as session:
        order = session.get_one(Order, order_id)
        hold_order(session, order, HoldKind.OWNER, reason, at=world.clock.now())


def refund(world: World, order_id: str) -> None:
    with world.database.write() as session:
        order = session.get_one(Order, order_id)
        now = world.clock.now()
        move_payment(session, order, PaymentStatus.REFUNDED, "Refunded.", at=now)
        move_order(session, order, OrderStatus.REFUNDED, "Refunded.", at=now)


def call(world: World, order_id: str, body: dict[str, Any], attempt: int = 1) -> None:
    secret = world.shop.token("callback", order_id, attempt)
    receive_upsampler_callback(world.shop, secret, json.dumps(body).encode())


# --- handing over -----------------------------------------------------------------------------------


def test_the_upscaler_is_told_what_to_make_and_where_to_call(world: World) -> None:
    order_id = world.buy()
    world.run_due()
    order = world.order(order_id)
    request = world.upscaler.requests["job-1"]
    base = "https://shop.example"
    source = world.shop.token("source", order_id)
    assert request == UpscaleRequest(
        image_url=f"{base}/smi/v1/source/{source}/{order.number}",
        factor=4,
        callback_url=f"{base}/smi-webhook/upsampler/{world.shop.token('callback', order_id, 1)}",
    )
    assert (order.status, states(world, order_id)) == ("processing", [("upsampler", "running")])
    (attempt,) = attempts(world, order_id)
    assert attempt.provider_job_id == "job-1"
    assert attempt.submitted_at == world.clock.now()


def test_our_own_address_gives_the_source_to_its_token_alone(world: World) -> None:
    order_id = world.buy()
    world.run_due()
    order = world.order(order_id)
    token = world.shop.token("source", order_id)
    path, kind = find_source(world.shop, token, order.number)
    assert (path.read_bytes(), kind) == (fake_image(400, 300, content="Harbour"), "png")
    for wrong in ("0" * 64, "", "é", world.shop.token("download", order_id, 1)):
        with pytest.raises(NotFoundError):
            find_source(world.shop, wrong, order.number)
    with pytest.raises(NotFoundError):
        find_source(world.shop, token, "SMI-NOBODY")


def test_our_own_address_gives_nothing_for_an_order_that_is_done_or_unpaid(world: World) -> None:
    unpaid = world.order(world.start_checkout().order_id)
    done = world.complete(world.buy())
    for order in (unpaid, done):
        with pytest.raises(NotFoundError):
            find_source(world.shop, world.shop.token("source", order.id), order.number)


def test_what_surely_did_not_start_is_sent_again(remote: World) -> None:
    order_id = remote.buy()
    remote.upscaler.fail_next(TransientError("busy"), TransientError("busy"), method="submit")
    remote.run_due()
    assert states(remote, order_id) == [("upsampler", "planned")]
    go_on(remote, 120)
    assert submits(remote) == 3
    assert states(remote, order_id) == [("upsampler", "running")]
    assert list(remote.upscaler.jobs) == ["job-1"]


def test_the_upscaler_is_not_asked_before_the_time_that_it_named(remote: World) -> None:
    remote.buy()
    remote.upscaler.fail_next(TransientError("busy", retry_after=600), method="submit")
    remote.run_due()
    go_on(remote, 540)
    assert submits(remote) == 1
    go_on(remote, 120)
    assert submits(remote) == 2


def test_the_time_of_an_attempt_begins_when_it_is_handed_over(remote: World) -> None:
    order_id = remote.buy()
    remote.upscaler.fail_next(TransientError("busy", retry_after=840), method="submit")
    remote.run_due()
    go_on(remote, 15 * MINUTES)
    assert states(remote, order_id) == [("upsampler", "running")]
    go_on(remote, 10 * MINUTES)
    assert remote.order(order_id).held_at is None
    go_on(remote, 6 * MINUTES)
    assert remote.order(order_id).held_at is not None


def test_an_outage_of_hours_makes_an_order_wait_and_not_fail(remote: World) -> None:
    order_id = remote.buy()
    remote.upscaler.fail_next(*[TransientError("away")] * 40, method="submit")
    go_on(remote, 4 * 3600, step=300)
    order = remote.order(order_id)
    assert (order.status, order.held_at) == ("processing", None)
    go_on(remote, 12 * 3600, step=300)
    assert states(remote, order_id) == [("upsampler", "running")]


def test_after_an_outage_of_a_day_the_money_goes_back(remote: World) -> None:
    order_id = remote.buy()
    remote.upscaler.fail_next(*[TransientError("away for long")] * 500, method="submit")
    go_on(remote, 25 * 3600, step=600)
    order = remote.order(order_id)
    assert (order.status, order.payment_status, order.held_at) == ("refunded", "refunded", None)
    assert attempts(remote, order_id)[0].error == "away for long"
    assert remote.upscaler.jobs == {}
    assert remote.tasks("ready") == []


def test_an_outage_leads_to_the_routes_next_upscaler(world: World) -> None:
    order_id = world.buy()
    world.upscaler.fail_next(*[TransientError("away")] * 500, method="submit")
    go_on(world, 14 * MINUTES)
    assert world.order(order_id).status == "processing"
    go_on(world, 20 * MINUTES)
    assert world.order(order_id).status == "completed"
    assert states(world, order_id) == [("upsampler", "failed"), ("embedded", "succeeded")]


def test_a_tunnel_that_is_down_sends_nobody_to_an_address_that_does_not_answer(
    remote: World,
) -> None:
    order_id = remote.buy()
    remote.fetcher.fail_next(RejectedError("502"), TransientError("cut"), method="fetch")
    remote.run_due()
    assert submits(remote) == 0
    assert states(remote, order_id) == [("upsampler", "planned")]
    go_on(remote, 120)
    assert submits(remote) == 1


@pytest.mark.parametrize("error", [ProviderAccountError("no credit"), ConfigurationError("no key")])
def test_an_account_that_is_refused_waits_and_is_tried_again(
    remote: World, error: Exception
) -> None:
    order_id = remote.buy()
    remote.upscaler.fail_next(error, method="submit")
    remote.run_due()
    assert states(remote, order_id) == [("upsampler", "planned")]
    go_on(remote, 4 * MINUTES)
    assert submits(remote) == 1
    go_on(remote, 2 * MINUTES)
    assert states(remote, order_id) == [("upsampler", "running")]
    assert remote.order(order_id).held_at is None


def test_a_key_that_is_missing_at_that_moment_sends_nothing_and_loses_nothing(
    remote: World,
) -> None:
    doors = [True]

    def door(_settings: object) -> FakeRemoteUpscaler:
        if doors[0]:
            raise ConfigurationError("The keyring is locked.")
        return remote.upscaler

    remote.shop = replace(remote.shop, remote_upscaler=door)
    remote.fetcher.shop = remote.shop
    order_id = remote.buy()
    remote.run_due()
    assert states(remote, order_id) == [("upsampler", "planned")]
    doors[0] = False
    go_on(remote, 6 * MINUTES)
    assert submits(remote) == 1
    assert states(remote, order_id) == [("upsampler", "running")]


def test_a_locked_token_key_begins_nothing(remote: World) -> None:
    order_id = remote.buy()
    remote.run_due([TaskKind.APPLY_EVENT])
    key = remote.secrets.values.pop(TOKEN_KEY)
    remote.run_due()
    assert states(remote, order_id) == []
    remote.secrets.values[TOKEN_KEY] = key
    go_on(remote, 6 * MINUTES)
    assert states(remote, order_id) == [("upsampler", "running")]


# --- lost answers -----------------------------------------------------------------------------------


def test_a_lost_answer_is_never_answered_by_a_second_request(remote: World) -> None:
    order_id = remote.buy()
    remote.upscaler.lose_reply(AmbiguousError("cut"), method="submit")
    remote.run_due()
    go_on(remote, DEADLINE - 60)
    assert submits(remote) == 1
    assert states(remote, order_id) == [("upsampler", "submitting")]
    assert "answer_lost" in kinds(remote, order_id)


def test_the_upscalers_call_brings_the_id_that_was_lost(remote: World) -> None:
    order_id = remote.buy()
    remote.upscaler.lose_reply(AmbiguousError("cut"), method="submit")
    remote.run_due()
    remote.finish_upscale(order_id)
    call(remote, order_id, {"id": "job-1", "status": "SUCCESS"})
    remote.run_due()
    assert remote.order(order_id).status == "completed"
    assert submits(remote) == 1
    assert states(remote, order_id) == [("upsampler", "succeeded")]


def test_after_the_deadline_a_lost_answer_is_sent_once_more_and_never_a_third_time(
    remote: World,
) -> None:
    order_id = remote.buy()
    lost = AmbiguousError("cut")
    remote.upscaler.lose_reply(lost, lost, lost, method="submit")
    remote.run_due()
    go_on(remote, DEADLINE + 60)
    assert submits(remote) == 2
    assert states(remote, order_id) == [("upsampler", "given_up"), ("upsampler", "submitting")]
    go_on(remote, DEADLINE + 120)
    assert submits(remote) == 2
    order = remote.order(order_id)
    # The upscaler may have made it after all, so a person decides before any money goes back.
    assert (order.status, order.payment_status) == ("processing", "paid")
    assert (order.held_kind, order.held_reason) == ("deadline", "The upscaler never answered.")
    assert remote.payments.refunds == {}
    assert "resubmitted" in kinds(remote, order_id)


def test_after_two_lost_answers_the_routes_next_upscaler_makes_the_picture(world: World) -> None:
    order_id = world.buy()
    world.upscaler.lose_reply(AmbiguousError("cut"), AmbiguousError("cut"), method="submit")
    go_on(world, 2 * DEADLINE + 240)
    assert world.order(order_id).status == "completed"
    assert [provider for provider, _ in states(world, order_id)] == [
        "upsampler",
        "upsampler",
        "embedded",
    ]


def test_a_crash_between_intent_and_answer_is_a_lost_answer(remote: World) -> None:
    order_id = remote.buy()
    remote.run_due([TaskKind.APPLY_EVENT])
    remote.upscaler.lose_reply(KeyboardInterrupt(), method="submit")  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        remote.run_due()
    go_on(remote, 5 * MINUTES)
    assert submits(remote) == 1
    assert states(remote, order_id) == [("upsampler", "submitting")]


def test_a_call_at_the_very_deadline_is_not_given_up(remote: World) -> None:
    order_id = remote.buy()
    remote.upscaler.lose_reply(AmbiguousError("cut"), method="submit")
    remote.run_due()
    remote.clock.advance(DEADLINE)
    task = remote.claim([TaskKind.WATCH_UPSCALE])
    assert task is not None
    outcome = watch_upscale(remote.shop, task)
    call(remote, order_id, {"id": "job-1"})
    with remote.database.write() as session:
        tasks.finish(session, task, now=remote.clock.now())
        outcome.record(session)
    assert states(remote, order_id) == [("upsampler", "running")]
    remote.finish_upscale(order_id)
    remote.run_due()
    assert remote.order(order_id).status == "completed"


class Reusing(FakeRemoteUpscaler):
    """Answers every request with the first job's id."""

    def submit(self, request: UpscaleRequest) -> RemoteJob:
        super().submit(request)
        return self.jobs["job-1"]


def test_a_job_of_another_order_is_taken_for_no_answer(remote: World) -> None:
    remote.upscaler = Reusing(remote.fetcher)
    number = remote.add_image()
    first, second = (remote.buy(attachment_id=number) for _ in range(2))
    remote.run_due()
    assert states(remote, first) == [("upsampler", "running")]
    assert states(remote, second) == [("upsampler", "submitting")]
    assert attempts(remote, second)[0].provider_job_id is None
    assert "answer_lost" in kinds(remote, second)


def test_a_call_that_names_another_orders_job_teaches_nothing(remote: World) -> None:
    number = remote.add_image()
    remote.buy(attachment_id=number)
    remote.run_due()
    second = remote.buy(attachment_id=number)
    remote.upscaler.lose_reply(AmbiguousError("cut"), method="submit")
    remote.run_due()
    call(remote, second, {"id": "job-1"})
    assert attempts(remote, second)[0].provider_job_id is None


def test_a_call_before_the_answer_is_stored_fits_the_answer(remote: World) -> None:
    """The upscaler calls while our own request is still on its way back."""
    world = remote

    class Hasty(FakeRemoteUpscaler):
        def submit(self, request: UpscaleRequest) -> RemoteJob:
            job = super().submit(request)
            secret = request.callback_url.rpartition("/")[2]
            self.succeed(job.id, fake_image(1600, 1200))
            receive_upsampler_callback(world.shop, secret, json.dumps({"id": job.id}).encode())
            return self.jobs[job.id]

    world.upscaler = Hasty(world.fetcher)
    order_id = world.buy()
    world.run_due()
    assert world.order(order_id).status == "completed"
    assert states(world, order_id) == [("upsampler", "succeeded")]


# --- refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["refused", "failed at once", "failed later"])
def test_a_refused_picture_goes_to_the_routes_next_upscaler(world: World, how: str) -> None:
    order_id = make_it_fail(world, how)
    assert world.order(order_id).status == "completed"
    assert states(world, order_id) == [("upsampler", "failed"), ("embedded", "succeeded")]
    assert "attempt_failed" in kinds(world, order_id)
    assert submits(world) == 1


@pytest.mark.parametrize("how", ["refused", "failed at once", "failed later"])
def test_a_picture_that_nobody_can_make_is_failed_and_its_money_goes_back(
    remote: World, how: str
) -> None:
    order_id = make_it_fail(remote, how)
    order = remote.order(order_id)
    assert (order.status, order.payment_status, order.held_at) == ("refunded", "refunded", None)
    assert remote.payments.refunded_minor(order.payment_intent_id or "") == order.paid_minor
    with remote.database.read() as session:
        moves = [
            entry.facts["to"]
            for entry in timeline.of_order(session, order_id)
            if entry.kind == "status"
        ]
    assert moves == ["pending", "processing", "failed", "refunded"]
    go_on(remote, 60)
    assert remote.tasks("ready") == []
    assert len(remote.payments.refunds) == len(remote.mailer.outbox) == 1


@pytest.mark.parametrize("how", ["refused", "failed at once", "failed later"])
def test_where_refunds_wait_for_the_owner_a_failed_order_is_held(remote: World, how: str) -> None:
    remote.set(refund_on_failure=False)
    order_id = make_it_fail(remote, how)
    order = remote.order(order_id)
    assert (order.status, order.payment_status) == ("failed", "paid")
    assert (order.held_kind, order.held_reason) == ("failed", attempts(remote, order_id)[0].error)
    go_on(remote, 15 * MINUTES)
    assert remote.tasks("ready") == []
    assert remote.payments.refunds == {}
    assert len(remote.mailer.outbox) == 1


class Refusing(FakeRemoteUpscaler):
    """Answers with a job that has failed already."""

    def submit(self, request: UpscaleRequest) -> RemoteJob:
        job = super().submit(request)
        return self.fail(job.id, error=None)  # type: ignore[arg-type]


def make_it_fail(world: World, how: str) -> str:
    if how == "failed at once":
        world.upscaler = Refusing(world.fetcher)
    order_id = world.buy()
    if how == "refused":
        world.upscaler.fail_next(RejectedError("Too dark."), method="submit")
    world.run_due()
    if how == "failed later":
        world.upscaler.fail("job-1", error=None)  # type: ignore[arg-type]
        go_on(world, 60)
    return order_id


def test_the_upscalers_own_words_are_kept(remote: World) -> None:
    order_id = remote.buy()
    remote.run_due()
    remote.upscaler.fail("job-1", "Unsupported. Your credits have been refunded.")
    go_on(remote, 60)
    words = "Unsupported. Your credits have been refunded."
    assert attempts(remote, order_id)[0].error == words
    with remote.database.read() as session:
        told = [entry for entry in timeline.of_order(session, order_id) if entry.kind == "status"]
    assert [entry.facts["reason"] for entry in told if entry.facts["to"] == "failed"] == [words]
    # The customer reads ours: what the upscaler says of its credits is nothing to him.
    assert "credits" not in (remote.order(order_id).failure_reason or "")


# --- watching ---------------------------------------------------------------------------------------


def test_the_upscaler_is_asked_after_thirty_seconds_and_then_less_often(remote: World) -> None:
    remote.buy()
    remote.run_due()
    asked = []
    for second in range(1, 241):
        remote.clock.advance(1)
        if "watch_upscale" in remote.run_due():
            asked.append(second)
    assert asked == [30, 60, 105, 165, 225]


def test_a_callback_shortens_the_wait(remote: World) -> None:
    order_id = remote.buy()
    remote.run_due()
    remote.finish_upscale(order_id)
    assert remote.run_due() == []
    call(remote, order_id, {"status": "SUCCESS"})
    assert "watch_upscale" in remote.run_due()
    assert remote.order(order_id).status == "completed"


def test_without_any_call_asking_alone_finishes(remote: World) -> None:
    order_id = remote.buy()
    remote.run_due()
    remote.upscaler.run("job-1")
    go_on(remote, 60)
    remote.finish_upscale(order_id)
    go_on(remote, 120)
    assert remote.order(order_id).status == "completed"
    assert attempts(remote, order_id)[0].credit_cost == 4


def test_a_status_word_that_nobody_knows_means_still_running(remote: World) -> None:
    order_id = remote.buy()
    remote.run_due()
    remote.upscaler.say("job-1", "ARCHIVED")
    go_on(remote, 5 * MINUTES)
    order = remote.order(order_id)
    assert (order.status, order.held_at) == ("processing", None)
    remote.finish_upscale(order_id)
    go_on(remote, 60)
    assert remote.order(order_id).status == "completed"


def test_a_status_that_goes_back_harms_nothing(remote: World) -> None:
    order_id = remote.buy()
    remote.run_due()
    remote.finish_upscale(order_id, credit_cost=None)
    done = remote.upscaler.jobs["job-1"]
    remote.clock.advance(31)
    remote.run_due([TaskKind.WATCH_UPSCALE])
    remote.upscaler.run("job-1")
    remote.run_due()
    assert remote.order(order_id).status == "processing"
    remote.upscaler.jobs["job-1"] = done
    go_on(remote, 120)
    assert remote.order(order_id).status == "completed"


def test_success_without_an_address_is_asked_again_and_then_held(remote: World) -> None:
    order_id = remote.buy()
    remote.run_due()
    job = replace(remote.upscaler.jobs["job-1"], state=RemoteState.SUCCEEDED)
    remote.upscaler.jobs["job-1"] = job
    go_on(remote, DEADLINE - 60)
    assert remote.order(order_id).held_at is None
    go_on(remote, 3 * MINUTES)
    order = remote.order(order_id)
    assert order.status == "processing"
    assert "has not finished in the time" in (order.held_reason or "")


@pytest.mark.parametrize(
    "error",
    [
        TransientError("not known yet"),
        TransientError("slow down", retry_after=120),
        ProviderAccountError("key"),
        ConfigurationError("no key"),
    ],
)
def test_an_upscaler_that_does_not_answer_is_asked_again(remote: World, error: Exception) -> None:
    order_id = remote.buy()
    remote.run_due()
    remote.upscaler.fail_next(error, error, method="status")
    remote.finish_upscale(order_id)
    go_on(remote, 13 * MINUTES)
    assert remote.order(order_id).status == "completed"


@pytest.mark.parametrize(
    "error", [TransientError("away"), ProviderAccountError("key"), ConfigurationError("no key")]
)
def test_an_upscaler_that_never_answers_is_held_at_the_deadline(
    remote: World, error: Exception
) -> None:
    order_id = remote.buy()
    remote.run_due()
    remote.upscaler.fail_next(*[error] * 500, method="status")
    go_on(remote, DEADLINE + 6 * MINUTES)
    order = remote.order(order_id)
    assert order.status == "processing"
    assert order.held_at is not None


def test_a_picture_that_comes_late_is_delivered_although_it_was_held(remote: World) -> None:
    order_id = remote.buy()
    remote.run_due()
    go_on(remote, DEADLINE + 120)
    assert remote.order(order_id).held_at is not None
    go_on(remote, 3 * 3600, step=300)
    assert kinds(remote, order_id).count("held") == 1
    remote.finish_upscale(order_id)
    go_on(remote, 15 * MINUTES)
    order = remote.order(order_id)
    assert (order.status, order.held_at, order.held_reason) == ("completed", None, None)
    assert len(remote.mailer.outbox) == 1


def test_a_call_that_comes_late_is_heard_although_it_was_held(remote: World) -> None:
    order_id = remote.buy()
    remote.run_due()
    go_on(remote, DEADLINE + 120)
    remote.finish_upscale(order_id)
    call(remote, order_id, {"status": "SUCCESS"})
    remote.run_due()
    assert remote.order(order_id).status == "completed"


def test_after_another_day_nobody_is_asked_any_more(remote: World) -> None:
    order_id = remote.buy()
    remote.run_due()
    go_on(remote, 25 * 3600, step=600)
    assert remote.tasks("ready") == []
    order = remote.order(order_id)
    assert order.status == "processing"
    assert order.held_at is not None


# --- orders that change meanwhile -------------------------------------------------------------------


def test_a_held_order_buys_no_upscale(remote: World) -> None:
    order_id = remote.buy()
    remote.run_due([TaskKind.APPLY_EVENT])
    hold(remote, order_id)
    remote.run_due()
    assert submits(remote) == 0
    assert remote.order(order_id).status == "pending"


@pytest.mark.parametrize("change", [hold, refund])
def test_an_order_that_is_stopped_while_it_waits_to_be_sent_is_not_sent(
    remote: World, change: Any
) -> None:
    order_id = remote.buy()
    remote.upscaler.fail_next(TransientError("busy"), method="submit")
    remote.run_due()
    change(remote, order_id)
    go_on(remote, 3600, step=300)
    assert submits(remote) == 1
    assert remote.upscaler.jobs == {}
    if change is hold:
        refund(remote, order_id)
        go_on(remote, 1200, step=300)
    assert remote.tasks("ready") == []


def test_an_order_that_is_held_while_its_address_is_looked_at_is_not_sent(remote: World) -> None:
    order_id = remote.buy()
    world, fetch = remote, remote.fetcher.fetch

    class Meanwhile(type(remote.fetcher)):  # type: ignore[misc]
        def fetch(self, *given: Any, **named: Any) -> None:
            fetch(*given, **named)
            hold(world, order_id)

    web = Meanwhile()
    remote.shop = replace(remote.shop, fetcher=lambda _settings: web)
    remote.run_due()
    assert submits(remote) == 0
    assert states(remote, order_id) == [("upsampler", "planned")]


def test_a_disputed_order_buys_no_upscale(remote: World) -> None:
    order_id = remote.buy()
    remote.run_due([TaskKind.APPLY_EVENT])
    with remote.database.write() as session:
        session.get_one(Order, order_id).disputed_at = remote.clock.now()
    remote.run_due()
    assert submits(remote) == 0


def test_a_part_of_the_money_that_went_back_does_not_take_the_picture_away(
    remote: World,
) -> None:
    order_id = remote.buy()
    remote.run_due([TaskKind.APPLY_EVENT])
    with remote.database.write() as session:
        order = session.get_one(Order, order_id)
        now = remote.clock.now()
        move_payment(session, order, PaymentStatus.PARTIALLY_REFUNDED, "A part.", at=now)
    assert remote.complete(order_id).status == "completed"


def test_a_failure_after_a_person_was_asked_is_left_to_him(world: World) -> None:
    order_id = world.buy()
    world.run_due()
    hold(world, order_id)
    world.upscaler.fail("job-1")
    go_on(world, 120)
    order = world.order(order_id)
    assert (order.status, order.held_reason) == ("processing", "A person looks.")
    assert states(world, order_id) == [("upsampler", "failed")]


def test_a_watch_whose_attempt_is_gone_ends(world: World) -> None:
    task = Claim(1, TaskKind.WATCH_UPSCALE, "watch:9", None, {"upscale_id": 9}, 1, 0, "x")
    assert isinstance(watch_upscale(world.shop, task), Done)


def test_a_shop_without_a_key_makes_its_pictures_here(world: World) -> None:
    del world.secrets.values[UPSAMPLER_API_KEY]
    order_id = world.buy()
    world.run_due()
    assert states(world, order_id) == [("embedded", "succeeded")]
    assert submits(world) == 0

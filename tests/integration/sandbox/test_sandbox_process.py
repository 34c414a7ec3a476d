"""The process: its ports, its end, and going on after kill -9."""

from __future__ import annotations

import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import stripe
from sandbox_running import (
    WEBHOOK_SECRET,
    Receiver,
    Sandbox,
    session_params,
    wait_for,
)

COMMAND = [sys.executable, "-m", "smi_desktop.sandbox"]


def send_mail(sandbox: Sandbox) -> None:
    """Send a mail without an id of its own."""
    with smtplib.SMTP("127.0.0.1", sandbox.ports["smtp"], timeout=5) as server:
        server.sendmail("a@studio.example", ["b@customer.example"], "Subject: x\r\n\r\nx\r\n")


def test_after_kill_9_sessions_payments_refunds_keys_faults_and_mails_go_on(
    own_sandbox: Callable[..., Sandbox],
) -> None:
    shop = own_sandbox("--quick-upscale").start()
    create = shop.sdk.v1.checkout.sessions.create
    made = create(session_params(), {"idempotency_key": "before"})
    intent = str(shop.paid().payment_intent)
    refund = shop.sdk.v1.refunds.create({"payment_intent": intent, "amount": 100})
    send_mail(shop)
    shop.fault("stripe", "retrieve_refund", "http_500", times=2)
    with pytest.raises(stripe.APIError):
        shop.sdk.v1.refunds.retrieve(refund.id)
    shop.kill()
    shop.start()
    create = shop.sdk.v1.checkout.sessions.create
    assert create(session_params(), {"idempotency_key": "before"}).id == made.id
    with pytest.raises(stripe.APIError):
        shop.sdk.v1.refunds.retrieve(refund.id)
    assert shop.sdk.v1.refunds.retrieve(refund.id).amount == 100
    assert shop.pay(f"{shop.stripe_url}/c/pay/{made.id}").status_code == 303
    listed = [row.id for row in shop.sdk.v1.payment_intents.list().data]
    assert len(set(listed)) == 2
    assert intent in listed
    send_mail(shop)
    names = [mail["file"] for mail in shop.control("state")["mails"]]
    assert names == ["0001-none.eml", "0002-none.eml"]


def test_undelivered_events_are_delivered_after_a_kill(
    own_sandbox: Callable[..., Sandbox], receiver: Receiver
) -> None:
    hook = (f"--webhook-url={receiver.url}/hook", f"--webhook-secret={WEBHOOK_SECRET}")
    shop = own_sandbox("--quick-upscale", *hook).start()
    receiver.answers[:] = [503] * 3
    shop.paid()
    wait_for(lambda: len(receiver.posts) == 3)
    shop.kill()
    shop.start()
    wait_for(lambda: shop.sdk.v1.events.list({"delivery_success": False}).data == [])
    assert len({event.id for event in receiver.events()}) == 3


def test_a_job_is_done_after_a_kill_in_the_middle(
    own_sandbox: Callable[..., Sandbox], receiver: Receiver
) -> None:
    shop = own_sandbox().start()
    url, callback = f"{receiver.url}/small", f"{receiver.url}/callback"
    job_id = shop.submit(url, 2, callback).json()["id"]
    wait_for(lambda: shop.upsampler("GET", f"status/{job_id}").json()["status"] == "IN_PROGRESS")
    shop.kill()
    shop.start()
    assert shop.finished(job_id)["status"] == "SUCCESS"
    wait_for(lambda: receiver.posts)
    leftovers = {
        path.suffix for path in (shop.folder / "upsampler-results").rglob("*") if path.is_file()
    }
    assert leftovers == {".png", ".jpg"}


def test_the_same_seed_gives_the_same_ids_and_none_twice(
    own_sandbox: Callable[..., Sandbox],
) -> None:
    first, second = (own_sandbox("--seed=7").start() for _ in range(2))
    ids = [each.session().id for each in (first, second)]
    assert ids[0] == ids[1]
    first.kill()
    assert first.start().session().id != ids[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_within_three_seconds_even_while_it_upscales(
    own_sandbox: Callable[..., Sandbox], receiver: Receiver, number: int
) -> None:
    shop = own_sandbox().start()
    shop.fault("stripe", "retrieve_balance", "timeout")
    job_id = shop.submit(f"{receiver.url}/x.jpg", 8).json()["id"]
    wait_for(lambda: shop.upsampler("GET", f"status/{job_id}").json()["status"] == "IN_PROGRESS")
    began = time.monotonic()
    assert shop.end(number) == 0
    assert time.monotonic() - began < 3


def test_it_ends_with_its_parents_pipe(tmp_path: Path) -> None:
    command = [*COMMAND, "--data", str(tmp_path), "--exit-with-parent"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert b"stripe_url" in process.stdout.readline()
        process.stdin.close()
        assert process.wait(timeout=3) == 0


@pytest.mark.parametrize("name", ["stripe", "upsampler", "smtp"])
def test_a_busy_port_is_named_in_one_line_with_exit_code_2(tmp_path: Path, name: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [*COMMAND, "--data", str(tmp_path), f"--{name}-port={port}"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    assert str(port) in ended.stderr

"""The demo as a newcomer runs it, and as a program drives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from smi_desktop.cli.rehearsal import Rehearsal

pytestmark = pytest.mark.slow


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "smi_desktop", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, **environment},
    )


def test_the_demo_sells_declines_refunds_holds_renews_and_cleans_up() -> None:
    done = run("demo", "--headless")
    assert done.returncode == 0, done.stderr
    for step in (
        "Clicked the button",
        "Saw live prices",
        "Paid on the card page",
        "Upscaled",
        "Mail received over SMTP",
        "Followed the link",
        "Card declined",
        "Left the card page",
        "Failed, and refunded by itself",
        "Explained in a mail",
        "Made here instead",
        "Held for a person",
        "Released by the owner",
        "Link expired after 24 hours",
        "Renewed by the customer himself",
        "Cleaned up",
        "the same as Stripe's books",
    ):
        assert step in done.stdout


def test_the_demo_never_opens_another_shops_database(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    done = run("demo", "--headless", SMI_DATABASE_URL=f"sqlite:///{other}")
    assert done.returncode == 0, done.stderr
    assert not other.exists()


def test_the_demo_refuses_a_folder_that_holds_another_kind_of_shop(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('mode = "live"\n')
    done = run("demo", "--headless", "--data", str(tmp_path))
    assert done.returncode == 1
    assert "holds a live shop" in done.stderr
    assert (tmp_path / "config.toml").read_text() == 'mode = "live"\n'


def test_the_served_demo_tells_where_it_is_in_one_line_and_ends_on_sigterm(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "smi_desktop", "demo", "--serve", "--data", str(tmp_path / "shop")],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            told = json.loads(process.stdout.readline())
            assert set(told) == {
                "relay_url",
                "stripe_url",
                "upsampler_url",
                "mailbox_dir",
                "data_dir",
                "stripe_webhook_secret",
                "images",
            }
            assert set(told["images"][0]) == {
                "attachment_id",
                "post_id",
                "width",
                "height",
                "title",
            }
            second = run("demo", "--serve", "--data", str(tmp_path / "shop"))
            assert second.returncode == 1
            assert "A rehearsal is running on" in second.stderr
            health = requests.get(f"{told['relay_url']}/healthz", timeout=5)
            assert health.json() == {"status": "ok"}
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{told['relay_url']}/healthz", timeout=5)


def test_a_rehearsal_that_is_opened_again_is_where_it_was(tmp_path: Path) -> None:
    """Links in mails, checkout pages and results of the upscaler carry its addresses."""
    places = []
    for _ in range(2):
        with Rehearsal(tmp_path / "shop") as shop:
            places.append((shop.relay_url, shop.stripe_url, shop.upsampler_url))
    assert places[0] == places[1]


def test_errors_are_json_too_where_json_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('secrets_backend = "file"\n')
    done = run("--data", str(tmp_path), "orders", "show", "nope", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["title"] == "Not found"
    assert "There is no order 'nope'" in done.stderr


def test_the_demo_refuses_a_folder_with_a_past_and_leaves_it_alone(tmp_path: Path) -> None:
    first = run("demo", "--headless", "--data", str(tmp_path / "shop"))
    assert first.returncode == 0, first.stderr
    again = run("demo", "--headless", "--data", str(tmp_path / "shop"))
    assert again.returncode == 1
    assert "holds orders already" in again.stderr


def test_the_served_demo_says_when_its_port_is_busy(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("demo", "--serve", "--port", str(port), "--data", str(tmp_path / "shop"))
    assert done.returncode == 1
    assert f"Port {port} on 127.0.0.1 is in use" in done.stderr
    assert "Traceback" not in done.stderr

"""The rehearsal's providers as a real process, and what a test says to them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import stripe

from smi_desktop.sandbox.constants import STRIPE_SECRET_KEY, UPSAMPLER_API_KEY

DEADLINE_SECONDS = 15.0
WEBHOOK_SECRET = "whsec_rehearsal"
GOOD_CARD = "4242 4242 4242 4242"


def wait_for(condition: Callable[[], Any], seconds: float = DEADLINE_SECONDS) -> Any:
    """Return the first true answer of a condition."""
    ends = time.monotonic() + seconds
    pause = threading.Event()
    while not (answer := condition()):
        assert time.monotonic() < ends, "this did not happen in time"
        pause.wait(0.02)
    return answer


class Sandbox:
    """One rehearsal in a folder: started, killed, started again on the same ports."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        self.ports: dict[str, int] = {}
        self.http = requests.Session()
        self.http.trust_env = False
        self._sdk_http = stripe.RequestsClient(timeout=(1, 5))

    def start(self) -> Sandbox:
        """Start it and read its addresses."""
        command = [sys.executable, "-m", "smi_desktop.sandbox", "--data", str(self.folder)]
        command += [f"--{name}-port={port}" for name, port in self.ports.items()]
        self._process = subprocess.Popen(
            [*command, *self._options], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the rehearsal ended at once"
        self.addresses = json.loads(line)
        self.stripe_url = self.addresses["stripe_url"]
        self.upsampler_url = self.addresses["upsampler_url"]
        self.ports = {
            "stripe": int(self.stripe_url.rpartition(":")[2]),
            "upsampler": int(self.upsampler_url.split(":")[2].partition("/")[0]),
            "smtp": self.addresses["smtp_port"],
        }
        self.sdk = self.client(STRIPE_SECRET_KEY)
        return self

    def client(self, key: str, retries: int = 0) -> stripe.StripeClient:
        """Return the official SDK, pointed here."""
        return stripe.StripeClient(
            key,
            base_addresses={"api": self.stripe_url},
            http_client=self._sdk_http,
            max_network_retries=retries,
        )

    def end(self, number: int) -> int:
        """Send a signal and wait for the end."""
        assert self._process is not None
        self._process.send_signal(number)
        code = self._process.wait(timeout=5)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None
        return code

    def kill(self) -> None:
        """Kill it as a power cut would."""
        self.end(signal.SIGKILL)

    def close(self) -> None:
        """Leave nothing behind."""
        if self._process is not None:
            self.end(signal.SIGTERM)
        self.http.close()
        self._sdk_http.close()

    # --- shorthands

    def control(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Use a control of the rehearsal."""
        url = f"{self.stripe_url}/_sandbox/{path}"
        answer = self.http.get(url) if body is None else self.http.post(url, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def fault(self, provider: str, operation: str, fault: str, **fields: Any) -> None:
        """Script a fault."""
        line = {"provider": provider, "operation": operation, "fault": fault, **fields}
        self.control("faults", line)

    def clear(self) -> None:
        """Forget faults and endpoints, and bring the clock back."""
        self.http.delete(f"{self.stripe_url}/_sandbox/faults")
        self.http.delete(f"{self.stripe_url}/_sandbox/endpoints")
        self.control("clock", {"offset_seconds": 0})

    def session(self, **changes: Any) -> stripe.checkout.Session:
        """Make a checkout session for 4.80 USD."""
        return self.sdk.v1.checkout.sessions.create(session_params(**changes))

    def pay(self, url: str, **fields: str) -> requests.Response:
        """Fill the page in and send it; a redirect is not followed."""
        form = {"action": "pay", "email": "jo@customer.example", "name": "Jo Winter",
                "card_number": GOOD_CARD, "exp": "12 / 34", "cvc": "123", **fields}  # fmt: skip
        return self.http.post(url, data=form, allow_redirects=False)

    def paid(self, **fields: str) -> stripe.checkout.Session:
        """Make a session and pay it."""
        made = self.session()
        assert self.pay(str(made.url), **fields).status_code == 303
        return self.sdk.v1.checkout.sessions.retrieve(made.id)

    def submit(self, image_url: str, factor: float = 2, webhook: str = "") -> requests.Response:
        """Ask for an upscale."""
        given = {"imageUrl": image_url, "inputImageType": "realism", "upscaleFactor": factor}
        return self.upsampler("POST", "precise-upscale", {"webhook": webhook, "input": given})

    def upsampler(self, method: str, path: str, body: Any = None) -> requests.Response:
        """Ask Upsampler."""
        headers = {"Authorization": f"Bearer {UPSAMPLER_API_KEY}"}
        url = f"{self.upsampler_url}/{path}"
        return self.http.request(method, url, json=body, headers=headers)

    def finished(self, job_id: str) -> dict[str, Any]:
        """Wait for a job's end."""

        def ended() -> dict[str, Any] | None:
            job: dict[str, Any] = self.upsampler("GET", f"status/{job_id}").json()
            return job if job["status"] in ("SUCCESS", "FAILED") else None

        found: dict[str, Any] = wait_for(ended)
        return found


def session_params(**changes: Any) -> Any:
    """Return what makes a session for 4.80 USD."""
    return {
        "mode": "payment",
        "line_items": [
            {
                "quantity": 1,
                "price_data": {
                    "currency": "usd",
                    "unit_amount": 480,
                    "product_data": {"name": "Espresso, 4x", "description": "2400 × 1600"},
                },
            }
        ],
        "success_url": "http://127.0.0.1:9/order?session={CHECKOUT_SESSION_ID}",
        "cancel_url": "http://127.0.0.1:9/gallery",
        "client_reference_id": "order-1",
        "metadata": {"job_id": "j1"},
        **changes,
    }


@dataclass
class Receiver:
    """What an endpoint got: path, headers, body; and how it answers next."""

    url: str
    posts: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    def events(self) -> list[stripe.Event]:
        """Return what came, checked against the signature by the official SDK."""
        return [
            stripe.Webhook.construct_event(body, headers["Stripe-Signature"], WEBHOOK_SECRET)  # type: ignore[no-untyped-call]
            for _, headers, body in list(self.posts)
        ]

    def types(self) -> list[str]:
        """Return the types of the events that came, in order."""
        return [json.loads(body)["type"] for _, _, body in list(self.posts)]

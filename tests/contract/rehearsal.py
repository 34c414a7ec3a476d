"""The rehearsal's providers as a process of their own, and the few things that a contract needs of them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import requests

_SECONDS = 20.0
Answer = TypeVar("Answer")


class Rehearsal:
    """Started for the whole suite; `clear` brings it back to a fresh start between tests."""

    def __init__(self, folder: Path) -> None:
        options = ["--quick-upscale", "--no-rate-limit", "--exit-with-parent"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "smi_desktop.sandbox", "--data", str(folder), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        addresses = json.loads(self._process.stdout.readline())
        self.stripe_url = str(addresses["stripe_url"])
        self.upsampler_url = str(addresses["upsampler_url"])
        self.smtp_port = int(addresses["smtp_port"])
        self._http = requests.Session()
        self._http.trust_env = False

    def control(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Use one of the rehearsal's controls."""
        url = f"{self.stripe_url}/_sandbox/{path}"
        answer = self._http.get(url) if body is None else self._http.post(url, json=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def fault(self, provider: str, operation: str, fault: str, **params: Any) -> None:
        """Let the next call of an operation fail."""
        line = {"provider": provider, "operation": operation, "fault": fault, "params": params}
        self.control("faults", line)

    def pay(self, page_url: str, email: str, name: str) -> None:
        """Fill the checkout page in with a good card, as a browser would."""
        form = {"action": "pay", "email": email, "name": name, "exp": "12 / 34", "cvc": "123"}
        form["card_number"] = "4242 4242 4242 4242"
        answer = self._http.post(page_url, data=form, allow_redirects=False)
        assert answer.status_code == 303, answer.text

    def clear(self) -> None:
        """Forget the faults and put the clock right."""
        self._http.delete(f"{self.stripe_url}/_sandbox/faults").raise_for_status()
        self.control("clock", {"offset_seconds": 0})

    def close(self) -> None:
        """End the process and leave nothing open."""
        self._http.close()
        self._process.terminate()
        self._process.wait(_SECONDS)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


def wait_for(condition: Callable[[], Answer | None]) -> Answer:
    """Return the first answer of a condition that is one."""
    ends_at = time.monotonic() + _SECONDS
    pause = threading.Event()
    while (answer := condition()) is None:
        assert time.monotonic() < ends_at, "this did not happen in time"
        pause.wait(0.02)
    return answer

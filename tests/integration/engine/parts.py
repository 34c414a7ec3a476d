"""Parts at the edge of the world that a test can stop in the middle of their work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from smi_desktop.services.ports import OutgoingMail
from tests.fakes.mailer import FakeMailer
from tests.fakes.upscaler import FakeLocalUpscaler
from tests.integration.store.waiting import PATIENCE


class Gate:
    """Something in the middle of which a test can stop others.

    Attributes:
        begun: Set once somebody has come to the gate.
        open: Set by the test to let everybody pass.
        most: The largest number of visitors at once.
    """

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.open = threading.Event()
        self.most = 0
        self._inside = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
        self.begun.set()
        assert self.open.wait(PATIENCE)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1


class GatedUpscaler(FakeLocalUpscaler):
    """An upscaler on this machine that works behind a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()

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
        """Wait for the gate, then enlarge."""
        with self.gate:
            super().upscale(
                source,
                destination,
                factor=factor,
                on_progress=on_progress,
                cancelled=cancelled,
                seconds=seconds,
            )


class GatedMailer(FakeMailer):
    """A mail server that answers behind a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()

    def send(self, mail: OutgoingMail) -> str:
        """Wait for the gate, then accept."""
        with self.gate:
            return super().send(mail)

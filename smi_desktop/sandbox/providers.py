"""Puts the three providers together: the only place of the rehearsal where they meet.

Started by `__main__`; sole owner of the order in which they start and stop.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from smi_desktop.sandbox import stripe_api, upsampler_api
from smi_desktop.sandbox.checkout_page import CheckoutPage
from smi_desktop.sandbox.clock import SandboxClock
from smi_desktop.sandbox.constants import (
    DATABASE_FILE,
    STRIPE_KEY_FILE,
    STRIPE_SECRET_KEY,
    UPSAMPLER_API_KEY,
    UPSAMPLER_KEY_FILE,
)
from smi_desktop.sandbox.control_api import ControlApi
from smi_desktop.sandbox.courier import Courier
from smi_desktop.sandbox.faults import FaultScript
from smi_desktop.sandbox.http_server import HttpService, ProviderServer
from smi_desktop.sandbox.smtp_server import Mailbox, MailServer
from smi_desktop.sandbox.store import ObjectStore
from smi_desktop.sandbox.stripe_api import StripeApi
from smi_desktop.sandbox.stripe_events import EventBook
from smi_desktop.sandbox.stripe_ledger import StripeLedger
from smi_desktop.sandbox.stripe_refunds import RefundDesk
from smi_desktop.sandbox.upsampler_api import UpsamplerApi
from smi_desktop.sandbox.upsampler_jobs import UpscaleJobs

_ROUND_SECONDS: Final = 0.25


class PortTakenError(Exception):
    """A port that was asked for is in use."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a rehearsal is started.

    Attributes:
        stripe_port, upsampler_port, smtp_port: 0 lets the system choose.
        seed: Makes the ids of an empty folder repeatable.
        quick: Upscale by Lanczos instead of the network.
        limited: Keep Upsampler's rate limits.
    """

    folder: Path
    stripe_port: int = 0
    upsampler_port: int = 0
    smtp_port: int = 0
    seed: int | None = None
    quick: bool = False
    limited: bool = True


class Providers:
    """Stripe, Upsampler and the mail server of one folder.

    Raises:
        PortTakenError: A port is in use.
    """

    def __init__(self, options: Options) -> None:
        folder = options.folder
        folder.mkdir(parents=True, exist_ok=True)
        self._store = ObjectStore(folder / DATABASE_FILE, options.seed)
        clock = SandboxClock(folder)
        faults = FaultScript(self._store)
        self._courier = Courier(self._store, clock, faults)
        self.events = EventBook(self._store, clock, faults, self._courier)
        refunds = RefundDesk(self._store, clock, faults, self.events)
        self._ledger = StripeLedger(self._store, clock, faults, self.events, refunds)
        self._jobs = UpscaleJobs(
            folder, self._store, clock, faults, self._courier, quick=options.quick
        )
        self.mailbox = Mailbox(folder, self._store, clock)
        key = _key(folder / STRIPE_KEY_FILE, STRIPE_SECRET_KEY)
        control = ControlApi(
            store=self._store,
            clock=clock,
            faults=faults,
            courier=self._courier,
            events=self.events,
            ledger=self._ledger,
            refunds=refunds,
            jobs=self._jobs,
            mailbox=self.mailbox,
        )
        stripe_routes = [
            *StripeApi(self._store, self._ledger, refunds, faults, key).routes(),
            *CheckoutPage(self._ledger).routes(),
            *control.routes(),
        ]
        upsampler_key = _key(folder / UPSAMPLER_KEY_FILE, UPSAMPLER_API_KEY)
        upsampler_routes = UpsamplerApi(
            self._jobs, clock, upsampler_key, limited=options.limited
        ).routes()
        stripe_service = HttpService("stripe", stripe_routes, faults, stripe_api.explain)
        upsampler_service = HttpService(
            "upsampler", upsampler_routes, faults, upsampler_api.explain
        )
        self._stripe = _bound(stripe_service, "Stripe", options.stripe_port)
        self._upsampler = _bound(upsampler_service, "Upsampler", options.upsampler_port)
        self._mail = self._bound_mail(faults, options.smtp_port)
        self._stopping = threading.Event()
        self._ledger.base_url = f"http://127.0.0.1:{self._stripe.port}"
        self._jobs.base_url = f"http://127.0.0.1:{self._upsampler.port}"

    def addresses(self) -> dict[str, str | int]:
        """Return where everything is."""
        return {
            "stripe_url": self._ledger.base_url,
            "upsampler_url": f"{self._jobs.base_url}/api/v1",
            "smtp_port": self._mail.port,
            "mailbox_dir": str(self.mailbox.folder),
        }

    def start(self) -> None:
        """Serve, deliver and work until `stop`."""
        self._stripe.start()
        self._upsampler.start()
        self._mail.start()
        self._courier.start()
        self._jobs.start()
        threading.Thread(target=self._keep_time, daemon=True).start()

    def stop(self) -> None:
        """Free the ports and end the work; what is unfinished goes on at the next start."""
        self._stopping.set()
        self._courier.stop()
        for server in (self._stripe, self._upsampler):
            server.stop()
        self._mail.stop()
        self._jobs.stop()

    def _keep_time(self) -> None:
        while not self._stopping.wait(_ROUND_SECONDS):
            self._ledger.expire_due_sessions()
            self._ledger.release_due_holds()
            self._jobs.remove_old_results()

    def _bound_mail(self, faults: FaultScript, port: int) -> MailServer:
        try:
            return MailServer(self.mailbox, faults, port)
        except OSError as error:
            raise PortTakenError(_taken("mail", port, error)) from error


def _bound(service: HttpService, name: str, port: int) -> ProviderServer:
    try:
        return ProviderServer(service, port)
    except OSError as error:
        raise PortTakenError(_taken(name, port, error)) from error


def _taken(name: str, port: int, error: OSError) -> str:
    return f"The rehearsal's {name} cannot use port {port}: {error.strerror}."


def _key(file: Path, default: str) -> str:
    return file.read_text(encoding="utf-8").strip() if file.exists() else default

"""A whole shop over a real database, with stateful fakes at the edge of the world and no thread.

`World.run_due()` does what the engine does, one task after another, so a test decides what happens when.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import stripe

from smi_desktop.adapters.stripe_webhooks import StripeSignatureVerifier
from smi_desktop.adapters.template_renderer import JinjaRenderer
from smi_desktop.config import Mode
from smi_desktop.domain.errors import BadResultError
from smi_desktop.domain.pricing import Resolution
from smi_desktop.domain.tokens import new_key
from smi_desktop.engine.runner import run_task
from smi_desktop.services.catalogue import CatalogueEntry, add_picture
from smi_desktop.services.checkout import CheckoutForm, StartedCheckout, start_checkout
from smi_desktop.services.shop import (
    STRIPE_SECRET_KEY,
    STRIPE_WEBHOOK_SECRET,
    TOKEN_KEY,
    UPSAMPLER_API_KEY,
    Shop,
)
from smi_desktop.services.upscaling import find_source
from smi_desktop.services.webhooks import Receipt, receive_stripe_event
from smi_desktop.services.work import TaskKind
from smi_desktop.store import alerts, orders, outbox, refunds, tasks
from smi_desktop.store import settings as settings_rows
from smi_desktop.store.database import Database
from smi_desktop.store.models import Alert, Order, OutboxMail, Refund, Task
from tests.fakes.clock import FakeClock
from tests.fakes.fetcher import FakeFetcher
from tests.fakes.file_store import FakeFileStore
from tests.fakes.image_reader import FakeImageReader, fake_image
from tests.fakes.mailer import FakeMailer
from tests.fakes.payment_gateway import FakePaymentGateway
from tests.fakes.secret_store import MemorySecretStore
from tests.fakes.upscaler import FakeLocalUpscaler, FakeRemoteUpscaler

WEBHOOK_SECRET = "whsec_test"
LEASE = timedelta(seconds=60)
PICTURE_KINDS = (
    TaskKind.APPLY_EVENT,
    TaskKind.SUBMIT_UPSCALE,
    TaskKind.WATCH_UPSCALE,
    TaskKind.COLLECT_RESULT,
    TaskKind.UPSCALE_HERE,
)


class OwnWeb(FakeFetcher):
    """The fake web, with the shop's own sources in it as its relay would serve them."""

    shop: Shop | None = None

    def fetch(self, url: str, destination: Path, *, max_bytes: int) -> None:
        """Write what the address holds."""
        if self.shop is not None and "/smi/v1/source/" in url:
            token, number = url.split("/")[-2:]
            self.pages[url] = find_source(self.shop, token, number)[0].read_bytes()
        super().fetch(url, destination, max_bytes=max_bytes)


@dataclass
class World:
    """A shop and everything around it."""

    folder: Path
    database: Database
    mode: Mode = Mode.TEST
    clock: FakeClock = field(default_factory=FakeClock)
    secrets: MemorySecretStore = field(
        default_factory=lambda: MemorySecretStore(
            {
                TOKEN_KEY: new_key(),
                STRIPE_WEBHOOK_SECRET: WEBHOOK_SECRET,
                STRIPE_SECRET_KEY: "sk_test_1",
                UPSAMPLER_API_KEY: "up_1",
            }
        )
    )
    images: FakeImageReader = field(default_factory=FakeImageReader)
    fetcher: OwnWeb = field(default_factory=OwnWeb)
    mailer: FakeMailer = field(default_factory=FakeMailer)
    local_upscaler: FakeLocalUpscaler = field(default_factory=FakeLocalUpscaler)

    def __post_init__(self) -> None:
        self.files = FakeFileStore(self.folder / "files", self.clock)
        self.payments = FakePaymentGateway(self.clock)
        self.upscaler = FakeRemoteUpscaler(self.fetcher)
        self.events = 0
        self.shop = Shop(
            database=self.database,
            clock=self.clock,
            secrets=self.secrets,
            verifier=StripeSignatureVerifier(),
            files=self.files,
            images=self.images,
            templates=JinjaRenderer(),
            local_upscaler=self.local_upscaler,
            payments=lambda _settings: self.payments,
            remote_upscaler=lambda _settings: self.upscaler,
            mailer=lambda _settings: self.mailer,
            fetcher=lambda _settings: self.fetcher,
            work_dir=self.folder / "work",
            mode=self.mode,
        )
        self.fetcher.shop = self.shop
        self.set(mail_from="shop@studio.example", public_url="https://shop.example")

    def set(self, **changes: Any) -> None:
        """Change settings."""
        with self.database.write() as session:
            settings_rows.save(session, changes, now=self.clock.now())

    def add_image(
        self, width: int = 400, height: int = 300, *, format: str = "png", title: str = "Harbour"
    ) -> int:
        """Put a picture into the catalogue and return its number."""
        path = self.folder / "pictures" / f"{title}-{width}x{height}.{format}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(fake_image(width, height, format=format, content=title))
        return add_picture(self.shop, CatalogueEntry(path, title, post_id=7)).attachment_id

    def start_checkout(
        self,
        attachment_id: int | None = None,
        *,
        size: Resolution = Resolution.STANDARD,
        **fields: Any,
    ) -> StartedCheckout:
        """Begin a purchase, of a new picture if none is named."""
        number = self.add_image() if attachment_id is None else attachment_id
        fields.setdefault("email", "jo@example.com")
        return start_checkout(self.shop, CheckoutForm(number, size, **fields))

    def pay(self, order_id: str, **changes: Any) -> str:
        """Let the customer pay at the provider, and return the session's id; no webhook is sent."""
        session_id = self.order(order_id).stripe_session_id
        assert session_id is not None
        self.payments.pay(session_id, **changes)
        return session_id

    def event(
        self,
        kind: str,
        session_id: str,
        *,
        event_id: str | None = None,
        livemode: bool = False,
        secret: str = WEBHOOK_SECRET,
        age: float = 0.0,
    ) -> tuple[bytes, str]:
        """Return an event's raw body and its signature header, signed `age` seconds ago."""
        self.events += 1
        body = {
            "id": event_id or f"evt_{self.events}",
            "object": "event",
            "type": kind,
            "livemode": livemode,
            "data": {"object": {"id": session_id, "object": "checkout.session"}},
        }
        raw = json.dumps(body).encode()
        return raw, self.sign(raw, secret=secret, age=age)

    def sign(self, raw: bytes, *, secret: str = WEBHOOK_SECRET, age: float = 0.0) -> str:
        """Sign a body as Stripe does, with Stripe's own code."""
        moment = int(self.clock.now().timestamp() - age)
        signature = stripe.WebhookSignature._compute_signature(f"{moment}.{raw.decode()}", secret)
        return f"t={moment},v1={signature}"

    def deliver(self, kind: str, session_id: str, **how: Any) -> Receipt:
        """Deliver a signed event to the shop."""
        raw, signature = self.event(kind, session_id, **how)
        return receive_stripe_event(self.shop, raw, signature)

    def buy(self, **fields: Any) -> str:
        """Begin a purchase, pay it and deliver the event; return the order's id. No task has run yet."""
        started = self.start_checkout(**fields)
        session_id = self.pay(started.order_id)
        self.deliver("checkout.session.completed", session_id)
        return started.order_id

    def run_due(self, kinds: Iterable[TaskKind] = TaskKind) -> list[str]:
        """Run what is due until nothing is; return the kinds of work in order."""
        done: list[str] = []
        wanted = list(kinds)
        while task := self.claim(wanted):
            run_task(self.shop, task)
            done.append(task.kind)
            assert len(done) < 500, f"work never ends: {done[-10:]}"
        return done

    def claim(self, kinds: Iterable[TaskKind] = TaskKind) -> tasks.Claim | None:
        """Lease the next due task as an engine called `world`."""
        with self.database.write() as session:
            return tasks.claim(
                session, list(kinds), owner="world", now=self.clock.now(), lease=LEASE
            )

    def finish_upscale(self, order_id: str, *, width: int | None = None, **fields: Any) -> str:
        """Let the remote upscaler bring an order's latest job to an end; return the job's id."""
        order = self.order(order_id)
        job_id = list(self.upscaler.jobs)[-1]
        image = fake_image(width or order.output_width, order.output_height, content="result")
        self.upscaler.succeed(job_id, image, **fields)
        return job_id

    def complete(self, order_id: str) -> Order:
        """Bring a paid order to its delivery through the remote upscaler."""
        self.run_due()
        self.finish_upscale(order_id)
        self.clock.advance(31)
        self.run_due()
        return self.order(order_id)

    def order(self, order_id: str) -> Order:
        """Return an order as it is now."""
        with self.database.read() as session:
            order = orders.get(session, order_id)
        assert order is not None
        return order

    def tasks(self, state: str | None = None) -> list[Task]:
        """Return tasks, newest first."""
        with self.database.read() as session:
            return list(tasks.list_page(session, state=state, limit=1000))

    # What goes wrong

    def fail_picture(
        self, order_id: str, *, error: str = "Your credits have been refunded."
    ) -> Order:
        """Let every upscaler of a paid order's route fail, without sending mail or money; return the order."""
        self.local_upscaler.fail_next(BadResultError("Not enough memory for this picture."))
        self.run_due(PICTURE_KINDS)
        self.upscaler.fail(list(self.upscaler.jobs)[-1], error)
        self.clock.advance(31)
        self.run_due(PICTURE_KINDS)
        return self.order(order_id)

    def intent(self, order_id: str) -> str:
        """Return the payment of an order at the provider."""
        found = self.order(order_id).payment_intent_id
        assert found is not None
        return found

    def intent_of_session(self, order_id: str) -> str:
        """Return the payment that the provider has for an order which may not know of it yet."""
        found = self.payments.sessions[self.order(order_id).stripe_session_id or ""]
        assert found.payment_intent_id is not None
        return found.payment_intent_id

    def tell(self, kind: str, order_id: str) -> Receipt:
        """Deliver a signed event about an order's payment: its refund, its dispute."""
        return self.tell_of_payment(kind, self.intent(order_id))

    def tell_of_payment(self, kind: str, intent: str) -> Receipt:
        """Deliver a signed event about a payment that the shop need not know of yet."""
        self.events += 1
        about = {"id": f"about_{self.events}", "payment_intent": intent}
        body = {
            "id": f"evt_{self.events}",
            "object": "event",
            "type": kind,
            "livemode": False,
            "data": {"object": about},
        }
        raw = json.dumps(body).encode()
        return receive_stripe_event(self.shop, raw, self.sign(raw))

    def later(self, seconds: float) -> list[str]:
        """Let time pass and do what is due then."""
        self.clock.advance(seconds)
        return self.run_due()

    def refunds(self, order_id: str) -> list[Refund]:
        """Return our lines about money that went back, oldest first."""
        with self.database.read() as session:
            return list(refunds.of_order(session, order_id))

    def alerts(self) -> list[Alert]:
        """Return what the owner is being told, oldest first."""
        with self.database.read() as session:
            return list(alerts.list_open(session))

    def mails(self, order_id: str, kind: str | None = None) -> list[OutboxMail]:
        """Return the mails about an order, of one kind if named, oldest first."""
        with self.database.read() as session:
            found = outbox.of_order(session, order_id)
        return sorted((m for m in found if kind in {None, m.kind}), key=lambda mail: mail.id)

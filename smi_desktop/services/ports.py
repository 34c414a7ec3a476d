"""The doors to the outside world, as Protocols, with the plain values that pass through them.

An adapter implements one of these; services call nothing else that leaves the process. What each method
may raise is part of its contract: errors of `smi_desktop.domain.errors`, nothing of a vendor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from smi_desktop.domain.money import Money


class Clock(Protocol):
    """What time it is."""

    def now(self) -> datetime:
        """Return the present moment as aware UTC."""
        ...


class SecretStore(Protocol):
    """Where keys and passwords are kept. Never the database, never the settings."""

    def get(self, name: str) -> str | None:
        """Return a secret, or None if there is none.

        Raises:
            ConfigurationError: The store is locked or missing.
        """
        ...

    def set(self, name: str, value: str) -> None:
        """Store a secret and read it back.

        Raises:
            ConfigurationError: The store did not keep it.
        """
        ...

    def delete(self, name: str) -> None:
        """Remove a secret; nothing happens if there is none."""
        ...

    def describe(self) -> str:
        """Say in words where secrets are kept."""
        ...


# --- payments ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CheckoutRequest:
    """One checkout page to be made.

    Attributes:
        metadata: Put on the session and on its payment intent: Stripe does not copy it.
        success_url: May hold Stripe's `{CHECKOUT_SESSION_ID}`.
        expires_at: Aware UTC; 30 minutes to 24 hours ahead.
        image_url: A public address of a small picture for the page, if there is one.
    """

    order_id: str
    title: str
    description: str
    amount: Money
    success_url: str
    cancel_url: str
    expires_at: datetime
    metadata: Mapping[str, str]
    customer_email: str | None = None
    image_url: str | None = None


@dataclass(frozen=True, slots=True)
class CheckoutSession:
    """A checkout session as the payment provider tells it.

    Attributes:
        status: `open`, `complete` or `expired`; another word is passed on as it came.
        payment_status: `paid`, `unpaid` or `no_payment_required`; another word as it came.
    """

    id: str
    url: str | None
    status: str
    payment_status: str
    amount_total: Money | None
    client_reference_id: str | None
    metadata: Mapping[str, str]
    payment_intent_id: str | None
    customer_email: str | None
    customer_name: str | None
    livemode: bool
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment intent as the payment provider tells it."""

    id: str
    status: str
    amount: Money
    amount_received: Money
    metadata: Mapping[str, str]
    livemode: bool
    charge_id: str | None


@dataclass(frozen=True, slots=True)
class PaymentRefund:
    """A refund as the payment provider tells it.

    Attributes:
        status: `pending`, `requires_action`, `succeeded`, `failed` or `canceled`.
    """

    id: str
    payment_intent_id: str
    amount: Money
    status: str
    failure_reason: str | None
    metadata: Mapping[str, str]
    created_at: datetime


class PaymentGateway(Protocol):
    """The payment provider.

    Every method raises TransientError (away or busy, nothing happened, or safe to repeat under the same
    key), ProviderAccountError (our key), NotFoundError or RejectedError.
    """

    def create_session(self, request: CheckoutRequest, *, idempotency_key: str) -> CheckoutSession:
        """Make a checkout page. The same key returns the same session."""
        ...

    def retrieve_session(self, session_id: str) -> CheckoutSession:
        """Read a session."""
        ...

    def expire_session(self, session_id: str) -> CheckoutSession:
        """Close an open session, so that it can no longer be paid."""
        ...

    def retrieve_payment(self, payment_intent_id: str) -> Payment:
        """Read a payment intent."""
        ...

    def create_refund(
        self,
        payment_intent_id: str,
        amount: Money,
        *,
        metadata: Mapping[str, str],
        idempotency_key: str,
    ) -> PaymentRefund:
        """Send money back. The same key returns the same refund."""
        ...

    def list_refunds(self, payment_intent_id: str) -> Sequence[PaymentRefund]:
        """Return every refund of a payment, newest first."""
        ...


class WebhookVerifier(Protocol):
    """Checks who sent a webhook, on its raw bytes."""

    def verify(self, raw: bytes, signature: str, secrets: Sequence[str]) -> datetime:
        """Return the moment that the sender signed, aware UTC.

        Raises:
            SignatureError: No signature made with one of the secrets is in the header.
        """
        ...


# --- upscaling --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UpscaleRequest:
    """One picture for a remote upscaler. `image_url` and `callback_url` must be reachable by it."""

    image_url: str
    factor: int
    callback_url: str


class RemoteState(StrEnum):
    """What a remote upscaler says of a job; UNKNOWN is a word that we do not know: still running."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class RemoteJob:
    """A job as the remote upscaler tells it.

    Attributes:
        image_url: A temporary address of the full result, once succeeded.
        credit_cost: Credits taken, if told.
        error: The upscaler's own words, if it failed.
        said: The status word as it came.
    """

    id: str
    state: RemoteState
    image_url: str | None
    credit_cost: int | None
    error: str | None
    said: str


class RemoteUpscaler(Protocol):
    """An upscaler somewhere else: submit, then wait for its call or ask."""

    @property
    def name(self) -> str:
        """The name under which its work is booked."""
        ...

    def submit(self, request: UpscaleRequest) -> RemoteJob:
        """Start a job.

        Raises:
            TransientError: It surely did not start; try again later.
            AmbiguousError: The request went out and no usable answer came.
            ProviderAccountError: Our key or credit.
            RejectedError: This picture is refused for good.
        """
        ...

    def status(self, job_id: str) -> RemoteJob:
        """Ask for a job.

        Raises:
            TransientError: No usable answer, or the job is not known (yet).
            ProviderAccountError: Our key.
        """
        ...


class LocalUpscaler(Protocol):
    """An upscaler on this machine: it runs while the caller waits."""

    @property
    def name(self) -> str:
        """The name under which its work is booked."""
        ...

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
        """Write the enlarged picture to `destination` as a lossless file, or as JPEG by its suffix.

        Args:
            source: The picture to enlarge.
            destination: Where the result goes; `.jpg` makes it a JPEG.
            factor: 4 or 8.
            on_progress: Told the share that is done, 0..1, a few times a second at most.
            cancelled: Asked a few times a second; True ends the work.
            seconds: The longest that it may take.

        Raises:
            BadResultError: The source cannot be read.
            TransientError: The work was cancelled, killed or took too long.
        """
        ...


# --- pictures and files -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is known of a picture after decoding it. Width and height are as shown (orientation applied)."""

    width: int
    height: int
    format: str
    """`jpeg`, `png` or `webp`."""
    bytes: int
    sha256: str


class ImageReader(Protocol):
    """Decodes pictures in a child process with limits, so that a bomb harms that process alone."""

    def inspect(self, path: Path, *, max_pixels: int) -> ImageFacts:
        """Decode the whole picture and tell what it is.

        Raises:
            InvalidInputError: Not a picture of an accepted type, damaged, or too large.
            TransientError: The child was killed or ran out of time.
        """
        ...

    def make_preview(self, source: Path, destination: Path, *, longest_edge: int) -> None:
        """Write a small sRGB JPEG without metadata.

        Raises:
            InvalidInputError, TransientError: As `inspect`.
        """
        ...

    def finish_result(
        self,
        result: Path,
        source: Path,
        destination: Path,
        *,
        width: int,
        height: int,
        format: str,
        jpeg_quality: int,
    ) -> ImageFacts:
        """Check a result and write the file that is delivered.

        Decodes it whole; refuses any other size than `width` x `height` and a blank picture; writes
        `format` (`jpeg` or `png`) with the source's colour profile and EXIF where the result has none.

        Raises:
            BadResultError: The result is not the picture that was ordered.
            TransientError: The child was killed or ran out of time.
        """
        ...


class Fetcher(Protocol):
    """Downloads from addresses that others gave us."""

    def fetch(self, url: str, destination: Path, *, max_bytes: int) -> None:
        """Download into `destination`, resuming `destination` + `.part` where the server can.

        Raises:
            LinkExpiredError: 403, 404 or 410: ask for a fresh address.
            RejectedError: The address is not allowed, or the body is larger than `max_bytes`.
            TransientError: Cut, slow, or the server is away; a part may remain for the next try.
        """
        ...


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of the store."""

    key: str
    bytes: int
    modified_at: datetime


class FileStore(Protocol):
    """Where results and snapshots of sources lie, under our own keys (`results/…`, `sources/…`)."""

    def put(self, key: str, source: Path) -> None:
        """Take a file in, whole or not at all, durably. An existing key is replaced.

        Raises:
            TransientError: No space or no access.
        """
        ...

    def path(self, key: str) -> Path:
        """Return a readable local path.

        Raises:
            NotFoundError: There is no such file.
        """
        ...

    def exists(self, key: str) -> bool:
        """Tell whether the file is there."""
        ...

    def delete(self, key: str) -> None:
        """Remove a file; nothing happens if there is none."""
        ...

    def files(self, prefix: str = "") -> Iterator[StoredFile]:
        """List what is stored under a prefix."""
        ...


# --- mail -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InlineImage:
    """A picture inside a mail, addressed as `cid:{cid}` from its HTML."""

    cid: str
    content: bytes
    subtype: str


@dataclass(frozen=True, slots=True)
class OutgoingMail:
    """A mail as it leaves. The Message-ID is fixed before the first try."""

    message_id: str
    date: datetime
    sender_name: str
    sender_address: str
    reply_to: str | None
    to_address: str
    subject: str
    text: str
    html: str
    images: tuple[InlineImage, ...] = field(default=())


class Mailer(Protocol):
    """The mail server."""

    def send(self, mail: OutgoingMail) -> str:
        """Hand a mail over and return the server's words.

        Raises:
            TransientError: Surely not accepted; try again later.
            AmbiguousError: The connection was lost after the final dot: it may have been accepted.
            RejectedError: This recipient is refused for good.
            ProviderAccountError: Our login, sender or TLS set-up is the problem, not this mail.
        """
        ...


@dataclass(frozen=True, slots=True)
class RenderedMail:
    """A template filled in."""

    subject: str
    html: str
    text: str


class TemplateRenderer(Protocol):
    """Fills templates with plain values."""

    def mail(self, kind: str, values: Mapping[str, Any]) -> RenderedMail:
        """Fill `resources/emails/{kind}` in."""
        ...

    def page(self, name: str, values: Mapping[str, Any]) -> str:
        """Fill `resources/pages/{name}.html` in."""
        ...

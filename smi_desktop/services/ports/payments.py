"""The payment provider and its webhooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from smi_desktop.domain.money import Money


@dataclass(frozen=True, slots=True)
class CheckoutRequest:
    """One checkout page to be made.

    Attributes:
        metadata: Put on the session and on its payment intent: Stripe does not copy it.
        success_url: May hold Stripe's `{CHECKOUT_SESSION_ID}`.
        expires_at: Aware UTC; 30 minutes to 24 hours ahead.
        image_url: A public address of a small picture for the page, if there is one.
        capture_when_ready: Only hold the money of a card; `capture_payment` takes it. A method that
            cannot hold money (a bank debit) is taken at once all the same.
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
    capture_when_ready: bool = False


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
    """A payment intent as the payment provider tells it.

    Attributes:
        status: `succeeded`, `processing`, `requires_capture` (the money is held), `canceled`, …
        charge_id: The last try to pay; there is one for held money too.
        amount_capturable: What is held and may still be taken.
        amount_refunded_minor: What has gone back of the charge, in minor units of `amount`'s
            currency; refunds that failed do not count.
        disputed: The customer's bank has asked for the money back, now or earlier: a dispute that
            was won stays in sight. `list_disputes` tells how each one stands.
        fee: What the provider keeps of the payment, in the shop's own currency, which may be
            another than `amount`'s; None while it is not known.
    """

    id: str
    status: str
    amount: Money
    amount_received: Money
    metadata: Mapping[str, str]
    livemode: bool
    charge_id: str | None
    amount_capturable: Money | None = None
    amount_refunded_minor: int = 0
    disputed: bool = False
    fee: Money | None = None


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


@dataclass(frozen=True, slots=True)
class Dispute:
    """A customer's complaint at his bank, as the payment provider tells it.

    Attributes:
        status: `needs_response`, `under_review`, `won`, `lost`, `prevented`, or the same as a mere
            question (`warning_needs_response`, `warning_under_review`, `warning_closed`); another
            word as it came.
        due_by: When evidence must be there, aware UTC; None if none is asked for.
    """

    id: str
    payment_intent_id: str
    amount: Money
    status: str
    reason: str
    due_by: datetime | None
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
        """Read a payment intent, with its fee as far as it is known."""
        ...

    def capture_payment(self, payment_intent_id: str, *, idempotency_key: str) -> Payment:
        """Take all of the money that is held.

        RejectedError when there is nothing to take any more: it was let go, it ran out, or it has been
        taken already. So read the payment first.
        """
        ...

    def cancel_payment(self, payment_intent_id: str, *, idempotency_key: str) -> Payment:
        """Let held money go back to the customer.

        RejectedError when it has been taken or let go already.
        """
        ...

    def create_refund(
        self,
        payment_intent_id: str,
        amount: Money,
        *,
        metadata: Mapping[str, str],
        idempotency_key: str,
    ) -> PaymentRefund:
        """Send money back. The same key returns the same refund.

        A provider may keep an error of its own under the key, whether money went back or not: the same
        TransientError then comes for as long as a day. `list_refunds` tells, and if there is none,
        another key helps. RejectedError: more than is left, or a dispute stands in the way.
        """
        ...

    def list_refunds(self, payment_intent_id: str) -> Sequence[PaymentRefund]:
        """Return every refund of a payment, newest first, those of the dashboard too.

        Held money that was let go is no refund, whatever the provider calls it.
        """
        ...

    def list_disputes(self, payment_intent_id: str) -> Sequence[Dispute]:
        """Return every dispute of a payment, newest first."""
        ...


class WebhookVerifier(Protocol):
    """Checks who sent a webhook, on its raw bytes."""

    def verify(self, raw: bytes, signature: str, secrets: Sequence[str]) -> datetime:
        """Return the moment that the sender signed, aware UTC.

        Raises:
            SignatureError: No signature made with one of the secrets is in the header.
        """
        ...

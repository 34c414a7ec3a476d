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

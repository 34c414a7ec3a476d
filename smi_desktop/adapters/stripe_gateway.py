"""Stripe, through its own SDK. Sole owner of what we ask of Stripe and of how its errors are read.

Which errors mean "again later", "our account" or "no for good" is decided in `_translated` alone,
from https://docs.stripe.com/error-handling and the SDK's error classes. It is closed by default:
what it does not know leaves as it came and counts as a bug of ours, never as success. An answer
that is not what Stripe documents (a captive portal's page, a proxy's 404) is none: ask again;
`_stripe_http` sorts those out before the SDK trips over them, and `_stripe_answers` reads the rest.

Importing this module imports the SDK (some tenths of a second), so import it when it is needed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Final

import requests
import stripe
from stripe.params import (
    DisputeListParams,
    PaymentIntentCancelParams,
    PaymentIntentCaptureParams,
    PaymentIntentRetrieveParams,
    RefundCreateParams,
    RefundListParams,
)
from stripe.params.checkout import (
    SessionCreateParams,
    SessionCreateParamsLineItemPriceDataProductData,
    SessionExpireParams,
    SessionRetrieveParams,
)

from smi_desktop.adapters._addresses import is_loopback_url
from smi_desktop.adapters._http_answers import retry_after_seconds
from smi_desktop.adapters._stripe_answers import (
    UnusableAnswerError,
    is_release,
    read_dispute,
    read_payment,
    read_refund,
    read_session,
)
from smi_desktop.adapters._stripe_http import StrictRequestsClient
from smi_desktop.domain.errors import (
    NotFoundError,
    ProviderAccountError,
    RejectedError,
    TransientError,
)
from smi_desktop.domain.money import Money
from smi_desktop.services.ports import (
    CheckoutRequest,
    CheckoutSession,
    Dispute,
    Payment,
    PaymentRefund,
)

_log = logging.getLogger(__name__)

_MAX_NETWORK_RETRIES: Final = 2
# A payment has a handful of refunds; the bound is for an answer that says "more" for ever.
_MOST_LISTED: Final = 1000
_LARGEST_PAGE: Final = 100
# What has gone back, whether it is disputed and the fee stand in these two, not in the intent.
WITH_FEE: Final = ("latest_charge.balance_transaction",)
_LONGEST_QUOTE: Final = 300
_SERVER_ERROR: Final = 500


class StripeGateway:
    """Implements PaymentGateway. Safe from several threads.

    Args:
        secret_key: A secret or, better, restricted key. Never logged.
        api_base: Stripe's address on loopback for the rehearsal shop; empty for the real one.
        timeout: Seconds to connect and to wait for an answer, for each of at most three tries.
    """

    def __init__(
        self, secret_key: str, *, api_base: str = "", timeout: tuple[float, float] = (5.0, 30.0)
    ) -> None:
        if not secret_key.strip():
            raise ProviderAccountError("There is no Stripe key.")
        session = None
        if is_loopback_url(api_base):
            # A proxy of the environment cannot reach this machine's loopback.
            session = requests.Session()
            session.trust_env = False
        self._client = stripe.StripeClient(
            secret_key,
            base_addresses={"api": api_base} if api_base else None,
            max_network_retries=_MAX_NETWORK_RETRIES,
            http_client=StrictRequestsClient(timeout=timeout, session=session),
        )

    def create_session(self, request: CheckoutRequest, *, idempotency_key: str) -> CheckoutSession:
        """Make a checkout page. The same key returns the same session (kept 24 hours by Stripe).

        Raises:
            TransientError, ProviderAccountError, RejectedError: See the port.
        """
        with _translated():
            made = self._client.v1.checkout.sessions.create(
                session_params(request), {"idempotency_key": idempotency_key}
            )
            return read_session(made.to_dict())

    def retrieve_session(self, session_id: str) -> CheckoutSession:
        """Read a session.

        Raises:
            NotFoundError, TransientError, ProviderAccountError, RejectedError: See the port.
        """
        params: SessionRetrieveParams = {}
        with _translated():
            found = self._client.v1.checkout.sessions.retrieve(session_id, params)
            return read_session(found.to_dict())

    def expire_session(self, session_id: str) -> CheckoutSession:
        """Close an open session.

        Raises:
            RejectedError: It is not open any more.
            NotFoundError, TransientError, ProviderAccountError: See the port.
        """
        params: SessionExpireParams = {}
        with _translated():
            closed = self._client.v1.checkout.sessions.expire(session_id, params)
            return read_session(closed.to_dict())

    def retrieve_payment(self, payment_intent_id: str) -> Payment:
        """Read a payment intent.

        Raises:
            NotFoundError, TransientError, ProviderAccountError, RejectedError: See the port.
        """
        params: PaymentIntentRetrieveParams = {"expand": [*WITH_FEE]}
        with _translated():
            found = self._client.v1.payment_intents.retrieve(payment_intent_id, params)
            return read_payment(found.to_dict())

    def capture_payment(self, payment_intent_id: str, *, idempotency_key: str) -> Payment:
        """Take all of the money that is held.

        Raises:
            RejectedError: It was let go, ran out, or has been taken already.
            NotFoundError, TransientError, ProviderAccountError: See the port.
        """
        params: PaymentIntentCaptureParams = {"expand": [*WITH_FEE]}
        with _translated():
            taken = self._client.v1.payment_intents.capture(
                payment_intent_id, params, {"idempotency_key": idempotency_key}
            )
            return read_payment(taken.to_dict())

    def cancel_payment(self, payment_intent_id: str, *, idempotency_key: str) -> Payment:
        """Let held money go back to the customer.

        Raises:
            RejectedError: It has been taken or let go already.
            NotFoundError, TransientError, ProviderAccountError: See the port.
        """
        params: PaymentIntentCancelParams = {"expand": [*WITH_FEE]}
        with _translated():
            let_go = self._client.v1.payment_intents.cancel(
                payment_intent_id, params, {"idempotency_key": idempotency_key}
            )
            return read_payment(let_go.to_dict())

    def create_refund(
        self,
        payment_intent_id: str,
        amount: Money,
        *,
        metadata: Mapping[str, str],
        idempotency_key: str,
    ) -> PaymentRefund:
        """Send money back. The same key returns the same refund (kept 24 hours by Stripe).

        Raises:
            RejectedError: Already refunded, disputed, or more than was paid.
            NotFoundError, TransientError, ProviderAccountError: See the port.
        """
        with _translated():
            made = self._client.v1.refunds.create(
                refund_params(payment_intent_id, amount, metadata),
                {"idempotency_key": idempotency_key},
            )
            return read_refund(made.to_dict())

    def list_refunds(self, payment_intent_id: str) -> Sequence[PaymentRefund]:
        """Return every refund of a payment, newest first.

        Raises:
            NotFoundError, TransientError, ProviderAccountError, RejectedError: See the port.
        """
        with _translated():
            pages = self._client.v1.refunds.list(refund_list_params(payment_intent_id))
            listed = [each.to_dict() for each in islice(pages.auto_paging_iter(), _MOST_LISTED)]
            return [read_refund(each) for each in listed if not is_release(each)]

    def list_disputes(self, payment_intent_id: str) -> Sequence[Dispute]:
        """Return every dispute of a payment, newest first.

        Raises:
            NotFoundError, TransientError, ProviderAccountError, RejectedError: See the port.
        """
        with _translated():
            pages = self._client.v1.disputes.list(dispute_list_params(payment_intent_id))
            found = islice(pages.auto_paging_iter(), _MOST_LISTED)
            return [read_dispute(each.to_dict()) for each in found]


def session_params(request: CheckoutRequest) -> SessionCreateParams:
    """Return what is sent to make a session.

    No `payment_method_types`: Stripe removed it on 2026-09-30 and picks the methods itself.
    Metadata goes on the payment intent as well, because Stripe does not copy it there. To hold money
    is asked of cards alone: asked of the whole payment, Stripe would offer no method that cannot.
    https://docs.stripe.com/payments/place-a-hold-on-a-payment-method
    """
    metadata = dict(request.metadata)
    product: SessionCreateParamsLineItemPriceDataProductData = {"name": request.title}
    if request.description:  # Stripe refuses an empty text
        product["description"] = request.description
    if request.image_url:
        product["images"] = [request.image_url]
    params: SessionCreateParams = {
        "mode": "payment",
        "line_items": [
            {
                "quantity": 1,
                "price_data": {
                    "currency": request.amount.currency,
                    "unit_amount": request.amount.amount_minor,
                    "product_data": product,
                },
            }
        ],
        "client_reference_id": request.order_id,
        "metadata": metadata,
        "payment_intent_data": {"metadata": metadata},
        "customer_creation": "if_required",
        "success_url": request.success_url,
        "cancel_url": request.cancel_url,
        "expires_at": int(request.expires_at.timestamp()),
    }
    if request.customer_email:
        params["customer_email"] = request.customer_email
    if request.capture_when_ready:
        params["payment_method_options"] = {"card": {"capture_method": "manual"}}
    return params


def refund_params(
    payment_intent_id: str, amount: Money, metadata: Mapping[str, str]
) -> RefundCreateParams:
    """Return what is sent to make a refund; its currency is always the payment's."""
    return {
        "payment_intent": payment_intent_id,
        "amount": amount.amount_minor,
        "metadata": dict(metadata),
    }


def refund_list_params(payment_intent_id: str) -> RefundListParams:
    """Return what is sent to list refunds, with their charges: see `is_release`."""
    return {
        "payment_intent": payment_intent_id,
        "limit": _LARGEST_PAGE,
        "expand": ["data.charge"],
    }


def dispute_list_params(payment_intent_id: str) -> DisputeListParams:
    """Return what is sent to list disputes."""
    return {"payment_intent": payment_intent_id, "limit": _LARGEST_PAGE}


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except stripe.APIConnectionError as error:
        _log.info("Stripe cannot be reached: %s", type(error).__name__)
        raise TransientError("Stripe cannot be reached.") from error
    except (stripe.AuthenticationError, stripe.PermissionError) as error:
        raise ProviderAccountError(
            f"Stripe refuses this shop's key (HTTP {error.http_status}). Check that it is the "
            "right one, not revoked, and may write checkout sessions, "
            "payments and refunds and read disputes."
        ) from error
    except stripe.StripeError as error:
        raise _from_status(error) from error
    except UnusableAnswerError as error:
        raise TransientError("Stripe's answer cannot be used.") from error


def _from_status(error: stripe.StripeError) -> Exception:
    """Return the domain's error for an answer that names its status; anything else as it is."""
    status = error.http_status
    if status is None:
        return error
    if isinstance(error, stripe.RateLimitError) or status in {408, 409, 429}:
        wait = retry_after_seconds(error.headers)
        return TransientError("Stripe asks us to slow down.", retry_after=wait)
    if status >= _SERVER_ERROR:
        wait = retry_after_seconds(error.headers)
        return TransientError(f"Stripe is busy or away (HTTP {status}).", retry_after=wait)
    words = (error.user_message or error.code or "no reason given")[:_LONGEST_QUOTE]
    if status == 404 or error.code == "resource_missing":
        return NotFoundError(f"Stripe does not know this: {words}")
    if 400 <= status < _SERVER_ERROR:
        return RejectedError(f"Stripe refuses this request: {words}")
    return error

"""Stripe's answers in its own shape, and a gateway to read them with."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from smi_desktop.adapters.stripe_gateway import StripeGateway
from smi_desktop.domain.money import Money
from smi_desktop.services.ports import CheckoutRequest
from tests.integration.adapters.loopback import Answer, reply

KEY = "rk_test_canary_4711"
REQUEST = CheckoutRequest(
    order_id="order-1",
    title="Lighthouse",
    description="",
    amount=Money(199, "usd"),
    success_url="https://studio.example/done",
    cancel_url="https://studio.example/",
    expires_at=datetime(2026, 1, 15, 13, tzinfo=UTC),
    metadata={"order_id": "order-1"},
)
SESSION: dict[str, Any] = {
    "id": "cs_test_1",
    "object": "checkout.session",
    "url": "https://checkout.stripe.com/c/pay/cs_test_1",
    "status": "open",
    "payment_status": "unpaid",
    "amount_total": 199,
    "currency": "usd",
    "client_reference_id": "order-1",
    "metadata": {"order_id": "order-1"},
    "payment_intent": None,
    "customer_details": None,
    "customer_email": "ada@example.com",
    "livemode": False,
    "expires_at": 1768482000,
}
PAYMENT: dict[str, Any] = {
    "id": "pi_1",
    "object": "payment_intent",
    "status": "succeeded",
    "amount": 199,
    "amount_received": 199,
    "currency": "usd",
    "metadata": {},
    "livemode": True,
    "latest_charge": "ch_1",
}
REFUND: dict[str, Any] = {
    "id": "re_1",
    "object": "refund",
    "payment_intent": "pi_1",
    "amount": 199,
    "currency": "usd",
    "status": "succeeded",
    "failure_reason": None,
    "metadata": {"order_id": "order-1"},
    "created": 1768478400,
}

CHARGE: dict[str, Any] = {
    "id": "ch_1",
    "object": "charge",
    "captured": True,
    "amount_refunded": 0,
    "disputed": False,
    "balance_transaction": {
        "id": "txn_1",
        "object": "balance_transaction",
        "fee": 41,
        "currency": "eur",
    },
}
DISPUTE: dict[str, Any] = {
    "id": "dp_1",
    "object": "dispute",
    "payment_intent": "pi_1",
    "amount": 199,
    "currency": "usd",
    "status": "needs_response",
    "reason": "product_not_received",
    "evidence_details": {"due_by": 1768482000},
    "created": 1768478400,
}


def gateway_for(url: str) -> StripeGateway:
    """Return a gateway that does not wait for long."""
    return StripeGateway(KEY, api_base=url, timeout=(2.0, 5.0))


def answer(body: object, status: int = 200, **headers: str) -> Answer:
    """Return an answer as Stripe's API sends it."""
    # "Stripe-Should-Retry: false" is what Stripe sends when a repeat is useless; it keeps tests quick.
    return reply(status, json.dumps(body), Stripe_Should_Retry="false", **headers)


def error(status: int, words: str = "No.", **fields: str) -> Answer:
    """Return a refusal as Stripe's API words it."""
    kind = fields.pop("type", "invalid_request_error")
    return answer({"error": {"type": kind, "message": words, **fields}}, status)

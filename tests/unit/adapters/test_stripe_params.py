"""What we ask of Stripe, held against the SDK's own description of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Optional

import pytest
from pydantic import TypeAdapter, ValidationError
from stripe import StripeContext
from stripe._request_options import RequestOptions
from stripe.params import _dispute_list_params as dispute_list_params_module
from stripe.params import _payment_intent_cancel_params as cancel_params_module
from stripe.params import _payment_intent_capture_params as capture_params_module
from stripe.params import _payment_intent_retrieve_params as payment_params_module
from stripe.params import _refund_create_params as refund_params_module
from stripe.params import _refund_list_params as refund_list_params_module
from stripe.params.checkout import _session_create_params as session_params_module
from typing_extensions import is_typeddict

from smi_desktop.adapters.stripe_gateway import (
    WITH_FEE,
    dispute_list_params,
    refund_list_params,
    refund_params,
    session_params,
)
from smi_desktop.domain.money import Money
from smi_desktop.services.ports import CheckoutRequest

REQUEST = CheckoutRequest(
    order_id="order-1",
    title="Lighthouse, 8x",
    description="8160 x 6120 pixels",
    amount=Money(199, "usd"),
    success_url="https://studio.example/done?s={CHECKOUT_SESSION_ID}",
    cancel_url="https://studio.example/",
    expires_at=datetime(2026, 1, 15, 13, 0, 0, 900_000, tzinfo=UTC),
    metadata={"order_id": "order-1"},
)


@pytest.fixture(scope="module")
def strict() -> dict[str, TypeAdapter[Any]]:
    """Validators made of the SDK's TypedDicts that refuse every key they do not know."""
    names = {"Mapping": Mapping, "Optional": Optional, "StripeContext": StripeContext}
    wanted = {
        "session": (session_params_module, "SessionCreateParams"),
        "refund": (refund_params_module, "RefundCreateParams"),
        "refunds": (refund_list_params_module, "RefundListParams"),
        "payment": (payment_params_module, "PaymentIntentRetrieveParams"),
        "capture": (capture_params_module, "PaymentIntentCaptureParams"),
        "cancel": (cancel_params_module, "PaymentIntentCancelParams"),
        "disputes": (dispute_list_params_module, "DisputeListParams"),
    }
    adapters: dict[str, TypeAdapter[Any]] = {}
    sys.modules["stripe._request_options"].__dict__.setdefault("StripeContext", StripeContext)
    for kind, (module, name) in wanted.items():
        for found in list(vars(module).values()):
            if is_typeddict(found):
                found.__pydantic_config__ = {"extra": "forbid", "arbitrary_types_allowed": True}
        for missing, value in names.items():
            vars(module).setdefault(missing, value)
        adapters[kind] = TypeAdapter(vars(module)[name])
    return adapters


def full_request() -> CheckoutRequest:
    return CheckoutRequest(
        order_id="order-2",
        title="Lighthouse",
        description="",
        amount=Money(50, "jpy"),
        success_url=REQUEST.success_url,
        cancel_url=REQUEST.cancel_url,
        expires_at=REQUEST.expires_at,
        metadata={},
        customer_email="ada@example.com",
        image_url="https://studio.example/small.jpg",
        capture_when_ready=True,
    )


@pytest.mark.parametrize("request_made", [REQUEST, full_request()])
def test_a_session_is_asked_for_in_the_sdks_own_terms(
    strict: dict[str, TypeAdapter[Any]], request_made: CheckoutRequest
) -> None:
    params = session_params(request_made)
    assert strict["session"].validate_python(params, strict=True) == params


def test_a_refund_is_asked_for_in_the_sdks_own_terms(
    strict: dict[str, TypeAdapter[Any]],
) -> None:
    params = refund_params("pi_1", Money(199, "usd"), {"order_id": "order-1"})
    assert strict["refund"].validate_python(params, strict=True) == params
    assert params == {
        "payment_intent": "pi_1",
        "amount": 199,
        "metadata": {"order_id": "order-1"},
    }


def test_refunds_are_listed_in_the_sdks_own_terms(strict: dict[str, TypeAdapter[Any]]) -> None:
    params = refund_list_params("pi_1")
    assert strict["refunds"].validate_python(params, strict=True) == params


def test_disputes_are_listed_in_the_sdks_own_terms(strict: dict[str, TypeAdapter[Any]]) -> None:
    params = dispute_list_params("pi_1")
    assert strict["disputes"].validate_python(params, strict=True) == params


@pytest.mark.parametrize("call", ["payment", "capture", "cancel"])
def test_the_fee_is_asked_for_in_the_sdks_own_terms(
    strict: dict[str, TypeAdapter[Any]], call: str
) -> None:
    params = {"expand": [*WITH_FEE]}
    assert strict[call].validate_python(params, strict=True) == params


def test_money_is_held_of_cards_alone_and_only_when_asked_for() -> None:
    """Asked of the whole payment, Stripe would offer no method that cannot hold money."""
    assert "payment_method_options" not in session_params(REQUEST)
    held = session_params(full_request())
    assert held["payment_method_options"] == {"card": {"capture_method": "manual"}}
    assert held["payment_intent_data"] == {"metadata": {}}


@pytest.mark.parametrize(
    ("where", "key", "value"),
    [
        ((), "payment_method_types", ["card"]),
        ((), "colour", "red"),
        (("line_items", 0), "colour", "red"),
        (("line_items", 0, "price_data"), "unit_amount", 1.99),
        (("line_items", 0, "price_data"), "unit_amount", "199"),
        (("line_items", 0, "price_data", "product_data"), "image", "https://x.example/"),
        (("payment_intent_data",), "meta", {}),
    ],
)
def test_the_check_itself_refuses_what_the_sdk_does_not_know(
    strict: dict[str, TypeAdapter[Any]], where: tuple[Any, ...], key: str, value: object
) -> None:
    """The control: without it, a check that lets everything through would look just as green."""
    params: Any = session_params(REQUEST)
    place = params
    for step in where:
        place = place[step]
    place[key] = value
    with pytest.raises(ValidationError):
        strict["session"].validate_python(params, strict=True)


def test_the_check_of_refunds_refuses_what_the_sdk_does_not_know(
    strict: dict[str, TypeAdapter[Any]],
) -> None:
    params: Any = refund_params("pi_1", Money(199, "usd"), {})
    with pytest.raises(ValidationError):
        strict["refund"].validate_python({**params, "paymentintent": "pi_1"}, strict=True)


def test_no_option_of_the_call_is_sent_as_a_parameter() -> None:
    """The SDK's parameter types also list its call options, so the check above would pass them."""
    for params in (
        session_params(REQUEST),
        refund_params("pi_1", Money(199, "usd"), {}),
        refund_list_params("pi_1"),
    ):
        assert not set(params) & set(RequestOptions.__annotations__)


def test_a_session_says_what_was_agreed() -> None:
    params = session_params(REQUEST)
    assert params["mode"] == "payment"
    (item,) = params["line_items"]
    assert item["quantity"] == 1
    assert item["price_data"] == {
        "currency": "usd",
        "unit_amount": 199,
        "product_data": {"name": "Lighthouse, 8x", "description": "8160 x 6120 pixels"},
    }
    assert params["client_reference_id"] == "order-1"
    assert params["metadata"] == params["payment_intent_data"]["metadata"] == REQUEST.metadata
    assert params["customer_creation"] == "if_required"
    assert params["expires_at"] == 1_768_482_000
    assert "customer_email" not in params
    assert "payment_method_types" not in params


def test_an_address_and_a_picture_are_sent_only_if_there_are_any() -> None:
    params = session_params(full_request())
    product = params["line_items"][0]["price_data"]["product_data"]
    assert params["customer_email"] == "ada@example.com"
    assert product["images"] == ["https://studio.example/small.jpg"]
    assert "description" not in product, "Stripe refuses an empty text"

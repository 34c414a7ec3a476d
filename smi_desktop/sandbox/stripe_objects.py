"""Builds Stripe's objects with every field that the official SDK's classes know.

Sole owner of their shape. What an object means and when it changes is decided in `stripe_ledger`.
"""

from __future__ import annotations

from typing import Final

import stripe

from smi_desktop.sandbox.store import Json

API_VERSION: Final = str(stripe.api_version)
ACCOUNT_ID: Final = "acct_1RehearsalShop00"
_FEE_PERMILLE: Final = 29
_FEE_FIXED: Final = 30
_DAY: Final = 86_400


def blank(kind: type[stripe.StripeObject], **fields: object) -> Json:
    """Return an object with the given fields and None in every other field of the SDK's class."""
    names = [name for name in kind.__annotations__ if name != "OBJECT_NAME"]
    word = getattr(kind, "OBJECT_NAME")  # noqa: B009 - the common base class does not declare it
    return {**dict.fromkeys(names), "object": word, **fields}


def stripe_fee(amount: int) -> int:
    """Return Stripe's usual fee of 2.9 % and 30 minor units, halves up.

    https://stripe.com/pricing
    """
    return (amount * _FEE_PERMILLE + 500) // 1000 + _FEE_FIXED


def line_item(object_id: str, given: Json) -> Json:
    """Return a line item from the parameters `price_data` and `quantity`."""
    price = given["price_data"]
    quantity = int(given.get("quantity", 1))
    amount = price["unit_amount"] * quantity
    product = price.get("product_data", {})
    return {
        "id": object_id,
        "object": "item",
        "amount_discount": 0,
        "amount_subtotal": amount,
        "amount_tax": 0,
        "amount_total": amount,
        "currency": price["currency"].lower(),
        "description": product.get("name"),
        "price": {
            "id": object_id.replace("li_", "price_"),
            "object": "price",
            "active": False,
            "currency": price["currency"].lower(),
            "unit_amount": price["unit_amount"],
            "unit_amount_decimal": str(price["unit_amount"]),
            "type": "one_time",
            "product": object_id.replace("li_", "prod_"),
            "metadata": {},
            "livemode": False,
        },
        "quantity": quantity,
    }


def session(object_id: str, params: Json, *, now: int, url: str, total: int, currency: str) -> Json:
    """Return an open checkout session."""
    email = params.get("customer_email")
    return blank(
        stripe.checkout.Session,
        id=object_id,
        adaptive_pricing={"enabled": params.get("adaptive_pricing", {}).get("enabled", True)},
        allow_promotion_codes=params.get("allow_promotion_codes"),
        amount_subtotal=total,
        amount_total=total,
        automatic_tax={
            "enabled": False,
            "liability": None,
            "provider": None,
            "status": None,
        },
        billing_address_collection=params.get("billing_address_collection"),
        cancel_url=params.get("cancel_url"),
        client_reference_id=params.get("client_reference_id"),
        created=now,
        currency=currency,
        custom_fields=[],
        custom_text=params.get("custom_text", {}),
        customer_creation=params.get("customer_creation", "if_required"),
        customer_details=customer_details(email, None) if email else None,
        customer_email=email,
        expires_at=params.get("expires_at", now + _DAY),
        integration_identifier=params.get("integration_identifier"),
        invoice_creation={"enabled": False, "invoice_data": {}},
        livemode=False,
        locale=params.get("locale"),
        metadata=params.get("metadata") or {},
        mode="payment",
        payment_method_collection="if_required",
        payment_method_options=params.get("payment_method_options", {}),
        payment_method_types=["card"],
        payment_status="unpaid",
        phone_number_collection={"enabled": False},
        shipping_options=[],
        status="open",
        submit_type=params.get("submit_type"),
        success_url=params["success_url"],
        total_details={"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        ui_mode="hosted_page",
        url=url,
    )


def customer_details(email: str | None, name: str | None) -> Json:
    """Return what the checkout page has learned of the customer."""
    address = dict.fromkeys(("city", "line1", "line2", "postal_code", "state"))
    return {
        "address": {**address, "country": "US" if name else None},
        "business_name": None,
        "email": email,
        "individual_name": None,
        "name": name,
        "phone": None,
        "tax_exempt": "none",
        "tax_ids": [],
    }


def payment_intent(object_id: str, given: Json, *, now: int, amount: int, currency: str) -> Json:
    """Return a payment intent.

    Args:
        given: The session's `payment_intent_data`, whose metadata alone is copied, and its
            `payment_method_options`.
    """
    card = given.get("payment_method_options", {}).get("card", {})
    return blank(
        stripe.PaymentIntent,
        id=object_id,
        amount=amount,
        amount_capturable=0,
        amount_details={"tip": {}},
        amount_received=0,
        capture_method=given.get("capture_method", "automatic_async"),
        client_secret=f"{object_id}_secret_rehearsal",
        confirmation_method="automatic",
        created=now,
        currency=currency,
        description=given.get("description"),
        livemode=False,
        metadata=given.get("metadata") or {},
        payment_method_options={"card": {"request_three_d_secure": "automatic", **card}},
        payment_method_types=["card"],
        receipt_email=given.get("receipt_email"),
        statement_descriptor_suffix=given.get("statement_descriptor_suffix"),
        status="requires_payment_method",
    )


def charge(object_id: str, intent: Json, *, now: int, details: Json, card: str) -> Json:
    """Return a succeeded charge of a payment intent, not yet captured or settled."""
    return blank(
        stripe.Charge,
        id=object_id,
        amount=intent["amount"],
        amount_captured=0,
        amount_refunded=0,
        billing_details={
            "address": details["address"],
            "email": details["email"],
            "name": details["name"],
            "phone": None,
            "tax_id": None,
        },
        calculated_statement_descriptor="REHEARSAL SHOP",
        captured=False,
        created=now,
        currency=intent["currency"],
        description=intent["description"],
        disputed=False,
        fraud_details={},
        livemode=False,
        metadata=dict(intent["metadata"]),
        outcome={
            "network_status": "approved_by_network",
            "reason": None,
            "risk_level": "normal",
            "risk_score": 12,
            "seller_message": "Payment complete.",
            "type": "authorized",
        },
        paid=True,
        payment_intent=intent["id"],
        payment_method=intent["payment_method"],
        payment_method_details={
            "type": "card",
            "card": {
                "brand": "visa",
                "country": "US",
                "funding": "credit",
                "last4": card[-4:],
            },
        },
        receipt_email=intent["receipt_email"],
        refunded=False,
        status="succeeded",
    )


def balance_transaction(object_id: str, source: Json, *, now: int, amount: int, fee: int) -> Json:
    """Return the ledger line of a charge (`amount` > 0) or a refund (< 0), in minor units."""
    word = source["object"]
    fees = [{"amount": fee, "application": None, "currency": source["currency"],
             "description": "Stripe processing fees", "type": "stripe_fee"}]  # fmt: skip
    return blank(
        stripe.BalanceTransaction,
        id=object_id,
        amount=amount,
        available_on=now + 2 * _DAY,
        balance_type="payments",
        created=now,
        currency=source["currency"],
        description=source["description"],
        fee=fee,
        fee_details=fees if fee else [],
        net=amount - fee,
        reporting_category=word,
        source=source["id"],
        status="available",
        type=word,
    )


def refund(object_id: str, paid: Json, params: Json, *, now: int, amount: int) -> Json:
    """Return a succeeded refund of a charge."""
    return blank(
        stripe.Refund,
        id=object_id,
        amount=amount,
        charge=paid["id"],
        created=now,
        currency=paid["currency"],
        destination_details={
            "card": {"type": "refund", "reference_status": "pending"},
            "type": "card",
        },
        metadata=params.get("metadata") or {},
        payment_intent=paid["payment_intent"],
        reason=params.get("reason"),
        status="succeeded",
    )


def dispute(object_id: str, paid: Json, *, now: int, reason: str, status: str) -> Json:
    """Return a dispute of a whole charge that asks for an answer within a week."""
    return blank(
        stripe.Dispute,
        id=object_id,
        amount=paid["amount"],
        balance_transactions=[],
        charge=paid["id"],
        created=now,
        currency=paid["currency"],
        evidence={},
        evidence_details={
            "due_by": now + 7 * _DAY,
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
        },
        is_charge_refundable=False,
        livemode=False,
        metadata={},
        payment_intent=paid["payment_intent"],
        reason=reason,
        status=status,
    )


def event(
    object_id: str, kind: str, about: object, *, now: int, request: Json, pending: int
) -> Json:
    """Return an event that carries a snapshot of the object."""
    return blank(
        stripe.Event,
        id=object_id,
        api_version=API_VERSION,
        created=now,
        data={"object": about},
        livemode=False,
        pending_webhooks=pending,
        request=request,
        type=kind,
    )


def account() -> Json:
    """Return the rehearsal's account."""
    return blank(
        stripe.Account,
        id=ACCOUNT_ID,
        business_profile={"name": "Rehearsal shop", "url": None},
        capabilities={"card_payments": "active", "transfers": "active"},
        charges_enabled=True,
        country="US",
        created=0,
        default_currency="usd",
        details_submitted=True,
        email="owner@rehearsal.example",
        metadata={},
        payouts_enabled=True,
        settings={"dashboard": {"display_name": "Rehearsal shop", "timezone": "Etc/UTC"}},
        type="standard",
    )

"""How Stripe's objects become the plain values of the port.

Sole owner of which fields of an answer are believed: one that is missing or of another type than
Stripe documents makes the whole answer unusable, for a guessed amount is worse than none.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from smi_desktop.domain.errors import InvalidInputError
from smi_desktop.domain.money import Money
from smi_desktop.services.ports import CheckoutSession, Dispute, Payment, PaymentRefund


class UnusableAnswerError(Exception):
    """A 2xx answer that is not the object asked for."""


def read_session(found: Mapping[str, Any]) -> CheckoutSession:
    """Read a checkout session.

    Raises:
        UnusableAnswerError: It is none.
    """
    details = _mapping(found, "customer_details")
    expires_at = found.get("expires_at")
    return CheckoutSession(
        id=_text(found, "id"),
        url=_optional_text(found, "url"),
        status=_text(found, "status"),
        payment_status=_text(found, "payment_status"),
        amount_total=None if found.get("amount_total") is None else _money(found, "amount_total"),
        client_reference_id=_optional_text(found, "client_reference_id"),
        metadata=_metadata(found),
        payment_intent_id=_reference(found, "payment_intent"),
        customer_email=_optional_text(details, "email") or _optional_text(found, "customer_email"),
        customer_name=_optional_text(details, "name"),
        livemode=_truth(found, "livemode"),
        expires_at=None if expires_at is None else _moment(found, "expires_at"),
    )


def read_payment(found: Mapping[str, Any]) -> Payment:
    """Read a payment intent, as much as its charge tells if that came along (`latest_charge`).

    Raises:
        UnusableAnswerError: It is none.
    """
    charge = found.get("latest_charge")
    known = charge if isinstance(charge, Mapping) else {}
    # Stripe calls held money that was let go "refunded", though nobody ever paid it.
    refunded = _count(known, "amount_refunded") if known and _truth(known, "captured") else 0
    capturable = found.get("amount_capturable")
    return Payment(
        id=_text(found, "id"),
        status=_text(found, "status"),
        amount=_money(found, "amount"),
        amount_received=_money(found, "amount_received"),
        metadata=_metadata(found),
        livemode=_truth(found, "livemode"),
        charge_id=_reference(found, "latest_charge"),
        amount_capturable=None if capturable is None else _money(found, "amount_capturable"),
        amount_refunded_minor=refunded,
        disputed=bool(known) and _truth(known, "disputed"),
        fee=_fee(known),
    )


def _fee(charge: Mapping[str, Any]) -> Money | None:
    """Return what Stripe keeps; it is not known until the charge has its line in the balance.

    https://docs.stripe.com/payments/payment-intents/asynchronous-capture
    """
    line = charge.get("balance_transaction")
    return _money(line, "fee") if isinstance(line, Mapping) else None


def is_release(refund: Mapping[str, Any]) -> bool:
    """Tell whether a refund only let held money go, by its charge if that came along.

    Stripe makes one when a payment is canceled: https://docs.stripe.com/api/payment_intents/cancel

    Raises:
        UnusableAnswerError: The charge is none.
    """
    charge = refund.get("charge")
    return isinstance(charge, Mapping) and not _truth(charge, "captured")


def read_refund(found: Mapping[str, Any]) -> PaymentRefund:
    """Read a refund.

    Raises:
        UnusableAnswerError: It is none.
    """
    return PaymentRefund(
        id=_text(found, "id"),
        payment_intent_id=_intent(found),
        amount=_money(found, "amount"),
        # The SDK allows none; one that has not succeeded by name is still to be watched.
        status=_optional_text(found, "status") or "pending",
        failure_reason=_optional_text(found, "failure_reason"),
        metadata=_metadata(found),
        created_at=_moment(found, "created"),
    )


def read_dispute(found: Mapping[str, Any]) -> Dispute:
    """Read a dispute.

    Raises:
        UnusableAnswerError: It is none.
    """
    evidence = _mapping(found, "evidence_details")
    asked = evidence.get("due_by") is not None
    return Dispute(
        id=_text(found, "id"),
        payment_intent_id=_intent(found),
        amount=_money(found, "amount"),
        status=_text(found, "status"),
        reason=_text(found, "reason"),
        due_by=_moment(evidence, "due_by") if asked else None,
        created_at=_moment(found, "created"),
    )


def _intent(found: Mapping[str, Any]) -> str:
    intent = _reference(found, "payment_intent")
    if intent is None:
        raise UnusableAnswerError("payment_intent")
    return intent


def _text(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name)
    if not isinstance(value, str) or not value:
        raise UnusableAnswerError(name)
    return value


def _optional_text(found: Mapping[str, Any], name: str) -> str | None:
    value = found.get(name)
    return value if isinstance(value, str) and value else None


def _reference(found: Mapping[str, Any], name: str) -> str | None:
    """Return the id of an object that may come as its id or expanded."""
    value = found.get(name)
    return _optional_text(value if isinstance(value, Mapping) else {"id": value}, "id")


def _count(found: Mapping[str, Any], name: str) -> int:
    value = found.get(name)
    if type(value) is not int:
        raise UnusableAnswerError(name)
    return value


def _money(found: Mapping[str, Any], name: str) -> Money:
    amount = _count(found, name)
    try:
        return Money(amount, _text(found, "currency").lower())
    except InvalidInputError as error:
        raise UnusableAnswerError("currency") from error


def _moment(found: Mapping[str, Any], name: str) -> datetime:
    seconds = _count(found, name)
    try:
        return datetime.fromtimestamp(seconds, tz=UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise UnusableAnswerError(name) from error


def _metadata(found: Mapping[str, Any]) -> dict[str, str]:
    return {str(key): str(value) for key, value in _mapping(found, "metadata").items()}


def _mapping(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = found.get(name)
    if value is not None and not isinstance(value, Mapping):
        raise UnusableAnswerError(name)
    return value or {}


def _truth(found: Mapping[str, Any], name: str) -> bool:
    value = found.get(name)
    if type(value) is not bool:
        raise UnusableAnswerError(name)
    return value

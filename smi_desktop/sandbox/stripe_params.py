"""Reads Stripe's form parameters and holds them against the official SDK's own types.

Sole owner of what is a legal parameter: the SDK's generated TypedDicts are the authority, so a parameter
that Stripe has removed (such as `payment_method_types`) is refused here as it is there.
"""

from __future__ import annotations

import importlib
import re
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

import stripe
from pydantic import TypeAdapter, ValidationError

from smi_desktop.sandbox.http_messages import HttpError

_PARAMS: Final = {
    "create_session": ("checkout._session_create_params", "SessionCreateParams"),
    "list_sessions": ("checkout._session_list_params", "SessionListParams"),
    "create_refund": ("_refund_create_params", "RefundCreateParams"),
    "list_refunds": ("_refund_list_params", "RefundListParams"),
    "list_payment_intents": ("_payment_intent_list_params", "PaymentIntentListParams"),
    "capture_payment_intent": (
        "_payment_intent_capture_params",
        "PaymentIntentCaptureParams",
    ),
    "cancel_payment_intent": (
        "_payment_intent_cancel_params",
        "PaymentIntentCancelParams",
    ),
    "list_charges": ("_charge_list_params", "ChargeListParams"),
    "list_events": ("_event_list_params", "EventListParams"),
    "list_line_items": (
        "checkout._session_list_line_items_params",
        "SessionListLineItemsParams",
    ),
    "list_disputes": ("_dispute_list_params", "DisputeListParams"),
    "expand_only": ("_charge_retrieve_params", "ChargeRetrieveParams"),
}
_KEY: Final = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_NOT_PARAMETERS: Final = frozenset(stripe.RequestOptions.__annotations__)


def invalid(message: str, param: str = "", code: str = "", status: int = 400) -> HttpError:
    """Return the refusal that Stripe gives to a bad request."""
    details = {"type": "invalid_request_error", "param": param, "code": code}
    return HttpError(status, message, {name: text for name, text in details.items() if text})


def missing(kind: str, object_id: str, param: str = "id") -> HttpError:
    """Return the refusal that Stripe gives to an unknown id."""
    status = 404 if param == "id" else 400
    return invalid(f"No such {kind}: '{object_id}'", param, "resource_missing", status)


def read_params(operation: str, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return checked parameters with numbers and truth values in their types.

    Args:
        operation: A name of the table above.
        pairs: The decoded form, in order.

    Raises:
        HttpError: 400, in Stripe's words, for the first parameter that is unknown or ill-formed.
    """
    nested = nest(pairs)
    for name in nested:
        if name in _NOT_PARAMETERS:
            raise _unknown(name)
    try:
        return dict(_adapter(operation).validate_python(nested))
    except ValidationError as error:
        raise _refusal(error) from error


def nest(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Turn `a[b][0]=c` and `a[]=c` into nested dictionaries and lists.

    Raises:
        HttpError: A name that is no such path.
    """
    tree: dict[str, Any] = {}
    for key, value in pairs:
        found = _KEY.fullmatch(key)
        if not found:
            raise invalid(f"Invalid parameter name: {key}", key)
        path = [found[1], *re.findall(r"\[([^\[\]]*)\]", found[2])]
        _plant(tree, path, value, key)
    return {name: _with_lists(branch) for name, branch in tree.items()}


def _plant(tree: dict[str, Any], path: Sequence[str], value: str, key: str) -> None:
    for step in path[:-1]:
        tree = tree.setdefault(step, {})
        if not isinstance(tree, dict):
            raise invalid(f"Invalid hash: {key}", key)
    last = path[-1] or str(len(tree))
    tree[last] = value


def _with_lists(branch: object) -> object:
    if not isinstance(branch, dict):
        return branch
    values = {name: _with_lists(value) for name, value in branch.items()}
    if values and all(name.isdecimal() for name in values):
        return [values[name] for name in sorted(values, key=int)]
    return values


@cache
def _adapter(operation: str) -> TypeAdapter[dict[str, Any]]:
    module_name, class_name = _PARAMS[operation]
    module = importlib.import_module(f"stripe.params.{module_name}")
    # The SDK imports these for the type checker alone; pydantic has to find them to resolve the hints.
    for scope in (module, importlib.import_module("stripe._request_options")):
        vars(scope).setdefault("Mapping", Mapping)
        vars(scope).setdefault("StripeContext", stripe.StripeContext)
    for candidate in [*vars(module).values(), stripe.RequestOptions]:
        if typing.is_typeddict(candidate) or hasattr(candidate, "__total__"):
            candidate.__pydantic_config__ = {
                "extra": "forbid",
                "arbitrary_types_allowed": True,
            }
    return TypeAdapter(getattr(module, class_name))


def _refusal(error: ValidationError) -> HttpError:
    problem = error.errors(include_url=False)[0]
    first, *rest = [str(part) for part in problem["loc"] if not _is_type_name(str(part))]
    name = first + "".join(f"[{part}]" for part in rest)
    if problem["type"] == "extra_forbidden":
        return _unknown(name)
    if problem["type"] == "missing":
        return invalid(f"Missing required param: {name}.", name, "parameter_missing")
    if problem["type"].startswith("int"):
        return invalid(f"Invalid integer: {problem['input']}", name, "parameter_invalid_integer")
    return invalid(f"Invalid value for {name}: {problem['msg']}", name)


def _is_type_name(part: str) -> bool:
    # In a union pydantic puts the branch's name into the path: `literal['']`, `str`, `SessionCreate…`.
    return part in ("str", "int", "bool", "decimal") or part.startswith(
        ("literal[", "Session", "Refund", "list[")
    )


def _unknown(name: str) -> HttpError:
    return invalid(f"Received unknown parameter: {name}", name, "parameter_unknown")

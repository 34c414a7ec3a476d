"""Reading what clients send: JSON or a form, whole numbers and short texts, nothing else."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.requests import Request

from smi_desktop.domain.errors import InvalidInputError
from smi_desktop.domain.pricing import Resolution

_LARGEST_ID: Final = 2**53
_MOST_FIELDS: Final = 300
_LIST_FIELD: Final = "attachment_ids"
_TRUE: Final = frozenset({"1", "true", "on", "yes"})


async def read_fields(request: Request) -> dict[str, Any]:
    """Return the fields of the query and of a JSON or form body; the body's win.

    Raises:
        InvalidInputError: The body is neither.
    """
    fields: dict[str, Any] = dict(request.query_params)
    body = await request.body() if request.method == "POST" else b""
    if not body.strip():
        return fields
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "application/json" or body.lstrip()[:1] == b"{":
            given = json.loads(body)
        else:
            given = _read_form(body)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError("The request's body cannot be read.") from error
    if not isinstance(given, dict):
        raise InvalidInputError("The request's body must be an object.")
    return {**fields, **given}


def whole_number(fields: dict[str, Any], name: str) -> int:
    """Return a field that is a whole number of at least 1.

    Raises:
        InvalidInputError: It is missing or something else.
    """
    number = _number(fields.get(name))
    if number is None or not 0 < number <= _LARGEST_ID:
        raise InvalidInputError(f"'{name}' must be a whole number.")
    return number


def optional_number(fields: dict[str, Any], name: str) -> int | None:
    """Return a field that is a whole number of at least 1, or None for anything else: it only counts."""
    number = _number(fields.get(name))
    return number if number is not None and 0 < number <= _LARGEST_ID else None


def resolution(fields: dict[str, Any]) -> Resolution:
    """Return the size asked for.

    Raises:
        InvalidInputError: It is none that is sold.
    """
    try:
        return Resolution(str(fields.get("resolution", "")))
    except ValueError as error:
        known = " or ".join(f"'{size}'" for size in Resolution)
        raise InvalidInputError(f"'resolution' must be {known}.") from error


def optional_text(fields: dict[str, Any], name: str, longest: int) -> str | None:
    """Return a text, or None if it is missing or empty.

    Raises:
        InvalidInputError: It is too long, no text, or has control characters.
    """
    value = fields.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > longest or not value.isprintable():
        raise InvalidInputError(f"'{name}' cannot be used.")
    return value.strip() or None


def truth(fields: dict[str, Any], name: str) -> bool:
    """Tell whether a tick box was ticked."""
    value = fields.get(name)
    return (
        value is True or (isinstance(value, str) and value.strip().lower() in _TRUE) or value == 1
    )


def number_list(fields: dict[str, Any], name: str, most: int) -> list[int]:
    """Return a list of whole numbers, given as a JSON list or as `1,2,3`.

    Raises:
        InvalidInputError: It is missing, too long, or holds something else.
    """
    value = fields.get(name)
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list) or not items:
        raise InvalidInputError(f"'{name}' must be a list of whole numbers.")
    if len(items) > most:
        raise InvalidInputError(f"'{name}' may hold {most} numbers at most.")
    numbers = [_number(item) for item in items]
    good = [number for number in numbers if number is not None and 0 < number <= _LARGEST_ID]
    if len(good) != len(numbers):
        raise InvalidInputError(f"'{name}' must be a list of whole numbers.")
    return good


def _read_form(body: bytes) -> dict[str, Any]:
    """Return a form's fields; the last of a name wins, but a list may repeat its name, as forms do."""
    pairs = parse_qsl(body.decode(), max_num_fields=_MOST_FIELDS)
    fields: dict[str, Any] = dict(pairs)
    listed = [value for name, value in pairs if name.removesuffix("[]") == _LIST_FIELD]
    return {**fields, _LIST_FIELD: ",".join(listed)} if listed else fields


def _number(value: object) -> int | None:
    if type(value) is int:
        return value
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        digits = value.strip()
        return int(digits) if len(digits) <= 16 else None
    return None

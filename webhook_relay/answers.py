"""How the relay answers: JSON of the contract, pages, and errors that leak nothing of the inside."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from smi_desktop.domain.errors import (
    AmbiguousError,
    ConfigurationError,
    IllegalTransitionError,
    InvalidInputError,
    NotForSaleError,
    NotFoundError,
    PriceChangedError,
    ProviderAccountError,
    RejectedError,
    SignatureError,
    SmiError,
    TransientError,
)
from smi_desktop.services.checkout import TermsRequiredError
from smi_desktop.services.delivery import BeingRestoredError, LinkEndedError, NotReadyError
from smi_desktop.services.shop import Shop

_log = logging.getLogger(__name__)

# Answers that carry a job id or a link: kept by nobody, passed on to nobody.
PRIVATE: Final = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_AWAY: Final = "The shop cannot do this at the moment. Please try again in a few minutes."

# The first class that fits decides; order matters where one is the child of another.
_ERRORS: Final[tuple[tuple[type[SmiError], HTTPStatus, str], ...]] = (
    (PriceChangedError, HTTPStatus.CONFLICT, "price_changed"),
    (TermsRequiredError, HTTPStatus.UNPROCESSABLE_ENTITY, "terms_required"),
    (NotForSaleError, HTTPStatus.UNPROCESSABLE_ENTITY, "not_for_sale"),
    (SignatureError, HTTPStatus.BAD_REQUEST, "bad_signature"),
    (InvalidInputError, HTTPStatus.BAD_REQUEST, "invalid_request"),
    (LinkEndedError, HTTPStatus.GONE, "link_expired"),
    (NotReadyError, HTTPStatus.TOO_EARLY, "not_ready"),
    (NotFoundError, HTTPStatus.NOT_FOUND, "not_found"),
    (IllegalTransitionError, HTTPStatus.CONFLICT, "not_possible"),
    (TransientError, HTTPStatus.SERVICE_UNAVAILABLE, "try_later"),
    (ConfigurationError, HTTPStatus.SERVICE_UNAVAILABLE, "try_later"),
    (ProviderAccountError, HTTPStatus.SERVICE_UNAVAILABLE, "try_later"),
    (AmbiguousError, HTTPStatus.SERVICE_UNAVAILABLE, "try_later"),
    (RejectedError, HTTPStatus.BAD_GATEWAY, "payment_refused"),
)
# Written for customers; what the others say is meant for the owner and goes to the log alone.
_TELLABLE: Final = (
    IllegalTransitionError, InvalidInputError, NotFoundError, LinkEndedError, NotReadyError,
    BeingRestoredError,
)  # fmt: skip


def json_error(
    status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    """Answer in the contract's shape of an error."""
    body = {"code": code, "message": message, "data": {"status": int(status)}}
    return JSONResponse(body, status_code=int(status), headers=headers)


def answer_error(error: SmiError, *, not_found_code: str = "not_found") -> JSONResponse:
    """Answer an error of ours: in its own words where a customer may read them."""
    bug = (HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error")
    status, code = next((row[1:] for row in _ERRORS if isinstance(error, row[0])), bug)
    if not isinstance(error, _TELLABLE):
        _log.warning("%s: %s", type(error).__name__, error.message)
    message = tell(error)[1]
    headers = dict(PRIVATE)
    if isinstance(error, TransientError):
        headers["Retry-After"] = str(int(error.retry_after or 30))
    if code == "not_found":
        code = not_found_code
    return json_error(status, code, message, headers)


def tell(error: SmiError) -> tuple[str, str]:
    """Return the heading and the words for a customer."""
    if isinstance(error, _TELLABLE):
        return error.title, error.message
    return "Please try again soon", _AWAY


def page(
    shop: Shop, name: str, values: dict[str, Any], *, asset_version: str, status: int = 200
) -> HTMLResponse:
    """Answer with one of our own pages."""
    shared = {"asset_version": asset_version, "mode": shop.mode.value}
    html = shop.templates.page(name, {**values, **shared})
    headers = {
        **PRIVATE,
        "Content-Security-Policy": PAGE_POLICY,
        "X-Frame-Options": "DENY",
        "X-Robots-Tag": "noindex",
    }
    return HTMLResponse(html, status_code=status, headers=headers)


def problem_page(
    shop: Shop, heading: str, message: str, *, asset_version: str, status: int
) -> HTMLResponse:
    """Answer a person's browser with what went wrong."""
    settings = shop.settings()
    values = {
        "studio_name": settings.studio_name,
        "contact_email": settings.contact_email,
        "heading": heading,
        "message": message,
    }
    name = "not_found" if status == HTTPStatus.NOT_FOUND else "error"
    return page(shop, name, values, asset_version=asset_version, status=status)


def wants_page(request: Request) -> bool:
    """Tell whether a person's browser asks, rather than a program."""
    return "text/html" in request.headers.get("accept", "")


def unexpected(error: Exception) -> Response:
    """Answer a bug of ours: logged whole, told as nothing."""
    _log.error("A request failed.", exc_info=error)
    return json_error(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", _AWAY, dict(PRIVATE))

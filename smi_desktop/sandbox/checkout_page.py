"""The hosted checkout page: what the customer sees and may type. Sole owner of the fields' rules.

Wears an amber band on every state, so that nobody takes a rehearsal for a shop.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qsl

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from smi_desktop.domain.money import Money
from smi_desktop.resources import resource_path
from smi_desktop.sandbox.http_messages import (
    HttpError,
    Reply,
    Request,
    html_reply,
    redirect,
)
from smi_desktop.sandbox.http_server import Route
from smi_desktop.sandbox.store import Json
from smi_desktop.sandbox.stripe_cards import TEST_CARDS
from smi_desktop.sandbox.stripe_checks import is_email
from smi_desktop.sandbox.stripe_ledger import CardPayment, StripeLedger

_PAYMENT_REQUIRED: Final = 402
_UNPROCESSABLE: Final = 422
_NOT_FOUND: Final = 404
_SECURITY: Final = {
    # No form-action: it would also forbid the way back to the shop after the form is sent.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; font-src 'self';"
    " img-src http: https: data:; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_ASSETS: Final = {
    "checkout.css": ("sandbox/checkout.css", "text/css; charset=utf-8"),
    **{
        name: (f"fonts/{name}", "font/otf")
        for name in ("Inter-Regular.otf", "Inter-Medium.otf", "Inter-SemiBold.otf")
    },
}
_EXPIRY: Final = re.compile(r"\s*(\d{1,2})\s*/?\s*(\d{4}|\d{2})\s*")
_MONTHS: Final = 12


@dataclass(frozen=True, slots=True)
class _Typed:
    """What stood in the fields, and what is wrong with it by field."""

    values: Mapping[str, str]
    errors: Mapping[str, str] = field(default_factory=dict)
    decline: str = ""


class CheckoutPage:
    """Shows a session's page and takes its form."""

    def __init__(self, ledger: StripeLedger) -> None:
        self._ledger = ledger
        self._templates = Environment(
            loader=FileSystemLoader(resource_path("sandbox")),
            autoescape=True,
            undefined=StrictUndefined,
        )

    def routes(self) -> Sequence[Route]:
        """Return the page's addresses."""
        return [
            Route("GET", "/c/pay/{id}", "checkout_page", self._show),
            Route("POST", "/c/pay/{id}", "pay", self._submit),
            Route("GET", "/c/assets/{name}", "", _asset),
        ]

    def _show(self, request: Request) -> Reply:
        session = self._session(request)
        if session is None:
            return self._missing()
        return self._page(session, _Typed({"email": session["customer_email"] or ""}))

    def _submit(self, request: Request) -> Reply:
        session = self._session(request)
        if session is None:
            return self._missing()
        values = dict(parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True))
        if values.get("action") == "leave" and session["cancel_url"]:
            return redirect(session["cancel_url"])
        if session["status"] != "open":
            return self._page(session, _Typed(values))
        # As in earnest: an address that the shop has given cannot be changed here.
        values["email"] = session["customer_email"] or values.get("email", "")
        errors = self._errors(values)
        if errors:
            return self._page(session, _Typed(values, errors), _UNPROCESSABLE)
        payment = CardPayment(
            email=values["email"].strip(),
            name=values.get("name", "").strip(),
            card=_digits(values["card_number"]),
        )
        session, decline = self._ledger.pay_session(session["id"], payment)
        if decline:
            return self._page(session, _Typed(values, decline=decline), _PAYMENT_REQUIRED)
        if session["status"] != "complete":
            return self._page(session, _Typed(values))
        return redirect(_success_url(session))

    def _session(self, request: Request) -> Json | None:
        try:
            return self._ledger.session(request.names["id"])
        except HttpError:
            return None

    def _errors(self, values: Mapping[str, str]) -> dict[str, str]:
        errors = {}
        if not is_email(values["email"].strip()):
            errors["email"] = "Enter one e-mail address, such as robin@studio.example."
        card = _digits(values.get("card_number", ""))
        if card not in TEST_CARDS:
            errors["card_number"] = (
                "A rehearsal takes test cards alone, such as 4242\u00a04242\u00a04242\u00a04242."
            )
        problem = self._expiry_problem(values.get("exp", ""))
        if problem:
            errors["exp"] = problem
        if not re.fullmatch(r"\d{3,4}", values.get("cvc", "").strip()):
            errors["cvc"] = "Three or four digits."
        return errors

    def _expiry_problem(self, text: str) -> str:
        found = _EXPIRY.fullmatch(text)
        if not found or not 1 <= int(found[1]) <= _MONTHS:
            return "Month and year, such as 12 / 34."
        year = int(found[2]) if len(found[2]) > 2 else 2000 + int(found[2])
        today = datetime.fromtimestamp(self._ledger.now(), tz=UTC)
        past = (year, int(found[1])) < (today.year, today.month)
        return "This date is in the past." if past else ""

    def _page(self, session: Json, typed: _Typed, status: int = 200) -> Reply:
        plan = self._ledger.plan(session["id"])
        state = "paid" if session["status"] == "complete" else session["status"]
        images = plan["product"].get("images") or [""]
        text = self._templates.get_template("checkout.html").render(
            state=state,
            amount=str(Money(session["amount_total"], session["currency"])),
            items=[
                (
                    item["description"],
                    str(Money(item["amount_total"], item["currency"])),
                )
                for item in plan["items"]
            ],
            description=plan["product"].get("description", ""),
            image=images[0],
            fixed_email=session["customer_email"] or "",
            values=typed.values,
            errors=typed.errors,
            decline=typed.decline,
            can_leave=bool(session["cancel_url"]),
            success_url=_success_url(session),
            cancel_url=session["cancel_url"] or "",
        )
        page = html_reply(text, status)
        return Reply(page.status, page.body, {**page.headers, **_SECURITY})

    def _missing(self) -> Reply:
        text = self._templates.get_template("checkout_missing.html").render()
        page = html_reply(text, _NOT_FOUND)
        return Reply(page.status, page.body, {**page.headers, **_SECURITY})


def _success_url(session: Json) -> str:
    return str(session["success_url"]).replace("{CHECKOUT_SESSION_ID}", session["id"])


def _digits(text: str) -> str:
    return re.sub(r"[\s-]", "", text)


def _asset(request: Request) -> Reply:
    if request.names["name"] not in _ASSETS:
        raise HttpError(_NOT_FOUND, "There is no such file.")
    path, kind = _ASSETS[request.names["name"]]
    return Reply(
        200,
        resource_path(path),
        {"Content-Type": kind, "Cache-Control": "max-age=3600"},
    )

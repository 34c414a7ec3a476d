"""The storefront's API (`/smi/v1/…`). Each handler reads, calls one use case, and answers."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from smi_desktop.domain.errors import NotFoundError, SmiError
from smi_desktop.domain.money import Money
from smi_desktop.services import clicks, prices, status
from smi_desktop.services.checkout import CheckoutForm, page_from_referer, start_checkout
from smi_desktop.services.delivery import (
    MEDIA_TYPES,
    LinkEndedError,
    find_download,
    record_download,
)
from smi_desktop.services.emails import queue_lost_link_mail
from smi_desktop.services.renewals import can_renew
from smi_desktop.services.upscaling import find_source
from webhook_relay import requests as fields_of
from webhook_relay.answers import PRIVATE, json_error, page, wants_page
from webhook_relay.file_response import FileResponse
from webhook_relay.limits import RateLimits, client_address, client_network
from webhook_relay.runtime import Runtime

_log = logging.getLogger(__name__)

_MOST_IMAGES = 200


def _number(value: Decimal) -> int | float:
    """Return a JSON number; exact for every amount that is a price."""
    return int(value) if value == value.to_integral_value() else float(value)


def _major(money: Money) -> float:
    return float(money.major)


@dataclass(frozen=True)
class Storefront:
    """The handlers, with what they need."""

    runtime: Runtime
    limits: RateLimits

    async def calculate_all_prices(self, request: Request) -> Response:
        """Price every size of a picture."""
        fields = await fields_of.read_fields(request)
        attachment_id = fields_of.whole_number(fields, "attachment_id")
        found = await self.runtime.work(prices.quote_prices, attachment_id)
        settings = await self.runtime.settings()
        pricing = {
            size.value: {
                "customer_price": _major(offer.price.price),
                "credits": offer.price.credits,
                "cost_usd": _number(offer.price.cost_usd),
                "markup_percentage": _number(settings.markup_percentage),
                "output_megapixels": float(offer.price.output_megapixels),
                "output_dimensions": {"width": offer.price.width, "height": offer.price.height},
                "currency": offer.price.price.currency,
                "label": size.label,
                "description": size.description,
            }
            for size, offer in found.offers.items()
        }
        return JSONResponse(
            {
                "success": True,
                "pricing": pricing,
                "unavailable": {size.value: why for size, why in found.unavailable.items()},
                "quote_id": found.quote_id,
                "expires_at": found.expires_at.isoformat().replace("+00:00", "Z"),
                "image_info": {"width": found.image.width, "height": found.image.height},
            }
        )

    async def create_checkout(self, request: Request) -> Response:
        """Create an order and its checkout page."""
        settings = await self.runtime.settings()
        fields = await fields_of.read_fields(request)
        form = CheckoutForm(
            attachment_id=fields_of.whole_number(fields, "attachment_id"),
            resolution=fields_of.resolution(fields),
            post_id=fields_of.optional_number(fields, "post_id"),
            email=fields_of.optional_text(fields, "email", 254),
            quote_id=fields_of.optional_text(fields, "quote_id", 1000),
            terms_accepted=fields_of.truth(fields, "terms_accepted"),
            terms_version=fields_of.optional_text(fields, "terms_version", 100),
            page_url=fields_of.optional_text(fields, "page_url", 2000)
            or page_from_referer(request.headers.get("referer")),
        )
        client = client_network(client_address(request, settings))
        self.limits.take(settings.rate_checkout_per_address_per_minute, "checkout", client)
        self.limits.take(
            settings.rate_checkout_per_image_per_minute, "checkout-image", str(form.attachment_id)
        )
        self.limits.take(settings.rate_checkout_shop_per_minute, "checkout-shop")
        started = await self.runtime.slow_work(start_checkout, form)
        return JSONResponse(
            {
                "success": True,
                "job_id": started.order_id,
                "checkout_url": started.checkout_url,
                "amount": _major(started.amount),
                "message": "Taking you to the secure payment page.",
            },
            headers=PRIVATE,
        )

    async def track_button_click(self, request: Request) -> Response:
        """Count a click; a failure to count is ours alone."""
        answer = JSONResponse({"success": True, "message": "Thank you."})
        try:
            fields = await fields_of.read_fields(request)
            attachment_id = fields_of.whole_number(fields, "attachment_id")
            post_id = fields_of.optional_number(fields, "post_id")
            agent = request.headers.get("user-agent")
            await self.runtime.writing_work(clicks.count_click, attachment_id, post_id, agent)
        except SmiError:
            return answer
        return answer

    async def images(self, request: Request) -> Response:
        """Tell which pictures of a page are for sale, in one request."""
        fields = await fields_of.read_fields(request)
        numbers = fields_of.number_list(fields, "attachment_ids", _MOST_IMAGES)
        found = await self.runtime.work(prices.describe_images, numbers)
        return JSONResponse({"success": True, "images": found})

    async def job_status(self, request: Request) -> Response:
        """Tell how an order stands."""
        data = await self.runtime.work(status.job_status, request.path_params["job_id"])
        return JSONResponse({"success": True, "data": data}, headers=PRIVATE)

    async def lost_link(self, request: Request) -> Response:
        """Mail somebody the way to his orders; the same answer for every address."""
        settings = await self.runtime.settings()
        fields = await fields_of.read_fields(request)
        client = client_network(client_address(request, settings))
        self.limits.take(settings.rate_checkout_per_address_per_minute, "lost-link", client)
        email = fields_of.optional_text(fields, "email", 254)
        if email is not None:
            self.limits.take(3, "lost-link-to", email.lower())
            await self.runtime.writing_work(queue_lost_link_mail, email)
        message = "If this address has bought a picture here, a mail is on its way to it."
        return JSONResponse({"success": True, "message": message}, headers=PRIVATE)

    async def download(self, request: Request) -> Response:
        """Send a file to the holder of its link."""
        settings = await self.runtime.settings()
        address = client_address(request, settings)
        client = client_network(address)
        guesses = settings.rate_bad_token_per_address_per_minute
        try:
            ticket = await self.runtime.work(find_download, request.path_params["token"])
        except NotFoundError:
            self.limits.take(guesses, "bad-token", client)
            raise
        except LinkEndedError as error:
            return await self._link_ended(request, error)
        if request.method == "HEAD":
            return FileResponse(ticket, _keep_no_record)

        async def record(first: int, sent: int, finished: bool) -> None:
            try:
                await self.runtime.writing_work(
                    record_download,
                    ticket,
                    first_byte=first,
                    bytes_sent=sent,
                    finished=finished,
                    agent=(request.headers.get("user-agent") or "")[:300] or None,
                    address=address,
                )
            except SmiError as error:
                # The customer has his file; that we cannot count it is not his trouble.
                _log.warning("A download was not written down: %s", error.message)

        return FileResponse(ticket, record)

    async def source(self, request: Request) -> Response:
        """Hand an order's source to the upscaler while it is being worked on."""
        path, form = await self.runtime.work(
            find_source, request.path_params["token"], request.path_params["number"]
        )
        content = await self.runtime.work_plain(path.read_bytes)
        return Response(content, media_type=MEDIA_TYPES[form], headers=PRIVATE)

    async def _link_ended(self, request: Request, error: LinkEndedError) -> Response:
        settings = await self.runtime.settings()
        order_url = f"{settings.public_url}/order/{error.order.id}"
        if not wants_page(request):
            message = f"{error.message} Your order page tells what to do: {order_url}"
            return json_error(410, "link_expired", message, PRIVATE)
        values: dict[str, Any] = {
            "studio_name": settings.studio_name,
            "contact_email": settings.contact_email,
            "number": error.order.number,
            "title": error.order.title,
            "expired_at": error.order.expires_at,
            "zone": settings.time_zone,
            "order_url": order_url,
            "can_renew": await self.runtime.work(can_renew, error.order),
            "renew_url": f"{order_url}/renew",
            "renewals_left": max(0, settings.renewals_allowed - error.order.renewals),
        }
        render = partial(page, asset_version=self.runtime.asset_version, status=410)
        return await self.runtime.work(render, "link_expired", values)


async def _keep_no_record(_first: int, _sent: int, _finished: bool) -> None:
    """A HEAD sends no bytes, so there is nothing to write down."""

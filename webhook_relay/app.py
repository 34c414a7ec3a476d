"""The relay's ASGI application: routes, limits and what every error becomes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from smi_desktop.domain.errors import NotFoundError, SmiError
from smi_desktop.services.shop import Shop
from webhook_relay.answers import answer_error, json_error
from webhook_relay.hooks import Hooks
from webhook_relay.limits import RateLimits, TooManyRequestsError, client_address, client_network
from webhook_relay.middleware import BodyLimits, CommonHeaders
from webhook_relay.pages import Pages
from webhook_relay.runtime import Runtime
from webhook_relay.storefront import Storefront

Handler = Callable[[Request], Awaitable[Response]]

_JOB_STATUS: Final = "/smi/v1/job-status/"
_JOB_CODE: Final = "job_not_found"


def create_app(shop: Shop) -> Starlette:
    """Build the application of an open shop."""
    runtime = Runtime(shop)
    limits = RateLimits()
    shopfront = Storefront(runtime, limits)
    hooks = Hooks(runtime)
    pages = Pages(runtime)

    def limited(handler: Handler) -> Handler:
        async def serve(request: Request) -> Response:
            settings = await runtime.settings()
            client = client_network(client_address(request, settings))
            limits.take(settings.rate_per_address_per_minute, "all", client)
            return await handler(request)

        return serve

    # Webhooks and downloads are not counted: a burst of either is what a good day looks like.
    routes = [
        Route("/smi/v1/calculate-all-prices", limited(shopfront.calculate_all_prices), methods=["GET", "POST"]),
        Route("/smi/v1/create-checkout", limited(shopfront.create_checkout), methods=["POST"]),
        Route("/smi/v1/track-button-click", limited(shopfront.track_button_click), methods=["POST"]),
        Route("/smi/v1/images", limited(shopfront.images), methods=["POST"]),
        Route("/smi/v1/job-status/{job_id}", limited(shopfront.job_status), methods=["GET"]),
        Route("/smi/v1/lost-link", limited(shopfront.lost_link), methods=["POST"]),
        Route("/smi/v1/download/{token}", shopfront.download, methods=["GET"]),
        Route("/smi/v1/source/{token}/{number}", shopfront.source, methods=["GET"]),
        Route("/smi-webhook/stripe/", hooks.stripe, methods=["POST"]),
        Route("/smi-webhook/stripe", hooks.stripe, methods=["POST"]),
        Route("/smi-webhook/upsampler/{secret}", hooks.upsampler, methods=["POST"]),
        # The order page hides its id from the address bar; a reload is led back by a script.
        Route("/order", pages.hidden_order, methods=["GET"]),
        Route("/order/{job_id}", limited(pages.order), methods=["GET"]),
        Route("/order/{job_id}/picture.jpg", limited(pages.picture), methods=["GET"]),
        Route("/assets/{name:path}", pages.asset, methods=["GET"]),
        Route("/healthz", pages.healthz, methods=["GET"]),
    ]  # fmt: skip
    application = Starlette(
        routes=routes,
        middleware=[
            Middleware(CommonHeaders, settings=runtime.settings),
            Middleware(BodyLimits, settings=runtime.settings),
        ],
        exception_handlers={
            SmiError: _on_own_error,
            TooManyRequestsError: _on_too_many,
            HTTPException: _on_http_error,
        },
    )
    # A redirect would be made of the Host header, which anybody can write; Stripe follows none anyway.
    application.router.redirect_slashes = False
    return application


async def _on_own_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, SmiError)
    return answer_error(error, not_found_code=_not_found_code(request))


async def _on_too_many(_request: Request, error: Exception) -> Response:
    assert isinstance(error, TooManyRequestsError)
    return error.answer()


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        code = _not_found_code(request)
        words = "Job not found" if code == _JOB_CODE else "There is nothing at this address."
        return answer_error(NotFoundError(words), not_found_code=code)
    code = "method_not_allowed" if error.status_code == 405 else "http_error"
    headers = dict(error.headers) if error.headers else None
    return json_error(error.status_code, code, error.detail, headers)


def _not_found_code(request: Request) -> str:
    return _JOB_CODE if request.scope["path"].startswith(_JOB_STATUS) else "not_found"

"""The relay's ASGI application: routes and limits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from smi_desktop.services.shop import Shop
from webhook_relay.failures import Failures
from webhook_relay.hooks import Hooks
from webhook_relay.limits import RateLimits, client_address, client_network
from webhook_relay.middleware import BodyLimits, CommonHeaders
from webhook_relay.pages import Pages
from webhook_relay.runtime import Runtime
from webhook_relay.storefront import Storefront

Handler = Callable[[Request], Awaitable[Response]]


def create_app(shop: Shop) -> Starlette:
    """Build the application of an open shop."""
    runtime = Runtime(shop)
    limits = RateLimits()
    shopfront = Storefront(runtime, limits)
    hooks = Hooks(runtime)
    pages = Pages(runtime)
    failures: dict[Any, Any] = {**Failures(runtime).handlers()}

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
        Route("/order/{job_id}/renew", limited(pages.renew), methods=["POST"]),
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
        exception_handlers=failures,
    )
    # A redirect would be made of the Host header, which anybody can write; Stripe follows none anyway.
    application.router.redirect_slashes = False
    return application

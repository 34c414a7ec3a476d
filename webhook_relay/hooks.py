"""The webhooks: store durably, then say so. Nothing is acted upon before the answer."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from smi_desktop.services.webhooks import receive_stripe_event, receive_upsampler_callback
from webhook_relay.runtime import Runtime


@dataclass(frozen=True)
class Hooks:
    """The handlers, with what they need."""

    runtime: Runtime

    async def stripe(self, request: Request) -> Response:
        """Take one delivery of Stripe's."""
        raw = await request.body()
        signature = request.headers.get("stripe-signature", "")
        receipt = await self.runtime.writing_work(receive_stripe_event, raw, signature)
        return JSONResponse({"received": True, "duplicate": receipt.inbox_id is None})

    async def upsampler(self, request: Request) -> Response:
        """Take one call of the upscaler's."""
        raw = await request.body()
        await self.runtime.writing_work(
            receive_upsampler_callback, request.path_params["secret"], raw
        )
        return JSONResponse({"received": True})

"""The customer's order page, its picture, and the files that pages need."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from smi_desktop.domain.errors import NotFoundError, TransientError
from smi_desktop.domain.orders import OrderStatus
from smi_desktop.services.catalogue import preview_key
from smi_desktop.services.payments import ask_to_settle
from smi_desktop.services.renewals import renew_link
from smi_desktop.services.shop import Shop
from smi_desktop.services.status import find_order, job_status, order_page_values
from smi_desktop.store import tasks
from webhook_relay.answers import PRIVATE, page, problem_page, wants_page
from webhook_relay.runtime import Runtime

_ASSET_SECONDS: Final = 31_536_000
# Not the system's own list: it may lack woff2, and a script of a wrong type would not run.
_MEDIA_TYPES: Final = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
    ".otf": "font/otf",
    ".txt": "text/plain",
    ".md": "text/plain",
}


@dataclass(frozen=True)
class Pages:
    """The handlers, with what they need."""

    runtime: Runtime

    async def order(self, request: Request) -> Response:
        """Show an order to its buyer."""
        back_from_payment = request.query_params.get("smi_payment") == "success"
        try:
            return await self.runtime.work(
                _order_page,
                request.path_params["job_id"],
                back_from_payment=back_from_payment,
                asset_version=self.runtime.asset_version,
            )
        except NotFoundError:
            return await self.hidden_order(request)

    async def renew(self, request: Request) -> Response:
        """Let a customer's ended link live again. One that lives stays as it is, whoever asks."""
        job_id = request.path_params["job_id"]
        await self.runtime.writing_work(_renew, job_id)
        if not wants_page(request):
            data = await self.runtime.work(job_status, job_id)
            return JSONResponse({"success": True, "data": data}, headers=PRIVATE)
        settings = await self.runtime.settings()
        address = f"{settings.public_url}/order/{job_id}"
        return RedirectResponse(address, status_code=HTTPStatus.SEE_OTHER, headers=PRIVATE)

    async def hidden_order(self, _request: Request) -> Response:
        """Say that an address names no order."""
        render = partial(
            problem_page, asset_version=self.runtime.asset_version, status=HTTPStatus.NOT_FOUND
        )
        message = "There is no order at this address. Please use the link in your mail."
        return await self.runtime.work(render, "This order is not known", message)

    async def picture(self, request: Request) -> Response:
        """Show the picture that was bought, small and as it was."""
        content = await self.runtime.work(_picture, request.path_params["job_id"])
        headers = {"Cache-Control": "private, max-age=3600", "Referrer-Policy": "no-referrer"}
        return Response(content, media_type="image/jpeg", headers=headers)

    async def asset(self, request: Request) -> Response:
        """Serve a style, script, icon or font of the pages."""
        path = self.runtime.assets.get(request.path_params["name"])
        if path is None:
            raise NotFoundError("There is no such file.")
        content = await self.runtime.work_plain(path.read_bytes)
        kind = _MEDIA_TYPES.get(path.suffix, "application/octet-stream")
        headers = {"Cache-Control": f"public, max-age={_ASSET_SECONDS}, immutable"}
        return Response(content, media_type=kind, headers=headers)

    async def healthz(self, _request: Request) -> Response:
        """Say that the relay lives and reaches its database, and nothing else."""
        await self.runtime.work(_reach_database)
        return JSONResponse({"status": "ok"})


def _order_page(
    shop: Shop, order_id: str, *, back_from_payment: bool, asset_version: str
) -> Response:
    order = find_order(shop, order_id)
    if back_from_payment and order.status == OrderStatus.AWAITING_PAYMENT:
        # The customer says that he has paid; the webhook may be late or lost. His page is shown in any case.
        with suppress(TransientError):
            ask_to_settle(shop, order)
    return page(shop, "order", order_page_values(shop, order), asset_version=asset_version)


def _renew(shop: Shop, order_id: str) -> None:
    order = find_order(shop, order_id)
    renew_link(shop, order.id)


def _picture(shop: Shop, order_id: str) -> bytes:
    order = find_order(shop, order_id)
    return shop.files.path(preview_key(order.source_sha256)).read_bytes()


def _reach_database(shop: Shop) -> None:
    with shop.database.read() as session:
        tasks.is_due(session, ("",), shop.now())

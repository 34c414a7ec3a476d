"""A relay in a process of its own, to be killed: ours, or one with a planted bug.

python -m tests.relay.receiver FOLDER PORT (ours | acknowledges-first)
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from smi_desktop.services.webhooks import receive_stripe_event
from smi_desktop.store.database import Database
from tests.world import World
from webhook_relay.app import create_app
from webhook_relay.runtime import Runtime
from webhook_relay.server import serve_until

BATCH_SECONDS = 0.2


@dataclass(frozen=True)
class AcknowledgesFirst:
    """The planted bug: it says "received" and stores the event with the next batch."""

    runtime: Runtime

    async def stripe(self, request: Request) -> Response:
        """Take one delivery of Stripe's."""
        raw, signature = await request.body(), request.headers["stripe-signature"]
        loop = asyncio.get_running_loop()
        loop.call_later(BATCH_SECONDS, lambda: loop.create_task(self._store(raw, signature)))
        return JSONResponse({"received": True})

    async def _store(self, raw: bytes, signature: str) -> None:
        await self.runtime.work(receive_stripe_event, raw, signature)


def main(folder: Path, port: int, kind: str) -> None:
    """Serve until killed."""
    database = Database(f"sqlite:///{folder / 'shop.db'}")
    database.migrate()
    shop = World(folder, database).shop
    application = create_app(shop)
    if kind == "acknowledges-first":
        hook = AcknowledgesFirst(Runtime(shop)).stripe
        application.router.routes.insert(0, Route("/smi-webhook/stripe/", hook, methods=["POST"]))

    async def serve() -> None:
        await serve_until(
            asyncio.Event(),
            application,
            "127.0.0.1",
            port,
            on_ready=lambda: print("ready", flush=True),
        )

    asyncio.run(serve())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])

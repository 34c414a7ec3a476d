"""Running use cases, which block, from handlers, which must not.

Three pools: one to read, one to write, and one for the few calls that wait for others (a checkout asks
Stripe), so that webhooks and downloads never stand behind those, and a database that is locked for writing
does not keep prices and pages from being read.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread

from smi_desktop.config import ShopSettings
from smi_desktop.domain.errors import TransientError
from smi_desktop.resources import resource_path
from smi_desktop.services.shop import Shop

_P = ParamSpec("_P")
_R = TypeVar("_R")

_QUICK_THREADS: Final = 8
# SQLite writes one at a time; more threads only get in each other's way. PostgreSQL writes side by side.
_WRITING_THREADS: Final = 4
# With what the database itself waits this stays near the ten seconds that a webhook's sender gives us.
_PATIENCE_SECONDS: Final = 3.0
_SLOW_THREADS: Final = 8
_ASSET_FOLDERS: Final = ("assets", "fonts")


class Runtime:
    """The open shop and the threads to use it from."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self._settings: ShopSettings | None = None
        self._settings_until = 0.0

    async def work(
        self, use_case: Callable[Concatenate[Shop, _P], _R], *args: _P.args, **kwargs: _P.kwargs
    ) -> _R:
        """Run a use case that reads the database."""
        call = partial(use_case, self.shop, *args, **kwargs)
        return await to_thread.run_sync(call, limiter=self._quick)

    async def writing_work(
        self, use_case: Callable[Concatenate[Shop, _P], _R], *args: _P.args, **kwargs: _P.kwargs
    ) -> _R:
        """Run a use case that writes to the database.

        Raises:
            TransientError: Too much else waits to be written; nothing was done.
        """
        call = partial(use_case, self.shop, *args, **kwargs)
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._turns.acquire()
        except TimeoutError as error:
            raise TransientError("Too much waits to be written to the database.") from error
        try:
            return await to_thread.run_sync(call, limiter=self._writing)
        finally:
            self._turns.release()

    async def slow_work(
        self, use_case: Callable[Concatenate[Shop, _P], _R], *args: _P.args, **kwargs: _P.kwargs
    ) -> _R:
        """Run a use case that waits for the outside world."""
        call = partial(use_case, self.shop, *args, **kwargs)
        return await to_thread.run_sync(call, limiter=self._slow)

    async def work_plain(self, call: Callable[[], _R]) -> _R:
        """Run something that blocks and needs no shop."""
        return await to_thread.run_sync(call, limiter=self._quick)

    async def settings(self) -> ShopSettings:
        """Return the settings of this moment: several times a request, so a thread only when they are old."""
        if self._settings is None or time.monotonic() >= self._settings_until:
            self._settings = await self.work_plain(self.shop.settings)
            self._settings_until = time.monotonic() + self.shop.settings_seconds
        return self._settings

    @cached_property
    def assets(self) -> dict[str, Path]:
        """The pages' files by the names that they are asked for; no other name opens anything."""
        found: dict[str, Path] = {}
        for root in map(resource_path, _ASSET_FOLDERS):
            for path in sorted(root.rglob("*")):
                if path.is_file():
                    found.setdefault(path.relative_to(root).as_posix(), path)
        return found

    @cached_property
    def asset_version(self) -> str:
        """A short hash of the pages' assets: a new version gets a new address."""
        digest = hashlib.sha256()
        for path in self.assets.values():
            digest.update(path.read_bytes())
        return digest.hexdigest()[:10]

    # Made late: a limiter belongs to the event loop that it is made in.
    @cached_property
    def _quick(self) -> CapacityLimiter:
        return CapacityLimiter(_QUICK_THREADS)

    @cached_property
    def _turns(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(_WRITING_THREADS)

    @cached_property
    def _writing(self) -> CapacityLimiter:
        return CapacityLimiter(_WRITING_THREADS)

    @cached_property
    def _slow(self) -> CapacityLimiter:
        return CapacityLimiter(_SLOW_THREADS)

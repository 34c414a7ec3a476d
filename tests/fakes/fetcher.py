"""A web of a few addresses in memory."""

from __future__ import annotations

from pathlib import Path

from smi_desktop.domain.errors import LinkExpiredError, RejectedError
from tests.fakes.scripted import Scripted


class FakeFetcher(Scripted):
    """Implements Fetcher.

    Attributes:
        pages: What each address answers; an unknown one is an expired link.
        fetched: The addresses that were asked for, in order.
    """

    def __init__(self, pages: dict[str, bytes] | None = None) -> None:
        super().__init__()
        self.pages = dict(pages or {})
        self.fetched: list[str] = []

    def fetch(self, url: str, destination: Path, *, max_bytes: int) -> None:
        """Write what the address holds."""
        self.fetched.append(url)
        self._begin("fetch")
        body = self.pages.get(url)
        if body is None:
            raise LinkExpiredError("The address has expired (404).")
        if len(body) > max_bytes:
            raise RejectedError(f"The file is larger than {max_bytes} bytes.")
        destination.parent.mkdir(parents=True, exist_ok=True)
        destination.write_bytes(body)
        self._end("fetch")

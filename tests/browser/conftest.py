"""A small real shop front: the pages with the real policy, and a job status that a test scripts."""

from __future__ import annotations

import json
import mimetypes
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest

from smi_desktop.adapters.template_renderer import JinjaRenderer
from smi_desktop.resources import resource_path
from tests.browser.page_values import JOB_ID, order_values

sync_api = pytest.importorskip("playwright.sync_api")

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


class ShopFront:
    """Serves the customer's pages on loopback.

    A test sets `values`, the order, at any time, and `away` to make the job status fail.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.away = False
        self.questions = 0
        self.page_views = 0
        self.renewals: list[str] = []
        self._renderer = JinjaRenderer()
        front = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, kind, body = front.answer(urlsplit(self.path).path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Content-Security-Policy", POLICY)
                self.send_header("X-Content-Type-Options", "nosniff")
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                front.renew(urlsplit(self.path).path)
                self.send_response(303)
                self.send_header("Location", f"/order/{JOB_ID}")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Keep the test's output quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def order_url(self) -> str:
        return f"{self.url}/order/{JOB_ID}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def renew(self, path: str) -> None:
        """Note a press of the button for a fresh link, and give one."""
        self.renewals.append(path)
        self.values = order_values("completed")

    def answer(self, path: str) -> tuple[int, str, bytes]:
        if path.startswith("/assets/"):
            file = resource_path(path.removeprefix("/"))
            kind = mimetypes.guess_type(file.name)[0] or "font/woff2"
            return 200, kind, file.read_bytes()
        if path == "/picture.jpg":
            return 200, "image/jpeg", resource_path("samples/falcon-9-dusk.jpg").read_bytes()
        if path == f"/smi/v1/job-status/{JOB_ID}":
            return self._job_status()
        if path == f"/order/{JOB_ID}":
            self.page_views += 1
            page = self._renderer.page("order", self.values)
            return 200, "text/html; charset=utf-8", page.encode()
        missing = {
            **self.values,
            "heading": "This page does not exist",
            "message": "Please open the link from your e-mail again.",
        }
        page = self._renderer.page("not_found", missing)
        return 404, "text/html; charset=utf-8", page.encode()

    def _job_status(self) -> tuple[int, str, bytes]:
        self.questions += 1
        if self.away:
            return 503, "application/json", b"{}"
        names = ("job_id", "status", "payment_status", "resolution", "progress", "download_url")
        data = {name: self.values[name] for name in names}
        data["created_at"] = self.values["created_at"].isoformat()
        return 200, "application/json", json.dumps({"success": True, "data": data}).encode()


@pytest.fixture
def shop_front() -> Iterator[ShopFront]:
    """Return a running shop front."""
    front = ShopFront()
    yield front
    front.close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Return a running Chromium."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("there is no Chromium on this machine")
    arguments = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
    ]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()

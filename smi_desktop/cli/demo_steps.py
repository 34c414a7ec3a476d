"""What all parts of the demo share: the report, the way to the checkout, the choice of an upscaler."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console

from smi_desktop.bootstrap import open_shop
from smi_desktop.cli.rehearsal import Rehearsal, SampleImage
from smi_desktop.sandbox.customer import Customer, Purchase, expect
from smi_desktop.store import settings as settings_rows


class Report:
    """Prints one line a step with its time, and remembers them for JSON."""

    def __init__(self, *, quiet: bool) -> None:
        self.steps: list[dict[str, Any]] = []
        self._quiet = quiet
        self._started = time.monotonic()
        self.console = Console(stderr=quiet, highlight=False)

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        """Time a step; the function that it gives adds what was seen."""
        seen: list[str] = []
        began = time.monotonic()
        yield seen.append
        seconds = time.monotonic() - began
        self.steps.append({"step": name, "seconds": round(seconds, 3), "seen": seen})
        if not self._quiet:
            detail = f": {'; '.join(seen)}" if seen else ""
            click.echo(f"{len(self.steps):>3}  {seconds:6.2f} s  {name}{detail}")

    def heading(self, text: str) -> None:
        """Begin a part of the demo."""
        if not self._quiet:
            click.echo(f"\n{text}")

    @property
    def seconds(self) -> float:
        """How long all of it has taken."""
        return time.monotonic() - self._started


def check_out(
    report: Report, customer: Customer, image: SampleImage
) -> tuple[Purchase, dict[str, int]]:
    """Click, look at the prices and ask for the checkout page; return it and the pixels that are bought."""
    with report.step("Clicked the button") as saw:
        customer.click(image.attachment_id, image.post_id)
        saw(f"{image.title}, {image.width} × {image.height} pixels")
    with report.step("Saw live prices") as saw:
        answer = customer.prices(image.attachment_id, image.post_id)
        offers = answer["pricing"]
        for size, offer in offers.items():
            saw(f"{size} {offer['customer_price']:.2f} {offer['currency'].upper()}")
        for size, why in answer["unavailable"].items():
            saw(f"{size} not for sale: {why}")
    with report.step("Started the checkout") as saw:
        purchase = customer.start_checkout(
            image.attachment_id, image.post_id, "4x", answer["quote_id"]
        )
        expect(
            purchase.amount == offers["4x"]["customer_price"], "the charge is not the price shown"
        )
        saw(f"the price shown is the price charged: {purchase.amount:.2f}")
    return purchase, offers["4x"]["output_dimensions"]


def choose_upscaler(shop: Rehearsal, name: str) -> None:
    """Change who makes pictures from now on."""
    with open_shop(shop.config()) as opened, opened.database.write() as session:
        settings_rows.save(session, {"upscaler": name}, now=opened.now())
    # The relay takes settings for current for a second.
    time.sleep(1.1)

"""Playing the rehearsal through as customers: bought twice, declined, abandoned, expired and cleaned up.

Everything goes over real HTTP and SMTP to the shop's own processes. A step that does not come out as it
should ends the demo with what was expected, what came, and the end of the logs.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pyvips
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from smi_desktop.bootstrap import open_shop
from smi_desktop.cli.rehearsal import Rehearsal, SampleImage
from smi_desktop.cli.root import print_json
from smi_desktop.domain.errors import ConfigurationError, SmiError
from smi_desktop.domain.money import Money
from smi_desktop.domain.orders import OrderStatus
from smi_desktop.sandbox.customer import (
    DECLINED_CARD,
    GOOD_CARD,
    Customer,
    Purchase,
    UnexpectedError,
    deadline,
    expect,
)
from smi_desktop.store import clicks, downloads, orders
from smi_desktop.store import settings as settings_rows
from smi_desktop.store.models import Order

_HOUR = 3600.0
_WORK_SECONDS = 300.0


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


def run_demo(shop: Rehearsal, *, as_json: bool) -> bool:
    """Play the demo through.

    Returns:
        Whether every step came out as it should.
    """
    report = Report(quiet=as_json)
    try:
        _play(shop, report)
        summary = _sum_up(shop, report)
    except (UnexpectedError, SmiError, OSError) as error:
        message = error.message if isinstance(error, SmiError) else str(error)
        click.echo(f"\nThe demo failed: {message}", err=True)
        if not isinstance(error, ConfigurationError):
            _print_logs(shop)
        return False
    finally:
        shop.stop()
    if as_json:
        print_json({"steps": report.steps, **summary})
    return True


def _play(shop: Rehearsal, report: Report) -> None:
    with report.step("Opened the rehearsal shop") as saw:
        shop.__enter__()
        _refuse_a_past(shop)
        saw(f"relay {shop.relay_url}, providers and engine as processes of their own")
        saw(f"{len(shop.images)} pictures in the catalogue")
    small, other = _smallest(shop, 2)
    report.heading("Jo buys a picture that Upsampler enlarges 4 times")
    link = _buy(shop, report, Customer(shop.relay_url, shop.mailbox_dir, "jo@example.com"), small)
    report.heading("Ann buys one that this machine enlarges 4 times")
    _choose_upscaler(shop, "embedded")
    _buy(shop, report, Customer(shop.relay_url, shop.mailbox_dir, "ann@example.com"), other)
    report.heading("Cas has a card that is declined, and gives up")
    _give_up(shop, report, Customer(shop.relay_url, shop.mailbox_dir, "cas@example.com"), small)
    report.heading("A day passes")
    _expire(shop, report, link)


def _refuse_a_past(shop: Rehearsal) -> None:
    """The demo compares whole books, so it needs a folder in which nothing was bought before."""
    with open_shop(shop.config()) as opened, opened.database.read() as session:
        if orders.list_page(session, limit=1):
            raise ConfigurationError(
                f"{shop.data_dir} holds orders already. The demo needs a new folder: leave --data out."
            )


def _buy(shop: Rehearsal, report: Report, customer: Customer, image: SampleImage) -> str:
    purchase, size = _check_out(report, customer, image)
    with report.step("Paid on the card page") as saw:
        answer = customer.pay(purchase, GOOD_CARD)
        page = customer.return_to_shop(answer)
        expect(image.title.split(",")[0] in page, "the order page does not name the picture")
        saw("Stripe sends its signed webhook; the customer is back on his order page")
    with report.step("Upscaled") as saw:
        data = _watch(report, customer, purchase)
        saw(f"{size['width']} × {size['height']} pixels")
        expect(data["payment_status"] == "paid", f"the payment is '{data['payment_status']}'")
    with report.step("Mail received over SMTP") as saw:
        message, link = customer.wait_for_mail(30)
        expect(link == data["download_url"], "the mail's link is not the order's")
        saw(str(message["Subject"]))
    with report.step("Followed the link") as saw:
        delivery = customer.download(link)
        joined = customer.download_in_two_ranges(link)
        expect(joined == delivery.content, "two ranges do not make the whole file")
        width, height = _pixel_size(delivery.content)
        expect(
            (width, height) == (size["width"], size["height"]),
            f"the file has {width} × {height} pixels",
        )
        saw(f"{len(joined):,} bytes in two ranges, equal to the whole file")
        saw(f"{width} × {height} pixels, {delivery.media_type}")
    with report.step("Counted as downloaded") as saw:
        with deadline(10, "the download was not written down") as wait:
            while not _is_downloaded(shop, purchase.job_id):
                wait()
        saw("every byte was handed out")
    return link


def _check_out(
    report: Report, customer: Customer, image: SampleImage
) -> tuple[Purchase, dict[str, int]]:
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


def _watch(report: Report, customer: Customer, purchase: Purchase) -> dict[str, Any]:
    """Wait for the picture behind a progress bar; where nobody tells the share, the bar says so."""
    if not report.console.is_terminal:
        return _watch_in_lines(report, customer, purchase)
    columns = (
        TextColumn("     {task.description:<18}"),
        BarColumn(40),
        TextColumn("{task.fields[share]}"),
    )
    with Progress(*columns, console=report.console) as bar:
        task = bar.add_task("waiting", total=None, share="")

        def show(data: dict[str, Any]) -> None:
            share = data["progress"]
            bar.update(
                task,
                description=data["status"],
                total=None if share is None else 1.0,
                completed=share or 0.0,
                share="" if share is None else f"{share:.0%}",
            )

        return customer.wait_for_status(purchase.job_id, "completed", _WORK_SECONDS, show)


def _watch_in_lines(report: Report, customer: Customer, purchase: Purchase) -> dict[str, Any]:
    """The same for a log file: a line whenever the bar has grown by a fifth."""
    shown: list[str] = []

    def show(data: dict[str, Any]) -> None:
        share = data["progress"]
        tenths = None if share is None else int(share * 5) * 2
        bar = "" if tenths is None else f"[{'#' * tenths:<10}] {tenths * 10:>3} %"
        line = f"              … {data['status']:<18}{bar}"
        if line not in shown:
            shown.append(line)
            report.console.print(line, markup=False)

    return customer.wait_for_status(purchase.job_id, "completed", _WORK_SECONDS, show)


def _give_up(shop: Rehearsal, report: Report, customer: Customer, image: SampleImage) -> None:
    purchase, _ = _check_out(report, customer, image)
    with report.step("Card declined") as saw:
        answer = customer.pay(purchase, DECLINED_CARD)
        expect(answer.status_code == 402, f"the card page answers {answer.status_code}, not 402")
        expect("declined" in answer.text, "the card page does not say that the card was declined")
        status = customer.status(purchase.job_id)["status"]
        expect(status == "awaiting_payment", f"the order is '{status}'")
        saw("the page says so; nothing was charged, the order waits")
    with report.step("Left the card page") as saw:
        customer.leave(purchase)
        shop.advance_clock(2 * _HOUR)
        customer.wait_for_status(purchase.job_id, "abandoned", 60)
        saw("two hours later the checkout has expired and the order is abandoned")


def _expire(shop: Rehearsal, report: Report, link: str) -> None:
    customer = Customer(shop.relay_url, shop.mailbox_dir, "jo@example.com")
    with report.step("Link still good after two hours") as saw:
        expect(customer.try_link(link) == 200, "the link has ended too early")
        saw("200")
    with report.step("Link expired after 24 hours") as saw:
        shop.advance_clock(23 * _HOUR)
        answer = customer.try_link(link)
        expect(answer == 410, f"the expired link answers {answer}, not 410")
        saw("410 Gone; the file is kept for a grace of 72 hours")
    with report.step("Cleaned up") as saw:
        shop.advance_clock(73 * _HOUR)
        files = shop.data_dir / "files" / "results"
        with deadline(30, "the files were not removed") as wait:
            while any(path.is_file() for path in files.rglob("*")):
                wait()
        answer = customer.try_link(link)
        expect(answer == 410, f"the cleaned-up link answers {answer}, not 410")
        saw("files gone, order records kept")


def _sum_up(shop: Rehearsal, report: Report) -> dict[str, Any]:
    """Compare the shop's books with what the providers know, and print both."""
    with open_shop(shop.config()) as opened, opened.database.read() as session:
        rows = list(reversed(orders.list_page(session)))
        people = clicks.count(session)
        requests_made = sum(len(downloads.of_order(session, row.id)) for row in rows)
    by_status = [row.status for row in rows]
    expect(
        sorted(by_status) == ["abandoned", "completed", "completed"],
        f"the orders end as {by_status}",
    )
    paid = [row for row in rows if row.paid_minor is not None]
    currency = rows[0].currency
    captured = Money(sum(row.paid_minor or 0 for row in paid), currency)
    cost = sum(row.cost_micro_usd for row in paid if row.status == OrderStatus.COMPLETED)
    state = shop.sandbox_state()
    taken = sum(
        intent["amount_received"]
        for intent in state["payment_intents"]
        if intent["status"] == "succeeded"
    )
    expect(taken == captured.amount_minor, f"Stripe took {taken}, the books say {captured}")
    expect(not state["refunds"], "there are refunds that nobody asked for")
    report.heading("Orders")
    if not report.console.stderr:
        for row in rows:
            click.echo(f"     {_line(row)}")
    report.heading("Money")
    totals = {
        "captured": str(captured),
        "captured_at_stripe": str(Money(taken, currency)),
        "upscaling_cost_usd": cost / 1_000_000,
        "clicks": people,
        "download_requests": requests_made,
        "seconds": round(report.seconds, 1),
    }
    if not report.console.stderr:
        click.echo(f"     captured {captured}, the same as Stripe's books; refunds none")
        click.echo(f"     upscaling cost {cost / 1_000_000:.2f} USD by the price formula")
        click.echo(
            f"     {people} clicks, {len(rows)} checkouts, {len(paid)} sales, "
            f"{requests_made} download requests"
        )
        click.echo(f"\nEvery step came out as it should, in {report.seconds:.1f} s.")
    return {"orders": [_line(row) for row in rows], **totals}


def _line(row: Order) -> str:
    price = Money(row.amount_minor, row.currency)
    return (
        f"{row.number}  {row.status:<10} {row.payment_status:<8} {price!s:>10}  "
        f"{row.resolution}  {row.title}"
    )


def _print_logs(shop: Rehearsal) -> None:
    for log in sorted(shop.log_dir.glob("*.log")):
        lines = [
            line for line in log.read_text().splitlines() if "webhook_relay.access" not in line
        ]
        if lines:
            click.echo(f"\n{log.name} ends with:", err=True)
            click.echo("\n".join(lines[-15:]), err=True)


def _smallest(shop: Rehearsal, count: int) -> list[SampleImage]:
    return sorted(shop.images, key=lambda image: image.width * image.height)[:count]


def _choose_upscaler(shop: Rehearsal, name: str) -> None:
    with open_shop(shop.config()) as opened, opened.database.write() as session:
        settings_rows.save(session, {"upscaler": name}, now=opened.now())
    # The relay takes settings for current for a second.
    time.sleep(1.1)


def _is_downloaded(shop: Rehearsal, job_id: str) -> bool:
    with open_shop(shop.config()) as opened, opened.database.read() as session:
        order = orders.get(session, job_id)
    return order is not None and order.downloaded_at is not None


def _pixel_size(content: bytes) -> tuple[int, int]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(content)
        image = pyvips.Image.new_from_file(str(path))
        return int(image.width), int(image.height)

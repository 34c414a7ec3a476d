"""Playing the rehearsal through as customers: bought, declined, refunded, held, renewed, cleaned up.

Everything goes over real HTTP and SMTP to the shop's own processes. A step that does not come out as it
should ends the demo with what was expected, what came, and the end of the logs.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click
import pyvips
from rich.progress import BarColumn, Progress, TextColumn

from smi_desktop.bootstrap import open_shop
from smi_desktop.cli.demo_steps import Report, check_out, choose_upscaler
from smi_desktop.cli.demo_trouble import play_trouble
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
from smi_desktop.store.models import Order

_HOUR = 3600.0
_WORK_SECONDS = 300.0


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
    link, job_id = _buy(
        shop, report, Customer(shop.relay_url, shop.mailbox_dir, "jo@example.com"), small
    )
    report.heading("Ann buys one that this machine enlarges 4 times")
    choose_upscaler(shop, "embedded")
    _buy(shop, report, Customer(shop.relay_url, shop.mailbox_dir, "ann@example.com"), other)
    report.heading("Cas has a card that is declined, and gives up")
    _give_up(shop, report, Customer(shop.relay_url, shop.mailbox_dir, "cas@example.com"), small)
    play_trouble(shop, report, small)
    report.heading("A day passes")
    _expire(shop, report, link, job_id)


def _refuse_a_past(shop: Rehearsal) -> None:
    """The demo compares whole books, so it needs a folder in which nothing was bought before."""
    with open_shop(shop.config()) as opened, opened.database.read() as session:
        if orders.list_page(session, limit=1):
            raise ConfigurationError(
                f"{shop.data_dir} holds orders already. The demo needs a new folder: leave --data out."
            )


def _buy(
    shop: Rehearsal, report: Report, customer: Customer, image: SampleImage
) -> tuple[str, str]:
    purchase, size = check_out(report, customer, image)
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
    return link, purchase.job_id


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
    purchase, _ = check_out(report, customer, image)
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


def _expire(shop: Rehearsal, report: Report, link: str, job_id: str) -> None:
    customer = Customer(shop.relay_url, shop.mailbox_dir, "jo@example.com")
    with report.step("Link still good after two hours") as saw:
        expect(customer.try_link(link) == 200, "the link has ended too early")
        saw("200")
    with report.step("Link expired after 24 hours") as saw:
        shop.advance_clock(23 * _HOUR)
        answer = customer.try_link(link)
        expect(answer == 410, f"the expired link answers {answer}, not 410")
        saw("410 Gone; the file is kept for a grace of 72 hours")
    with report.step("Renewed by the customer himself") as saw:
        renewed = customer.renew(job_id)
        expect(renewed["download_url"] == link, "the renewed link has another address")
        expect(customer.try_link(link) == 200, "the renewed link does not work")
        shop.advance_clock(25 * _HOUR)
        expect(customer.try_link(link) == 410, "the renewed link has not ended")
        saw("the link of the mail worked for another 24 hours, then ended")
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
        sorted(by_status) == ["abandoned", *["completed"] * 4, "refunded"],
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
    back = Money(sum(row.refunded_minor for row in rows), currency)
    sent = sum(row["amount"] for row in state["refunds"] if row["status"] == "succeeded")
    expect(sent == back.amount_minor, f"Stripe sent {sent} back, the books say {back}")
    expect(len(state["refunds"]) == 1, f"there are {len(state['refunds'])} refunds, not 1")
    report.heading("Orders")
    if not report.console.stderr:
        for row in rows:
            click.echo(f"     {_line(row)}")
    report.heading("Money")
    totals = {
        "captured": str(captured),
        "captured_at_stripe": str(Money(taken, currency)),
        "refunded": str(back),
        "net": str(captured - back),
        "upscaling_cost_usd": cost / 1_000_000,
        "clicks": people,
        "download_requests": requests_made,
        "seconds": round(report.seconds, 1),
    }
    if not report.console.stderr:
        click.echo(f"     captured {captured}, refunded {back}, the same as Stripe's books")
        click.echo(f"     net {captured - back}")
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

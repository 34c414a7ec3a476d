"""`report`: what was clicked, begun and sold."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import click

from smi_desktop.bootstrap import open_shop
from smi_desktop.cli.root import cli, json_option, print_json, print_table, read_config
from smi_desktop.domain.csv_text import Cell, csv_text
from smi_desktop.domain.money import Money
from smi_desktop.services.report import (
    Grouping,
    Line,
    Report,
    Revenue,
    choose_period,
    make_report,
)

_MICRO_DIGITS: Final = 6
_MOST_LINES: Final = 10
_WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_DAY: Final = click.DateTime(["%Y-%m-%d"])


@cli.command()
@click.option("--from", "first", type=_DAY, metavar="DATE", help="First day, such as 2026-11-01.")
@click.option("--to", "last", type=_DAY, metavar="DATE", help="Last day; today if left out.")
@click.option(
    "--by",
    type=click.Choice([grouping.value for grouping in Grouping]),
    help="Print the whole table of these.",
)
@click.option(
    "--csv", "as_csv", is_flag=True, help="Print the table of --by as CSV; of days if left out."
)
@json_option
@click.pass_obj
def report(
    data: Path | None,
    first: datetime | None,
    last: datetime | None,
    by: str | None,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Sum up clicks, checkouts, sales and money over some days.

    Days are those of the shop's time zone, the last 30 if none are named. A sale is an order that was paid,
    on the day of its payment; a refund is booked to the same day, whenever it was made. Clicks are those of
    people, without bots. Currencies are never added up. The time from click to payment is an estimate: it
    begins with the latest click on the same picture within the hour before the checkout.
    """
    if as_csv and as_json:
        raise click.UsageError("Choose either --csv or --json.")
    with open_shop(read_config(data), only_look=True) as shop:
        period = choose_period(shop, _day(first), _day(last))
        made = make_report(shop, period)
        currency = shop.settings().currency
    if as_json:
        print_json(_as_plain(made))
    elif as_csv:
        # Bytes: a stream of text would turn CRLF into something else on some systems.
        text = _as_csv(made, Grouping(by or Grouping.DAY), currency)
        sys.stdout.buffer.write(text.encode())
    else:
        _print(made, Grouping(by) if by else None)


def _day(moment: datetime | None) -> date | None:
    return moment.date() if moment else None


# --- for people -------------------------------------------------------------------------------------


def _print(made: Report, by: Grouping | None) -> None:
    period = made.period
    days = f"{period.first} to {period.last}, {period.zone.key}"
    if made.total.empty:
        click.echo(f"Nothing was clicked, begun or sold from {days}.")
        return
    click.echo(f"{days}; {'real money' if made.livemode else 'test orders, no real money'}\n")
    print_table(("All days", ""), _summary(made), "")
    chosen = [by] if by else [Grouping.DAY, Grouping.SIZE, Grouping.IMAGE]
    for grouping in chosen:
        click.echo()
        # Asked for by name, a table is whole; else it shows what moved.
        lines = [line for line in made.by[grouping] if by or not line.empty]
        shown = lines if by else _few(grouping, lines)
        _print_lines(grouping, shown)
        if len(shown) < len(lines):
            click.echo(f"… and {len(lines) - len(shown)} more: smi-desktop report --by {grouping}")


def _few(grouping: Grouping, lines: list[Line]) -> list[Line]:
    return lines[-_MOST_LINES:] if grouping is Grouping.DAY else lines[:_MOST_LINES]


def _summary(made: Report) -> list[tuple[str, object]]:
    total = made.total
    waiting = made.click_to_payment
    rows: list[tuple[str, object]] = [
        ("Clicks", f"{total.clicks:,}"),
        ("Checkouts begun", f"{total.checkouts:,}"),
        ("Sales", f"{total.sales:,}"),
        ("Conversion", _percent(total.conversion) or "none: there were no clicks"),
    ]
    for revenue in total.revenue:
        rows += [
            ("Revenue", revenue.gross),
            ("  refunds", revenue.refunds),
            ("  net of refunds", revenue.net),
            ("  average order value", revenue.average),
        ]
    rows += [("Stripe's fees", fee) for fee in total.fees]
    if total.sales_without_fee:
        rows.append(("  fee not known for", f"{total.sales_without_fee:,} of the sales"))
    rows += [
        ("Upscaling cost", f"{_usd(total.cost_micro_usd)} by the formula"),
        ("", f"{_usd(made.credits_micro_usd)} by credits taken ({made.credits:,})"),
        ("Popular size", made.popular_size or "none"),
        ("Customers", f"{made.customers:,}, {made.repeat_customers:,} of them bought again"),
    ]
    if waiting is not None:
        typical = (
            f"{_duration(waiting.median_seconds)}, 9 in 10 within {_duration(waiting.p90_seconds)}"
        )
        rows.append(("Click to payment", f"half within {typical} (estimate)"))
    return rows


def _print_lines(grouping: Grouping, lines: Sequence[Line]) -> None:
    titled = grouping is Grouping.IMAGE
    columns = [grouping.capitalize(), "Clicks", "Checkouts", "Sales", "Conversion"]
    columns += ["Revenue", "Refunds", "Net", "Fees", "Cost"]
    if titled:
        columns.append("Title")
    rows = [
        [
            _name(grouping, line),
            line.clicks,
            line.checkouts,
            line.sales,
            _percent(line.conversion),
            _each(line, "gross"),
            _each(line, "refunds"),
            _each(line, "net"),
            "\n".join(str(fee) for fee in line.fees),
            _usd(line.cost_micro_usd) if line.cost_micro_usd else "",
            *([line.title] if titled else []),
        ]
        for line in lines
    ]
    print_table(columns, rows, f"There is nothing to list by {grouping}.")


def _name(grouping: Grouping, line: Line) -> str:
    match grouping:
        case Grouping.WEEKDAY if isinstance(line.key, int):
            return _WEEKDAYS[line.key - 1]
        case Grouping.HOUR:
            return f"{line.key:02}:00"
        case Grouping.POST if line.key is None:
            return "none"
        case _:
            return str(line.key)


def _each(line: Line, part: str) -> str:
    """Return one part of the revenue, a text line per currency."""
    return "\n".join(str(getattr(revenue, part)) for revenue in line.revenue)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _usd(micro: int) -> str:
    return f"${Decimal(micro).scaleb(-_MICRO_DIGITS):,.2f} USD"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


# --- for spreadsheets -------------------------------------------------------------------------------


def _as_csv(made: Report, grouping: Grouping, shop_currency: str) -> str:
    """Return one line per key; each currency has columns of its own, so that nothing adds them up."""
    currencies = [revenue.gross.currency for revenue in made.total.revenue] or [shop_currency]
    fee_currencies = [fee.currency for fee in made.total.fees]
    titled = grouping is Grouping.IMAGE
    columns = [grouping.value, *(["title"] if titled else [])]
    columns += ["clicks", "checkouts", "sales", "conversion"]
    for currency in currencies:
        columns += [f"{part}_{currency}" for part in ("gross", "refunds", "net", "average")]
    columns += [f"fees_{currency}" for currency in fee_currencies]
    columns += ["sales_without_fee", "upscaling_cost_usd"]
    rows = []
    for line in made.by[grouping]:
        row: list[Cell] = [line.key, *([line.title] if titled else [])]
        share = None if line.conversion is None else round(line.conversion, 4)
        row += [line.clicks, line.checkouts, line.sales, share]
        revenues = {revenue.gross.currency: revenue for revenue in line.revenue}
        for currency in currencies:
            row += _revenue_cells(revenues.get(currency), currency)
        fees = {fee.currency: fee for fee in line.fees}
        row += [fees.get(currency, Money(0, currency)).major for currency in fee_currencies]
        row += [line.sales_without_fee, Decimal(line.cost_micro_usd).scaleb(-_MICRO_DIGITS)]
        rows.append(row)
    return csv_text(columns, rows)


def _revenue_cells(revenue: Revenue | None, currency: str) -> list[Cell]:
    if revenue is None:
        nothing = Money(0, currency).major
        return [nothing, nothing, nothing, None]
    return [revenue.gross.major, revenue.refunds.major, revenue.net.major, revenue.average.major]


# --- for programs -----------------------------------------------------------------------------------


def _as_plain(made: Report) -> dict[str, Any]:
    waiting = made.click_to_payment
    return {
        "from": made.period.first.isoformat(),
        "to": made.period.last.isoformat(),
        "time_zone": made.period.zone.key,
        "since": made.period.since,
        "until": made.period.until,
        "livemode": made.livemode,
        "total": {
            **_plain_line(made.total),
            "popular_size": made.popular_size,
            "customers": made.customers,
            "repeat_customers": made.repeat_customers,
            "credits": made.credits,
            "credits_micro_usd": made.credits_micro_usd,
            "click_to_payment": waiting
            and {
                "sales": waiting.sales,
                "median_seconds": waiting.median_seconds,
                "p90_seconds": waiting.p90_seconds,
            },
        },
        "by": {
            grouping.value: [{**_plain_key(grouping, line), **_plain_line(line)} for line in lines]
            for grouping, lines in made.by.items()
        },
    }


def _plain_key(grouping: Grouping, line: Line) -> dict[str, Any]:
    key = line.key.isoformat() if isinstance(line.key, date) else line.key
    if grouping is Grouping.IMAGE:
        return {"attachment_id": key, "title": line.title}
    return {"post_id" if grouping is Grouping.POST else grouping.value: key}


def _plain_line(line: Line) -> dict[str, Any]:
    return {
        "clicks": line.clicks,
        "checkouts": line.checkouts,
        "sales": line.sales,
        "conversion": line.conversion,
        "revenue": [
            {
                "currency": revenue.gross.currency,
                "sales": revenue.sales,
                "gross_minor": revenue.gross.amount_minor,
                "refunds_minor": revenue.refunds.amount_minor,
                "net_minor": revenue.net.amount_minor,
                "average_minor": revenue.average.amount_minor,
            }
            for revenue in line.revenue
        ],
        "fees": [{"currency": fee.currency, "minor": fee.amount_minor} for fee in line.fees],
        "sales_without_fee": line.sales_without_fee,
        "cost_micro_usd": line.cost_micro_usd,
    }

"""`orders list` and `orders show`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from sqlalchemy.orm import Session

from smi_desktop.bootstrap import open_shop
from smi_desktop.cli.root import cli, json_option, print_json, print_table, read_config
from smi_desktop.domain.errors import NotFoundError
from smi_desktop.domain.holds import remedies
from smi_desktop.domain.money import Money
from smi_desktop.domain.orders import OrderStatus
from smi_desktop.store import downloads, outbox, refunds, timeline, upscales
from smi_desktop.store import orders as order_rows
from smi_desktop.store.models import Order

# What an order's row holds and nobody but the program needs.
_INTERNAL = frozenset({"token_sha256", "price_rule", "quote_id", "checkout_url"})


@cli.group()
def orders() -> None:
    """What was bought."""


@orders.command("list")
@click.option("--status", type=click.Choice([status.value for status in OrderStatus]))
@click.option("--limit", default=50, type=click.IntRange(1, 10_000), help="How many at most.")
@json_option
@click.pass_obj
def list_orders(data: Path | None, status: str | None, limit: int, as_json: bool) -> None:
    """List orders, newest first."""
    with open_shop(read_config(data), only_look=True) as shop, shop.database.read() as session:
        found = order_rows.list_page(session, status=status, limit=limit)
    if as_json:
        print_json([describe(order) for order in found])
        return
    rows = [
        (
            order.number,
            f"{order.created_at:%Y-%m-%d %H:%M} UTC",
            order.status + (" (held)" if order.held_at else ""),
            order.payment_status,
            Money(order.amount_minor, order.currency),
            order.resolution,
            order.title,
            order.email,
        )
        for order in found
    ]
    columns = ("Number", "Created", "Status", "Payment", "Price", "Size", "Picture", "Customer")
    print_table(columns, rows, "There are no orders yet.")


@orders.command("show")
@click.argument("order")
@json_option
@click.pass_obj
def show(data: Path | None, order: str, as_json: bool) -> None:
    """Show everything about ORDER, given by its number or its id."""
    with open_shop(read_config(data), only_look=True) as shop, shop.database.read() as session:
        whole = _whole(session, find_order(session, order))
    if as_json:
        print_json(whole)
        return
    for name, value in whole["order"].items():
        if value is not None:
            click.echo(f"{name.replace('_', ' '):<22}{value}")
    if whole["order"]["held_at"]:
        click.echo(f"{'what you can do':<22}{', '.join(whole['remedies']) or 'wait'}")
    click.echo()
    rows = [
        (f"{entry['at']:%Y-%m-%d %H:%M:%S} UTC", entry["actor"], entry["text"])
        for entry in whole["timeline"]
    ]
    print_table(("When", "Who", "What"), rows, "Nothing has happened yet.")


def find_order(session: Session, wanted: str) -> Order:
    """Return an order by its number or its id.

    Raises:
        NotFoundError: There is none.
    """
    found = order_rows.get(session, wanted) or order_rows.find_by_number(session, wanted.upper())
    if found is None:
        raise NotFoundError(f"There is no order '{wanted}'. See: smi-desktop orders list")
    return found


def describe(order: Order) -> dict[str, Any]:
    """Return an order as plain values, without what opens anything but its own page."""
    plain = {
        column.key: getattr(order, column.key)
        for column in Order.__mapper__.column_attrs
        if column.key not in _INTERNAL
    }
    return {**plain, "amount": str(Money(order.amount_minor, order.currency))}


def _whole(session: Session, order: Order) -> dict[str, Any]:
    return {
        "order": describe(order),
        "remedies": [remedy.value for remedy in remedies(order.held_kind)],
        "refunds": [
            {
                "cause": row.cause,
                "amount": str(Money(row.amount_minor, row.currency)),
                "state": row.state,
                "stripe_refund_id": row.stripe_refund_id,
                "failure_reason": row.failure_reason,
            }
            for row in refunds.of_order(session, order.id)
        ],
        "disputes": [
            {"id": row.id, "status": row.status, "reason": row.reason, "due_by": row.due_by}
            for row in refunds.disputes_of(session, order.id)
        ],
        "upscales": [
            {
                "attempt": row.attempt,
                "provider": row.provider,
                "state": row.state,
                "credits": row.credit_cost,
                "error": row.error,
            }
            for row in upscales.of_order(session, order.id)
        ],
        "mails": [
            {
                "kind": row.kind,
                "to": row.to_address,
                "state": row.state,
                "message_id": row.message_id,
                "sent_at": row.sent_at,
            }
            for row in outbox.of_order(session, order.id)
        ],
        "downloads": [
            {
                "at": row.at,
                "first_byte": row.first_byte,
                "bytes_sent": row.bytes_sent,
                "bytes_total": row.bytes_total,
                "finished": row.finished,
                "agent": row.agent,
            }
            for row in downloads.of_order(session, order.id)
        ],
        "timeline": [
            {
                "at": row.at,
                "kind": row.kind,
                "actor": row.actor,
                "text": row.text,
                "facts": row.facts,
            }
            for row in timeline.of_order(session, order.id)
        ],
    }

"""`tasks`, `inbox`, `replay` and `alerts`: looking at the shop's work and setting it right."""

from __future__ import annotations

from pathlib import Path

import click

from smi_desktop.bootstrap import open_shop
from smi_desktop.cli.root import cli, json_option, print_json, print_table, read_config
from smi_desktop.services import replay as replays
from smi_desktop.services import task_desk
from smi_desktop.store import alerts as alert_rows
from smi_desktop.store import inbox as inbox_rows
from smi_desktop.store import tasks as task_rows


@cli.group("tasks")
def tasks() -> None:
    """The shop's work."""


@tasks.command("list")
@click.option("--state", type=click.Choice(["ready", "leased", "done", "dead"]))
@click.option("--limit", default=50, type=click.IntRange(1, 10_000), help="How many at most.")
@json_option
@click.pass_obj
def list_tasks(data: Path | None, state: str | None, limit: int, as_json: bool) -> None:
    """List work, newest first."""
    with open_shop(read_config(data), only_look=True) as shop, shop.database.read() as session:
        found = task_rows.list_page(session, state=state, limit=limit)
        numbers = task_desk.order_numbers(session, found)
    if as_json:
        names = ("id", "kind", "state", "run_at", "attempts", "failures", "deaths", "last_error")
        print_json(
            [
                {"order": numbers.get(row.order_id or ""), **{n: getattr(row, n) for n in names}}
                for row in found
            ]
        )
        return
    rows = [
        (
            row.id,
            row.kind,
            row.state,
            numbers.get(row.order_id or ""),
            f"{row.run_at:%Y-%m-%d %H:%M:%S} UTC",
            row.failures,
            row.last_error,
        )
        for row in found
    ]
    columns = ("Id", "Work", "State", "Order", "Due", "Failures", "Said")
    print_table(columns, rows, "There is no work.")


@tasks.command("retry")
@click.argument("task_id", type=int)
@click.pass_obj
def retry(data: Path | None, task_id: int) -> None:
    """Do work TASK_ID now: what waits is not waited for, what was given up is begun again."""
    with open_shop(read_config(data)) as shop:
        task_desk.retry_task(shop, task_id)
    click.echo(f"Work {task_id} is done as soon as an engine is free.")


@tasks.command("give-up")
@click.argument("task_id", type=int)
@click.option("--reason", default="Given up by the owner.", help="Why.")
@click.pass_obj
def give_up(data: Path | None, task_id: int, reason: str) -> None:
    """Never do work TASK_ID; its order is held for you."""
    with open_shop(read_config(data)) as shop:
        task_desk.give_up_task(shop, task_id, reason)
    click.echo(f"Work {task_id} is given up.")


@cli.group("inbox")
def inbox() -> None:
    """What the payment provider told."""


@inbox.command("list")
@click.option("--state", type=click.Choice(["new", "applied", "ignored", "unknown", "dead"]))
@click.option("--limit", default=50, type=click.IntRange(1, 10_000), help="How many at most.")
@json_option
@click.pass_obj
def list_inbox(data: Path | None, state: str | None, limit: int, as_json: bool) -> None:
    """List events, newest first."""
    with open_shop(read_config(data), only_look=True) as shop, shop.database.read() as session:
        found = inbox_rows.list_page(session, state=state, limit=limit)
    plain = [
        {
            "id": row.id,
            "provider": row.provider,
            "event": row.event_id,
            "type": row.type,
            "state": row.state,
            "received_at": row.received_at,
            "note": row.note,
        }
        for row in found
    ]
    if as_json:
        print_json(plain)
        return
    rows = [
        (
            row["id"],
            f"{row['received_at']:%Y-%m-%d %H:%M:%S} UTC",
            row["provider"],
            row["type"],
            row["state"],
            row["note"],
        )
        for row in plain
    ]
    columns = ("Id", "Received", "From", "Event", "State", "Note")
    print_table(columns, rows, "Nothing has arrived yet.")


@inbox.command("dismiss")
@click.argument("inbox_id", type=int)
@click.pass_obj
def dismiss(data: Path | None, inbox_id: int) -> None:
    """Note that event INBOX_ID is none of this shop's."""
    with open_shop(read_config(data)) as shop:
        replays.dismiss(shop, inbox_id)
    click.echo(f"Event {inbox_id} is dismissed.")


@cli.command("replay")
@click.argument("inbox_id", type=int)
@click.option("--dry-run", is_flag=True, help="Only tell what would change.")
@json_option
@click.pass_obj
def replay(data: Path | None, inbox_id: int, dry_run: bool, as_json: bool) -> None:
    """Apply event INBOX_ID again, by what the payment provider says today."""
    with open_shop(read_config(data)) as shop:
        if not dry_run:
            replays.replay(shop, inbox_id)
            click.echo(f"Event {inbox_id} is applied as soon as an engine is free.")
            return
        changes = replays.dry_run(shop, inbox_id)
    if as_json:
        print_json([{"what": c.what, "before": c.before, "after": c.after} for c in changes])
        return
    rows = [(change.what, change.before, change.after) for change in changes]
    print_table(("What", "Now", "Afterwards"), rows, "Nothing would change.")


@cli.command("alerts")
@json_option
@click.pass_obj
def alerts(data: Path | None, as_json: bool) -> None:
    """List what needs the owner, oldest first."""
    with open_shop(read_config(data), only_look=True) as shop, shop.database.read() as session:
        found = alert_rows.list_open(session)
    if as_json:
        print_json([{"at": row.at, "text": row.text, "mailed_at": row.mailed_at} for row in found])
        return
    rows = [(f"{row.at:%Y-%m-%d %H:%M} UTC", row.text) for row in found]
    print_table(("Since", "What"), rows, "Nothing needs you.")

"""What the owner does about an order: `orders hold|release|retry|refund|replace|resend|renew`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from smi_desktop.bootstrap import open_shop
from smi_desktop.cli.orders import find_order, orders
from smi_desktop.cli.root import read_config
from smi_desktop.domain.money import Money
from smi_desktop.services import remedies
from smi_desktop.services.renewals import renew_link
from smi_desktop.services.shop import Shop
from smi_desktop.store.models import Order


@contextmanager
def _about(data: Path | None, wanted: str) -> Iterator[tuple[Shop, Order]]:
    with open_shop(read_config(data)) as shop:
        with shop.database.read() as session:
            order = find_order(session, wanted)
        yield shop, order


@orders.command("hold")
@click.argument("order")
@click.option("--reason", default="Held by the studio.", help="Why, for the timeline.")
@click.pass_obj
def hold(data: Path | None, order: str, reason: str) -> None:
    """Set ORDER aside: nothing is made, delivered or sent until it is released."""
    with _about(data, order) as (shop, found):
        remedies.hold(shop, found.id, reason)
        click.echo(f"{found.number} is held.")


@orders.command("release")
@click.argument("order")
@click.pass_obj
def release(data: Path | None, order: str) -> None:
    """End the hold of ORDER; it goes on where it was."""
    with _about(data, order) as (shop, found):
        remedies.release(shop, found.id)
        click.echo(f"{found.number} goes on.")


@orders.command("retry")
@click.argument("order")
@click.option("--upscaler", type=click.Choice(["upsampler", "embedded"]), help="Who makes it.")
@click.pass_obj
def retry(data: Path | None, order: str, upscaler: str | None) -> None:
    """Make the picture of ORDER once more."""
    with _about(data, order) as (shop, found):
        remedies.retry(shop, found.id, provider=upscaler)
        click.echo(f"The picture of {found.number} is made once more.")


@orders.command("refund")
@click.argument("order")
@click.option("--amount", help="A part of the money, such as 2.50; all that is left if left out.")
@click.option("--reason", help="Why, in words for the customer.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def refund(
    data: Path | None, order: str, amount: str | None, reason: str | None, yes: bool
) -> None:
    """Send the money of ORDER back, whole or in part. A whole refund ends the link."""
    with _about(data, order) as (shop, found):
        currency = found.paid_currency or found.currency
        part = None if amount is None else Money.from_major(amount, currency)
        if not yes:
            what = "all that is left of the payment" if part is None else str(part)
            click.confirm(f"Send {what} of {found.number} back?", abort=True, err=True)
        sent = remedies.refund(shop, found.id, amount=part, reason=reason)
        click.echo(f"{sent} of {found.number} goes back.")


@orders.command("replace")
@click.argument("order")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.pass_obj
def replace(data: Path | None, order: str, file: Path) -> None:
    """Deliver FILE as the picture of ORDER; it must have the size that was bought."""
    with _about(data, order) as (shop, found):
        remedies.replace(shop, found.id, file.absolute())
        click.echo(f"{found.number} has your file now.")


@orders.command("resend")
@click.argument("order")
@click.option("--email", help="A corrected address.")
@click.pass_obj
def resend(data: Path | None, order: str, email: str | None) -> None:
    """Send ORDER's customer a new link; the one before ends."""
    with _about(data, order) as (shop, found):
        remedies.resend(shop, found.id, email=email)
        click.echo(f"A new link for {found.number} is on its way.")


@orders.command("renew")
@click.argument("order")
@click.pass_obj
def renew(data: Path | None, order: str) -> None:
    """Let ORDER's link live again under the same address."""
    with _about(data, order) as (shop, found):
        renew_link(shop, found.id, actor=remedies.OWNER)
        click.echo(f"The link of {found.number} works again.")

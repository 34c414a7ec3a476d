"""`settings` and `secrets`: setting a shop up without a window."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from smi_desktop.bootstrap import open_shop
from smi_desktop.cli.root import cli, json_option, print_json, print_table, read_config
from smi_desktop.config import ShopSettings
from smi_desktop.domain.errors import ConfigurationError
from smi_desktop.services.shop import (
    SMTP_PASSWORD,
    STRIPE_SECRET_KEY,
    STRIPE_WEBHOOK_SECRET,
    STRIPE_WEBHOOK_SECRET_PREVIOUS,
    UPSAMPLER_API_KEY,
)
from smi_desktop.store import settings as settings_rows

_SECRET_NAMES = (
    STRIPE_SECRET_KEY,
    STRIPE_WEBHOOK_SECRET,
    STRIPE_WEBHOOK_SECRET_PREVIOUS,
    UPSAMPLER_API_KEY,
    SMTP_PASSWORD,
)


@cli.group()
def settings() -> None:
    """How the shop sells."""


@settings.command("list")
@json_option
@click.pass_obj
def list_settings(data: Path | None, as_json: bool) -> None:
    """List every setting with its present value."""
    with open_shop(read_config(data), only_look=True) as shop:
        values = shop.settings().model_dump(mode="json")
    if as_json:
        print_json(values)
        return
    defaults = ShopSettings().model_dump(mode="json")
    rows = [
        (name, json.dumps(value, ensure_ascii=False), "" if value == defaults[name] else "changed")
        for name, value in values.items()
    ]
    print_table(("Setting", "Value", ""), rows, "")


@settings.command("set", context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("value")
@json_option
@click.pass_obj
def set_setting(data: Path | None, name: str, value: str, as_json: bool) -> None:
    """Set NAME to VALUE: a text, or JSON for lists; `default` takes it back to its default."""
    if name not in ShopSettings.model_fields:
        raise ConfigurationError(f"There is no setting '{name}'. See: smi-desktop settings list")
    new: object = None if value == "default" else value
    if isinstance(getattr(ShopSettings(), name), tuple) and new is not None:
        try:
            new = json.loads(value)
        except ValueError as error:
            raise ConfigurationError(f"'{name}' is a list: give JSON such as [\"a\"].") from error
    with open_shop(read_config(data)) as shop, shop.database.write() as session:
        saved = settings_rows.save(session, {name: new}, now=shop.now())
    present = saved.model_dump(mode="json")[name]
    if as_json:
        print_json({name: present})
    else:
        click.echo(f"{name} is {json.dumps(present, ensure_ascii=False)} now.")


@cli.group()
def secrets() -> None:
    """Keys and passwords. They are never printed."""


@secrets.command("set")
@click.argument("name", type=click.Choice(_SECRET_NAMES))
@json_option
@click.pass_obj
def set_secret(data: Path | None, name: str, as_json: bool) -> None:
    """Store the secret NAME, typed at the prompt or given on standard input; never as an argument."""
    if sys.stdin.isatty():
        value = click.prompt(name, hide_input=True)
    else:
        value = sys.stdin.readline().rstrip("\n")
    if not value.strip():
        raise ConfigurationError("Nothing was given, so nothing was stored.")
    with open_shop(read_config(data)) as shop:
        shop.secrets.set(name, value)
        where = shop.secrets.describe()
    if as_json:
        print_json({"name": name, "stored": True, "where": where})
    else:
        click.echo(f"Stored {name} {where}.")

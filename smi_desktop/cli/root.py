"""The command group and what all commands share."""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from smi_desktop import __version__
from smi_desktop.config import ProcessConfig, load_process_config

_F = TypeVar("_F", bound=Callable[..., Any])
_MODULES: Final = {
    "alerts": "work",
    "catalogue": "catalogue",
    "demo": "demo",
    "doctor": "processes",
    "engine": "processes",
    "inbox": "work",
    "orders": "remedies",
    "relay": "processes",
    "report": "report",
    "replay": "work",
    "secrets": "settings",
    "settings": "settings",
    "tasks": "work",
}
"""Which module of this package has each command."""


class _LateCommands(click.Group):
    """A group that imports a command's module when it is asked for: a relay's start has no time for the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the commands' names, sorted."""
        return sorted(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, or None for one that does not exist."""
        if cmd_name not in _MODULES:
            return None
        # The module adds its commands to this group.
        importlib.import_module(f"smi_desktop.cli.{_MODULES[cmd_name]}")
        return super().get_command(ctx, cmd_name)


@click.group(cls=_LateCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="SMI_DATA_DIR",
    help="The shop's data folder; your own one if left out.",
)
@click.version_option(__version__, prog_name="smi-desktop")
@click.pass_context
def cli(context: click.Context, data: Path | None) -> None:
    """Sell AI-upscaled versions of the pictures on a studio's website."""
    context.obj = data


def json_option(command: _F) -> _F:
    """Give a command `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(command)


def read_config(data: Path | None) -> ProcessConfig:
    """Read the process's configuration and set the log up.

    Raises:
        ConfigurationError: It cannot be used.
    """
    config = load_process_config(data)
    logging.basicConfig(
        level=config.log_level,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
    )
    # Each tick of a loop is not news.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    return config


def print_json(value: object) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(value, default=_plain, indent=2, ensure_ascii=False))


def print_ready(value: object) -> None:
    """Print one line of JSON at once: a program that started us waits for it."""
    click.echo(json.dumps(value, default=_plain, ensure_ascii=False))
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """Print rows for people, or a sentence where there are none."""
    if not rows:
        click.echo(empty)
        return
    # A process that prints no table need not load it.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        # Text, not markup: a title in square brackets is a title.
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def exit_with_parent() -> None:
    """End this process in good order when the pipe on its standard input closes."""

    def wait() -> None:
        # Not sys.stdin: a thread that waits inside of it crashes the interpreter's end.
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="smi-parent", daemon=True).start()


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")

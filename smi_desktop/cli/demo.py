"""`demo`: the whole shop on this machine, with no account and no internet."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path

import click

from smi_desktop.cli.demo_run import run_demo
from smi_desktop.cli.rehearsal import Rehearsal, forget_other_shops
from smi_desktop.cli.root import cli, json_option, print_ready


@cli.command()
@click.option("--headless", is_flag=True, help="Play a few orders through and print each step.")
@click.option("--serve", is_flag=True, help="Open the shop and keep it open until SIGTERM.")
@click.option("--port", default=0, type=click.IntRange(0, 65535), help="The relay's port.")
@click.option(
    "--data",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the rehearsal's data here; a temporary folder if left out.",
)
@click.option("--seed", default=1, help="Makes the providers' ids the same each time.")
@json_option
@click.pass_obj
def demo(
    data: Path | None,
    headless: bool,
    serve: bool,
    port: int,
    folder: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Open a rehearsal shop: real checkout, upscaling, mail and delivery, on loopback alone."""
    if headless and serve:
        raise click.UsageError("Choose either --headless or --serve.")
    forget_other_shops()
    wanted = folder or data
    target = wanted or Path(tempfile.mkdtemp(prefix="smi-demo-"))
    try:
        if serve:
            _serve(target, port, seed)
        else:
            good = run_demo(Rehearsal(target, port=port, seed=seed), as_json=as_json)
            sys.exit(0 if good else 1)
    finally:
        if wanted is None:
            shutil.rmtree(target, ignore_errors=True)


def _serve(folder: Path, port: int, seed: int) -> None:
    stopping = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stopping.set())
    with Rehearsal(folder, port=port, seed=seed) as shop:
        print_ready(shop.describe())
        # Waiting in slices lets the interpreter run the signal's handler on every system.
        while not stopping.wait(0.5):
            if not shop.is_whole():
                sys.stderr.write(f"A part of the shop has ended; its log is in {shop.log_dir}.\n")
                sys.exit(1)

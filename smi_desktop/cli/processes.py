"""`relay`, `engine` and `doctor`."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import click

from smi_desktop.bootstrap import open_shop, presence_dir
from smi_desktop.cli.root import (
    cli,
    exit_with_parent,
    json_option,
    print_json,
    print_ready,
    print_table,
    read_config,
)
from smi_desktop.services.shop import STRIPE_WEBHOOK_SECRET


@cli.command()
@click.option("--host", help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="The port; 0 takes a free one.")
@click.option("--with-engine", is_flag=True, help="Do the shop's work in this process too.")
@click.option("--exit-with-parent", "with_parent", is_flag=True, help="End when stdin closes.")
@json_option
@click.pass_obj
def relay(
    data: Path | None,
    host: str | None,
    port: int | None,
    with_engine: bool,
    with_parent: bool,
    as_json: bool,
) -> None:
    """Answer the internet: the storefront's API, webhooks, downloads and pages."""
    from webhook_relay.server import check_port, serve

    config = read_config(data)
    host = config.relay_host if host is None else host
    port = check_port(host, config.relay_port if port is None else port)
    with ExitStack() as stack:
        shop = stack.enter_context(open_shop(config))
        # Without it every forged webhook would have to be believed or refused: refuse to start instead.
        shop.secret(STRIPE_WEBHOOK_SECRET)
        if with_engine:
            from smi_desktop.engine.engine import Engine

            stack.enter_context(Engine(shop, presence_dir(config)))
        if with_parent:
            exit_with_parent()
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"

        def ready() -> None:
            if as_json:
                print_ready({"relay_url": url})
            else:
                click.echo(f"The relay listens on {url}")

        serve(shop, host, port, on_ready=ready)
    # A checkout that waits for Stripe would hold the process up for half a minute. Nothing is lost with it:
    # its order is committed and will be looked up.
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)


@cli.command()
@click.option("--exit-with-parent", "with_parent", is_flag=True, help="End when stdin closes.")
@json_option
@click.pass_obj
def engine(data: Path | None, with_parent: bool, as_json: bool) -> None:
    """Do the shop's work: payments, upscales, mails, cleaning up."""
    from smi_desktop.engine.engine import Engine

    config = read_config(data)
    stopping = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stopping.set())
    with open_shop(config) as shop, Engine(shop, presence_dir(config)):
        if with_parent:
            exit_with_parent()
        if as_json:
            print_ready({"engine": "running"})
        else:
            click.echo("The engine is running.")
        # In rounds: a signal that the kernel hands to another thread does not end an untimed wait.
        while not stopping.wait(0.2):
            pass


@cli.command()
@json_option
@click.pass_obj
def doctor(data: Path | None, as_json: bool) -> None:
    """Check whether the shop can sell, and say what is missing."""
    from smi_desktop.services.health import check_health

    config = read_config(data)
    with open_shop(config, only_look=True) as shop:
        checks = check_health(shop)
    if as_json:
        print_json({"mode": config.mode, "checks": [asdict(check) for check in checks]})
    else:
        rows = [(check.name, "ok" if check.good else "NOT OK", check.text) for check in checks]
        print_table(("Check", "State", "What it means"), rows, "")
    if not all(check.good for check in checks):
        sys.exit(1)

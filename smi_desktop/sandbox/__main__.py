"""`python -m smi_desktop.sandbox`: serve the rehearsal's providers until told to stop.

Prints one line of JSON with the addresses once every port is bound. Exit code 2: a port is taken, or the
command line is wrong.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from smi_desktop.sandbox.providers import Options, PortTakenError, Providers

_USAGE_ERROR: Final = 2
_ROUND_SECONDS: Final = 0.1


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM, SIGINT or, if asked so, the end of standard input; return the exit code."""
    given = _parser().parse_args(arguments)
    if bool(given.webhook_url) != bool(given.webhook_secret):
        _parser().error("--webhook-url and --webhook-secret belong together")
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("mail.log").setLevel(logging.ERROR)
    os.umask(0o077)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    options = Options(
        folder=given.data,
        stripe_port=given.stripe_port,
        upsampler_port=given.upsampler_port,
        smtp_port=given.smtp_port,
        seed=given.seed,
        quick=given.quick_upscale,
        limited=not given.no_rate_limit,
    )
    try:
        providers = Providers(options)
    except PortTakenError as error:
        sys.stderr.write(f"{error}\n")
        return _USAGE_ERROR
    if given.webhook_url:
        providers.events.register(given.webhook_url, [given.webhook_secret], [])
    providers.start()
    sys.stdout.write(f"{json.dumps(providers.addresses())}\n")
    sys.stdout.flush()
    if given.exit_with_parent:
        threading.Thread(target=_watch_standard_input, args=(stopping,), daemon=True).start()
    # Woken now and then: Linux may hand the signal to another thread, and then Python runs its handler
    # only when the main thread next comes round (seen: 3 of 40 times, with an image child at work).
    while not stopping.wait(_ROUND_SECONDS):
        pass
    providers.stop()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m smi_desktop.sandbox", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the rehearsal")
    for name in ("stripe", "upsampler", "smtp"):
        parser.add_argument(f"--{name}-port", type=int, default=0, help="0: the system chooses")
    parser.add_argument("--seed", type=int, help="makes the ids of an empty folder repeatable")
    parser.add_argument("--webhook-url", help="where events go, as registered in the dashboard")
    parser.add_argument("--webhook-secret", help="what they are signed with")
    parser.add_argument("--quick-upscale", action="store_true", help="Lanczos, not the network")
    parser.add_argument("--no-rate-limit", action="store_true", help="for load tests")
    parser.add_argument("--exit-with-parent", action="store_true", help="end with standard input")
    return parser


def _watch_standard_input(stopping: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    stopping.set()


if __name__ == "__main__":
    sys.exit(main())

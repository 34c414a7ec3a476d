"""The `smi-desktop` command. Errors are told in words and end with exit code 1, wrong usage with 2."""

from __future__ import annotations

import json
import os
import sys

from smi_desktop.cli.root import cli
from smi_desktop.domain.errors import SmiError


def main() -> None:
    """Run the command line."""
    # Whatever is created from here on belongs to its owner alone.
    os.umask(0o077)
    try:
        cli()
    except SmiError as error:
        sys.stderr.write(f"{error.title}: {error.message}\n")
        if "--json" in sys.argv:
            told = {"error": {"title": error.title, "message": error.message}}
            sys.stdout.write(json.dumps(told, ensure_ascii=False) + "\n")
        sys.exit(1)
    except BrokenPipeError:
        # The reader of our output has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)

"""The one way to the files that ship with the program: templates, samples, styles.

In an installed wheel they lie inside the package, in a checkout at its top.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def resource_root() -> Path:
    """Return the folder that holds `emails/`, `pages/`, `samples/` and the rest.

    Raises:
        FileNotFoundError: The installation is not whole.
    """
    here = Path(__file__).resolve().parent
    for folder in (here / "_resources", here.parent / "resources"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"The program's resources are missing beside {here}.")


def resource_path(name: str) -> Path:
    """Return the path of one resource, e.g. `emails/ready.html`."""
    return resource_root() / name

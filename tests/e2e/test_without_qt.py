"""What is installed without extras needs no Qt, and no module outside of the window loads it."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires

from packaging.requirements import Requirement


def needed_packages(name: str) -> set[str]:
    """Return everything that installing a package without extras brings, by the installed metadata."""
    found: set[str] = set()
    open_names = [name]
    while open_names:
        current = open_names.pop()
        try:
            lines = requires(current) or []
        except PackageNotFoundError:
            continue
        for line in lines:
            requirement = Requirement(line)
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
                continue
            if requirement.name.lower() not in found:
                found.add(requirement.name.lower())
                open_names.append(requirement.name)
    return found


def test_an_installation_without_extras_brings_no_qt() -> None:
    packages = needed_packages("smi-desktop")
    assert {"stripe", "sqlalchemy", "granian"} <= packages
    assert not [name for name in packages if "pyside" in name or "shiboken" in name]


def test_no_module_outside_of_the_window_loads_qt() -> None:
    script = (
        "import pkgutil, sys, importlib, smi_desktop, webhook_relay\n"
        "for package in (smi_desktop, webhook_relay):\n"
        "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        skipped = ('smi_desktop.gui', 'smi_desktop.store.migrations')\n"
        "        if module.name.startswith(skipped) or module.name.endswith('__main__'):\n"
        "            continue\n"
        "        importlib.import_module(module.name)\n"
        "print([name for name in sys.modules if name.startswith(('PySide6', 'shiboken'))])\n"
        "print(len([name for name in sys.modules if name.startswith('smi_desktop')]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    loaded, count = done.stdout.splitlines()
    assert loaded == "[]"
    assert int(count) > 50

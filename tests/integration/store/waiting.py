"""Waiting for a condition, and running helpers as processes of their own."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = 20.0
"""Seconds after which a test gives up waiting."""

ROOT = Path(__file__).parents[3]


def wait_until(condition: Callable[[], bool], *, seconds: float = PATIENCE) -> bool:
    """Poll a condition until it holds or the time is over."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while time.monotonic() < deadline:
        if condition():
            return True
        pause.wait(0.01)
    return condition()


def start_child(module: str, *words: str) -> subprocess.Popen[str]:
    """Start a helper module of the tests as a process of its own, with pipes to talk through."""
    return subprocess.Popen(
        [sys.executable, "-m", f"tests.integration.{module}", *words],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish_child(child: subprocess.Popen[str]) -> str:
    """Wait for a helper's end and return what it said; a failed one fails the test with its words."""
    try:
        said, complained = child.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        _, complained = child.communicate()
        raise AssertionError(f"The helper did not end: {complained}") from None
    assert child.returncode == 0, complained
    return said


def finish_together(
    children: list[subprocess.Popen[str]], begin: threading.Event | None = None
) -> list[str]:
    """Let helpers that say `ready` begin at once, and return what each said after that.

    Threads of the test that wait for `begin` are let go with them.
    """
    try:
        for child in children:
            assert child.stdout is not None
            line = child.stdout.readline()
            assert line == "ready\n", f"The helper did not start: {line}"
        if begin is not None:
            begin.set()
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        return [finish_child(child) for child in children]
    finally:
        if begin is not None:
            begin.set()
        for child in children:
            child.kill()
            child.communicate()

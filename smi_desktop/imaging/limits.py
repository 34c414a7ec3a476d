"""What the image child may use. It sets these on itself before it reads anything from outside.

This module alone knows the figures. Where a system lacks a limit (macOS, Windows) the parent's
time-out and the pixel caps remain.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from enum import StrEnum


class Role(StrEnum):
    """What a child is for."""

    DECODE = "decode"
    """Read, check, convert: libvips only."""
    UPSCALE = "upscale"
    """Libvips and the network."""


PART_SUFFIX = ".part"
"""What the name of a file ends with while the child writes it."""
_GIB = 2**30
_PRIVATE_MEMORY = {Role.DECODE: 4 * _GIB, Role.UPSCALE: 3 * _GIB}
"""Bytes that the process may write to, memory-mapped files aside (RLIMIT_DATA, Linux 4.7).

Measured at 192 megapixels: baseline JPEG and PNG are streamed (under 0.2 GiB), progressive JPEG and
interlaced PNG are held whole (0.7 GiB), WebP asks for 3.2 GiB and touches 1.5. Upscaling takes 0.6.
"""
_OPEN_FILES = 256
_NICENESS = 10
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4


def limit_this_process(role: Role, parent: int) -> None:
    """Lower this process's rights and share of the machine for good.

    Args:
        parent: Process id of the parent; if it has died already, this process ends here.
    """
    os.umask(0o077)
    if sys.platform != "win32":
        _limit_resources(role)
        os.nice(_NICENESS)
    if sys.platform == "linux":
        _die_with_parent(parent)


def _limit_resources(role: Role) -> None:
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_DATA, _PRIVATE_MEMORY[role])
    _lower(resource.RLIMIT_NOFILE, _OPEN_FILES)


def _lower(which: int, amount: int) -> None:
    if sys.platform == "win32":
        return
    import resource

    hard = resource.getrlimit(which)[1]
    if hard != resource.RLIM_INFINITY:
        amount = min(amount, hard)
    resource.setrlimit(which, (amount, amount))


def _die_with_parent(parent: int) -> None:
    """Ask for SIGKILL when the thread that started this process ends, and for no core dumps."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        os._exit(1)

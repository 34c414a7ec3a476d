"""What the kernel knows of a connection: whether the bytes that we sent have arrived, and how it ended.

A server hands bytes to the kernel and forgets them; a client that leaves at the last percent looks like one
that stayed. Linux tells the difference: what the other side has acknowledged, and whether it closed the
connection in good order (its FIN counts as one received byte) or broke it off (a reset does not). ASGI shows
none of it, so the connection is found among this process's own by its addresses.
Elsewhere than on Linux nothing is found, and bytes count as sent when they were handed over.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from starlette.types import Scope

# linux/tcp.h: struct tcp_info holds 8 single bytes, 24 words, the two pacing rates, then these counters.
_ACKED_AND_RECEIVED: Final = struct.Struct("=QQ")
_COUNTERS_AT: Final = 8 + 24 * 4 + 2 * 8
_INFO_BYTES: Final = _COUNTERS_AT + _ACKED_AND_RECEIVED.size
_CLOSED: Final = 7  # TCP_CLOSE
_TIOCOUTQ: Final = 0x5411
_LOOK_SECONDS: Final = 0.02
# A client that keeps its connection says nothing more; after this it has had its time to break it off.
_QUIET_SECONDS: Final = 3.0
_STALLED_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class _Counters:
    state: int
    acked: int
    received: int


class Wire:
    """One connection of this server to a client, seen through a descriptor of our own."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._start = self._counters()

    @classmethod
    def find(cls, scope: Scope) -> Self | None:
        """Return the connection that a request came over, or None where it cannot be known."""
        client = scope.get("client")
        if not sys.platform.startswith("linux") or client is None:
            return None
        # The server gives the port as text.
        peer = (client[0], int(client[1]))
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - thousands of names, no paths needed
            connection = _own_copy(int(name))
            if connection is None:
                continue
            try:
                if connection.getpeername()[:2] == peer:
                    return cls(connection)
            except (OSError, struct.error):
                pass
            connection.close()
        return None

    def close(self) -> None:
        """Let the descriptor go."""
        self._connection.close()

    async def has_arrived(self) -> bool:
        """Wait until it is known whether everything that was sent has reached the client."""
        quiet_since = progress_at = time.monotonic()
        waiting_before = -1
        while True:
            now = self._counters()
            waiting = self._waiting_bytes()
            if waiting == 0 and now.received > self._start.received:
                # The client has closed in good order, or asks for the next thing.
                return True
            if now.state == _CLOSED:
                return False
            moment = time.monotonic()
            if waiting != waiting_before:
                waiting_before, progress_at = waiting, moment
            if waiting > 0:
                quiet_since = moment
            if moment - quiet_since > _QUIET_SECONDS:
                return True
            if moment - progress_at > _STALLED_SECONDS:
                return False
            await asyncio.sleep(_LOOK_SECONDS)

    def arrived_bytes(self) -> int:
        """Return how many bytes the client has acknowledged since the request, headers included."""
        return self._counters().acked - self._start.acked

    def _counters(self) -> _Counters:
        raw = self._connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        acked, received = _ACKED_AND_RECEIVED.unpack_from(raw, _COUNTERS_AT)
        return _Counters(raw[0], acked, received)

    def _waiting_bytes(self) -> int:
        from fcntl import ioctl

        answer = array.array("i", [0])
        ioctl(self._connection.fileno(), _TIOCOUTQ, answer)
        return answer[0]


def _own_copy(descriptor: int) -> socket.socket | None:
    """Return a descriptor of our own for a socket of this process, or None if it is none."""
    try:
        if not str(Path(f"/proc/self/fd/{descriptor}").readlink()).startswith("socket:"):
            return None
        copy = os.dup(descriptor)
    except OSError:
        # It was closed while we looked.
        return None
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        return None

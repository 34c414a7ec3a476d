"""An SMTP server on loopback that answers each step as a test wants, or breaks off there."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

CUT = "cut the connection"
SILENCE = "never answer"
_SECONDS = 10.0


@dataclass
class ScriptedSmtp:
    """Says yes to everything but to the steps that `replies` names.

    The steps are `GREETING`, the commands by their first word, `CONTENT` (cut within the message) and
    `DOT` (the reply after it).
    """

    replies: Mapping[str, str]
    offers: tuple[str, ...] = ()
    tls: ssl.SSLContext | None = None
    port: int = 0
    heard: list[str] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def serve(self, listener: socket.socket) -> None:
        """Serve one connection after the other until the listener is closed."""
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.settimeout(_SECONDS)
            with suppress(OSError, _CutError), connection:
                self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as incoming:
            self._say(connection, "GREETING", "220 ready")
            while line := incoming.readline():
                text = line.decode("latin-1").strip()
                self.heard.append(text)
                step = text.split(" ")[0].upper()
                if step == "EHLO":
                    lines = ["test", *self.offers]
                    offer = "".join(f"250-{each}\r\n" for each in lines[:-1]) + f"250 {lines[-1]}"
                    self._say(connection, step, offer)
                elif step == "DATA":
                    self._say(connection, step, "354 go on")
                    if self.replies.get(step, "354").startswith("354"):
                        self._take_message(connection, incoming)
                elif step == "QUIT":
                    self._say(connection, step, "221 bye")
                    return
                else:
                    self._say(connection, step, "250 ok")

    def _take_message(self, connection: socket.socket, incoming: Iterator[bytes]) -> None:
        content = b""
        for line in incoming:
            if self.replies.get("CONTENT") == CUT:
                raise _CutError
            if line == b".\r\n":
                self.messages.append(content)
                self._say(connection, "DOT", "250 queued as 7")
                return
            content += line

    def _say(self, connection: socket.socket, step: str, otherwise: str) -> None:
        words = self.replies.get(step, otherwise)
        if words == CUT:
            raise _CutError
        if words == SILENCE:
            self.stopping.wait(_SECONDS)
            raise _CutError
        connection.sendall(words.encode() + b"\r\n")


class _CutError(Exception):
    pass


@contextmanager
def scripted_smtp(*offers: str, **replies: str) -> Iterator[ScriptedSmtp]:
    """Run a scripted server for the length of a with block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = ScriptedSmtp(replies, offers, port=listener.getsockname()[1])
        worker = threading.Thread(target=server.serve, args=(listener,), daemon=True)
        worker.start()
        try:
            yield server
        finally:
            server.stopping.set()
            listener.shutdown(socket.SHUT_RDWR)
            worker.join(_SECONDS)

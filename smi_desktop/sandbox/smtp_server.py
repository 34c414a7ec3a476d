"""The rehearsal's mail server: takes every mail and lays it into a folder exactly as it came.

Sole owner of the mailbox's names: `0001-message-id.eml`, and beside it `.json` with the envelope, which is
written first, so that whoever sees the mail finds its envelope.
"""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
import re
import socket
import threading
from pathlib import Path
from typing import Final

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session, syntax

from smi_desktop.sandbox.clock import SandboxClock
from smi_desktop.sandbox.constants import MAILBOX_FOLDER
from smi_desktop.sandbox.faults import Fault, FaultScript, Layer
from smi_desktop.sandbox.store import Json, ObjectStore

_SIZE_LIMIT: Final = 64 * 2**20
_NAME_LENGTH: Final = 80
_HOST: Final = "127.0.0.1"
_BACKLOG: Final = 512


class Mailbox:
    """The folder of received mails."""

    def __init__(self, folder: Path, store: ObjectStore, clock: SandboxClock) -> None:
        self.folder = folder / MAILBOX_FOLDER
        self.folder.mkdir(parents=True, exist_ok=True)
        self._store = store
        self._clock = clock

    def keep(self, content: bytes, envelope: Json) -> Path:
        """Lay a mail into the folder and return its path."""
        head = email.message_from_bytes(content, policy=email.policy.compat32)
        message_id = str(head.get("Message-ID", "none")).strip().strip("<>")
        safe = re.sub(r"[^A-Za-z0-9@._-]", "_", message_id)[:_NAME_LENGTH]
        path = self.folder / f"{self._store.next_number('mail'):04d}-{safe}.eml"
        facts = {**envelope, "message_id": message_id, "received_at": self._clock.now()}
        for target, data in (
            (path.with_suffix(".json"), json.dumps(facts).encode()),
            (path, content),
        ):
            draft = self.folder / f".{target.name}.part"
            draft.write_bytes(data)
            draft.replace(target)
        return path

    def mails(self) -> list[Json]:
        """Return the envelopes of all mails, oldest first."""
        return [
            {
                "file": path.name,
                **json.loads(path.with_suffix(".json").read_text(encoding="utf-8")),
            }
            for path in sorted(self.folder.glob("*.eml"), key=_number)
        ]


class _Handler:
    """Keeps each accepted mail."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    async def handle_DATA(self, server: _FaultySmtp, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Keep the mail, unless the script has something else in mind."""
        fault = server.fault("dot", envelope)
        if fault is not None and fault.name in ("refuse_NNN", "cut"):
            return await server.strike(fault)
        content = envelope.content if isinstance(envelope.content, bytes) else b""
        login = session.auth_data if isinstance(session.auth_data, str) else None
        path = self._mailbox.keep(
            content,
            {
                "mail_from": envelope.mail_from,
                "rcpt_tos": envelope.rcpt_tos,
                "login": login,
            },
        )
        if fault is not None:
            await server.strike(fault)
        return f"250 2.0.0 Ok: kept as {path.name.partition('-')[0]}"


class _FaultySmtp(SMTP):
    """The library's dialogue, with a fault before any command."""

    def __init__(self, mailbox: Mailbox, faults: FaultScript) -> None:
        self._faults = faults
        super().__init__(
            _Handler(mailbox),
            data_size_limit=_SIZE_LIMIT,
            hostname="rehearsal.invalid",
            ident="Rehearsal mail server",
            auth_require_tls=False,
            authenticator=_accept_anyone,
        )

    def fault(self, operation: str, envelope: Envelope | None = None) -> Fault | None:
        """Return the fault that strikes at a command."""
        known = envelope or self.envelope
        facts = {
            "to": " ".join(known.rcpt_tos) if known else "",
            "from": str(known.mail_from) if known else "",
        }
        return self._faults.take("smtp", operation, Layer.SMTP, facts)

    async def strike(self, fault: Fault) -> str:
        """Do what the fault says; return the refusal, if it is one."""
        if fault.name == "slow":
            await asyncio.sleep(float(fault.params.get("seconds", 1)))
            return ""
        if fault.name == "refuse_NNN":
            return f"{fault.number} {fault.params.get('message', 'Scripted refusal')}"
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()
        await asyncio.Event().wait()  # until the library sees the loss and ends this dialogue
        return ""

    async def _refused(self, operation: str) -> bool:
        fault = self.fault(operation)
        refusal = await self.strike(fault) if fault is not None else ""
        if refusal:
            await self.push(refusal)
        return bool(refusal)

    @syntax("HELO hostname")
    async def smtp_HELO(self, hostname: str) -> None:  # noqa: N802
        """Greet."""
        if not await self._refused("helo"):
            await super().smtp_HELO(hostname)

    @syntax("EHLO hostname")
    async def smtp_EHLO(self, hostname: str) -> None:  # noqa: N802
        """Greet and tell what is offered."""
        if not await self._refused("helo"):
            await super().smtp_EHLO(hostname)

    @syntax("AUTH <mechanism>")
    async def smtp_AUTH(self, arg: str) -> None:  # noqa: N802
        """Take any login."""
        if not await self._refused("auth"):
            await super().smtp_AUTH(arg)

    @syntax("MAIL FROM: <address>", extended=" [SP <mail-parameters>]")
    async def smtp_MAIL(self, arg: str) -> None:  # noqa: N802
        """Take the sender."""
        if not await self._refused("mail"):
            await super().smtp_MAIL(arg)

    @syntax("RCPT TO: <address>", extended=" [SP <mail-parameters>]")
    async def smtp_RCPT(self, arg: str) -> None:  # noqa: N802
        """Take a recipient."""
        fault = self._faults.take("smtp", "rcpt", Layer.SMTP, {"to": arg or ""})
        refusal = await self.strike(fault) if fault is not None else ""
        if refusal:
            await self.push(refusal)
        else:
            await super().smtp_RCPT(arg)

    @syntax("DATA")
    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802
        """Take the mail."""
        fault = self.fault("data")
        if fault is not None and fault.name == "cut_before_dot":
            await self.push("354 End data with <CR><LF>.<CR><LF>")
            await self._reader.readline()
            await self.strike(fault)
        refusal = await self.strike(fault) if fault is not None else ""
        if refusal:
            await self.push(refusal)
        else:
            await super().smtp_DATA(arg)

    @syntax("QUIT")
    async def smtp_QUIT(self, arg: str) -> None:  # noqa: N802
        """Part."""
        if not await self._refused("quit"):
            await super().smtp_QUIT(arg)


class _Unwelcoming(asyncio.Protocol):
    """A server that refuses, hangs up or stays silent instead of its greeting."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Do what the fault says."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(type(transport))
        if self._fault.name == "refuse_NNN":
            message = self._fault.params.get("message", "Scripted refusal")
            transport.write(f"{self._fault.number} {message}\r\n".encode())
        if self._fault.name == "slow":
            seconds = float(self._fault.params.get("seconds", 1))
            asyncio.get_running_loop().call_later(seconds, transport.close)
        else:
            transport.close()


class MailServer:
    """Serves SMTP on a loopback port from a thread of its own.

    Args:
        port: 0 lets the system choose.

    Raises:
        OSError: The port is taken.
    """

    def __init__(self, mailbox: Mailbox, faults: FaultScript, port: int) -> None:
        self._mailbox = mailbox
        self._faults = faults
        self._loop = asyncio.new_event_loop()
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((_HOST, port))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def port(self) -> int:
        """The port that it serves."""
        return int(self._socket.getsockname()[1])

    def start(self) -> None:
        """Serve until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and free the port."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=1)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        starting = self._loop.create_server(self._protocol, sock=self._socket, backlog=_BACKLOG)
        server = self._loop.run_until_complete(starting)
        self._loop.run_forever()
        server.close()

    def _protocol(self) -> asyncio.Protocol:
        fault = self._faults.take("smtp", "connect", Layer.SMTP)
        return _Unwelcoming(fault) if fault else _FaultySmtp(self._mailbox, self._faults)


def _accept_anyone(
    _server: object, _session: object, _envelope: object, _mechanism: str, data: object
) -> AuthResult:
    login = getattr(data, "login", b"")
    return AuthResult(success=True, auth_data=login.decode("utf-8", "replace"))


def _number(path: Path) -> int:
    return int(path.name.partition("-")[0])

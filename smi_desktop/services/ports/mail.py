"""The mail server and the templates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class InlineImage:
    """A picture inside a mail, addressed as `cid:{cid}` from its HTML."""

    cid: str
    content: bytes
    subtype: str


@dataclass(frozen=True, slots=True)
class OutgoingMail:
    """A mail as it leaves. The Message-ID is fixed before the first try."""

    message_id: str
    date: datetime
    sender_name: str
    sender_address: str
    reply_to: str | None
    to_address: str
    subject: str
    text: str
    html: str
    images: tuple[InlineImage, ...] = field(default=())


class Mailer(Protocol):
    """The mail server."""

    def send(self, mail: OutgoingMail) -> str:
        """Hand a mail over and return the server's words.

        Raises:
            TransientError: Surely not accepted; try again later.
            AmbiguousError: The connection was lost after the final dot: it may have been accepted.
            RejectedError: This recipient is refused for good.
            ProviderAccountError: Our login, sender or TLS set-up is the problem, not this mail.
        """
        ...


@dataclass(frozen=True, slots=True)
class RenderedMail:
    """A template filled in."""

    subject: str
    html: str
    text: str


class TemplateRenderer(Protocol):
    """Fills templates with plain values."""

    def mail(self, kind: str, values: Mapping[str, Any]) -> RenderedMail:
        """Fill `resources/emails/{kind}` in."""
        ...

    def page(self, name: str, values: Mapping[str, Any]) -> str:
        """Fill `resources/pages/{name}.html` in."""
        ...

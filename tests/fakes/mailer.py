"""A mail server that keeps what it was given."""

from __future__ import annotations

from smi_desktop.domain.errors import RejectedError
from smi_desktop.services.ports import OutgoingMail
from tests.fakes.scripted import Scripted


class FakeMailer(Scripted):
    """Implements Mailer. `lose_reply(AmbiguousError(…))` accepts a mail and then raises.

    Attributes:
        outbox: The mails accepted, in order.
        refused: Addresses that do not exist.
    """

    def __init__(self) -> None:
        super().__init__()
        self.outbox: list[OutgoingMail] = []
        self.refused: set[str] = set()

    def send(self, mail: OutgoingMail) -> str:
        """Accept a mail."""
        self._begin("send")
        if mail.to_address in self.refused:
            raise RejectedError("The mail server refuses this recipient: 550 no such user.")
        self.outbox.append(mail)
        self._end("send")
        return f"250 ok {len(self.outbox)}"

    def sent_to(self, address: str) -> list[OutgoingMail]:
        """Return the mails for one address."""
        return [mail for mail in self.outbox if mail.to_address == address]

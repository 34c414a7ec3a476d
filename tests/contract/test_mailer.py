"""What every mailer does: the fake, and the real one against the rehearsal's mail server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

import pytest

from smi_desktop.adapters.smtp_mailer import SmtpMailer
from smi_desktop.domain.errors import (
    AmbiguousError,
    ProviderAccountError,
    RejectedError,
    TransientError,
)
from smi_desktop.services.ports import Mailer, OutgoingMail
from tests.contract.rehearsal import Rehearsal, wait_for
from tests.fakes import FakeMailer

TO = "jo@customer.example"


class MailWorld(Protocol):
    """A mailer and what became of its mails."""

    @property
    def mailer(self) -> Mailer: ...

    def received(self, message_id: str) -> list[str]: ...

    def refuse_recipient(self, address: str) -> None: ...

    def fail_next(self, kind: type[Exception]) -> None: ...

    def lose_next_answer(self) -> None: ...


@dataclass
class FakeWorld:
    mailer: FakeMailer

    def received(self, message_id: str) -> list[str]:
        return [mail.to_address for mail in self.mailer.outbox if mail.message_id == message_id]

    def refuse_recipient(self, address: str) -> None:
        self.mailer.refused.add(address)

    def fail_next(self, kind: type[Exception]) -> None:
        self.mailer.fail_next(kind("no"))

    def lose_next_answer(self) -> None:
        self.mailer.lose_reply(AmbiguousError("lost"))


@dataclass
class RealWorld:
    rehearsal: Rehearsal
    mailer: SmtpMailer

    def received(self, message_id: str) -> list[str]:
        mails = self.rehearsal.control("state?kinds=mail")["mails"]
        found = [mail for mail in mails if f"<{mail['message_id']}>" == message_id]
        return [address for mail in found for address in mail["rcpt_tos"]]

    def refuse_recipient(self, address: str) -> None:
        self.rehearsal.fault("smtp", "rcpt", "refuse_550", message="no such user")

    def fail_next(self, kind: type[Exception]) -> None:
        faults = {
            TransientError: ("rcpt", "refuse_451"),
            ProviderAccountError: ("mail", "refuse_550"),
        }
        self.rehearsal.fault("smtp", *faults[kind])

    def lose_next_answer(self) -> None:
        self.rehearsal.fault("smtp", "dot", "cut_after_dot")


@pytest.fixture(params=["fake", "real"])
def world(request: pytest.FixtureRequest) -> MailWorld:
    if request.param == "fake":
        return FakeWorld(FakeMailer())
    rehearsal: Rehearsal = request.getfixturevalue("rehearsal")
    return RealWorld(rehearsal, SmtpMailer("127.0.0.1", rehearsal.smtp_port, security="none"))


_numbers = Counter[str]()


@pytest.fixture
def mail() -> OutgoingMail:
    _numbers["mail"] += 1
    return OutgoingMail(
        message_id=f"<contract.{_numbers['mail']}@studio.example>",
        date=datetime.now(UTC),
        sender_name="Studio",
        sender_address="shop@studio.example",
        reply_to=None,
        to_address=TO,
        subject="Ready",
        text="Hello",
        html="<p>Hello</p>",
    )


def soon(world: MailWorld, mail: OutgoingMail) -> list[str]:
    """Return who got the mail, once somebody has."""
    look: Callable[[], list[str] | None] = lambda: world.received(mail.message_id) or None  # noqa: E731
    return wait_for(look)


def test_a_mail_that_was_accepted_has_one_recipient(world: MailWorld, mail: OutgoingMail) -> None:
    assert world.mailer.send(mail).startswith("250")
    assert soon(world, mail) == [TO]


def test_a_recipient_that_does_not_exist_is_refused_for_good(
    world: MailWorld, mail: OutgoingMail
) -> None:
    world.refuse_recipient("nobody@customer.example")
    with pytest.raises(RejectedError):
        world.mailer.send(replace(mail, to_address="nobody@customer.example"))
    assert world.received(mail.message_id) == []


@pytest.mark.parametrize("kind", [TransientError, ProviderAccountError])
def test_after_a_failure_before_the_dot_the_mail_goes_out_once(
    world: MailWorld, mail: OutgoingMail, kind: type[Exception]
) -> None:
    world.fail_next(kind)
    with pytest.raises(kind):
        world.mailer.send(mail)
    assert world.received(mail.message_id) == []
    world.mailer.send(mail)
    assert soon(world, mail) == [TO]


def test_a_lost_answer_leaves_a_mail_behind(world: MailWorld, mail: OutgoingMail) -> None:
    world.lose_next_answer()
    with pytest.raises(AmbiguousError):
        world.mailer.send(mail)
    assert soon(world, mail) == [TO]

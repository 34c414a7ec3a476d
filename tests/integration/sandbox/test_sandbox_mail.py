"""The mail server: every mail as it came, with its envelope, and every way to refuse one."""

from __future__ import annotations

import json
import smtplib
from pathlib import Path

import pytest
from sandbox_running import Sandbox, wait_for

MAIL = (
    b"Message-ID: <order-1.ready@studio.example>\r\nFrom: studio@studio.example\r\n"
    b"To: jo@customer.example\r\nSubject: Ready\r\n\r\n.A line that begins with a dot\r\n"
)


def send(sandbox: Sandbox, login: bool = False) -> None:
    """Send the mail."""
    with smtplib.SMTP("127.0.0.1", sandbox.ports["smtp"], timeout=5) as server:
        if login:
            server.login("studio", "password")
        server.sendmail("studio@studio.example", ["jo@customer.example"], MAIL)


def mails(sandbox: Sandbox) -> list[Path]:
    """Return what is in the mailbox."""
    return sorted(Path(sandbox.addresses["mailbox_dir"]).glob("*.eml"))


def test_a_mail_lands_as_it_was_sent_with_its_envelope_beside_it(sandbox: Sandbox) -> None:
    before = len(mails(sandbox))
    send(sandbox, login=True)
    path = mails(sandbox)[-1]
    assert len(mails(sandbox)) == before + 1
    assert path.name.endswith("-order-1.ready@studio.example.eml")
    assert path.read_bytes() == MAIL
    envelope = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert envelope["rcpt_tos"] == ["jo@customer.example"]
    assert (envelope["mail_from"], envelope["login"]) == ("studio@studio.example", "studio")
    assert sandbox.control("state")["mails"][-1]["file"] == path.name


@pytest.mark.parametrize(
    ("operation", "fault", "error"),
    [
        ("connect", "refuse_421", smtplib.SMTPConnectError),
        ("auth", "refuse_535", smtplib.SMTPAuthenticationError),
        ("mail", "refuse_451", smtplib.SMTPSenderRefused),
        ("rcpt", "refuse_450", smtplib.SMTPRecipientsRefused),
        ("rcpt", "refuse_550", smtplib.SMTPRecipientsRefused),
        ("data", "refuse_452", smtplib.SMTPDataError),
        ("dot", "refuse_554", smtplib.SMTPDataError),
        ("connect", "cut", smtplib.SMTPServerDisconnected),
        ("helo", "cut", smtplib.SMTPServerDisconnected),
        ("data", "cut_before_dot", smtplib.SMTPServerDisconnected),
        ("dot", "cut", smtplib.SMTPServerDisconnected),
    ],
)
def test_a_refusal_at_any_command_keeps_nothing_and_the_next_mail_goes_through(
    sandbox: Sandbox, operation: str, fault: str, error: type[Exception]
) -> None:
    before = len(mails(sandbox))
    # A client that is refused one way to log in tries the next one.
    sandbox.fault("smtp", operation, fault, times=-1)
    with pytest.raises((error, ConnectionError)):
        send(sandbox, login=True)
    assert len(mails(sandbox)) == before
    sandbox.clear()
    send(sandbox)
    assert len(mails(sandbox)) == before + 1


def test_a_refusal_has_the_code_and_the_words_of_the_script(sandbox: Sandbox) -> None:
    sandbox.fault("smtp", "rcpt", "refuse_550", params={"message": "5.1.1 No such user"})
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        send(sandbox)
    assert refused.value.recipients == {"jo@customer.example": (550, b"5.1.1 No such user")}


def test_a_refusal_can_be_meant_for_one_recipient(sandbox: Sandbox) -> None:
    sandbox.fault("smtp", "rcpt", "refuse_550", times=-1, match={"to": "someone@else.example"})
    before = len(mails(sandbox))
    send(sandbox)
    assert len(mails(sandbox)) == before + 1


def test_a_cut_after_the_dot_keeps_the_mail_though_the_sender_does_not_know(
    sandbox: Sandbox,
) -> None:
    before = len(mails(sandbox))
    sandbox.fault("smtp", "data", "drop_reply_after_effect")
    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionError)):
        send(sandbox)
    wait_for(lambda: len(mails(sandbox)) == before + 1)
    send(sandbox)
    first, second = mails(sandbox)[-2:]
    assert first.read_bytes() == second.read_bytes()


def test_a_slow_server_still_takes_the_mail(sandbox: Sandbox) -> None:
    before = len(mails(sandbox))
    sandbox.fault("smtp", "dot", "slow", params={"seconds": 0.3})
    send(sandbox)
    assert len(mails(sandbox)) == before + 1

"""Mail over real sockets: a real server for what must arrive, a scripted one for what goes wrong."""

from __future__ import annotations

import email
import email.policy
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from email.message import EmailMessage
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from smi_desktop.adapters.smtp_mailer import FINAL_DOT_SECONDS, SmtpMailer
from smi_desktop.domain.errors import (
    AmbiguousError,
    ConfigurationError,
    ProviderAccountError,
    RejectedError,
    SmiError,
    TransientError,
)
from tests.integration.adapters.certificates import TestAuthority
from tests.integration.adapters.loopback import closed_port
from tests.integration.adapters.mail_samples import MAIL, plain_mailer
from tests.integration.adapters.smtp_script import CUT, SILENCE, ScriptedSmtp, scripted_smtp

PASSWORD = "canary-password-4711"


class Mailbox:
    """Keeps what a real server was given."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []

    async def handle_DATA(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        self.envelopes.append(envelope)
        return "250 taken"


def message_in(mailbox: Mailbox) -> EmailMessage:
    (envelope,) = mailbox.envelopes
    content = envelope.content
    assert isinstance(content, bytes)
    return email.message_from_bytes(content, policy=email.policy.default)


def authenticate(_s: Any, _session: Any, _e: Any, _m: Any, login: Any) -> AuthResult:
    right = isinstance(login, LoginPassword) and login.password == PASSWORD.encode()
    return AuthResult(success=right, handled=False)


@contextmanager
def running(controller: Controller) -> Iterator[Controller]:
    controller.start()
    try:
        yield controller
    finally:
        controller.stop()


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


def test_a_mail_arrives_as_it_was_meant(mailbox: Mailbox) -> None:
    controller = Controller(mailbox, hostname="127.0.0.1", port=closed_port())
    with running(controller):
        words = plain_mailer(controller.port).send(MAIL)
    assert words == "250 taken"
    (envelope,) = mailbox.envelopes
    assert envelope.mail_from == "shop@studio.example"
    assert envelope.rcpt_tos == ["ada@example.com"]
    message = message_in(mailbox)
    assert message["Message-ID"] == MAIL.message_id
    assert message["Date"].datetime == MAIL.date
    assert message["From"].addresses[0].display_name == MAIL.sender_name
    assert message["Subject"] == MAIL.subject
    assert message["Reply-To"] == "help@studio.example"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message.get_content_type() == "multipart/alternative"
    text, related = message.iter_parts()
    assert isinstance(text, EmailMessage)
    assert isinstance(related, EmailMessage)
    assert text.get_content().replace("\r\n", "\n").rstrip() == MAIL.text.rstrip()
    assert related.get_content_type() == "multipart/related"
    html, image = related.iter_parts()
    assert isinstance(html, EmailMessage)
    assert isinstance(image, EmailMessage)
    assert html.get_content().replace("\r\n", "\n").rstrip() == MAIL.html
    assert image["Content-ID"] == "<preview>"
    assert image.get_content_disposition() == "inline"
    assert image.get_content() == MAIL.images[0].content


def test_what_is_sent_is_seven_bit_with_short_lines(mailbox: Mailbox) -> None:
    controller = Controller(mailbox, hostname="127.0.0.1", port=closed_port())
    with running(controller):
        plain_mailer(controller.port).send(replace(MAIL, text="é" * 5000, images=()))
    content = mailbox.envelopes[0].content
    assert isinstance(content, bytes)
    assert content.isascii()
    assert max(len(line) for line in content.split(b"\r\n")) <= 998


def test_a_login_travels_over_a_starttls_that_is_verified(
    mailbox: Mailbox, authority: TestAuthority
) -> None:
    controller = Controller(
        mailbox,
        hostname="127.0.0.1",
        port=closed_port(),
        tls_context=authority.server_context("127.0.0.1"),
        require_starttls=True,
        auth_required=True,
        authenticator=authenticate,
    )
    with running(controller):
        SmtpMailer(
            "127.0.0.1",
            controller.port,
            security="starttls",
            user="shop",
            password=PASSWORD,
            ca_file=authority.ca_file,
        ).send(MAIL)
        with pytest.raises(ProviderAccountError, match="535"):
            SmtpMailer(
                "127.0.0.1",
                controller.port,
                security="starttls",
                user="shop",
                password="wrong",
                ca_file=authority.ca_file,
            ).send(MAIL)
    assert len(mailbox.envelopes) == 1


def test_a_mail_travels_over_tls_from_the_start(mailbox: Mailbox, authority: TestAuthority) -> None:
    controller = Controller(
        mailbox,
        hostname="127.0.0.1",
        port=closed_port(),
        ssl_context=authority.server_context("127.0.0.1"),
    )
    with running(controller):
        SmtpMailer("127.0.0.1", controller.port, security="tls", ca_file=authority.ca_file).send(
            MAIL
        )
    assert len(mailbox.envelopes) == 1


@pytest.mark.parametrize(
    ("name", "expired", "trusted"),
    [("other.example", False, True), ("127.0.0.1", True, True), ("127.0.0.1", False, False)],
    ids=["wrong name", "expired", "signed by nobody we trust"],
)
@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_a_certificate_that_is_not_right_ends_it_before_the_password(
    authority: TestAuthority,
    mailbox: Mailbox,
    name: str,
    expired: bool,
    trusted: bool,
    security: Any,
) -> None:
    context = authority.server_context(name, expired=expired)
    options: dict[str, Any] = {"hostname": "127.0.0.1", "port": closed_port()}
    if security == "tls":
        controller = Controller(mailbox, ssl_context=context, **options)
    else:
        controller = Controller(
            mailbox,
            tls_context=context,
            require_starttls=True,
            auth_required=True,
            authenticator=authenticate,
            **options,
        )
    mailer = SmtpMailer(
        "127.0.0.1",
        controller.port,
        security=security,
        user="shop",
        password=PASSWORD,
        ca_file=authority.ca_file if trusted else None,
    )
    with running(controller), pytest.raises(ProviderAccountError, match="certificate"):
        mailer.send(MAIL)
    assert mailbox.envelopes == []


def test_a_starttls_that_was_stripped_sends_nothing() -> None:
    with scripted_smtp("AUTH PLAIN LOGIN") as server:
        mailer = SmtpMailer(
            "127.0.0.1", server.port, security="starttls", user="shop", password=PASSWORD
        )
        with pytest.raises(ProviderAccountError, match="Nothing was sent"):
            mailer.send(MAIL)
    assert not any(line.startswith(("AUTH", "MAIL")) for line in server.heard)


@pytest.mark.parametrize("reply", ["454 not now", "502 never", "220 go"])
def test_a_starttls_that_is_offered_and_not_done_sends_nothing(reply: str) -> None:
    with scripted_smtp("STARTTLS", "AUTH PLAIN LOGIN", STARTTLS=reply) as server:
        mailer = SmtpMailer(
            "127.0.0.1", server.port, security="starttls", user="s", password=PASSWORD, timeout=2
        )
        with pytest.raises(SmiError):
            mailer.send(MAIL)
    assert not any(line.startswith(("AUTH", "MAIL")) for line in server.heard)


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_a_server_that_speaks_no_tls_sends_nothing(security: Any) -> None:
    with scripted_smtp() as server:
        mailer = SmtpMailer(
            "127.0.0.1", server.port, security=security, user="s", password=PASSWORD, timeout=2
        )
        with pytest.raises(SmiError):
            mailer.send(MAIL)
    assert server.messages == []
    assert not any(line.startswith(("AUTH", "MAIL")) for line in server.heard)


@pytest.mark.parametrize("host", ["mail.example", "10.0.0.5", "127.0.0.1.example", "0.0.0.0"])
def test_mail_in_the_clear_leaves_this_machine_never(host: str) -> None:
    with pytest.raises(ConfigurationError):
        SmtpMailer(host, 25, security="none")


def test_a_password_in_the_clear_is_never_sent_not_even_to_loopback() -> None:
    with pytest.raises(ConfigurationError):
        SmtpMailer("127.0.0.1", 25, security="none", user="shop", password=PASSWORD)


@pytest.mark.parametrize(("user", "password"), [("schöp", "x"), ("shop", "pässword")])
def test_a_login_that_cannot_be_sent_is_refused_when_it_is_set(user: str, password: str) -> None:
    with pytest.raises(ConfigurationError):
        SmtpMailer("mail.example", 465, security="tls", user=user, password=password)


def test_without_a_server_there_is_no_mailer() -> None:
    with pytest.raises(ConfigurationError):
        SmtpMailer("", 465, security="tls")


@pytest.mark.parametrize(
    ("step", "reply", "expected"),
    [
        ("GREETING", "421 busy", TransientError),
        ("GREETING", "554 no service", TransientError),
        ("GREETING", CUT, TransientError),
        ("GREETING", "SSH-2.0-OpenSSH_9.2", TransientError),
        ("EHLO", CUT, TransientError),
        ("MAIL", "451 later", TransientError),
        ("MAIL", "421 closing", TransientError),
        ("MAIL", "550 sender not allowed", ProviderAccountError),
        ("MAIL", "530 login first", ProviderAccountError),
        ("MAIL", CUT, TransientError),
        ("RCPT", "450 greylisted", TransientError),
        ("RCPT", "452 mailbox full", TransientError),
        ("RCPT", "421 closing", TransientError),
        ("RCPT", "550 no such user", RejectedError),
        ("RCPT", "553 bad address", RejectedError),
        ("RCPT", CUT, TransientError),
        ("DATA", "451 later", TransientError),
        ("DATA", "554 spam", RejectedError),
        ("DATA", "250 what", TransientError),
        ("DATA", CUT, TransientError),
        ("CONTENT", CUT, TransientError),
        ("DOT", "451 later", TransientError),
        ("DOT", "554 spam", RejectedError),
        ("DOT", CUT, AmbiguousError),
        ("DOT", "354 what", AmbiguousError),
        ("DOT", "garbage", AmbiguousError),
        ("DOT", "250-" + "x" * 9000, AmbiguousError),
    ],
)
def test_each_reply_at_each_step_has_one_meaning(
    step: str, reply: str, expected: type[SmiError]
) -> None:
    # Longer than the system's buffers: a cut within it is noticed before the dot is sent.
    long = replace(MAIL, text="line\n" * (2_000_000 if step == "CONTENT" else 100))
    with scripted_smtp(**{step: reply}) as server, pytest.raises(SmiError) as caught:
        plain_mailer(server.port).send(long)
    assert type(caught.value) is expected
    assert len(server.messages) == (1 if step == "DOT" else 0)


def test_silence_before_the_dot_is_repeatable() -> None:
    with scripted_smtp(RCPT=SILENCE) as server, pytest.raises(TransientError):
        SmtpMailer("127.0.0.1", server.port, security="none", timeout=0.3).send(MAIL)


def test_silence_after_the_dot_is_ambiguous_after_a_wait_of_its_own() -> None:
    with scripted_smtp(DOT=SILENCE) as server:
        mailer = SmtpMailer("127.0.0.1", server.port, security="none", timeout=5, final_timeout=0.3)
        began = time.monotonic()
        with pytest.raises(AmbiguousError):
            mailer.send(MAIL)
        took = time.monotonic() - began
    assert 0.3 <= took < 4


def test_the_wait_after_the_dot_is_what_the_standard_asks_for() -> None:
    """RFC 5321 4.5.3.2.6: at least ten minutes."""
    assert FINAL_DOT_SECONDS >= 600


def test_a_server_that_does_not_say_goodbye_has_taken_the_mail() -> None:
    with scripted_smtp(QUIT=CUT) as server:
        assert plain_mailer(server.port).send(MAIL).startswith("250")
    assert len(server.messages) == 1


def test_a_server_that_is_not_there_may_be_tried_again() -> None:
    with pytest.raises(TransientError):
        plain_mailer(closed_port()).send(MAIL)


def test_a_server_without_a_known_login_is_an_error_of_the_account(
    authority: TestAuthority, mailbox: Mailbox
) -> None:
    controller = Controller(
        mailbox,
        hostname="127.0.0.1",
        port=closed_port(),
        tls_context=authority.server_context("127.0.0.1"),
        require_starttls=True,
    )
    mailer = SmtpMailer(
        "127.0.0.1",
        controller.port,
        security="starttls",
        user="shop",
        password=PASSWORD,
        ca_file=authority.ca_file,
    )
    with running(controller), pytest.raises(ProviderAccountError):
        mailer.send(MAIL)
    assert mailbox.envelopes == []


def test_a_domain_in_another_script_is_sent_in_ascii() -> None:
    with scripted_smtp() as server:
        plain_mailer(server.port).send(replace(MAIL, to_address="ada@bücher.example"))
    assert "rcpt TO:<ada@xn--bcher-kva.example>" in server.heard


def test_the_machines_name_is_not_told() -> None:
    with scripted_smtp() as server:
        plain_mailer(server.port).send(MAIL)
    assert server.heard[0] == "ehlo [127.0.0.1]"


def test_the_password_is_in_no_error_and_no_log(
    authority: TestAuthority, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    controller = Controller(
        mailbox,
        hostname="127.0.0.1",
        port=closed_port(),
        tls_context=authority.server_context("127.0.0.1"),
        require_starttls=True,
        auth_required=True,
        authenticator=authenticate,
    )
    mailer = SmtpMailer(
        "127.0.0.1",
        controller.port,
        security="starttls",
        user="shop",
        password=PASSWORD + "x",
        ca_file=authority.ca_file,
    )
    with running(controller), pytest.raises(ProviderAccountError) as caught:
        mailer.send(MAIL)
    assert PASSWORD not in str(caught.value) + repr(caught.value.__cause__)
    assert PASSWORD not in caplog.text


def test_a_line_of_one_dot_does_not_end_the_mail() -> None:
    with scripted_smtp() as server:
        plain_mailer(server.port).send(replace(MAIL, text=".\n..\nend", html=".", images=()))
    assert isinstance(server, ScriptedSmtp)
    (content,) = server.messages
    unstuffed = content.replace(b"\r\n..", b"\r\n.")
    message = email.message_from_bytes(unstuffed, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    text, html = message.iter_parts()
    assert isinstance(text, EmailMessage)
    assert isinstance(html, EmailMessage)
    assert text.get_content().split() == [".", "..", "end"]
    assert html.get_content().strip() == "."

"""Hand mails to an SMTP server, and tell exactly whether one can have been accepted.

smtplib is driven step by step because its `sendmail` hides the one moment that counts: after the
final dot the server may have taken the mail although we never hear so (RFC 1047). Before the dot a
failure is repeatable, after it is ambiguous. What a reply of a step means is decided here alone.

Nothing travels in the clear: TLS from the start or a required STARTTLS, with the certificate
checked; plain text to this machine's loopback alone, and never with a password.
"""

from __future__ import annotations

import logging
import re
import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

from smi_desktop.adapters._addresses import is_loopback_host
from smi_desktop.adapters._mail_message import build_message, recipient_address, sender_address
from smi_desktop.domain.errors import (
    AmbiguousError,
    ConfigurationError,
    ProviderAccountError,
    RejectedError,
    SmiError,
    TransientError,
)
from smi_desktop.services.ports import OutgoingMail

_log = logging.getLogger(__name__)

# RFC 5321 4.5.3.2.6: a server may need ten minutes between the final dot and its reply.
FINAL_DOT_SECONDS: Final = 600.0
_LINE_START_DOT: Final = re.compile(rb"(?m)^\.")
_LONGEST_QUOTE: Final = 300
# An address literal in place of the machine's own name: it is nobody's business and may need DNS.
_HELO: Final = "[127.0.0.1]"

Security = Literal["tls", "starttls", "none"]


class SmtpMailer:
    """Implements Mailer. Opens one connection a mail; safe from several threads.

    Args:
        security: `tls` from the start, `starttls` required, or `none` for a loopback host alone.
        user: Empty for a server that wants no login.
        timeout: Seconds for connecting and for each step before the final dot.
        final_timeout: Seconds to wait for the reply to the final dot.
        ca_file: A further certificate authority, for a server with a certificate of one's own.

    Raises:
        ConfigurationError: These settings would send a mail or a password in the clear.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        security: Security,
        user: str = "",
        password: str = "",
        timeout: float = 30.0,
        final_timeout: float = FINAL_DOT_SECONDS,
        ca_file: Path | None = None,
    ) -> None:
        if not host:
            raise ConfigurationError("There is no mail server in the settings.")
        if security == "none" and not is_loopback_host(host):
            raise ConfigurationError(
                "Mail without encryption goes to this machine alone: choose 'tls' or 'starttls'."
            )
        if security == "none" and user:
            raise ConfigurationError(
                "A mail password is never sent without encryption: choose 'tls' or 'starttls', or "
                "leave the user empty."
            )
        if not (user + password).isascii():
            # smtplib encodes a login as ASCII and fails on anything else in the middle of a mail.
            raise ConfigurationError(
                "The mail server's user and password may hold plain letters, figures and signs only."
            )
        self._host, self._port, self._security = host, port, security
        self._user, self._password = user, password
        self._timeout, self._final_timeout = timeout, final_timeout
        self._ca_file = ca_file

    def send(self, mail: OutgoingMail) -> str:
        """Hand a mail over and return the server's words.

        Raises:
            InvalidInputError: A field would break out of its header; nothing was sent.
            TransientError: Surely not accepted; try again later.
            AmbiguousError: The connection was lost after the final dot.
            RejectedError: This recipient or this mail is refused for good.
            ProviderAccountError: Our login, sender or TLS set-up is the problem, not this mail.
        """
        content = build_message(mail)
        sender, recipient = sender_address(mail), recipient_address(mail)
        with _before_the_dot():
            smtp = self._connect()
        try:
            with _before_the_dot():
                self._secure_and_log_in(smtp)
                _envelope(smtp, sender, recipient)
                smtp.send(_dot_stuffed(content))
            return _finish(smtp, self._final_timeout)
        finally:
            _hang_up(smtp)

    def _connect(self) -> smtplib.SMTP:
        if self._security == "tls":
            return smtplib.SMTP_SSL(
                self._host,
                self._port,
                local_hostname=_HELO,
                timeout=self._timeout,
                context=self._tls(),
            )
        return smtplib.SMTP(self._host, self._port, local_hostname=_HELO, timeout=self._timeout)

    def _secure_and_log_in(self, smtp: smtplib.SMTP) -> None:
        smtp.ehlo_or_helo_if_needed()
        if self._security == "starttls":
            code, words = smtp.starttls(context=self._tls())
            if code != 220:
                raise smtplib.SMTPNotSupportedError(_quoted(words))
            smtp.ehlo_or_helo_if_needed()
        if self._user:
            smtp.login(self._user, self._password)

    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self._ca_file is not None:
            context.load_verify_locations(self._ca_file)
        return context


def _envelope(smtp: smtplib.SMTP, sender: str, recipient: str) -> None:
    code, words = smtp.mail(sender)
    if not _is_positive(code):
        raise _refusal("The mail server refuses our sender", code, words, ProviderAccountError)
    code, words = smtp.rcpt(recipient)
    if not _is_positive(code):
        raise _refusal("The mail server refuses this recipient", code, words, RejectedError)
    code, words = smtp.docmd("DATA")
    if code != 354:
        raise _refusal("The mail server refuses this mail", code, words, RejectedError)


def _finish(smtp: smtplib.SMTP, seconds: float) -> str:
    """Send the final dot and read the reply. From the first byte of it on, a loss is ambiguous."""
    assert smtp.sock is not None
    smtp.sock.settimeout(seconds)
    try:
        smtp.send(b".\r\n")
        code, words = smtp.getreply()
    except (OSError, smtplib.SMTPException) as error:
        raise AmbiguousError(
            "The connection to the mail server was lost after the mail was handed over."
        ) from error
    if _is_positive(code):
        return f"{code} {_quoted(words)}"
    if not 400 <= code < 600:
        raise AmbiguousError(f"The mail server's last reply makes no sense: {code}.")
    raise _refusal("The mail server refuses this mail", code, words, RejectedError)


def _refusal(
    what: str,
    code: int,
    words: bytes,
    for_good: type[RejectedError | ProviderAccountError],
) -> SmiError:
    """Return TransientError for any reply but 5xx, and what the step says for that one."""
    message = f"{what}: {code} {_quoted(words)}"
    return for_good(message) if 500 <= code < 600 else TransientError(message)


@contextmanager
def _before_the_dot() -> Iterator[None]:
    """Translate what smtplib raises while the mail surely was not accepted."""
    try:
        yield
    except ssl.SSLError as error:
        if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            raise TransientError("The mail server closed the connection.") from error
        raise ProviderAccountError(
            "The mail server's certificate or encryption cannot be trusted: "
            f"{getattr(error, 'verify_message', '') or error.reason}. Nothing was sent."
        ) from error
    except smtplib.SMTPNotSupportedError as error:
        raise ProviderAccountError(
            "The mail server does not offer the encryption or the login that the settings ask for. "
            "Nothing was sent."
        ) from error
    except smtplib.SMTPResponseException as error:
        words = error.smtp_error
        quoted = _quoted(words if isinstance(words, bytes) else str(words).encode())
        message = f"The mail server refuses us: {error.smtp_code} {quoted}"
        # 5xx as a greeting means "no service now" (a full or blocking server); as an answer to
        # HELO, STARTTLS or AUTH it means that our set-up is wrong.
        if error.smtp_code >= 500 and not isinstance(error, smtplib.SMTPConnectError):
            raise ProviderAccountError(message) from error
        raise TransientError(message) from error
    except smtplib.SMTPException as error:
        # Disconnected, or no common way to log in ("No suitable authentication method found").
        if isinstance(error, smtplib.SMTPServerDisconnected):
            raise TransientError("The mail server closed the connection.") from error
        raise ProviderAccountError(f"The mail server cannot be used: {error}") from error
    except OSError as error:
        raise TransientError(
            f"The mail server cannot be reached: {error.strerror or type(error).__name__}."
        ) from error


def _hang_up(smtp: smtplib.SMTP) -> None:
    # The mail's fate is decided: a server that is slow to say goodbye changes nothing.
    with suppress(OSError, smtplib.SMTPException):
        if smtp.sock is not None:
            smtp.sock.settimeout(1.0)
            smtp.quit()
    smtp.close()


def _is_positive(code: int) -> bool:
    return 200 <= code < 300


def _dot_stuffed(content: bytes) -> bytes:
    """Return the content with leading dots doubled (RFC 5321 4.5.2) and a line end at its end."""
    stuffed = _LINE_START_DOT.sub(b"..", content)
    return stuffed if stuffed.endswith(b"\r\n") else stuffed + b"\r\n"


def _quoted(words: bytes) -> str:
    return " ".join(words.decode("utf-8", errors="replace").split())[:_LONGEST_QUOTE]

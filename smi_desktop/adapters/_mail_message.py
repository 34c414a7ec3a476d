"""Turn an OutgoingMail into the bytes of a message, or refuse it before anything is sent.

Decides alone what may stand in a header: text of one line. Nothing that came from outside can add a
header, a recipient or a part.
"""

from __future__ import annotations

import re
import unicodedata
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final

from smi_desktop.config import is_email_address
from smi_desktop.domain.errors import InvalidInputError, ProviderAccountError, RejectedError
from smi_desktop.services.ports import OutgoingMail

_MESSAGE_ID: Final = re.compile(r"<[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@[A-Za-z0-9.-]+>")
_CID: Final = re.compile(r"[A-Za-z0-9._@-]+")
_SUBTYPE: Final = re.compile(r"[a-z0-9.+-]+")
# Every server takes 7-bit lines; 8BITMIME would have to be asked for.
_SEVEN_BIT: Final = SMTP.clone(cte_type="7bit")
# Control characters, and the line and paragraph separators that some software ends a line at.
_LINE_BREAKING: Final = frozenset({"Cc", "Zl", "Zp", "Cs"})


def build_message(mail: OutgoingMail) -> bytes:
    """Return the message with CRLF line ends and 7-bit or encoded content.

    Raises:
        InvalidInputError: A field holds a line end or another control character, or an address
            is not exactly one.
        RejectedError: The recipient's address cannot be reached from here.
        ProviderAccountError: Our own addresses cannot be used.
    """
    _refuse_unsafe(mail)
    message = EmailMessage(policy=_SEVEN_BIT)
    message["Message-ID"] = mail.message_id
    message["Date"] = format_datetime(mail.date)
    message["From"] = Address(mail.sender_name, addr_spec=sender_address(mail))
    message["To"] = Address(addr_spec=recipient_address(mail))
    if mail.reply_to:
        message["Reply-To"] = Address(addr_spec=_ascii(mail.reply_to, ProviderAccountError))
    message["Subject"] = mail.subject
    # RFC 3834: keeps holiday replies away.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.text)
    message.add_alternative(mail.html, subtype="html")
    html_part = message.get_payload(1)
    assert isinstance(html_part, EmailMessage)
    for image in mail.images:
        html_part.add_related(
            image.content,
            maintype="image",
            subtype=image.subtype,
            cid=f"<{image.cid}>",
            disposition="inline",
        )
    return message.as_bytes()


def sender_address(mail: OutgoingMail) -> str:
    """Return the sender's address as the envelope needs it.

    Raises:
        InvalidInputError, ProviderAccountError: As `build_message`.
    """
    return _ascii(mail.sender_address, ProviderAccountError)


def recipient_address(mail: OutgoingMail) -> str:
    """Return the recipient's address as the envelope needs it.

    Raises:
        InvalidInputError, RejectedError: As `build_message`.
    """
    return _ascii(mail.to_address, RejectedError)


def _ascii(address: str, unusable: type[RejectedError | ProviderAccountError]) -> str:
    """Return an address whose domain is ASCII (IDNA); other letters before the @ need SMTPUTF8."""
    if not is_email_address(address):
        raise InvalidInputError("This is not one e-mail address.")
    local, _, domain = address.rpartition("@")
    if not local.isascii():
        raise unusable("An e-mail address with such letters before the @ is not supported.")
    try:
        return f"{local}@{domain.encode('idna').decode('ascii')}"
    except UnicodeError as error:
        raise unusable("The domain of this e-mail address cannot exist.") from error


def _refuse_unsafe(mail: OutgoingMail) -> None:
    lines = {
        "sender's name": mail.sender_name,
        "sender's address": mail.sender_address,
        "reply address": mail.reply_to or "",
        "recipient's address": mail.to_address,
        "subject": mail.subject,
        "Message-ID": mail.message_id,
    }
    for name, text in lines.items():
        if any(unicodedata.category(letter) in _LINE_BREAKING for letter in text):
            raise InvalidInputError(f"The mail's {name} holds a line end or a control character.")
    if not _MESSAGE_ID.fullmatch(mail.message_id):
        raise InvalidInputError("The mail's Message-ID is not of the form <left@right>.")
    if mail.date.tzinfo is None:
        raise InvalidInputError("The mail's date has no time zone.")
    for image in mail.images:
        if not _CID.fullmatch(image.cid) or not _SUBTYPE.fullmatch(image.subtype):
            raise InvalidInputError("A picture in the mail has an unusable name or type.")

"""A mail with everything in it, and a mailer for a server without encryption."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from smi_desktop.adapters.smtp_mailer import SmtpMailer
from smi_desktop.services.ports import InlineImage, OutgoingMail

MAIL = OutgoingMail(
    message_id="<order-1.ready.1@studio.example>",
    date=datetime(2026, 1, 15, 12, 30, tzinfo=UTC),
    sender_name='Zoë "Light" & Co.',
    sender_address="shop@studio.example",
    reply_to="help@studio.example",
    to_address="ada@example.com",
    subject="Your picture «Phare» is ready",
    text="Hello,\n.\n..dots\nFrom here: https://studio.example/d/x\n" + "long " * 300,
    html="<p>Hé <img src='cid:preview'></p>\n.\n" + "x" * 3000,
    images=(InlineImage("preview", b"\xff\xd8\xff" + bytes(range(256)) * 40, "jpeg"),),
)


def plain_mailer(port: int, **options: Any) -> SmtpMailer:
    """Return a mailer for a port of loopback."""
    return SmtpMailer("127.0.0.1", port, security="none", timeout=5, **options)

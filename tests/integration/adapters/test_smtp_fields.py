"""What a mail may hold: everything else is refused before a connection is opened."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from smi_desktop.domain.errors import InvalidInputError, ProviderAccountError, RejectedError
from smi_desktop.services.ports import InlineImage
from tests.integration.adapters.loopback import closed_port
from tests.integration.adapters.mail_samples import MAIL, plain_mailer

BREAKS = [
    "\r",
    "\n",
    "\r\nBcc: eve@example.com",
    "\x00",
    "\x0b",
    "\x85",
    "\u2028",
    "\u2029",
    "\x7f",
]


@pytest.mark.parametrize("text", BREAKS, ids=range(len(BREAKS)))
@pytest.mark.parametrize(
    "place",
    ["subject", "sender_name", "sender_address", "reply_to", "to_address", "message_id"],
)
def test_a_line_end_in_any_field_is_refused_before_connecting(place: str, text: str) -> None:
    broken: dict[str, Any] = {place: f"{getattr(MAIL, place)}{text}"}
    with pytest.raises(InvalidInputError):
        plain_mailer(closed_port()).send(replace(MAIL, **broken))


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ada",
        "a@b@c",
        "ada@example.com, eve@example.com",
        "Ada <ada@example.com>",
        "ada@example.com>",
        "@example.com",
        "ada@",
        "ada@-example.com",
        "a" * 65 + "@example.com",
        "ada@" + "x" * 260,
    ],
)
def test_what_is_not_one_address_is_refused_before_connecting(address: str) -> None:
    with pytest.raises(InvalidInputError):
        plain_mailer(closed_port()).send(replace(MAIL, to_address=address))


@pytest.mark.parametrize("address", ["ada@" + "x" * 70 + ".com", "ädä@example.com"])
def test_an_address_that_mail_cannot_reach_is_refused_for_good(address: str) -> None:
    with pytest.raises(RejectedError):
        plain_mailer(closed_port()).send(replace(MAIL, to_address=address))
    for place in ("sender_address", "reply_to"):
        ours: dict[str, Any] = {place: address}
        with pytest.raises(ProviderAccountError):
            plain_mailer(closed_port()).send(replace(MAIL, **ours))


@pytest.mark.parametrize("message_id", ["", "x", "<x>", "<a b@c>", "<a@b> <c@d>", "a@b"])
def test_a_message_id_of_another_form_is_refused(message_id: str) -> None:
    with pytest.raises(InvalidInputError):
        plain_mailer(closed_port()).send(replace(MAIL, message_id=message_id))


@pytest.mark.parametrize(
    "image",
    [
        InlineImage("a\r\nb", b"x", "jpeg"),
        InlineImage("a>", b"x", "jpeg"),
        InlineImage("a", b"", "\n"),
    ],
)
def test_a_picture_cannot_break_out_of_its_part(image: InlineImage) -> None:
    with pytest.raises(InvalidInputError):
        plain_mailer(closed_port()).send(replace(MAIL, images=(image,)))


def test_a_date_without_a_zone_is_refused() -> None:
    naive = replace(MAIL, date=datetime(2026, 1, 15))  # noqa: DTZ001
    with pytest.raises(InvalidInputError):
        plain_mailer(closed_port()).send(naive)

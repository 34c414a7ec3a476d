"""Mails to customers, through an outbox. The link stands in a stored mail as a placeholder only.

A mail gets its Message-ID when it is queued and its words when it is first sent; they do not change once
it may have been accepted. A lost answer after the final dot leads to one more copy with the same
Message-ID, never to a third. The link's time starts anew when the mail really leaves: a slow mail server
does not eat the customer's hours.
"""

from __future__ import annotations

import hashlib
import random
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from sqlalchemy.orm import Session

from smi_desktop.config import ShopSettings
from smi_desktop.domain.errors import (
    AmbiguousError,
    ConfigurationError,
    InvalidInputError,
    ProviderAccountError,
    RejectedError,
    SmiError,
    TransientError,
)
from smi_desktop.domain.money import Money
from smi_desktop.domain.orders import OrderStatus
from smi_desktop.domain.printing import print_size
from smi_desktop.domain.retry import backoff
from smi_desktop.services.order_states import hold_order, lock_order
from smi_desktop.services.ports import OutgoingMail
from smi_desktop.services.shop import Shop
from smi_desktop.services.work import Done, Later, Outcome, TaskKind
from smi_desktop.store import orders, outbox, tasks, timeline
from smi_desktop.store.models import Order, OutboxMail
from smi_desktop.store.tasks import Claim

LINK_PLACEHOLDER: Final = "https://smi.invalid/SMI-DOWNLOAD-LINK"
_READY: Final = "ready"
UNCONFIRMED: Final = "unconfirmed"
_SENT_AGAIN: Final = "unconfirmed, sent again"
# reliability: greylisting and the like may take two days.
_PATIENCE: Final = timedelta(hours=48)
_ACCOUNT_WAIT: Final = timedelta(minutes=5)


def queue_ready_mail(shop: Shop, session: Session, order: Order) -> None:
    """Queue the mail that carries an order's present link; without an address there is none."""
    if order.email:
        key = f"ready:{order.id}:{order.generation}"
        _queue(shop, session, order, kind=_READY, key=key, to_address=order.email)


def queue_lost_link_mail(shop: Shop, email: str) -> None:
    """Queue the mail that leads somebody back to his orders, if this address has any.

    One at most in ten minutes, however often it is asked for. Nothing tells the asker whether the address
    is known.
    """
    bucket = int(shop.now().timestamp()) // 600
    digest = hashlib.sha256(email.lower().encode()).hexdigest()[:32]
    key = f"lost:{digest}:{bucket}"
    with shop.database.write() as session:
        found = orders.paid_by_email(session, email, limit=1)
        if found and found[0].email and outbox.find_by_key(session, key) is None:
            address = found[0].email
            _queue(shop, session, found[0], kind="lost_link", key=key, to_address=address)


def _queue(
    shop: Shop, session: Session, order: Order, *, kind: str, key: str, to_address: str
) -> None:
    now = shop.now()
    domain = _message_domain(shop.settings().mail_from)
    mail = OutboxMail(
        order_id=order.id,
        kind=kind,
        key=key,
        message_id=f"<{uuid.uuid4().hex}@{domain}>",
        to_address=to_address,
        state="queued",
        generation=order.generation,
        created_at=now,
    )
    session.add(mail)
    session.flush()
    tasks.add_once(
        session,
        TaskKind.SEND_MAIL,
        f"mail:{mail.id}",
        now=now,
        # The order depends on the mail that carries its link alone: no other may stop its work.
        order_id=order.id if kind == _READY else None,
        payload={"mail_id": mail.id},
    )


def _message_domain(sender: str) -> str:
    """Return the domain for a Message-ID, which takes ASCII alone."""
    try:
        return sender.rpartition("@")[2].encode("idna").decode() or "smi.invalid"
    except UnicodeError:
        return "smi.invalid"


def send_mail(shop: Shop, task: Claim) -> Outcome:
    """Hand one mail of the outbox to the mail server."""
    mail_id = int(task.payload["mail_id"])
    settings = shop.settings()
    now = shop.now()
    mail = _begin(shop, settings, mail_id)
    if mail is None:
        return Done()
    try:
        response = shop.mailer(settings).send(_outgoing(shop, settings, mail))
    except AmbiguousError as error:
        if mail.response == _SENT_AGAIN:
            # Two copies may have gone out already; a third helps nobody.
            return Done(partial(_note_sent, mail_id=mail_id, response=UNCONFIRMED, now=now))
        wait = backoff(task.failures + 1, first=30, jitter=_jitter())
        return Later(now + wait, partial(_mark_unconfirmed, mail_id=mail_id), error.message)
    except (RejectedError, InvalidInputError) as error:
        return Done(partial(_note_undeliverable, mail_id=mail_id, error=error, now=now))
    except (TransientError, ProviderAccountError, ConfigurationError) as error:
        if now - mail.created_at > _PATIENCE and isinstance(error, TransientError):
            return Done(partial(_note_undeliverable, mail_id=mail_id, error=error, now=now))
        # Where a first copy may be there, its words stay.
        put_back = _mark_unconfirmed if mail.response == _SENT_AGAIN else _requeue
        wait = _wait(error, task.failures + 1)
        return Later(now + wait, partial(put_back, mail_id=mail_id), error.message)
    return Done(partial(_note_sent, mail_id=mail_id, response=response, now=shop.now()))


def ready_values(settings: ShopSettings, order: Order, expires_at: datetime) -> dict[str, Any]:
    """Return the plain values of the mail that says "your picture is ready"."""
    return {
        "studio_name": settings.studio_name,
        "studio_address": settings.studio_address,
        "contact_email": settings.contact_email,
        "title": order.title,
        "resolution": order.resolution,
        "download_url": LINK_PLACEHOLDER,
        "order_url": f"{settings.public_url}/order/{order.id}",
        "expires_at": expires_at,
        "zone": settings.time_zone,
        "width": order.output_width,
        "height": order.output_height,
        "format": (order.file_format or "").upper(),
        "bytes": order.file_bytes or 0,
        "print_300": print_size(order.output_width, order.output_height, 300),
        "print_200": print_size(order.output_width, order.output_height, 200),
        "amount": Money(order.amount_minor, order.currency),
        "number": order.number,
        "before_cid": None,
        "after_cid": None,
    }


def lost_link_values(settings: ShopSettings, found: Sequence[Order]) -> dict[str, Any]:
    """Return the plain values of the mail that leads somebody back to his orders."""
    return {
        "studio_name": settings.studio_name,
        "studio_address": settings.studio_address,
        "contact_email": settings.contact_email,
        "zone": settings.time_zone,
        "orders": [
            {
                "title": order.title,
                "number": order.number,
                "resolution": order.resolution,
                "created_at": order.created_at,
                "order_url": f"{settings.public_url}/order/{order.id}",
            }
            for order in found
        ],
    }


def _begin(shop: Shop, settings: ShopSettings, mail_id: int) -> OutboxMail | None:
    """Commit the mail's words and that it is being handed over; None if there is nothing to send."""
    now = shop.now()
    with shop.database.write() as session:
        mail = outbox.get(session, mail_id)
        if mail is None or mail.state in {"sent", "failed"}:
            return None
        order = orders.get_locked(session, mail.order_id or "")
        if order is None or (mail.kind == _READY and not _is_current(order, mail)):
            mail.state, mail.response = (
                "failed",
                "The link in this mail is no longer the present one.",
            )
            return None
        if mail.state == "queued":
            values = _values(session, settings, order, mail, now)
            rendered = shop.templates.mail(mail.kind, values)
            mail.subject, mail.html, mail.text = rendered.subject, rendered.html, rendered.text
            mail.dated_at = now
            mail.state = "sending"
        elif mail.response == _SENT_AGAIN:
            # The second hand-over was cut off by a crash.
            _note_sent(session, mail_id=mail_id, response=UNCONFIRMED, now=now)
            return None
        else:
            # The answer to the first was lost, or a crash cut it off: nobody knows whether it was accepted.
            mail.response = _SENT_AGAIN
        return mail


def _is_current(order: Order, mail: OutboxMail) -> bool:
    return (
        order.generation == mail.generation
        and order.status == OrderStatus.COMPLETED
        and order.disputed_at is None
        and order.file_removed_at is None
    )


def _values(
    session: Session, settings: ShopSettings, order: Order, mail: OutboxMail, now: datetime
) -> dict[str, Any]:
    if mail.kind == "lost_link":
        return lost_link_values(settings, orders.paid_by_email(session, mail.to_address, limit=20))
    # The customer's hours begin when the mail leaves.
    order.expires_at = now + timedelta(hours=settings.link_hours)
    return ready_values(settings, order, order.expires_at)


def _outgoing(shop: Shop, settings: ShopSettings, mail: OutboxMail) -> OutgoingMail:
    token = shop.token("download", mail.order_id or "", mail.generation)
    link = f"{settings.public_url}/smi/v1/download/{token}"
    return OutgoingMail(
        message_id=mail.message_id,
        date=mail.dated_at or shop.now(),
        sender_name=settings.sender_name,
        sender_address=settings.mail_from,
        reply_to=settings.support_email or None,
        to_address=mail.to_address,
        subject=mail.subject or "",
        text=(mail.text or "").replace(LINK_PLACEHOLDER, link),
        html=(mail.html or "").replace(LINK_PLACEHOLDER, link),
    )


def _note_sent(session: Session, *, mail_id: int, response: str, now: datetime) -> None:
    mail = session.get_one(OutboxMail, mail_id)
    mail.state, mail.response, mail.sent_at = "sent", response, now
    text = (
        "The mail server may have taken the mail; its answer was lost twice."
        if response == UNCONFIRMED
        else "The mail server took the mail."
    )
    timeline.add(
        session,
        mail.order_id or "",
        "mail_sent",
        text,
        at=now,
        facts={"kind": mail.kind, "message_id": mail.message_id},
        personal={"to": mail.to_address, "response": response},
    )
    if response == UNCONFIRMED and mail.kind == _READY:
        order = lock_order(session, mail.order_id or "")
        hold_order(session, order, "Nobody knows whether the mail with the link arrived.", at=now)


def _note_undeliverable(session: Session, *, mail_id: int, error: SmiError, now: datetime) -> None:
    mail = session.get_one(OutboxMail, mail_id)
    mail.state, mail.response = "failed", error.message
    if mail.kind == _READY:
        order = lock_order(session, mail.order_id or "")
        hold_order(session, order, "The mail with the link could not be delivered.", at=now)
    timeline.add(
        session,
        mail.order_id or "",
        "mail_failed",
        "The mail could not be delivered.",
        at=now,
        facts={"kind": mail.kind, "message_id": mail.message_id},
        personal={"to": mail.to_address, "response": error.message},
    )


def _requeue(session: Session, *, mail_id: int) -> None:
    session.get_one(OutboxMail, mail_id).state = "queued"


def _mark_unconfirmed(session: Session, *, mail_id: int) -> None:
    session.get_one(OutboxMail, mail_id).response = UNCONFIRMED


def _wait(error: SmiError, failures: int) -> timedelta:
    if isinstance(error, TransientError):
        return backoff(failures, first=15, jitter=_jitter(), asked=error.retry_after)
    return _ACCOUNT_WAIT


def _jitter() -> float:
    return random.random()  # noqa: S311 - spreads tries over time, no secret

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
from smi_desktop.domain.holds import HoldKind, remedies
from smi_desktop.domain.money import Money
from smi_desktop.domain.orders import OrderStatus, PaymentStatus
from smi_desktop.domain.printing import print_size
from smi_desktop.domain.retry import backoff
from smi_desktop.services.order_states import hold_order, lock_order
from smi_desktop.services.ports import OutgoingMail
from smi_desktop.services.prices import quote_prices
from smi_desktop.services.shop import Shop
from smi_desktop.services.work import Done, Later, Outcome, TaskKind
from smi_desktop.store import alerts, orders, outbox, refunds, tasks, timeline
from smi_desktop.store.models import Order, OutboxMail, Refund
from smi_desktop.store.tasks import Claim

LINK_PLACEHOLDER: Final = "https://smi.invalid/SMI-DOWNLOAD-LINK"
_READY: Final = "ready"
FAILED_MAIL: Final = "failed"
REFUND_MAIL: Final = "refund"
PAYMENT_FAILED_MAIL: Final = "payment_failed"
REMINDER_MAIL: Final = "reminder"
DELAYED_MAIL: Final = "delayed"
ALERT_MAIL: Final = "alert"
_WITH_LINK: Final = frozenset({_READY, REMINDER_MAIL})
_TOLD_REFUNDS: Final = frozenset({"pending", "requires_action", "succeeded", "failed", "canceled"})
_WAIT_FOR_REFUND: Final = timedelta(minutes=10)
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


def queue_failed_mail(shop: Shop, session: Session, order: Order) -> None:
    """Queue the mail that explains a failure; it waits a while for the refund, to tell how that stands."""
    if order.email:
        _queue(
            shop,
            session,
            order,
            kind=FAILED_MAIL,
            key=f"{FAILED_MAIL}:{order.id}:{order.attempt}",
            to_address=order.email,
            wait=_WAIT_FOR_REFUND,
        )


def wake_failed_mail(session: Session, order: Order, now: datetime) -> None:
    """Let the mail about a failure leave now: what has become of the money is known."""
    for mail in outbox.of_order(session, order.id):
        if mail.kind == FAILED_MAIL and mail.state == "queued":
            tasks.wake(session, f"mail:{mail.id}", now)


def queue_refund_mail(
    shop: Shop, session: Session, order: Order, refund: Refund, *, before: str
) -> None:
    """Queue the mail that tells how a refund stands, where no other mail is about to."""
    if not order.email or refund.state not in _TOLD_REFUNDS:
        return
    untold = any(
        mail.kind == FAILED_MAIL and mail.state == "queued"
        for mail in outbox.of_order(session, order.id)
    )
    if untold:
        return
    if refund.state == "succeeded" and before == "planned" and refund.cause == "failure":
        return  # The mail about the failure has said so.
    key = f"{REFUND_MAIL}:{refund.id}:{refund.state}"
    if outbox.find_by_key(session, key) is None:
        _queue(shop, session, order, kind=REFUND_MAIL, key=key, to_address=order.email)


def queue_payment_failed_mail(shop: Shop, session: Session, order: Order) -> None:
    """Queue the mail that leads somebody back whose checkout came to nothing, if his address is known."""
    if order.email:
        key = f"{PAYMENT_FAILED_MAIL}:{order.id}"
        if outbox.find_by_key(session, key) is None:
            _queue(shop, session, order, kind=PAYMENT_FAILED_MAIL, key=key, to_address=order.email)


def queue_notice(shop: Shop, session: Session, order: Order, kind: str) -> None:
    """Queue a reminder or a word about a delay, once for each generation of an order's link."""
    key = f"{kind}:{order.id}:{order.generation}"
    if order.email and outbox.find_by_key(session, key) is None:
        _queue(shop, session, order, kind=kind, key=key, to_address=order.email)


def queue_alert_mail(shop: Shop, session: Session, address: str) -> None:
    """Queue one mail to the owner about everything that he has not been told yet."""
    key = f"{ALERT_MAIL}:{int(shop.now().timestamp())}"
    _queue(shop, session, None, kind=ALERT_MAIL, key=key, to_address=address)


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
    shop: Shop,
    session: Session,
    order: Order | None,
    *,
    kind: str,
    key: str,
    to_address: str,
    wait: timedelta = timedelta(),
) -> None:
    now = shop.now()
    domain = _message_domain(shop.settings().mail_from)
    mail = OutboxMail(
        order_id=order.id if order else None,
        kind=kind,
        key=key,
        message_id=f"<{uuid.uuid4().hex}@{domain}>",
        to_address=to_address,
        state="queued",
        generation=order.generation if order else 0,
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
        order_id=order.id if order and kind == _READY else None,
        run_at=now + wait,
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
        refused = not isinstance(error, TransientError)
        record = partial(put_back, mail_id=mail_id)
        return Later(now + wait, record, error.message, refused=refused)
    note = partial(_note_sent, mail_id=mail_id, response=response, now=shop.now())
    return Done(note, called=True)


def common_values(settings: ShopSettings, order: Order) -> dict[str, Any]:
    """Return the plain values that every mail about an order has."""
    return {
        "studio_name": settings.studio_name,
        "studio_address": settings.studio_address,
        "contact_email": settings.contact_email,
        "zone": settings.time_zone,
        "title": order.title,
        "resolution": order.resolution,
        "number": order.number,
        "order_url": f"{settings.public_url}/order/{order.id}",
        "amount": Money(order.amount_minor, order.currency),
    }


def failure_values(
    shop: Shop, settings: ShopSettings, order: Order, refund: Refund | None
) -> dict[str, Any]:
    """Return the plain values of a mail about a failure or a refund."""
    size, url = other_size(shop, order)
    return {
        **common_values(settings, order),
        "reason": order.failure_reason or (refund.reason if refund else None),
        "refund_state": refund_state(order, refund),
        "refund_amount": Money(refund.amount_minor, refund.currency) if refund else None,
        "whole": refund is None or refund.amount_minor >= (order.paid_minor or 0),
        "other_size": size,
        "other_size_url": url,
    }


def refund_state(order: Order, refund: Refund | None) -> str:
    """Return how the money of an order stands, in the word that mails and pages know."""
    if refund is None:
        if order.payment_status == PaymentStatus.CANCELED:
            return "released"
        return "planned" if order.payment_status == PaymentStatus.AUTHORIZED else "none"
    words = {"requires_action": "pending", "canceled": "failed"}
    return words.get(refund.state, refund.state)


def other_size(shop: Shop, order: Order) -> tuple[str | None, str | None]:
    """Return another size that this picture can be bought in, and where; None where there is none."""
    try:
        offers = quote_prices(shop, order.attachment_id).offers
    except SmiError:
        return None, None
    other = next((size.value for size in offers if size.value != order.resolution), None)
    return (other, order.page_url) if other else (None, None)


def alert_values(shop: Shop, session: Session, settings: ShopSettings) -> dict[str, Any]:
    """Return the plain values of the mail to the owner, and note that he is told."""
    now = shop.now()
    untold = [alert for alert in alerts.list_open(session) if alert.mailed_at is None]
    for alert in untold:
        alert.mailed_at = now
    held = {alert.id: orders.get(session, alert.order_id) for alert in untold if alert.order_id}
    return {
        "studio_name": settings.studio_name,
        "zone": settings.time_zone,
        "mode": shop.mode.value,
        "count": len(untold),
        "alerts": [
            {
                "at": alert.at,
                "text": alert.text,
                "remedies": [
                    remedy.value
                    for remedy in remedies(getattr(held.get(alert.id), "held_kind", None))
                ],
            }
            for alert in untold
        ],
    }


def ready_values(settings: ShopSettings, order: Order, expires_at: datetime) -> dict[str, Any]:
    """Return the plain values of the mail that says "your picture is ready"."""
    return {
        **common_values(settings, order),
        "download_url": LINK_PLACEHOLDER,
        "expires_at": expires_at,
        "width": order.output_width,
        "height": order.output_height,
        "format": (order.file_format or "").upper(),
        "bytes": order.file_bytes or 0,
        "print_300": print_size(order.output_width, order.output_height, 300),
        "print_200": print_size(order.output_width, order.output_height, 200),
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
        order = orders.get_locked(session, mail.order_id) if mail.order_id else None
        if not _is_wanted(order, mail, now):
            mail.state = "failed"
            mail.response = "What this mail was to say is no longer so."
            return None
        if mail.state == "queued":
            values = _values(shop, session, settings, order, mail)
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


def _is_wanted(order: Order | None, mail: OutboxMail, now: datetime) -> bool:
    """Tell whether a mail still says what is so."""
    if order is None:
        return mail.kind == ALERT_MAIL
    if mail.kind in _WITH_LINK and not _is_current(order, mail):
        return False
    if mail.kind == REMINDER_MAIL:
        return (
            order.downloaded_at is None and order.expires_at is not None and now < order.expires_at
        )
    if mail.kind == DELAYED_MAIL:
        return order.status in {OrderStatus.PENDING, OrderStatus.PROCESSING}
    if mail.kind == PAYMENT_FAILED_MAIL:
        return order.status == OrderStatus.ABANDONED
    return True


def _is_current(order: Order, mail: OutboxMail) -> bool:
    return (
        order.generation == mail.generation
        and order.status == OrderStatus.COMPLETED
        and order.disputed_at is None
        and order.file_removed_at is None
    )


def _values(
    shop: Shop, session: Session, settings: ShopSettings, order: Order | None, mail: OutboxMail
) -> dict[str, Any]:
    if order is None:
        return alert_values(shop, session, settings)
    match mail.kind:
        case "lost_link":
            found = orders.paid_by_email(session, mail.to_address, limit=20)
            return lost_link_values(settings, found)
        case "ready":
            # The customer's hours begin when the mail leaves.
            order.expires_at = shop.now() + timedelta(hours=settings.link_hours)
        case "failed" | "refund":
            refund = _refund_of(session, order, mail)
            return failure_values(shop, settings, order, refund)
        case "payment_failed":
            failed = order.payment_status == PaymentStatus.FAILED
            return {
                **common_values(settings, order),
                "cause": "failed" if failed else "expired",
                "try_again_url": order.page_url,
            }
        case _:
            pass
    return ready_values(settings, order, order.expires_at or shop.now())


def _refund_of(session: Session, order: Order, mail: OutboxMail) -> Refund | None:
    """Return the refund that a mail is about."""
    if mail.kind == REFUND_MAIL:
        return refunds.get(session, int(mail.key.split(":")[1]))
    return refunds.find_by_cause(session, order.id, "failure")


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
    if mail.order_id is None:
        return
    timeline.add(
        session,
        mail.order_id,
        "mail_sent",
        text,
        at=now,
        facts={"kind": mail.kind, "message_id": mail.message_id},
        personal={"to": mail.to_address, "response": response},
    )
    if response == UNCONFIRMED and mail.kind == _READY:
        order = lock_order(session, mail.order_id or "")
        reason = "Nobody knows whether the mail with the link arrived."
        hold_order(session, order, HoldKind.MAIL_UNCONFIRMED, reason, at=now)


def _note_undeliverable(session: Session, *, mail_id: int, error: SmiError, now: datetime) -> None:
    mail = session.get_one(OutboxMail, mail_id)
    mail.state, mail.response = "failed", error.message
    if mail.kind == _READY:
        order = lock_order(session, mail.order_id or "")
        reason = "The mail with the link could not be delivered."
        hold_order(session, order, HoldKind.MAIL_UNDELIVERABLE, reason, at=now)
    if mail.order_id is None:
        return
    timeline.add(
        session,
        mail.order_id,
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

"""What the owner does about an order: hold, release, retry, refund, replace, send again.

Each is one transaction behind the order's lock, refused in words where it makes no sense, and in the timeline.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.orm import Session

from smi_desktop.config import is_email_address
from smi_desktop.domain.errors import IllegalTransitionError, InvalidInputError, NotFoundError
from smi_desktop.domain.holds import HoldKind
from smi_desktop.domain.money import Money
from smi_desktop.domain.orders import OrderStatus, PaymentStatus
from smi_desktop.services.attempts import MONEY_IS_HERE, ask_for_attempt, go_on
from smi_desktop.services.delivery import EXTENSIONS, delivered_format, note_file
from smi_desktop.services.emails import queue_ready_mail
from smi_desktop.services.links import deliver_order, issue_link
from smi_desktop.services.order_states import hold_order, lock_order, move_order, release_order
from smi_desktop.services.prices import EMBEDDED
from smi_desktop.services.refunds import left_to_refund, plan_refund, release_money
from smi_desktop.services.shop import Shop
from smi_desktop.store import orders, refunds, tasks, timeline
from smi_desktop.store.models import Order

OWNER = "owner"
UPSAMPLER = "upsampler"
_ENDED = frozenset({OrderStatus.REFUNDED, OrderStatus.ABANDONED})


def hold(shop: Shop, order_id: str, reason: str) -> None:
    """Set an order aside.

    Raises:
        NotFoundError: There is none.
        IllegalTransitionError: It is held, or at its end.
    """
    with shop.database.write() as session:
        order = lock_order(session, order_id)
        if order.held_at is not None or order.status in _ENDED:
            raise IllegalTransitionError(
                f"This order is {_state(order)}: there is nothing to hold."
            )
        hold_order(session, order, HoldKind.OWNER, reason, at=shop.now(), actor=OWNER)


def release(shop: Shop, order_id: str) -> None:
    """End a hold and let the order go on where it was; a picture in doubt is delivered.

    Work of the order that was given up begins anew: it may be the refund, or the taking of the money.

    Raises:
        NotFoundError: There is no such order.
        IllegalTransitionError: It is not held, or disputed.
    """
    with shop.database.write() as session:
        order = lock_order(session, order_id)
        if order.held_at is None:
            raise IllegalTransitionError(f"This order is {_state(order)}, not held.")
        if order.disputed_at is not None:
            raise IllegalTransitionError(
                "This payment is disputed. The order goes on by itself when you win the dispute."
            )
        release_order(session, order, "Released.", at=shop.now(), actor=OWNER)
        tasks.revive(session, order.id, shop.now())
        go_on(shop, session, order)


def retry(shop: Shop, order_id: str, *, provider: str | None = None) -> None:
    """Make the picture once more.

    Args:
        shop: The open shop.
        order_id: The order.
        provider: `upsampler` or `embedded`; the first of the order's route if None.

    Raises:
        NotFoundError: There is no such order.
        InvalidInputError: No such upscaler.
        IllegalTransitionError: It is not paid, being made or delivered, or its money is on the way back.
    """
    if provider not in {None, UPSAMPLER, EMBEDDED}:
        raise InvalidInputError(f"'{provider}' is not one of: {UPSAMPLER}, {EMBEDDED}.")
    now = shop.now()
    with shop.database.write() as session:
        order = lock_order(session, order_id)
        _check_money(session, order)
        if order.held_at is None and order.status != OrderStatus.FAILED:
            raise IllegalTransitionError(f"This order is {_state(order)}: nothing has failed.")
        if order.status == OrderStatus.COMPLETED:
            raise IllegalTransitionError(
                "This order is delivered. A lost file is brought back with: orders replace."
            )
        if order.status == OrderStatus.FAILED:
            move_order(session, order, OrderStatus.PENDING, "Tried again.", at=now, actor=OWNER)
        order.failure_reason = None
        order.file_key = None
        release_order(session, order, "Tried again.", at=now, actor=OWNER)
        ask_for_attempt(session, order, now=now, provider=provider or "")


def refund(
    shop: Shop, order_id: str, *, amount: Money | None = None, reason: str | None = None
) -> Money:
    """Send an order's money back, all that is left or a part; reserved money is let go instead.

    Returns:
        What goes back.

    Raises:
        NotFoundError: There is no such order.
        IllegalTransitionError: No money is here.
        InvalidInputError: Another currency, or more than is left.
    """
    with shop.database.write() as session:
        order = lock_order(session, order_id)
        if order.payment_status == PaymentStatus.AUTHORIZED:
            if amount is not None:
                raise InvalidInputError("Reserved money is let go whole: leave the amount out.")
            _stop_work(shop, session, order, reason)
            release_money(shop, session, order)
            return Money(order.paid_minor or 0, order.paid_currency or order.currency)
        left = left_to_refund(session, order)
        if amount is not None and amount.currency != left.currency:
            raise InvalidInputError(f"The payment is in {left.currency.upper()}.")
        whole = amount is None or amount == left
        number = len(refunds.of_order(session, order.id)) + 1
        planned = plan_refund(
            session,
            order,
            cause=f"owner-{number}",
            shop=shop,
            amount_minor=None if amount is None else amount.amount_minor,
            reason=reason,
            actor=OWNER,
        )
        if planned is None:
            raise IllegalTransitionError("All of the money is back, or on its way.")
        if whole:
            _stop_work(shop, session, order, reason)
        return Money(planned.amount_minor, planned.currency)


def replace(shop: Shop, order_id: str, file: Path) -> None:
    """Deliver an own file as an order's picture. It must have the size that was bought.

    Raises:
        NotFoundError: There is no such order.
        BadResultError: The file is not a picture of that size.
        IllegalTransitionError: The order is not paid, or its money is on the way back.
    """
    settings = shop.settings()
    with shop.database.read() as session:
        found = orders.get(session, order_id)
    if found is None:
        raise NotFoundError("There is no such order.")
    form = delivered_format(settings, found)
    with shop.temporary_folder("replace") as folder:
        destination = folder / f"delivery.{EXTENSIONS[form]}"
        facts = shop.images.finish_result(
            file,
            shop.files.path(found.source_key),
            destination,
            width=found.output_width,
            height=found.output_height,
            format=form,
            jpeg_quality=settings.jpeg_quality,
        )
        key = f"results/{found.number}/own-{facts.sha256[:16]}.{EXTENSIONS[form]}"
        shop.files.put(key, destination)
    now = shop.now()
    with shop.database.write() as session:
        order = lock_order(session, order_id)
        _check_money(session, order)
        note_file(order, key, facts)
        text = "The picture was replaced by a file of the studio."
        timeline.add(session, order.id, "replaced", text, at=now, actor=OWNER)
        release_order(session, order, text, at=now, actor=OWNER)
        if order.status == OrderStatus.COMPLETED:
            issue_link(shop, order)
            queue_ready_mail(shop, session, order)
            return
        if order.status == OrderStatus.FAILED:
            move_order(session, order, OrderStatus.PENDING, text, at=now, actor=OWNER)
        if order.status == OrderStatus.PENDING:
            move_order(session, order, OrderStatus.PROCESSING, text, at=now, actor=OWNER)
        order.failure_reason = None
        deliver_order(shop, session, order)


def resend(shop: Shop, order_id: str, *, email: str | None = None) -> None:
    """Send a delivered order's link again, as a new one; the one before ends.

    Args:
        shop: The open shop.
        order_id: The order.
        email: A corrected address, kept from now on.

    Raises:
        NotFoundError: There is no such order.
        InvalidInputError: Not an address, or none is known.
        IllegalTransitionError: It is not delivered, or its file is gone.
    """
    if email is not None and not is_email_address(email):
        raise InvalidInputError("This is not one e-mail address.")
    now = shop.now()
    with shop.database.write() as session:
        order = lock_order(session, order_id)
        if order.status != OrderStatus.COMPLETED or order.disputed_at is not None:
            raise IllegalTransitionError(
                f"This order is {_state(order)}: there is no link to send."
            )
        if order.file_key is None or order.file_removed_at is not None:
            raise IllegalTransitionError("The file of this order was cleaned up.")
        if email is not None:
            order.email = email
        if not order.email:
            raise InvalidInputError("No address is known for this order: give one.")
        if order.held_kind in {HoldKind.MAIL_UNCONFIRMED, HoldKind.MAIL_UNDELIVERABLE}:
            release_order(session, order, "The link is sent again.", at=now, actor=OWNER)
        issue_link(shop, order)
        timeline.add(
            session, order.id, "resent", "A new link is sent.", at=now, actor=OWNER,
            personal={"to": order.email},
        )  # fmt: skip
        queue_ready_mail(shop, session, order)


def _check_money(session: Session, order: Order) -> None:
    if order.payment_status not in MONEY_IS_HERE or order.disputed_at is not None:
        raise IllegalTransitionError(f"The payment is '{order.payment_status}'.")
    if left_to_refund(session, order).amount_minor <= 0:
        raise IllegalTransitionError("The money is on its way back to the customer.")


def _stop_work(shop: Shop, session: Session, order: Order, reason: str | None) -> None:
    """A picture that is being made is not delivered any more once its money goes back."""
    release_order(session, order, "The money goes back.", at=shop.now(), actor=OWNER)
    if order.status in {OrderStatus.PENDING, OrderStatus.PROCESSING}:
        order.failure_reason = reason
        text = "Ended by the studio; the money goes back."
        move_order(session, order, OrderStatus.FAILED, text, at=shop.now(), actor=OWNER)


def _state(order: Order) -> str:
    return "held" if order.held_at is not None else order.status.replace("_", " ")

"""From a finished picture to a live link, and what the link's holder gets.

Sole owner of when a link is live. The file is stored, whole and durable, before any row names it; the row,
the link's hash and the mail are one commit. Reading consumes nothing: a link may be opened by scanners,
in parts and as often as one likes until it ends.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from sqlalchemy.orm import Session

from smi_desktop.config import DeliveredFormat, ShopSettings
from smi_desktop.domain.errors import (
    BadResultError,
    LinkExpiredError,
    NotFoundError,
    RejectedError,
    SmiError,
    TransientError,
)
from smi_desktop.domain.filenames import download_name
from smi_desktop.domain.holds import HoldKind
from smi_desktop.domain.orders import OrderStatus
from smi_desktop.domain.tokens import hash_token, looks_like_token
from smi_desktop.services.attempts import (
    MONEY_IS_HERE,
    begin_attempt,
    doubt_attempt,
    fail_attempt,
    go_on,
)
from smi_desktop.services.order_states import hold_order, lock_order, release_order
from smi_desktop.services.ports import ImageFacts, QualityLimits, RemoteState
from smi_desktop.services.shop import Shop
from smi_desktop.services.work import Done, Outcome
from smi_desktop.store import downloads, orders, timeline, upscales
from smi_desktop.store.models import Download, Order, Upscale
from smi_desktop.store.tasks import Claim

EXTENSIONS = {"jpeg": "jpg", "png": "png"}
MEDIA_TYPES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
# A picture that has killed its child process this often will do so again; a full disk has had half an hour.
_TRIES_HERE = 10
# A result whose address ended is asked for anew for some minutes before it counts as lost.
_TRIES_EXPIRED = 8


class LinkEndedError(SmiError):
    """A link that was good once."""

    title = "This link has expired"

    def __init__(self, order: Order) -> None:
        super().__init__("This download link has expired.")
        self.order = order


class NotReadyError(SmiError):
    """A link whose order is not ready."""

    title = "Not ready yet"


class BeingRestoredError(TransientError):
    """A live link whose file is not there; a person was asked to look."""

    title = "Your picture is being restored"

    def __init__(self) -> None:
        super().__init__(
            "This picture is being restored. Please try again later; your link stays good.",
            retry_after=3600,
        )


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a live link opens.

    Attributes:
        etag: A strong validator: the content's own hash.
    """

    order_id: str
    generation: int
    path: Path
    name: str
    media_type: str
    bytes: int
    etag: str
    modified_at: datetime


def collect_result(shop: Shop, task: Claim) -> Outcome:
    """Fetch a remote upscaler's result, check it, store it and deliver it.

    Raises:
        TransientError: Cut or away; the part that came is kept for the next try.
        ProviderAccountError: Our key.
    """
    upscale_id = int(task.payload["upscale_id"])
    with shop.database.read() as session:
        upscale = upscales.get(session, upscale_id)
        order = orders.get(session, task.order_id or "")
    if upscale is None or order is None or upscale.state != "running":
        return Done()
    settings = shop.settings()
    job = shop.remote_upscaler(settings).status(upscale.provider_job_id or "")
    if job.state is not RemoteState.SUCCEEDED or job.image_url is None:
        raise TransientError("The upscaler names no result at the moment.")
    folder = work_folder(shop, upscale.id)
    result = folder / "result"
    if not result.exists():
        try:
            shop.fetcher(settings).fetch(job.image_url, result, max_bytes=settings.result_max_bytes)
        except LinkExpiredError as error:
            if task.failures < _TRIES_EXPIRED:
                raise TransientError(
                    "The result's address has ended; asking for a new one."
                ) from error
            return _failed(shop, upscale.id, "The upscaler no longer has the result.")
        except RejectedError as error:
            return _failed(shop, upscale.id, error.message)
    return _deliver(shop, settings, order, upscale, result)


def upscale_here(shop: Shop, task: Claim) -> Outcome:
    """Make the picture on this machine and deliver it.

    Raises:
        TransientError: The work was killed or there is no space; it starts again.
    """
    begun = begin_attempt(shop, task)
    if begun is None:
        return Done()
    order, upscale = begun
    settings = shop.settings()
    folder = work_folder(shop, upscale.id)
    result = folder / "enlarged.png"
    if not result.exists():
        partial_result = folder / "unfinished.png"
        try:
            shop.local_upscaler.upscale(
                shop.files.path(order.source_key),
                partial_result,
                factor=order.factor,
                on_progress=partial(_tell_progress, shop, order.id),
                cancelled=lambda: not _is_wanted(shop, order.id),
                seconds=(upscale.deadline_at - upscale.created_at).total_seconds(),
            )
        except BadResultError as error:
            return _failed(shop, upscale.id, error.message)
        except TransientError as error:
            if task.failures < _TRIES_HERE:
                raise
            return _failed(shop, upscale.id, error.message)
        partial_result.replace(result)
    return _deliver(shop, settings, order, upscale, result)


def work_folder(shop: Shop, upscale_id: int) -> Path:
    """Return the folder for one attempt's temporary files.

    Raises:
        TransientError: No space or no access; the order waits.
    """
    folder = shop.work_dir / f"upscale-{upscale_id}"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise TransientError(f"{folder} cannot be written: {error.strerror}.") from error
    return folder


def find_download(shop: Shop, token: str) -> Ticket:
    """Return what a link opens.

    Raises:
        NotFoundError: Unknown or revoked, which cannot be told apart.
        LinkEndedError: It was good once.
        NotReadyError: Its order is not completed.
        BeingRestoredError: The file is not where it should be; the order is held for a person.
    """
    if not looks_like_token(token):
        raise NotFoundError("There is no such download.")
    with shop.database.read() as session:
        order = orders.find_by_token(session, hash_token(token))
    if order is None or order.status == OrderStatus.REFUNDED or order.disputed_at is not None:
        raise NotFoundError("There is no such download.")
    if order.file_removed_at is not None or not is_live(order, shop.now()):
        if order.status != OrderStatus.COMPLETED:
            raise NotReadyError("This picture is not ready yet. Please try again in a few minutes.")
        raise LinkEndedError(order)
    return _ticket(shop, order)


def is_live(order: Order, now: datetime) -> bool:
    """Tell whether an order's link gives its file at this moment."""
    return (
        order.status == OrderStatus.COMPLETED
        and order.token_sha256 is not None
        and order.disputed_at is None
        and order.file_removed_at is None
        and order.expires_at is not None
        and now < order.expires_at
    )


def download_url(shop: Shop, settings: ShopSettings, order: Order) -> str:
    """Return the address of an order's present link."""
    token = shop.token("download", order.id, order.generation)
    return f"{settings.public_url}/smi/v1/download/{token}"


def record_download(
    shop: Shop,
    ticket: Ticket,
    *,
    first_byte: int,
    bytes_sent: int,
    finished: bool,
    agent: str | None,
    address: str | None,
) -> None:
    """Write down one request and the bytes that were handed to the socket for it.

    The order counts as downloaded once finished requests cover the whole file.
    """
    now = shop.now()
    with shop.database.write() as session:
        session.add(
            Download(
                order_id=ticket.order_id,
                generation=ticket.generation,
                at=now,
                first_byte=first_byte,
                bytes_sent=bytes_sent,
                bytes_total=ticket.bytes,
                finished=finished,
                agent=agent,
                address=address,
            )
        )
        session.flush()
        order = lock_order(session, ticket.order_id)
        if (
            order.downloaded_at is None
            and order.generation == ticket.generation
            and finished
            and downloads.is_covered(session, order.id, ticket.generation, ticket.bytes)
        ):
            order.downloaded_at = now
            timeline.add(
                session, order.id, "downloaded", "Downloaded whole.", at=now, actor="customer"
            )


def _ticket(shop: Shop, order: Order) -> Ticket:
    form = order.file_format or "png"
    try:
        path = shop.files.path(order.file_key or "")
        size = path.stat().st_size
    except (NotFoundError, OSError):
        size = -1
    if size != order.file_bytes:
        _hold_missing(shop, order.id)
        raise BeingRestoredError
    return Ticket(
        order_id=order.id,
        generation=order.generation,
        path=path,
        name=download_name(
            order.title,
            resolution=order.resolution,
            width=order.output_width,
            height=order.output_height,
            number=order.number,
            ext=EXTENSIONS[form],
        ),
        media_type=MEDIA_TYPES[form],
        bytes=size,
        etag=f'"{order.file_sha256}"',
        modified_at=order.completed_at or order.updated_at,
    )


def _hold_missing(shop: Shop, order_id: str) -> None:
    with shop.database.write() as session:
        order = lock_order(session, order_id)
        if order.held_at is None:
            reason = "The delivered file is missing or damaged."
            hold_order(session, order, HoldKind.FILE_MISSING, reason, at=shop.now())


def _deliver(
    shop: Shop, settings: ShopSettings, order: Order, upscale: Upscale, result: Path
) -> Outcome:
    """Check the result, store the file, and hand back how to record the delivery."""
    folder = result.parent
    form = delivered_format(settings, order)
    destination = folder / f"delivery.{EXTENSIONS[form]}"
    try:
        facts = shop.images.finish_result(
            result,
            shop.files.path(order.source_key),
            destination,
            width=order.output_width,
            height=order.output_height,
            format=form,
            jpeg_quality=settings.jpeg_quality,
            limits=quality_limits(settings),
        )
    except BadResultError as error:
        return _failed(shop, upscale.id, error.message, folder)
    key = f"results/{order.number}/{upscale.id}.{EXTENSIONS[form]}"
    shop.files.put(key, destination)
    return Done(
        partial(_record_result, shop, upscale_id=upscale.id, key=key, facts=facts),
        partial(shutil.rmtree, folder, ignore_errors=True),
    )


def quality_limits(settings: ShopSettings) -> QualityLimits:
    """Return how far a result may be from its source."""
    return QualityLimits(
        min_ssim=settings.quality_min_ssim, max_delta_e=settings.quality_max_delta_e
    )


def delivered_format(settings: ShopSettings, order: Order) -> str:
    """Return `jpeg` or `png`: what this order's customer gets."""
    if settings.delivered_format is DeliveredFormat.AUTO:
        return "jpeg" if order.source_format == "jpeg" else "png"
    return settings.delivered_format.value


def _record_result(
    shop: Shop, session: Session, *, upscale_id: int, key: str, facts: ImageFacts
) -> None:
    """Write down that the picture is here, and deliver it where nothing stands against that."""
    now = shop.now()
    upscale = session.get_one(Upscale, upscale_id)
    order = lock_order(session, upscale.order_id)
    if facts.doubts:
        if doubt_attempt(shop, session, upscale_id=upscale_id, doubts=facts.doubts, key=key):
            return
        note_file(order, key, facts)
        return
    upscale.state = "succeeded"
    upscale.finished_at = now
    # While a payment is disputed its picture is kept: it was paid for, and is delivered if that is won.
    has_money = order.payment_status in MONEY_IS_HERE or order.disputed_at is not None
    if order.status != OrderStatus.PROCESSING or not has_money:
        timeline.add(
            session, order.id, "not_delivered", "Finished too late; not delivered.", at=now
        )
        return
    note_file(order, key, facts)
    measured = {"sha256": facts.sha256, "attempt": upscale.attempt, **facts.figures}
    timeline.add(
        session,
        order.id,
        "result",
        "The picture is made and passed its check.",
        at=now,
        actor=upscale.provider,
        facts=measured,
    )
    if order.held_kind == HoldKind.DEADLINE:
        release_order(session, order, "The picture came after all.", at=now)
    go_on(shop, session, order)


def note_file(order: Order, key: str, facts: ImageFacts) -> None:
    """Write down which stored file is the order's picture."""
    order.file_key, order.file_format = key, facts.format
    order.file_bytes, order.file_sha256 = facts.bytes, facts.sha256
    order.file_removed_at = None


def _failed(shop: Shop, upscale_id: int, reason: str, folder: Path | None = None) -> Outcome:
    tidy = partial(shutil.rmtree, folder, ignore_errors=True) if folder else None
    return Done(partial(fail_attempt, shop, upscale_id=upscale_id, reason=reason), tidy)


def _tell_progress(shop: Shop, order_id: str, share: float) -> None:
    # A database that is away for a moment must not end the work.
    with suppress(TransientError), shop.database.write() as session:
        order = orders.get_locked(session, order_id)
        if order is not None and order.status == OrderStatus.PROCESSING:
            order.progress = round(max(0.0, min(share, 1.0)), 3)


def _is_wanted(shop: Shop, order_id: str) -> bool:
    try:
        with shop.database.read() as session:
            order = orders.get(session, order_id)
    except TransientError:
        return True
    return order is not None and order.status == OrderStatus.PROCESSING

"""The tables. Every order keeps what was bought as it was: its row copies the picture, the size and the price.

States are plain text in the database, so that a word which a newer version wrote is shown, never guessed.
No column holds a secret or a usable token: tokens and callback secrets stand here as SHA-256 alone.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
    true,
)
from sqlalchemy.dialects.sqlite import INTEGER
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class UtcDateTime(TypeDecorator[datetime]):
    """A moment, aware UTC on both sides. A naive one is refused: it is how links die hours early."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn an aware moment into UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("A moment without a time zone cannot be stored.")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give back an aware moment."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class PlainText(TypeDecorator[str]):
    """Text that every database can hold. What none can is replaced, in rows and in questions alike.

    PostgreSQL has no NUL, and half a surrogate is no UTF-8; a provider's JSON may bring both. A webhook
    that cannot be stored would be sent again for days, and a paid order would wait as long.
    """

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Put U+FFFD in place of what cannot be stored."""
        return None if value is None else _UNSTORABLE.sub("\ufffd", value)


class LongText(PlainText):
    """The same for text of any length."""

    impl = Text
    cache_ok = True


_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

# SQLite counts rows by itself only for a column declared exactly INTEGER.
RowId = BigInteger().with_variant(INTEGER(), "sqlite")


class Base(DeclarativeBase):
    """The root of all tables, with constraint names that migrations can rely on."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it as a plain class attribute
        datetime: UtcDateTime,
        dict[str, Any]: JSON,
        int: BigInteger,
        str: PlainText,
    }


class Image(Base):
    """A picture of the catalogue."""

    __tablename__ = "images"

    attachment_id: Mapped[int] = mapped_column(RowId, primary_key=True)
    post_id: Mapped[int | None] = mapped_column(index=True)
    title: Mapped[str]
    source_kind: Mapped[str]
    """`file` or `url`."""
    source: Mapped[str] = mapped_column(LongText)
    source_sha256: Mapped[str]
    source_bytes: Mapped[int]
    source_mtime_ns: Mapped[int | None]
    format: Mapped[str]
    width: Mapped[int]
    height: Mapped[int]
    for_sale: Mapped[bool] = mapped_column(server_default=true())
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("source_kind", "source"),)


class Order(Base):
    """One purchase, with a snapshot of what was bought."""

    __tablename__ = "orders"

    id: Mapped[str] = mapped_column(PlainText(64), primary_key=True)
    """The job id of the contract: a bearer secret of its buyer."""
    number: Mapped[str] = mapped_column(unique=True)
    status: Mapped[str] = mapped_column(index=True)
    payment_status: Mapped[str]
    livemode: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(index=True)
    updated_at: Mapped[datetime]

    held_at: Mapped[datetime | None]
    held_reason: Mapped[str | None] = mapped_column(LongText)
    held_kind: Mapped[str | None]
    """A word of `domain.holds.HoldKind`."""
    disputed_at: Mapped[datetime | None]

    # What was bought, as it was
    attachment_id: Mapped[int] = mapped_column(index=True)
    post_id: Mapped[int | None]
    title: Mapped[str]
    source_key: Mapped[str]
    source_sha256: Mapped[str]
    source_format: Mapped[str]
    source_width: Mapped[int]
    source_height: Mapped[int]
    resolution: Mapped[str]
    factor: Mapped[int]
    output_width: Mapped[int]
    output_height: Mapped[int]
    upscaler_route: Mapped[str]
    """Who was chosen before the money: names in the order in which they are tried."""

    # Money
    amount_minor: Mapped[int]
    currency: Mapped[str] = mapped_column(PlainText(3))
    credits: Mapped[int]
    cost_micro_usd: Mapped[int]
    price_rule: Mapped[dict[str, Any]]
    quote_id: Mapped[str | None] = mapped_column(LongText)
    stripe_session_id: Mapped[str | None] = mapped_column(unique=True)
    checkout_url: Mapped[str | None] = mapped_column(LongText)
    checkout_expires_at: Mapped[datetime]
    payment_intent_id: Mapped[str | None] = mapped_column(unique=True)
    paid_minor: Mapped[int | None]
    paid_currency: Mapped[str | None] = mapped_column(PlainText(3))
    paid_at: Mapped[datetime | None]
    capture_when_ready: Mapped[bool] = mapped_column(server_default=false())
    authorized_at: Mapped[datetime | None]
    refunded_minor: Mapped[int] = mapped_column(server_default=text("0"))
    """Of the money that was paid: what went back or is on its way."""
    fee_minor: Mapped[int | None]
    fee_currency: Mapped[str | None] = mapped_column(PlainText(3))
    """The payment provider's fee, in the currency in which it pays the studio."""

    # The customer
    email: Mapped[str | None]
    customer_name: Mapped[str | None]
    page_url: Mapped[str | None] = mapped_column(LongText)
    terms_accepted_at: Mapped[datetime | None]
    terms_version: Mapped[str | None]

    # The work
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    progress: Mapped[float | None]
    processing_at: Mapped[datetime | None]
    failure_reason: Mapped[str | None] = mapped_column(LongText)
    """Why the picture could not be made, in words for the customer."""

    # The delivery
    generation: Mapped[int] = mapped_column(server_default=text("0"))
    token_sha256: Mapped[str | None] = mapped_column(PlainText(64), unique=True)
    file_key: Mapped[str | None]
    file_format: Mapped[str | None]
    file_bytes: Mapped[int | None]
    file_sha256: Mapped[str | None] = mapped_column(PlainText(64))
    completed_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None] = mapped_column(index=True)
    downloaded_at: Mapped[datetime | None]
    file_removed_at: Mapped[datetime | None]
    renewals: Mapped[int] = mapped_column(server_default=text("0"))
    """How often the customer has renewed his link himself."""


class Upscale(Base):
    """One attempt at making a picture, each with its own cost line."""

    __tablename__ = "upscales"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    order_id: Mapped[str] = mapped_column(ForeignKey("orders.id"))
    attempt: Mapped[int]
    provider: Mapped[str]
    state: Mapped[str]
    """`planned`, `submitting` (nobody knows yet), `running`, `succeeded`, `doubtful`, `failed` or `given_up`."""
    callback_sha256: Mapped[str] = mapped_column(PlainText(64), unique=True)
    provider_job_id: Mapped[str | None]
    credit_cost: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(LongText)
    created_at: Mapped[datetime]
    submitted_at: Mapped[datetime | None]
    deadline_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    polls: Mapped[int] = mapped_column(server_default=text("0"))

    __table_args__ = (
        UniqueConstraint("order_id", "attempt"),
        UniqueConstraint("provider", "provider_job_id"),
    )


class InboxEntry(Base):
    """A verified webhook, raw, kept before it was acknowledged."""

    __tablename__ = "inbox"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    provider: Mapped[str]
    event_id: Mapped[str]
    type: Mapped[str]
    livemode: Mapped[bool | None]
    body: Mapped[bytes] = mapped_column(LargeBinary)
    signature: Mapped[str | None] = mapped_column(LongText)
    received_at: Mapped[datetime]
    state: Mapped[str]
    """`new`, `applied`, `ignored`, `unknown` (belongs to no order) or `dead`."""
    note: Mapped[str | None] = mapped_column(LongText)
    order_id: Mapped[str | None]
    applied_at: Mapped[datetime | None]

    __table_args__ = (UniqueConstraint("provider", "event_id"),)


class Task(Base):
    """One thing to be done to the outside world, or one step of an order."""

    __tablename__ = "tasks"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    kind: Mapped[str]
    key: Mapped[str] = mapped_column(unique=True)
    order_id: Mapped[str | None] = mapped_column(index=True)
    payload: Mapped[dict[str, Any]]
    state: Mapped[str]
    """`ready`, `leased`, `done` or `dead`."""
    run_at: Mapped[datetime]
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    failures: Mapped[int] = mapped_column(server_default=text("0"))
    deaths: Mapped[int] = mapped_column(server_default=text("0"))
    """How many engines died while they worked on it."""
    lease_owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    last_error: Mapped[str | None] = mapped_column(LongText)
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        # Only open work is looked through, however many orders lie behind.
        Index(
            "ix_tasks_open",
            "run_at",
            "id",
            sqlite_where=text("state IN ('ready', 'leased')"),
            postgresql_where=text("state IN ('ready', 'leased')"),
        ),
    )


class OutboxMail(Base):
    """One mail to one customer. The link stands in it as a placeholder only."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    order_id: Mapped[str | None] = mapped_column(ForeignKey("orders.id"), index=True)
    kind: Mapped[str]
    key: Mapped[str] = mapped_column(unique=True)
    message_id: Mapped[str] = mapped_column(unique=True)
    to_address: Mapped[str]
    state: Mapped[str]
    """`queued`, `sending` (handed over, answer unknown), `sent` or `failed`."""
    subject: Mapped[str | None]
    html: Mapped[str | None] = mapped_column(LongText)
    text: Mapped[str | None] = mapped_column(LongText)
    dated_at: Mapped[datetime | None]
    generation: Mapped[int]
    created_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]
    response: Mapped[str | None] = mapped_column(LongText)


class TimelineEntry(Base):
    """What came in, what was done, by whom, what it cost. Rows are added, never changed."""

    __tablename__ = "timeline"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    order_id: Mapped[str] = mapped_column(ForeignKey("orders.id"), index=True)
    at: Mapped[datetime]
    kind: Mapped[str]
    actor: Mapped[str]
    text: Mapped[str] = mapped_column(LongText)
    facts: Mapped[dict[str, Any]]
    personal: Mapped[dict[str, Any] | None]
    """Addresses and the like; a field of its own so that it can be erased."""


class Refund(Base):
    """Money that went back, or is on its way."""

    __tablename__ = "refunds"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    order_id: Mapped[str] = mapped_column(ForeignKey("orders.id"), index=True)
    cause: Mapped[str]
    """`failure`, `owner-1` and so on, or `stripe:re_…` for one that was made in the provider's dashboard."""
    stripe_refund_id: Mapped[str | None] = mapped_column(unique=True)
    amount_minor: Mapped[int]
    currency: Mapped[str] = mapped_column(PlainText(3))
    state: Mapped[str]
    """`planned` (not asked for yet), then the provider's word: `pending`, `requires_action`, `succeeded`,
    `failed` or `canceled`."""
    reason: Mapped[str | None] = mapped_column(LongText)
    failure_reason: Mapped[str | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("order_id", "cause"),)


class Dispute(Base):
    """A payment that the customer has disputed at his bank."""

    __tablename__ = "disputes"

    id: Mapped[str] = mapped_column(primary_key=True)
    """The payment provider's id."""
    order_id: Mapped[str] = mapped_column(ForeignKey("orders.id"), index=True)
    status: Mapped[str]
    reason: Mapped[str]
    amount_minor: Mapped[int]
    currency: Mapped[str] = mapped_column(PlainText(3))
    due_by: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class Circuit(Base):
    """A provider that refuses this shop's account: work for it waits until it accepts us again."""

    __tablename__ = "circuits"

    name: Mapped[str] = mapped_column(primary_key=True)
    failures: Mapped[int]
    reason: Mapped[str] = mapped_column(LongText)
    opened_at: Mapped[datetime | None]
    retry_at: Mapped[datetime | None]


class Alert(Base):
    """Something that the owner must know. One row for each cause, however often it happens."""

    __tablename__ = "alerts"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)
    text: Mapped[str] = mapped_column(LongText)
    order_id: Mapped[str | None] = mapped_column(ForeignKey("orders.id"), index=True)
    at: Mapped[datetime]
    resolved_at: Mapped[datetime | None]
    mailed_at: Mapped[datetime | None]


class Click(Base):
    """One click on a button. No cookie, no address, nothing personal."""

    __tablename__ = "clicks"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    attachment_id: Mapped[int] = mapped_column(index=True)
    post_id: Mapped[int | None]
    bot: Mapped[bool] = mapped_column(server_default=false())


class Download(Base):
    """One request for a file and how many of its bytes were handed to the socket."""

    __tablename__ = "downloads"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    order_id: Mapped[str] = mapped_column(ForeignKey("orders.id"), index=True)
    generation: Mapped[int]
    at: Mapped[datetime]
    first_byte: Mapped[int]
    bytes_sent: Mapped[int]
    bytes_total: Mapped[int]
    finished: Mapped[bool]
    agent: Mapped[str | None]
    address: Mapped[str | None]


class Setting(Base):
    """One setting that differs from its default."""

    __tablename__ = "settings"

    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[Any] = mapped_column(JSON)
    updated_at: Mapped[datetime]


class Heartbeat(Base):
    """When a part of the shop last gave a sign of life."""

    __tablename__ = "heartbeats"

    name: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    facts: Mapped[dict[str, Any]]

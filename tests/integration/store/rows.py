"""Rows for the store's tests: every column filled, so that a column that is lost is noticed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from smi_desktop.store.models import (
    Alert,
    Base,
    Circuit,
    Click,
    Dispute,
    Download,
    Heartbeat,
    Image,
    InboxEntry,
    Order,
    OutboxMail,
    Refund,
    Setting,
    Task,
    TimelineEntry,
    Upscale,
)

NOW = datetime(2026, 1, 15, 12, 0, 0, 123456, tzinfo=UTC)
TEXT = "Häfen 🚢 日本 \u200f؛ 'quoted' \"twice\" \\ %_"


def order(order_id: str = "order-1", **changes: Any) -> Order:
    """Return an order that has been paid, made and delivered."""
    values: dict[str, Any] = {
        "id": order_id,
        "number": f"SMI-{order_id}",
        "status": "completed",
        "payment_status": "paid",
        "livemode": False,
        "created_at": NOW,
        "updated_at": NOW,
        "held_at": None,
        "held_reason": None,
        "held_kind": None,
        "disputed_at": None,
        "attachment_id": 1,
        "post_id": 7,
        "title": TEXT,
        "source_key": f"sources/{order_id}.png",
        "source_sha256": "a" * 64,
        "source_format": "png",
        "source_width": 400,
        "source_height": 300,
        "resolution": "4x",
        "factor": 4,
        "output_width": 1600,
        "output_height": 1200,
        "upscaler_route": "upsampler,embedded",
        "amount_minor": 1200,
        "currency": "usd",
        "credits": 4,
        "cost_micro_usd": 160_000,
        "price_rule": {"markup": "200", "text": TEXT},
        "quote_id": "quote",
        "stripe_session_id": f"cs_{order_id}",
        "checkout_url": "https://checkout.example/1",
        "checkout_expires_at": NOW + timedelta(hours=1),
        "payment_intent_id": f"pi_{order_id}",
        "paid_minor": 1200,
        "paid_currency": "usd",
        "paid_at": NOW,
        "capture_when_ready": True,
        "authorized_at": NOW,
        "refunded_minor": 1200,
        "fee_minor": 65,
        "fee_currency": "eur",
        "email": "jo@example.com",
        "customer_name": TEXT,
        "page_url": "https://studio.example/p?a=1",
        "terms_accepted_at": NOW,
        "terms_version": "1",
        "attempt": 1,
        "progress": 0.5,
        "processing_at": NOW,
        "failure_reason": TEXT,
        "generation": 1,
        "token_sha256": f"{order_id:0>64}"[:64],
        "file_key": f"results/{order_id}/1.png",
        "file_format": "png",
        "file_bytes": 2**40,
        "file_sha256": "b" * 64,
        "completed_at": NOW,
        "expires_at": NOW + timedelta(hours=24),
        "downloaded_at": None,
        "file_removed_at": None,
        "renewals": 2,
    }
    return Order(**{**values, **changes})


def image(attachment_id: int = 1, **changes: Any) -> Image:
    """Return a picture of the catalogue."""
    values: dict[str, Any] = {
        "attachment_id": attachment_id,
        "post_id": 7,
        "title": TEXT,
        "source_kind": "file",
        "source": f"/pictures/{attachment_id}.png",
        "source_sha256": "a" * 64,
        "source_bytes": 1000,
        "source_mtime_ns": 1_700_000_000_000_000_000,
        "format": "png",
        "width": 400,
        "height": 300,
        "for_sale": True,
        "created_at": NOW,
        "updated_at": NOW,
    }
    return Image(**{**values, **changes})


def upscale(order_id: str = "order-1", attempt: int = 1, **changes: Any) -> Upscale:
    """Return an attempt that is under way."""
    values: dict[str, Any] = {
        "order_id": order_id,
        "attempt": attempt,
        "provider": "upsampler",
        "state": "running",
        "callback_sha256": f"{order_id}:{attempt}",
        "provider_job_id": f"job-{order_id}-{attempt}",
        "credit_cost": 4,
        "error": None,
        "created_at": NOW,
        "submitted_at": NOW,
        "deadline_at": NOW + timedelta(minutes=15),
        "finished_at": None,
        "polls": 2,
    }
    return Upscale(**{**values, **changes})


def inbox_values(event_id: str = "evt_1", **changes: Any) -> dict[str, Any]:
    """Return the values of a webhook that was received."""
    values: dict[str, Any] = {
        "provider": "stripe",
        "event_id": event_id,
        "type": "checkout.session.completed",
        "livemode": False,
        "body": b'{"raw": "\xf0\x9f\x9a\xa2\x00"}',
        "signature": "t=1,v1=2",
        "received_at": NOW,
        "state": "new",
    }
    return {**values, **changes}


def mail(order_id: str | None = "order-1", key: str = "ready:1", **changes: Any) -> OutboxMail:
    """Return a mail that was sent."""
    values: dict[str, Any] = {
        "order_id": order_id,
        "kind": "ready",
        "key": key,
        "message_id": f"<{key}@studio.example>",
        "to_address": "jo@example.com",
        "state": "sent",
        "subject": TEXT,
        "html": f"<p>{TEXT}</p>",
        "text": TEXT,
        "dated_at": NOW,
        "generation": 1,
        "created_at": NOW,
        "sent_at": NOW,
        "response": "250 ok",
    }
    return OutboxMail(**{**values, **changes})


def download(order_id: str = "order-1", **changes: Any) -> Download:
    """Return a request for a file that was answered whole."""
    values: dict[str, Any] = {
        "order_id": order_id,
        "generation": 1,
        "at": NOW,
        "first_byte": 0,
        "bytes_sent": 100,
        "bytes_total": 100,
        "finished": True,
        "agent": TEXT,
        "address": "192.0.2.1",
    }
    return Download(**{**values, **changes})


def fill_every_table(session: Session) -> None:
    """Add a row to each table, children and parents."""
    session.add(order())
    session.flush()
    session.add_all(
        [
            image(),
            upscale(),
            InboxEntry(**inbox_values(), order_id="order-1", applied_at=NOW, note=TEXT),
            Task(
                kind="send_mail", key="mail:1", order_id="order-1", payload={"mail_id": 1},
                state="done", run_at=NOW, attempts=1, failures=0, deaths=1, lease_owner=None,
                lease_until=None, last_error=None, created_at=NOW, finished_at=NOW,
            ),
            mail(),
            TimelineEntry(
                order_id="order-1", at=NOW, kind="status", actor="system", text=TEXT,
                facts={"to": "completed"}, personal={"to": "jo@example.com"},
            ),
            Refund(
                order_id="order-1", cause="requested", stripe_refund_id="re_1",
                amount_minor=1200, currency="usd", state="failed", reason=TEXT,
                failure_reason="expired_or_canceled_card", created_at=NOW, updated_at=NOW,
            ),
            Dispute(
                id="dp_1", order_id="order-1", status="needs_response", reason="fraudulent",
                amount_minor=1200, currency="usd", due_by=NOW, created_at=NOW, updated_at=NOW,
            ),
            Circuit(name="stripe", failures=3, reason=TEXT, opened_at=NOW, retry_at=NOW),
            Alert(
                key="held:order-1", text=TEXT, order_id="order-1", at=NOW, resolved_at=NOW,
                mailed_at=NOW,
            ),
            Click(at=NOW, attachment_id=1, post_id=7, bot=False),
            download(),
            Setting(key="studio_name", value=TEXT, updated_at=NOW),
            Heartbeat(name="engine", at=NOW, facts={"working_on": 1}),
        ]
    )  # fmt: skip
    session.flush()


def dump(session: Session) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table of the models, sorted."""
    return {
        table.name: sorted((tuple(row) for row in session.execute(table.select())), key=repr)
        for table in Base.metadata.sorted_tables
    }

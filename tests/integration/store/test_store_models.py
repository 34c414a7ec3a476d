"""What goes in comes out, on both databases: every column, odd texts, moments and unique keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError, StatementError

from smi_desktop.store import orders, timeline
from smi_desktop.store.database import Database
from smi_desktop.store.models import Base, Download, Image, InboxEntry, Order, Task
from tests.integration.store import rows
from tests.integration.store.rows import NOW

ODD_TEXTS = {
    "emoji": "🚢👩\u200d🎨",
    "right to left": "\u202eمرحبا",
    "many lines": "a\r\nb\tc",
    "quotes": "'; DROP TABLE orders; --",
    "long": "x" * 100_000,
    "empty": "",
}
UNSTORABLE = {"NUL": "Har\x00bour", "half a surrogate": "Har\udce4bour"}


def test_every_column_of_every_table_comes_back_as_it_went_in(database: Database) -> None:
    with database.write() as session:
        rows.fill_every_table(session)
        written = rows.dump(session)
    with database.read() as session:
        read = rows.dump(session)
        bought = orders.get(session, "order-1")
    assert read == written
    assert all(len(found) == 1 for found in read.values())
    assert len(read) == len(Base.metadata.tables) == 15
    assert bought is not None
    assert (bought.title, bought.file_bytes, bought.progress) == (rows.TEXT, 2**40, 0.5)
    assert bought.price_rule == {"markup": "200", "text": rows.TEXT}


def test_texts_and_moments_survive_whatever_they_are(database: Database) -> None:
    moments = {
        "whole second": datetime(2026, 1, 15, 12, tzinfo=UTC),
        "microsecond": NOW,
        "ahead of utc": datetime(2026, 1, 15, 12, tzinfo=timezone(timedelta(hours=5, minutes=45))),
        "before 1970": datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        "far away": datetime(9999, 12, 31, tzinfo=UTC),
    }
    with database.write() as session:
        for number, (name, title) in enumerate(ODD_TEXTS.items(), 1):
            session.add(rows.image(number, title=title, source=name))
        for name, moment in moments.items():
            session.add(rows.order(name, created_at=moment))
    with database.read() as session:
        titles = {image.source: image.title for image in session.scalars(select(Image))}
        created = {order.id: order.created_at for order in session.scalars(select(Order))}
        newest_first = [order.id for order in orders.list_page(session)]
    assert titles == ODD_TEXTS
    assert created == moments
    assert all(moment.tzinfo is UTC for moment in created.values())
    assert newest_first == sorted(moments, key=lambda name: moments[name], reverse=True)


def test_a_moment_without_a_zone_is_refused_in_values_and_in_questions(
    database: Database,
) -> None:
    naive = datetime(2026, 1, 15, 12)  # noqa: DTZ001 - the point of the test
    with database.read() as session:
        session.add(rows.order(created_at=naive))
        with pytest.raises(StatementError, match="time zone"):
            session.flush()
    with database.read() as session, pytest.raises(StatementError, match="time zone"):
        orders.unpaid_since(session, expired_before=naive, limit=1)


def test_text_that_a_database_cannot_hold_never_fails_an_insert(database: Database) -> None:
    """PostgreSQL's text has no NUL, and half a surrogate is no UTF-8: both come in by JSON."""
    for name, odd in UNSTORABLE.items():
        with database.write() as session:
            session.add(rows.order(name, title=odd, customer_name=odd, held_reason=odd))
            session.flush()
            timeline.add(session, name, odd, odd, at=NOW, facts={odd: odd}, personal={"to": odd})
            session.add(rows.image(len(name), title=odd))
            session.add(rows.download(name, agent=odd, address=odd))
            session.add(
                InboxEntry(**rows.inbox_values(f"{name}{odd}", type=odd, signature=odd, note=odd))
            )
    with database.read() as session:
        titles = set(session.scalars(select(Order.title)))
        agents = set(session.scalars(select(Download.agent)))
    assert titles == agents == {"Har\ufffdbour"}


def test_odd_text_in_a_question_finds_nothing_and_never_fails(database: Database) -> None:
    with database.write() as session:
        session.add(rows.order())
    for odd in UNSTORABLE.values():
        with database.read() as session:
            assert orders.get(session, odd) is None
            assert orders.find_by_number(session, odd) is None
            assert orders.find_by_session(session, odd) is None
            assert orders.paid_by_email(session, odd, limit=1) == []


def test_a_state_of_a_newer_version_is_shown_untouched(database: Database) -> None:
    with database.write() as session:
        session.add(rows.order(status="awaiting_courier", payment_status="half_paid"))
        session.add(
            Task(
                kind="print_poster", key="print:1", payload={}, state="sleeping", run_at=NOW,
                created_at=NOW,
            )
        )  # fmt: skip
    with database.write() as session:
        order = orders.get_locked(session, "order-1")
        assert order is not None
        order.title = "Another title"
    with database.read() as session:
        order = orders.get(session, "order-1")
        assert order is not None
        assert (order.status, order.payment_status) == ("awaiting_courier", "half_paid")
        assert session.scalars(select(Task.state)).one() == "sleeping"
        assert [total.status for total in orders.totals(session)] == ["awaiting_courier"]
        assert orders.with_file_due(session, ended_before=NOW.replace(year=2030), limit=9) == []


def test_every_unique_key_refuses_a_second_row(database: Database) -> None:
    with database.write() as session:
        session.add_all([rows.order("order-1"), rows.order("order-2")])
        session.flush()
        session.add_all([rows.image(), rows.upscale(), rows.mail()])
        session.add(InboxEntry(**rows.inbox_values()))
    doubles = {
        "number": rows.order("x", number="SMI-order-1"),
        "session": rows.order("x", stripe_session_id="cs_order-1"),
        "payment": rows.order("x", payment_intent_id="pi_order-1"),
        "token": rows.order("x", token_sha256=rows.order("order-1").token_sha256),
        "source": rows.image(2, source="/pictures/1.png"),
        "attempt": rows.upscale(callback_sha256="x", provider_job_id="x"),
        "callback": rows.upscale("order-2", callback_sha256="order-1:1"),
        "job": rows.upscale("order-2", provider_job_id="job-order-1-1"),
        "mail": rows.mail(message_id="<x@y>"),
        "message id": rows.mail(key="x", message_id="<ready:1@studio.example>"),
        "event": InboxEntry(**rows.inbox_values()),
    }
    accepted = []
    for name, double in doubles.items():
        with database.read() as session:
            session.add(double)
            try:
                session.flush()
            except IntegrityError:
                continue
            accepted.append(name)
    assert accepted == []


def test_what_is_not_known_yet_is_not_taken_for_a_double(database: Database) -> None:
    unknown = {"stripe_session_id": None, "payment_intent_id": None, "token_sha256": None}
    with database.write() as session:
        session.add_all([rows.order("order-1", **unknown), rows.order("order-2", **unknown)])
        session.flush()
        session.add_all(
            [rows.upscale(name, provider_job_id=None) for name in ("order-1", "order-2")]
        )
    with database.read() as session:
        assert len(orders.list_page(session)) == 2


def test_a_child_without_its_parent_is_refused(database: Database) -> None:
    for orphan in (rows.upscale("nobody"), rows.mail("nobody"), rows.download("nobody")):
        with database.read() as session:
            session.add(orphan)
            with pytest.raises(IntegrityError):
                session.flush()


def test_an_error_of_the_database_names_nobody(database: Database) -> None:
    """Its words end in logs and in a task's last error."""
    with database.write() as session:
        session.add(rows.order("order-1", email="canary@example.com", customer_name="Canary"))
    with database.read() as session:
        session.add(rows.order("order-1", email="canary@example.com", customer_name="Canary"))
        with pytest.raises(IntegrityError) as caught:
            session.flush()
    assert "anary" not in str(caught.value)

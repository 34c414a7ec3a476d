"""Every question that the store answers, on both databases."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from sqlalchemy import select, text

from smi_desktop.domain.errors import ConfigurationError
from smi_desktop.store import clicks, downloads, images, inbox, orders, outbox, timeline, upscales
from smi_desktop.store import settings as settings_rows
from smi_desktop.store.database import Database
from smi_desktop.store.models import Order, Setting
from tests.integration.store import rows
from tests.integration.store.rows import NOW
from tests.integration.store.waiting import wait_until

HOUR = timedelta(hours=1)


def test_an_order_is_found_by_each_of_its_names(database: Database) -> None:
    with database.write() as session:
        session.add_all([rows.order("order-1"), rows.order("order-2")])
    with database.read() as session:
        found = [
            orders.get(session, "order-1"),
            orders.get_locked(session, "order-1"),
            orders.find_by_session(session, "cs_order-1"),
            orders.find_by_payment_intent(session, "pi_order-1"),
            orders.find_by_token(session, rows.order("order-1").token_sha256 or ""),
            orders.find_by_number(session, "SMI-order-1"),
        ]
        nobody = [
            orders.get(session, "x"),
            orders.get_locked(session, "x"),
            orders.find_by_session(session, "x"),
            orders.find_by_payment_intent(session, "x"),
            orders.find_by_token(session, "x"),
            orders.find_by_number(session, "x"),
        ]
    assert {order.id if order else None for order in found} == {"order-1"}
    assert set(nobody) == {None}


def test_a_number_that_an_order_has_already_is_passed_over(database: Database) -> None:
    with database.write() as session:
        session.add(rows.order("order-1"))
    with database.read() as session:
        number = orders.first_unused_number(session, iter(["SMI-order-1", "SMI-7K2M9Q"]))
    assert number == "SMI-7K2M9Q"


def test_a_locked_order_is_read_anew(database: Database) -> None:
    """What was read before the lock may be old; deciding on it would undo another's work."""
    with database.write() as session:
        session.add(rows.order(held_reason="before"))
    with database.read() as looking:
        assert orders.get(looking, "order-1") is not None
        looking.commit()
        with database.write() as session:
            order = orders.get_locked(session, "order-1")
            assert order is not None
            order.held_reason = "after"
        again = orders.get_locked(looking, "order-1")
        assert again is not None
        assert again.held_reason == "after"


def test_an_address_finds_its_paid_orders_newest_first(database: Database) -> None:
    with database.write() as session:
        session.add_all(
            [
                rows.order("old", email="Jo@Example.com", created_at=NOW - HOUR),
                rows.order("new", email="jo@example.com"),
                rows.order("unpaid", email="jo@example.com", paid_at=None),
                rows.order("other", email="jo@example.org"),
                rows.order("nobody", email=None),
                rows.order("umlaut", email="JÖRG@example.com"),
            ]
        )
    with database.read() as session:
        assert [o.id for o in orders.paid_by_email(session, "JO@example.COM", limit=9)] == [
            "new",
            "old",
        ]
        assert [o.id for o in orders.paid_by_email(session, "jo@example.com", limit=1)] == ["new"]
        assert [o.id for o in orders.paid_by_email(session, "JÖRG@example.com", limit=9)] == [
            "umlaut"
        ]


def test_pages_of_orders_join_without_gap_or_overlap(database: Database) -> None:
    """Many orders of the same moment: the id decides between them."""
    with database.write() as session:
        for number in range(23):
            session.add(
                rows.order(
                    f"o{number:02}",
                    created_at=NOW - timedelta(seconds=number // 5),
                    status="completed" if number % 2 else "failed",
                )
            )
    seen: list[str] = []
    completed: list[str] = []
    for wanted, into in ((None, seen), ("completed", completed)):
        before = None
        with database.read() as session:
            while page := orders.list_page(session, status=wanted, before=before, limit=4):
                assert len(page) <= 4
                into.extend(order.id for order in page)
                before = (page[-1].created_at, page[-1].id)
    newest_first = sorted(range(23), key=lambda number: (number // 5, -number))
    expected = [f"o{number:02}" for number in newest_first]
    assert seen == expected
    assert completed == [order for order in expected if int(order[1:]) % 2]


def test_unpaid_orders_are_due_by_the_moment_and_oldest_first(database: Database) -> None:
    waiting = {"status": "awaiting_payment", "payment_status": "pending"}
    with database.write() as session:
        session.add_all(
            [
                rows.order("late", checkout_expires_at=NOW - HOUR, **waiting),
                rows.order("latest", checkout_expires_at=NOW - 2 * HOUR, **waiting),
                rows.order("at the moment", checkout_expires_at=NOW, **waiting),
                rows.order("open", checkout_expires_at=NOW + HOUR, **waiting),
                rows.order("paid", checkout_expires_at=NOW - HOUR),
            ]
        )
    with database.read() as session:
        due = orders.unpaid_since(session, expired_before=NOW, limit=9)
        first = orders.unpaid_since(session, expired_before=NOW, limit=1)
    assert [order.id for order in due] == ["latest", "late"]
    assert [order.id for order in first] == ["latest"]


def test_only_a_finished_order_gives_up_its_file(database: Database) -> None:
    ended = {"expires_at": NOW - HOUR}
    with database.write() as session:
        session.add_all(
            [
                rows.order("ended", **ended),
                rows.order("refunded", status="refunded", **ended),
                rows.order("refunded and held", status="refunded", held_at=NOW, **ended),
                rows.order("held", held_at=NOW, **ended),
                rows.order("in the making", status="processing", **ended),
                rows.order("failed", status="failed", **ended),
                rows.order("live"),
                rows.order("gone", file_removed_at=NOW, **ended),
                rows.order("never made", file_key=None, **ended),
            ]
        )
    with database.read() as session:
        due = orders.with_file_due(session, ended_before=NOW, limit=9)
        kept = orders.file_keys_in_use(session)
    assert {order.id for order in due} == {"ended", "refunded", "refunded and held"}
    assert "results/gone/1.png" not in kept
    assert "results/refunded/1.png" in kept


def test_snapshots_are_kept_as_long_as_an_order_may_need_them(database: Database) -> None:
    with database.write() as session:
        session.add_all(
            [
                rows.order("made", status="processing"),
                rows.order("failed", status="failed"),
                rows.order("abandoned lately", status="abandoned"),
                rows.order("abandoned", status="abandoned", updated_at=NOW - 2 * HOUR),
                rows.order("refunded", status="refunded"),
                rows.order("file gone", file_removed_at=NOW),
                rows.order("of a newer version", status="awaiting_courier"),
            ]
        )
    with database.read() as session:
        kept = orders.source_keys_in_use(session, abandoned_after=NOW - HOUR)
    assert kept == {
        f"sources/{name}.png" for name in ("made", "failed", "abandoned lately", "of a newer version")
    }  # fmt: skip


def test_totals_add_up_per_status_and_currency_whatever_is_missing(database: Database) -> None:
    with database.write() as session:
        session.add_all(
            [
                rows.order("a", paid_minor=2**50),
                rows.order("b", paid_minor=1),
                rows.order("c", paid_minor=None, status="abandoned"),
                rows.order("d", currency="eur"),
            ]
        )
    with database.read() as session:
        totals = orders.totals(session)
    assert [(t.status, t.currency, t.count, t.paid_minor, t.cost_micro_usd) for t in totals] == [
        ("abandoned", "usd", 1, 0, 160_000),
        ("completed", "eur", 1, 1200, 160_000),
        ("completed", "usd", 2, 2**50 + 1, 320_000),
    ]
    assert {type(total.paid_minor) for total in totals} == {int}


def test_the_catalogue_is_found_numbered_and_paged(database: Database) -> None:
    with database.read() as session:
        assert images.next_attachment_id(session) == 1
    with database.write() as session:
        session.add_all([rows.image(number) for number in (3, 1, 9)])
    with database.read() as session:
        assert images.get(session, 2) is None
        found = images.find_by_source(session, "file", "/pictures/9.png")
        assert found is not None
        assert found.attachment_id == 9
        assert images.find_by_source(session, "url", "/pictures/9.png") is None
        assert {i.attachment_id for i in images.get_many(session, [1, 2, 3])} == {1, 3}
        assert images.get_many(session, []) == []
        assert images.next_attachment_id(session) == 10
        assert images.count(session) == 3
        first = images.list_page(session, limit=2)
        second = images.list_page(session, after=first[-1].attachment_id, limit=2)
        assert [[i.attachment_id for i in page] for page in (first, second)] == [[1, 3], [9]]


def test_an_event_is_stored_once_and_counted_by_state(database: Database) -> None:
    with database.write() as session:
        first = inbox.insert_once(session, rows.inbox_values("evt_1"))
        assert inbox.insert_once(session, rows.inbox_values("evt_1", body=b"other")) is None
        second = inbox.insert_once(session, rows.inbox_values("evt_2", received_at=NOW + HOUR))
        other = inbox.insert_once(session, rows.inbox_values("evt_1", provider="upsampler"))
    assert first is not None
    assert second is not None
    with database.write() as session:
        inbox.mark(session, second, "applied", at=NOW, note="done", order_id="order-1")
    with database.read() as session:
        entry = inbox.get(session, first)
        applied = inbox.get(session, second)
        assert entry is not None
        assert applied is not None
        assert entry.body == rows.inbox_values()["body"]
        assert (applied.state, applied.note, applied.order_id, applied.applied_at) == (
            "applied",
            "done",
            "order-1",
            NOW,
        )
        assert other is not None
        assert inbox.get(session, 999) is None
        assert inbox.count_by_state(session) == {"applied": 1, "new": 2}
        assert inbox.last_received_at(session, "stripe") == NOW + HOUR
        assert inbox.last_received_at(session, "nobody") is None


def test_attempts_are_found_by_order_callback_and_job(database: Database) -> None:
    with database.write() as session:
        session.add(rows.order())
        session.flush()
        session.add_all([rows.upscale(attempt=2), rows.upscale(attempt=1, provider="embedded")])
    with database.read() as session:
        assert [row.attempt for row in upscales.of_order(session, "order-1")] == [1, 2]
        second = upscales.find_attempt(session, "order-1", 2)
        assert second is not None
        assert upscales.find_attempt(session, "order-1", 3) is None
        assert upscales.get(session, second.id) is second
        assert upscales.find_by_callback(session, "order-1:2") is second
        assert upscales.find_by_callback(session, "x") is None
        assert upscales.find_by_job(session, "upsampler", "job-order-1-2") is second
        assert upscales.find_by_job(session, "embedded", "job-order-1-2") is None


def test_an_orders_mails_and_history_come_in_their_order(database: Database) -> None:
    with database.write() as session:
        session.add(rows.order())
        session.flush()
        session.add_all([rows.mail(key="one"), rows.mail(key="two")])
        for kind in ("created", "payment", "status"):
            timeline.add(session, "order-1", kind, rows.TEXT, at=NOW, personal={"to": rows.TEXT})
    with database.read() as session:
        mails = outbox.of_order(session, "order-1")
        assert [mail.key for mail in mails] == ["one", "two"]
        assert outbox.get(session, mails[0].id) is mails[0]
        assert outbox.find_by_key(session, "two") is mails[1]
        assert outbox.find_by_key(session, "three") is None
        entries = timeline.of_order(session, "order-1")
        assert [(e.kind, e.actor, e.facts, e.personal) for e in entries] == [
            (kind, "system", {}, {"to": rows.TEXT}) for kind in ("created", "payment", "status")
        ]


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ([], False),
        ([(0, 100)], True),
        ([(0, 60), (60, 40)], True),
        ([(60, 40), (0, 60)], True),
        ([(0, 60), (50, 50)], True),
        ([(0, 60), (61, 39)], False),
        ([(1, 99)], False),
        ([(0, 99)], False),
        ([(0, 10), (0, 100), (5, 5)], True),
    ],
)
def test_requests_cover_a_file_only_without_a_gap(
    sqlite_database: Database, parts: list[tuple[int, int]], whole: bool
) -> None:
    with sqlite_database.write() as session:
        session.add(rows.order())
        session.flush()
        # None of these counts: cut off, of another delivery, of another file's size.
        session.add(rows.download(finished=False))
        session.add(rows.download(generation=2))
        session.add(rows.download(bytes_total=99, bytes_sent=100))
        session.add_all(
            [rows.download(first_byte=first, bytes_sent=count) for first, count in parts]
        )
    with sqlite_database.read() as session:
        assert downloads.is_covered(session, "order-1", 1, 100) is whole
        assert len(downloads.of_order(session, "order-1")) == 3 + len(parts)


def test_clicks_of_people_and_of_bots_are_counted_apart(database: Database) -> None:
    with database.write() as session:
        for bot in (True, False, False):
            clicks.add(session, at=NOW, attachment_id=1, post_id=None, bot=bot)
    with database.read() as session:
        assert (clicks.count(session), clicks.count(session, bots=True)) == (2, 1)


def test_settings_change_as_a_whole_or_not_at_all(database: Database) -> None:
    with database.write() as session:
        settings_rows.save(session, {"studio_name": rows.TEXT, "link_hours": 2}, now=NOW)
    with database.read() as session, pytest.raises(ConfigurationError, match="link_hours"):
        settings_rows.save(session, {"studio_name": "x", "link_hours": -1}, now=NOW)
    with database.write() as session:
        saved = settings_rows.save(session, {"link_hours": None}, now=NOW)
        assert settings_rows.load(session) == saved
    with database.read() as session:
        settings = settings_rows.load(session)
        assert (settings.studio_name, settings.link_hours) == (rows.TEXT, 24.0)
        assert session.scalars(select(Setting.key)).all() == ["studio_name"]


def test_a_setting_of_a_newer_version_is_said_clearly(sqlite_database: Database) -> None:
    with sqlite_database.write() as session:
        session.add(Setting(key="hologram", value=True, updated_at=NOW))
    with sqlite_database.read() as session, pytest.raises(ConfigurationError, match="hologram"):
        settings_rows.load(session)


def test_the_last_sign_of_life_of_each_part_is_kept(database: Database) -> None:
    with database.write() as session:
        settings_rows.beat(session, "engine", now=NOW, facts={"working_on": 1})
        settings_rows.beat(session, "relay", now=NOW, facts={})
    with database.write() as session:
        settings_rows.beat(session, "engine", now=NOW + HOUR, facts={"working_on": 0})
    with database.read() as session:
        beats = settings_rows.heartbeats(session)
        assert {name: (beat.at, beat.facts) for name, beat in beats.items()} == {
            "engine": (NOW + HOUR, {"working_on": 0}),
            "relay": (NOW, {}),
        }


def test_first_signs_of_life_at_the_same_moment_do_not_collide(
    postgres_database: Database,
) -> None:
    """Two engines that start together on a new shop; with SQLite one waits for the other anyway."""
    failures: list[Exception] = []

    def beat_too() -> None:
        try:
            with postgres_database.write() as second:
                settings_rows.beat(second, "engine", now=NOW + HOUR, facts={})
                settings_rows.save(second, {"studio_name": "second"}, now=NOW)
        except Exception as error:
            failures.append(error)

    def is_waiting() -> bool:
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        with postgres_database.read() as session:
            return session.execute(waiting).scalar_one() > 0

    thread = threading.Thread(target=beat_too)
    with postgres_database.write() as first:
        settings_rows.beat(first, "engine", now=NOW, facts={})
        settings_rows.save(first, {"studio_name": "first"}, now=NOW)
        first.flush()
        thread.start()
        assert wait_until(is_waiting)
    thread.join()
    assert failures == []
    with postgres_database.read() as session:
        assert settings_rows.heartbeats(session)["engine"].at == NOW + HOUR
        assert settings_rows.load(session).studio_name == "second"


def test_an_orders_row_can_be_changed_through_what_was_read_for_writing(
    database: Database,
) -> None:
    with database.write() as session:
        session.add(rows.order())
    with database.write() as session:
        order = orders.get_locked(session, "order-1")
        assert order is not None
        order.status = "refunded"
    with database.read() as session:
        assert session.scalars(select(Order.status)).one() == "refunded"

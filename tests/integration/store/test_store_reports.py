"""Sums for reports, the same on both databases."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from smi_desktop.store import clicks, reports
from smi_desktop.store.database import Database
from smi_desktop.store.reports import Sale, SaleSums, Span, Thing
from tests.integration.store import rows

BEGIN = datetime(2026, 1, 15, 0, 0, tzinfo=UTC)
SPAN = Span(BEGIN, BEGIN + timedelta(days=1), livemode=False)
LIVE = Span(SPAN.since, SPAN.until, livemode=True)
LAST_MOMENT = SPAN.until - timedelta(microseconds=1)
MINUTE = timedelta(minutes=1)
# An order whose money came at once, stayed, and whose fee is not known.
PLAIN = {"authorized_at": None, "refunded_minor": 0, "fee_minor": None, "fee_currency": None}


def epoch(moment: datetime) -> int:
    return int(moment.timestamp())


def add_clicks(database: Database, *moments: datetime, **changes: Any) -> None:
    values = {"attachment_id": 1, "post_id": 7, "bot": False, **changes}
    with database.write() as session:
        for at in moments:
            clicks.add(session, at=at, **values)


def add_order(database: Database, order_id: str, at: datetime, **changes: Any) -> None:
    times = {"created_at": at, "paid_at": at}
    with database.write() as session:
        session.add(rows.order(order_id, **{**PLAIN, **times, **changes}))


def test_moments_are_grouped_by_their_quarter_of_an_hour(database: Database) -> None:
    nearly = BEGIN + timedelta(minutes=14, seconds=59, microseconds=999_999)
    add_clicks(database, BEGIN, nearly, BEGIN + 15 * MINUTE, LAST_MOMENT)
    with database.read() as session:
        found = sorted(reports.clicks_by_quarter(session, SPAN))
    assert found == [
        (epoch(BEGIN), 2),
        (epoch(BEGIN + 15 * MINUTE), 1),
        (epoch(SPAN.until) - 900, 1),
    ]


def test_what_lies_outside_of_the_span_and_bots_are_left_out(database: Database) -> None:
    add_clicks(database, SPAN.since - timedelta(microseconds=1), SPAN.until)
    add_clicks(database, BEGIN, bot=True)
    for order_id, at in (("early", BEGIN - MINUTE), ("late", SPAN.until)):
        add_order(database, order_id, at)
    add_order(database, "live", BEGIN, livemode=True, currency="eur", paid_currency="eur")
    with database.read() as session:
        assert not list(reports.clicks_by_quarter(session, SPAN))
        assert not list(reports.clicks_by_thing(session, SPAN))
        assert not list(reports.checkouts_by_quarter(session, SPAN))
        assert not list(reports.checkouts_by_thing(session, SPAN))
        assert not list(reports.sales_by_quarter(session, SPAN))
        assert not list(reports.sales_by_thing(session, SPAN))
        assert not list(reports.sales_as_begun(session, SPAN))
        assert reports.first_and_last_begun(session, SPAN) is None
        assert reports.customers(session, SPAN) == (0, 0)
        assert reports.credits_taken(session, SPAN) == 0
        assert [sums.currency for _, sums in reports.sales_by_quarter(session, LIVE)] == ["eur"]


def test_clicks_that_come_at_once_are_all_counted(database: Database) -> None:
    together = threading.Barrier(50)

    def work() -> None:
        together.wait()
        add_clicks(database, BEGIN)

    threads = [threading.Thread(target=work) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as session:
        assert list(reports.clicks_by_quarter(session, SPAN)) == [(epoch(BEGIN), 50)]


def test_sales_are_summed_apart_for_each_pair_of_currencies(database: Database) -> None:
    add_order(database, "a", BEGIN, fee_minor=65, fee_currency="eur", refunded_minor=200)
    add_order(database, "b", BEGIN + MINUTE, fee_minor=60, fee_currency="eur")
    add_order(database, "c", BEGIN, completed_at=None)
    add_order(database, "d", BEGIN, paid_minor=900, paid_currency="eur")
    add_order(database, "e", BEGIN, paid_minor=None, paid_currency=None)
    with database.read() as session:
        by_quarter = list(reports.sales_by_quarter(session, SPAN))
        by_thing = list(reports.sales_by_thing(session, SPAN))
    assert {quarter for quarter, _ in by_quarter} == {epoch(BEGIN)}
    assert {thing for thing, _ in by_thing} == {Thing(1, 7, "4x")}
    expected = {
        SaleSums(2, "usd", 2400, 200, "eur", 125, 0, 320_000),
        SaleSums(2, "usd", 1200, 0, None, 0, 2, 160_000),
        SaleSums(1, "eur", 900, 0, None, 0, 1, 160_000),
    }
    assert {sums for _, sums in by_quarter} == expected
    assert {sums for _, sums in by_thing} == expected


def test_sums_are_whole_numbers_however_large(database: Database) -> None:
    for order_id in ("a", "b"):
        add_order(database, order_id, BEGIN, paid_minor=2**53 + 1)
    with database.read() as session:
        [(_, sums)] = reports.sales_by_quarter(session, SPAN)
    assert sums.gross_minor == 2**54 + 2
    assert type(sums.gross_minor) is int


def test_clicks_and_checkouts_are_counted_by_thing(database: Database) -> None:
    add_clicks(database, BEGIN, BEGIN)
    add_clicks(database, BEGIN, post_id=None)
    add_clicks(database, BEGIN, attachment_id=2)
    add_order(database, "paid", BEGIN)
    add_order(database, "open", BEGIN, paid_at=None)
    add_order(database, "other", BEGIN, post_id=None, resolution="8x", paid_at=None)
    with database.read() as session:
        clicked = dict(reports.clicks_by_thing(session, SPAN))
        begun = dict(reports.checkouts_by_thing(session, SPAN))
    assert clicked == {Thing(1, 7, None): 2, Thing(1, None, None): 1, Thing(2, 7, None): 1}
    assert begun == {Thing(1, 7, "4x"): 2, Thing(1, None, "8x"): 1}


def test_an_address_that_bought_twice_is_one_customer_who_came_back(database: Database) -> None:
    for order_id, email in [
        ("a", "Jo@Example.com"), ("b", "jo@example.com"), ("c", "cas@example.com"), ("d", None), ("e", None),
    ]:  # fmt: skip
        add_order(database, order_id, BEGIN, email=email)
    add_order(database, "unpaid", BEGIN, email="cas@example.com", paid_at=None)
    with database.read() as session:
        assert reports.customers(session, SPAN) == (2, 1)


def test_credits_are_counted_for_every_attempt_but_those_given_back(database: Database) -> None:
    add_order(database, "a", BEGIN)
    add_order(database, "unpaid", BEGIN, paid_at=None)
    given_back = "The model crashed. Your credits have been refunded."
    with database.write() as session:
        session.add_all(
            [
                rows.upscale("a", 1, state="failed", error=given_back, credit_cost=8),
                rows.upscale("a", 2, state="failed", error="Wrong size.", credit_cost=4),
                rows.upscale("a", 3, state="succeeded", credit_cost=5),
                rows.upscale("a", 4, state="succeeded", credit_cost=None),
                rows.upscale("unpaid", 1, credit_cost=100),
            ]
        )
    with database.read() as session:
        assert reports.credits_taken(session, SPAN) == 9


def test_sales_and_clicks_are_read_in_the_order_of_time(database: Database) -> None:
    add_order(database, "later", BEGIN + 9 * MINUTE, paid_at=BEGIN + 10 * MINUTE)
    add_order(database, "first", BEGIN - MINUTE, paid_at=BEGIN + 11 * MINUTE, attachment_id=2)
    add_clicks(database, BEGIN, BEGIN - MINUTE, LAST_MOMENT)
    add_clicks(database, BEGIN, bot=True)
    with database.read() as session:
        sales = list(reports.sales_as_begun(session, SPAN))
        span = reports.first_and_last_begun(session, SPAN)
        clicked = list(reports.clicks_as_made(session, BEGIN - MINUTE, BEGIN))
    assert sales == [
        Sale(2, epoch(BEGIN - MINUTE), epoch(BEGIN + 11 * MINUTE)),
        Sale(1, epoch(BEGIN + 9 * MINUTE), epoch(BEGIN + 10 * MINUTE)),
    ]
    assert span == (BEGIN - MINUTE, BEGIN + 9 * MINUTE)
    assert clicked == [(1, epoch(BEGIN - MINUTE)), (1, epoch(BEGIN))]


def test_a_customer_has_paid_when_his_money_is_reserved(database: Database) -> None:
    add_order(database, "a", BEGIN, authorized_at=BEGIN + MINUTE, paid_at=BEGIN + 30 * MINUTE)
    with database.read() as session:
        assert list(reports.sales_as_begun(session, SPAN)) == [
            Sale(1, epoch(BEGIN), epoch(BEGIN + MINUTE))
        ]


def test_a_title_comes_from_the_catalogue_or_else_from_the_orders(database: Database) -> None:
    add_order(database, "a", BEGIN, title="Old name", attachment_id=1)
    add_order(database, "b", BEGIN, title="Sold out", attachment_id=2)
    paid_later = {"created_at": BEGIN - timedelta(days=3), "attachment_id": 5}
    add_order(database, "c", BEGIN, title="Begun before", **paid_later)
    with database.write() as session:
        session.add_all([rows.image(1, title="New name"), rows.image(3), rows.image(4)])
    with database.read() as session:
        found = reports.titles(session, {1, 2, 3, 5, 99}, SPAN)
    assert found == {1: "New name", 2: "Sold out", 3: rows.TEXT, 5: "Begun before"}


@pytest.mark.parametrize("attachment_id", [1, 2])
def test_all_questions_of_a_session_see_one_moment(database: Database, attachment_id: int) -> None:
    add_clicks(database, BEGIN)
    with database.read() as session:
        reports.see_one_moment(session)
        before = list(reports.clicks_by_quarter(session, SPAN))
        add_clicks(database, BEGIN, attachment_id=attachment_id)
        assert list(reports.clicks_by_quarter(session, SPAN)) == before
    with database.read() as session:
        assert list(reports.clicks_by_quarter(session, SPAN)) == [(epoch(BEGIN), 2)]

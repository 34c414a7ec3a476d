"""What a report says: whose day it is, what a sale is, and money that is never mixed."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from smi_desktop.config import Mode
from smi_desktop.domain.errors import InvalidInputError
from smi_desktop.domain.money import Money
from smi_desktop.services.report import (
    Grouping,
    Line,
    Report,
    Waiting,
    choose_period,
    make_report,
)
from smi_desktop.store import clicks
from smi_desktop.store.database import Database
from tests.integration.store import rows
from tests.world import World

NOON = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
# An order whose money came at once, stayed, and whose fee is not known.
PLAIN = {"authorized_at": None, "refunded_minor": 0, "fee_minor": None, "fee_currency": None}


def click_at(world: World, *moments: datetime, **changes: Any) -> None:
    with world.database.write() as session:
        for at in moments:
            clicks.add(
                session, **{"at": at, "attachment_id": 1, "post_id": 7, "bot": False, **changes}
            )


def sell(world: World, order_id: str, at: datetime = NOON, **changes: Any) -> None:
    times = {"created_at": at, "paid_at": at}
    with world.database.write() as session:
        session.add(rows.order(order_id, **{**PLAIN, **times, **changes}))


def report(world: World, first: date | None = None, last: date | None = None) -> Report:
    return make_report(world.shop, choose_period(world.shop, first, last))


def counts(lines: tuple[Line, ...]) -> dict[Any, tuple[int | None, int, int]]:
    return {line.key: (line.clicks, line.checkouts, line.sales) for line in lines if not line.empty}


# --- the days -----------------------------------------------------------------------------------------


def test_the_last_thirty_days_are_reported_if_none_are_named(world: World) -> None:
    period = choose_period(world.shop)
    assert (period.first, period.last) == (date(2025, 12, 17), date(2026, 1, 15))
    assert len(report(world).by[Grouping.DAY]) == 30


def test_today_is_the_shops_today(world: World) -> None:
    world.set(time_zone="Pacific/Kiritimati")
    assert choose_period(world.shop).last == date(2026, 1, 16)


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [
        (date(2026, 1, 16), None, "begin on 2026-01-16, after its last day, 2026-01-15"),
        (date(2026, 1, 2), date(2026, 1, 1), "after its last day"),
        (date(2010, 1, 1), None, "3700 days at most"),
        (None, date.max, "2000 to 2999"),
        (None, date.min, "2000 to 2999"),
    ],
)
def test_days_that_make_no_report_are_refused(
    world: World, first: date | None, last: date | None, words: str
) -> None:
    with pytest.raises(InvalidInputError, match=words):
        choose_period(world.shop, first, last)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("Europe/Berlin", date(2026, 7, 1), 24),
        ("Africa/Cairo", date(2026, 4, 24), 23),  # Midnight itself is skipped.
        ("Africa/Cairo", date(2026, 10, 29), 25),
        ("Australia/Lord_Howe", date(2026, 4, 5), 24.5),
        ("Asia/Kathmandu", date(2026, 1, 1), 24),
    ],
)
def test_a_day_is_as_long_as_it_is_in_the_shops_zone(
    world: World, zone: str, day: date, hours: float
) -> None:
    world.set(time_zone=zone)
    period = choose_period(world.shop, day, day)
    assert period.until - period.since == timedelta(hours=hours)
    one = timedelta(microseconds=1)
    click_at(world, period.since - one, period.since, period.until - one, period.until)
    around = report(world, day - timedelta(days=1), day + timedelta(days=1))
    assert [line.clicks for line in around.by[Grouping.DAY]] == [1, 2, 1]
    assert report(world, day, day).total.clicks == 2


@pytest.mark.parametrize(
    ("zone", "hour", "weekday"),
    [
        ("UTC", 18, 4),
        ("Asia/Kathmandu", 0, 5),
        ("Australia/Eucla", 3, 5),
        ("Pacific/Marquesas", 8, 4),
    ],
)
def test_hours_and_weekdays_are_the_shops_own(
    world: World, zone: str, hour: int, weekday: int
) -> None:
    """Kathmandu is 5:45 ahead of UTC, Eucla 8:45, the Marquesas are 9:30 behind."""
    world.set(time_zone=zone)
    click_at(world, datetime(2026, 1, 15, 18, 20, tzinfo=UTC))
    found = report(world, date(2026, 1, 14), date(2026, 1, 17))
    assert counts(found.by[Grouping.HOUR]) == {hour: (1, 0, 0)}
    assert counts(found.by[Grouping.WEEKDAY]) == {weekday: (1, 0, 0)}
    assert [line.key for line in found.by[Grouping.HOUR]] == list(range(24))
    assert [line.key for line in found.by[Grouping.WEEKDAY]] == [1, 2, 3, 4, 5, 6, 7]


def test_an_hour_that_comes_twice_is_one_hour_of_the_day(world: World) -> None:
    world.set(time_zone="Europe/Berlin")
    click_at(world, *(datetime(2026, 10, 25, hour, 30, tzinfo=UTC) for hour in (0, 1)))
    found = report(world, date(2026, 10, 25), date(2026, 10, 25))
    assert counts(found.by[Grouping.HOUR]) == {2: (2, 0, 0)}


# --- what is counted ----------------------------------------------------------------------------------


def test_an_empty_shop_has_a_report(world: World) -> None:
    found = report(world)
    assert found.total.empty
    assert found.total.conversion is None
    assert (found.total.revenue, found.total.fees, found.popular_size) == ((), (), None)
    assert (found.customers, found.repeat_customers, found.credits) == (0, 0, 0)
    assert found.click_to_payment is None
    assert found.by[Grouping.IMAGE] == found.by[Grouping.POST] == found.by[Grouping.SIZE] == ()


def test_a_sale_without_any_click_has_no_conversion(world: World) -> None:
    sell(world, "a")
    found = report(world)
    assert (found.total.clicks, found.total.sales, found.total.conversion) == (0, 1, None)


def test_bots_do_not_lower_the_conversion(world: World) -> None:
    click_at(world, NOON, NOON, NOON, NOON)
    click_at(world, *[NOON] * 5, bot=True)
    sell(world, "a")
    assert report(world).total.conversion == 0.25


def test_a_checkout_counts_when_it_begins_and_a_sale_when_it_is_paid(world: World) -> None:
    sell(world, "a", created_at=NOON - timedelta(days=1))
    sell(world, "b", created_at=NOON, paid_at=None)
    found = counts(report(world).by[Grouping.DAY])
    assert found == {date(2026, 1, 14): (0, 1, 0), date(2026, 1, 15): (0, 1, 1)}


def test_only_orders_of_the_shops_mode_count(world: World, sqlite_database: Database) -> None:
    sell(world, "test")
    sell(world, "live", livemode=True, paid_minor=9900)
    live = World(world.folder, sqlite_database, mode=Mode.LIVE)
    assert [line.gross for line in report(world).total.revenue] == [Money(1200, "usd")]
    assert [line.gross for line in report(live).total.revenue] == [Money(9900, "usd")]
    assert (report(world).livemode, report(live).livemode) == (False, True)


def test_every_grouping_adds_up_to_the_total(world: World) -> None:
    click_at(world, NOON, NOON - timedelta(days=2))
    click_at(world, NOON, attachment_id=2, post_id=None)
    sell(world, "a", fee_minor=65, fee_currency="usd", refunded_minor=100)
    sell(world, "b", NOON - timedelta(days=3), attachment_id=2, post_id=None, resolution="8x")
    sell(world, "c", paid_minor=1000, paid_currency="eur", attachment_id=3, post_id=8)
    sell(world, "d", paid_at=None)
    found = report(world)
    total = found.total
    for grouping, lines in found.by.items():
        if grouping is not Grouping.SIZE:
            assert sum(line.clicks or 0 for line in lines) == total.clicks == 3
        assert sum(line.checkouts for line in lines) == total.checkouts == 4
        assert sum(line.sales for line in lines) == total.sales == 3
        assert sum(line.cost_micro_usd for line in lines) == total.cost_micro_usd == 480_000
        assert sum(line.sales_without_fee for line in lines) == total.sales_without_fee == 2
        for whole in total.revenue:
            parts = [
                part for line in lines for part in line.revenue if part.gross.currency == whole.gross.currency
            ]  # fmt: skip
            nothing = Money(0, whole.gross.currency)
            assert sum((part.gross for part in parts), nothing) == whole.gross
            assert sum((part.net for part in parts), nothing) == whole.net
    assert [line.clicks for line in found.by[Grouping.SIZE]] == [None, None]


def test_the_best_seller_stands_first_and_a_pictures_title_beside_it(world: World) -> None:
    click_at(world, NOON, NOON, NOON, attachment_id=3)
    click_at(world, NOON)
    sell(world, "a", attachment_id=2, resolution="8x")
    sell(world, "b", attachment_id=2, resolution="8x", title="Pier")
    sell(world, "c", title="Harbour")
    with world.database.write() as session:
        session.add(rows.image(2, title="Old pier"))
    found = report(world)
    assert [(line.key, line.title) for line in found.by[Grouping.IMAGE]] == [
        (2, "Old pier"), (1, "Harbour"), (3, None)
    ]  # fmt: skip
    assert counts(found.by[Grouping.SIZE]) == {"8x": (None, 2, 2), "4x": (None, 1, 1)}
    assert found.popular_size == "8x"


def test_a_sale_without_a_post_stands_in_a_line_of_its_own(world: World) -> None:
    sell(world, "a", post_id=None)
    sell(world, "b", post_id=7)
    assert [line.key for line in report(world).by[Grouping.POST]] == [7, None]


# --- money --------------------------------------------------------------------------------------------


def test_currencies_are_never_added_up(world: World) -> None:
    sell(world, "a", paid_minor=1000, paid_currency="usd", fee_minor=59, fee_currency="eur")
    sell(world, "b", paid_minor=2001, paid_currency="usd", fee_minor=80, fee_currency="eur")
    sell(world, "c", paid_minor=5000, paid_currency="jpy", fee_minor=180, fee_currency="jpy")
    total = report(world).total
    assert [(line.sales, line.gross, line.average) for line in total.revenue] == [
        (2, Money(3001, "usd"), Money(1501, "usd")),
        (1, Money(5000, "jpy"), Money(5000, "jpy")),
    ]
    assert total.fees == (Money(139, "eur"), Money(180, "jpy"))
    assert total.sales_without_fee == 0


def test_a_refund_is_booked_to_the_day_of_its_sale(world: World) -> None:
    sell(world, "a", NOON - timedelta(days=5), refunded_minor=1200, status="refunded")
    sell(world, "b", refunded_minor=300)
    days = {line.key: line.revenue for line in report(world).by[Grouping.DAY] if line.revenue}
    assert days[date(2026, 1, 10)][0].net == Money(0, "usd")
    assert days[date(2026, 1, 15)][0].refunds == Money(300, "usd")
    assert days[date(2026, 1, 15)][0].net == Money(900, "usd")


def test_a_picture_that_was_never_made_has_cost_nothing(world: World) -> None:
    sell(world, "made")
    sell(world, "failed", completed_at=None, status="refunded")
    assert report(world).total.cost_micro_usd == 160_000


def test_credits_are_valued_at_their_present_price(world: World) -> None:
    world.set(usd_per_credit="0.035")
    sell(world, "a")
    with world.database.write() as session:
        session.add_all([rows.upscale("a", 1, credit_cost=3), rows.upscale("a", 2, credit_cost=4)])
    found = report(world)
    assert (found.credits, found.credits_micro_usd) == (7, 245_000)


def test_whoever_buys_again_is_one_customer(world: World) -> None:
    for order_id, email in (
        ("a", "Jo@Example.com"),
        ("b", "jo@example.com"),
        ("c", "cas@example.com"),
    ):
        sell(world, order_id, email=email)
    found = report(world)
    assert (found.customers, found.repeat_customers) == (2, 1)


# --- from click to payment ----------------------------------------------------------------------------


def test_a_sale_begins_with_the_latest_click_on_its_picture(world: World) -> None:
    click_at(world, NOON - 50 * MINUTE, NOON - 2 * MINUTE)
    click_at(world, NOON - MINUTE, attachment_id=2)
    click_at(world, NOON - MINUTE, bot=True)
    click_at(world, NOON + MINUTE)
    sell(world, "a", created_at=NOON, paid_at=NOON + 3 * MINUTE)
    assert report(world).click_to_payment == Waiting(1, 300, 300)


@pytest.mark.parametrize(("age", "counts_for"), [(60 * MINUTE, 1), (61 * MINUTE, 0)])
def test_a_click_counts_for_an_hour(world: World, age: timedelta, counts_for: int) -> None:
    click_at(world, NOON - age)
    sell(world, "a")
    found = report(world).click_to_payment
    assert (found.sales if found else 0) == counts_for


def test_a_click_of_the_day_before_the_report_counts_too(world: World) -> None:
    midnight = datetime(2026, 1, 15, tzinfo=UTC)
    click_at(world, midnight - 10 * MINUTE)
    sell(world, "a", created_at=midnight - 9 * MINUTE, paid_at=midnight)
    today = date(2026, 1, 15)
    assert report(world, today, today).click_to_payment == Waiting(1, 600, 600)


def test_half_and_nine_in_ten_took_no_longer(world: World) -> None:
    for number in range(1, 11):
        began = NOON - number * 60 * MINUTE
        click_at(world, began, attachment_id=number)
        paid = began + timedelta(seconds=number * 10)
        sell(world, f"o{number}", created_at=began, paid_at=paid, attachment_id=number)
    assert report(world).click_to_payment == Waiting(10, 55, 90)


def test_a_clock_that_was_set_back_makes_no_negative_time(world: World) -> None:
    click_at(world, NOON)
    sell(world, "a", created_at=NOON, paid_at=NOON - MINUTE)
    assert report(world).click_to_payment == Waiting(1, 0, 0)

"""What the shop sold, to whom it may have mattered and what it kept: the report over some days.

Sole owner of what the report's words mean:

- A day is one of the shop's time zone, with its 23, 24 or 25 hours.
- Clicks are those of people; see services/clicks.
- A checkout begun is an order, whether it was paid or not, counted when it was begun.
- A sale is an order that was paid, counted when the payment arrived. A refund is booked to its order's sale,
  so to the day of the payment, whenever it was made; a report of past days may therefore change.
- Money is never added across currencies. Only the orders of the shop's own mode count: live or test.
- The average order value is gross per sale: before refunds, fees and costs.
- The upscaling cost by the formula is that of the sales whose picture was made; the credits taken are what
  the upscaler told for the attempts of the span's sales, without those that it says it gave back.
- Nothing identifies who clicked. The time from click to payment is therefore an estimate: a sale is taken
  to have begun with the latest click on the same picture within the hour before its checkout was begun;
  sales without such a click are left out. Money that is reserved first counts as paid from then on here.
"""

from __future__ import annotations

import math
import statistics
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from typing import Any, Final, TypeAlias
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from smi_desktop.domain.errors import InvalidInputError
from smi_desktop.domain.money import Money
from smi_desktop.services.shop import Shop
from smi_desktop.store import reports
from smi_desktop.store.reports import SaleSums, Span, Thing

_DEFAULT_DAYS: Final = 30
_MOST_DAYS: Final = 3_700
_CLICK_COUNTS_FOR: Final = timedelta(minutes=60)
_PERCENTILE: Final = 0.9
_MICRO: Final = 1_000_000


Key: TypeAlias = date | int | str | None


class Grouping(StrEnum):
    """What a report's lines may stand for."""

    DAY = "day"
    HOUR = "hour"
    """Of the day, 0 to 23."""
    WEEKDAY = "weekday"
    """1 is Monday, 7 is Sunday (ISO 8601)."""
    IMAGE = "image"
    POST = "post"
    SIZE = "size"


_OF_TIME: Final = (Grouping.DAY, Grouping.HOUR, Grouping.WEEKDAY)


@dataclass(frozen=True, slots=True)
class Period:
    """The days from `first` to `last`, both included, in a time zone."""

    first: date
    last: date
    zone: ZoneInfo

    @property
    def since(self) -> datetime:
        """The first moment of the first day, aware UTC."""
        return self._begin(self.first)

    @property
    def until(self) -> datetime:
        """The first moment after the last day, aware UTC."""
        return self._begin(self.last + timedelta(days=1))

    def days(self) -> Iterator[date]:
        """Give each day."""
        for number in range((self.last - self.first).days + 1):
            yield self.first + timedelta(days=number)

    def _begin(self, day: date) -> datetime:
        # Where clocks skip midnight this is the moment of the jump; where it comes twice, the first one.
        return datetime.combine(day, time(), self.zone).astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Revenue:
    """The sales of one currency. Amounts of other currencies stand in other rows."""

    sales: int
    gross: Money
    refunds: Money

    @property
    def net(self) -> Money:
        """What was paid without what went back."""
        return self.gross - self.refunds

    @property
    def average(self) -> Money:
        """Gross per sale, to the nearest minor unit."""
        each = Decimal(self.gross.amount_minor) / self.sales
        return Money(int(each.to_integral_value(ROUND_HALF_UP)), self.gross.currency)


@dataclass(frozen=True, slots=True)
class Line:
    """The figures of one day, picture, size and so on, or of all together.

    Attributes:
        key: What the line stands for: a date, a number, a size; None for sales without a post, and for the total.
        title: A picture's title.
        clicks: People's clicks; None for a size, which no click names.
        revenue: One entry per currency, the one with the most sales first.
        fees: The payment provider's fees, one amount per currency.
        sales_without_fee: Sales whose fee is not known, or not known yet.
        cost_micro_usd: Upscaling cost by the formula, in millionths of a US dollar.
    """

    key: Key
    title: str | None
    clicks: int | None
    checkouts: int
    sales: int
    revenue: tuple[Revenue, ...]
    fees: tuple[Money, ...]
    sales_without_fee: int
    cost_micro_usd: int

    @property
    def conversion(self) -> float | None:
        """Sales per click; None where there was no click to sell to."""
        return self.sales / self.clicks if self.clicks else None

    @property
    def empty(self) -> bool:
        """Whether nothing happened."""
        return not (self.clicks or self.checkouts or self.sales)


@dataclass(frozen=True, slots=True)
class Waiting:
    """How long it took from click to payment, in seconds, over the sales that have a click.

    Attributes:
        p90_seconds: Nine in ten took no longer.
    """

    sales: int
    median_seconds: float
    p90_seconds: int


@dataclass(frozen=True, slots=True)
class Report:
    """The whole report.

    Attributes:
        credits: What the upscaler took for the sales, in its credits, all attempts together.
        credits_micro_usd: The same at the shop's present price of a credit, in millionths of a US dollar.
        customers: Addresses that bought; `repeat_customers` bought more than once within the period.
        click_to_payment: None where no sale has a click.
    """

    period: Period
    livemode: bool
    total: Line
    by: Mapping[Grouping, tuple[Line, ...]]
    credits: int
    credits_micro_usd: int
    customers: int
    repeat_customers: int
    click_to_payment: Waiting | None

    @property
    def popular_size(self) -> str | None:
        """The size that sold most; None without sales."""
        sizes = self.by[Grouping.SIZE]
        return str(sizes[0].key) if sizes and sizes[0].sales else None


def choose_period(shop: Shop, first: date | None = None, last: date | None = None) -> Period:
    """Return the days to report about: up to today if no last one is named, 30 of them if no first one.

    Raises:
        InvalidInputError: The first day is after the last one, or it is no span of our time.
    """
    zone = shop.settings().zone
    last = last or shop.now().astimezone(zone).date()
    if not date(2000, 1, 1) <= last <= date(2999, 12, 31):
        raise InvalidInputError("A report is about days of the years 2000 to 2999.")
    first = first or last - timedelta(days=_DEFAULT_DAYS - 1)
    if first > last:
        raise InvalidInputError(f"The report would begin on {first}, after its last day, {last}.")
    if (last - first).days >= _MOST_DAYS:
        raise InvalidInputError(f"A report covers {_MOST_DAYS} days at most.")
    return Period(first, last, zone)


def make_report(shop: Shop, period: Period) -> Report:
    """Make the report about some days.

    Raises:
        TransientError: The database cannot be read at the moment.
    """
    span = Span(period.since, period.until, shop.livemode)
    with shop.database.read() as session:
        reports.see_one_moment(session)
        book = _Book(period)
        book.read_moments(session, span)
        book.read_things(session, span)
        titles = reports.titles(session, book.of[Grouping.IMAGE], span)
        taken = reports.credits_taken(session, span)
        customers, repeat_customers = reports.customers(session, span)
        waiting = _measure_waiting(session, span)
    each = int((shop.settings().usd_per_credit * _MICRO).to_integral_value(ROUND_HALF_UP))
    return Report(
        period=period,
        livemode=span.livemode,
        total=book.total.line(None),
        by={grouping: tuple(book.lines(grouping, titles)) for grouping in Grouping},
        credits=taken,
        credits_micro_usd=taken * each,
        customers=customers,
        repeat_customers=repeat_customers,
        click_to_payment=waiting,
    )


@dataclass(slots=True)
class _Tally:
    """One line while it is added up."""

    clicks: int = 0
    checkouts: int = 0
    sales: int = 0
    sales_without_fee: int = 0
    cost_micro_usd: int = 0
    revenue: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    fees: dict[str, int] = field(default_factory=dict)

    def add_sales(self, sums: SaleSums) -> None:
        self.sales += sums.sales
        self.sales_without_fee += sums.without_fee
        self.cost_micro_usd += sums.cost_micro_usd
        count, gross, refunded = self.revenue.get(sums.currency, (0, 0, 0))
        self.revenue[sums.currency] = (
            count + sums.sales,
            gross + sums.gross_minor,
            refunded + sums.refunded_minor,
        )
        if sums.fee_currency is not None:
            self.fees[sums.fee_currency] = self.fees.get(sums.fee_currency, 0) + sums.fee_minor

    def line(self, key: Key, title: str | None = None, *, knows_clicks: bool = True) -> Line:
        most_first = sorted(self.revenue.items(), key=lambda item: (-item[1][0], item[0]))
        return Line(
            key=key,
            title=title,
            clicks=self.clicks if knows_clicks else None,
            checkouts=self.checkouts,
            sales=self.sales,
            revenue=tuple(
                Revenue(count, Money(gross, currency), Money(refunded, currency))
                for currency, (count, gross, refunded) in most_first
            ),
            fees=tuple(Money(amount, currency) for currency, amount in sorted(self.fees.items())),
            sales_without_fee=self.sales_without_fee,
            cost_micro_usd=self.cost_micro_usd,
        )


class _Book:
    """Adds up the database's groups into a line for each day, picture and so on."""

    def __init__(self, period: Period) -> None:
        self._zone = period.zone
        self.total = _Tally()
        self.of: dict[Grouping, defaultdict[Any, _Tally]] = {
            grouping: defaultdict(_Tally) for grouping in Grouping
        }
        empty: dict[Grouping, Iterable[Key]] = {
            Grouping.DAY: period.days(),
            Grouping.HOUR: range(24),
            Grouping.WEEKDAY: range(1, 8),
        }
        for grouping, keys in empty.items():
            for key in keys:
                self.of[grouping][key] = _Tally()

    def read_moments(self, session: Session, span: Span) -> None:
        """Add up by day, hour and weekday, and the total."""
        for quarter, count in reports.clicks_by_quarter(session, span):
            for tally in self._at(quarter):
                tally.clicks += count
        for quarter, count in reports.checkouts_by_quarter(session, span):
            for tally in self._at(quarter):
                tally.checkouts += count
        for quarter, sums in reports.sales_by_quarter(session, span):
            for tally in self._at(quarter):
                tally.add_sales(sums)

    def read_things(self, session: Session, span: Span) -> None:
        """Add up by picture, post and size."""
        for thing, count in reports.clicks_by_thing(session, span):
            for tally in self._about(thing):
                tally.clicks += count
        for thing, count in reports.checkouts_by_thing(session, span):
            for tally in self._about(thing):
                tally.checkouts += count
        for thing, sums in reports.sales_by_thing(session, span):
            for tally in self._about(thing):
                tally.add_sales(sums)

    def lines(self, grouping: Grouping, titles: Mapping[int, str]) -> Iterator[Line]:
        """Give the lines: of time in its order, of things the best seller first."""
        found: list[tuple[Any, _Tally]] = list(self.of[grouping].items())
        if grouping in _OF_TIME:
            found.sort(key=lambda item: item[0])
        else:
            found.sort(
                key=lambda item: (
                    -item[1].sales, -item[1].clicks, -item[1].checkouts, item[0] is None, item[0]
                )
            )  # fmt: skip
        for key, tally in found:
            title = titles.get(key) if grouping is Grouping.IMAGE else None
            yield tally.line(key, title, knows_clicks=grouping is not Grouping.SIZE)

    def _at(self, quarter: int) -> tuple[_Tally, ...]:
        moment = datetime.fromtimestamp(quarter, self._zone)
        return (
            self.total,
            self.of[Grouping.DAY][moment.date()],
            self.of[Grouping.HOUR][moment.hour],
            self.of[Grouping.WEEKDAY][moment.isoweekday()],
        )

    def _about(self, thing: Thing) -> Iterator[_Tally]:
        yield self.of[Grouping.IMAGE][thing.attachment_id]
        yield self.of[Grouping.POST][thing.post_id]
        if thing.resolution is not None:
            yield self.of[Grouping.SIZE][thing.resolution]


def _measure_waiting(session: Session, span: Span) -> Waiting | None:
    """Walk through the sales and the clicks side by side, both in the order of time."""
    begun = reports.first_and_last_begun(session, span)
    if begun is None:
        return None
    counts_for = int(_CLICK_COUNTS_FOR.total_seconds())
    clicks = reports.clicks_as_made(session, begun[0] - _CLICK_COUNTS_FOR, begun[1])
    picture, clicked = next(clicks, (0, math.inf))
    latest: dict[int, float] = {}
    seconds = array("q")
    for sale in reports.sales_as_begun(session, span):
        while clicked <= sale.begun:
            latest[picture] = clicked
            picture, clicked = next(clicks, (0, math.inf))
        began = latest.get(sale.attachment_id, -math.inf)
        if sale.begun - began <= counts_for:
            seconds.append(max(0, sale.paid - int(began)))
    if not seconds:
        return None
    in_order = sorted(seconds)
    nine_in_ten = in_order[math.ceil(len(in_order) * _PERCENTILE) - 1]
    return Waiting(len(in_order), statistics.median(in_order), nine_in_ten)

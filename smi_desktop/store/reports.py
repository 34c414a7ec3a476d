"""Sums over clicks and orders for reports. Knows nothing of days: a time zone is not the database's business.

Moments are grouped by the quarter of an hour in UTC, because every zone of our time is a whole number of
quarters away from UTC and changes its clocks on one; who asks folds the quarters into its own hours and days.
A span is [since, until), aware. A sale is an order whose `paid_at` lies in the span.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeAlias

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Row,
    Select,
    and_,
    case,
    func,
    literal_column,
    not_,
    select,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from smi_desktop.store.models import Click, Image, Order, PlainText, Upscale

_AnySelect: TypeAlias = Select[*tuple[Any, ...]]
_Moment: TypeAlias = InstrumentedAttribute[datetime] | InstrumentedAttribute[datetime | None]
_QUARTER_SECONDS: Final = 900
_ROWS_AT_ONCE: Final = 2_000


@dataclass(frozen=True, slots=True)
class Span:
    """What a report looks at: the moments [since, until), and live or test orders."""

    since: datetime
    until: datetime
    livemode: bool


class Thing(NamedTuple):
    """What was sold: a picture on a post in a size. A click knows no size, an order may know no post."""

    attachment_id: int
    post_id: int | None
    resolution: str | None


class SaleSums(NamedTuple):
    """What some sales of one currency add up to.

    Attributes:
        sales: How many.
        currency: The currency that they were paid in.
        gross_minor: Paid, in its minor units.
        refunded_minor: Of that gone back, whenever it went.
        fee_currency: The currency of Stripe's fees; None where none is known.
        fee_minor: Those fees, in minor units of `fee_currency`.
        without_fee: How many of the sales have no known fee.
        cost_micro_usd: What the formula says that the pictures made cost, in millionths of a US dollar.
    """

    sales: int
    currency: str
    gross_minor: int
    refunded_minor: int
    fee_currency: str | None
    fee_minor: int
    without_fee: int
    cost_micro_usd: int


class Sale(NamedTuple):
    """When one sale began as a checkout and when its customer had paid, in whole seconds since 1970.

    Like the groups above it is a tuple, and its moments are numbers: there may be a hundred thousand.
    """

    attachment_id: int
    begun: int
    paid: int


def see_one_moment(session: Session) -> None:
    """Let all of this session's questions see the same state; to be called before the first of them.

    A transaction of SQLite does so by itself.
    """
    if session.get_bind().dialect.name != "sqlite":
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})


def clicks_by_quarter(session: Session, span: Span) -> Iterator[tuple[int, int]]:
    """Give (epoch seconds of a quarter's beginning, people's clicks in it)."""
    query = _clicks(select(_quarter(Click.at), func.count()), span).group_by("quarter")
    return ((quarter * _QUARTER_SECONDS, count) for quarter, count in _stream(session, query))


def clicks_by_thing(session: Session, span: Span) -> Iterator[tuple[Thing, int]]:
    """Give people's clicks on each picture of each post."""
    keys = (Click.attachment_id, Click.post_id)
    query = _clicks(select(*keys, func.count()), span).group_by(*keys)
    return ((Thing(picture, post, None), count) for picture, post, count in _stream(session, query))


def checkouts_by_quarter(session: Session, span: Span) -> Iterator[tuple[int, int]]:
    """Give (epoch seconds of a quarter's beginning, checkouts begun in it)."""
    query = _begun(select(_quarter(Order.created_at), func.count()), span).group_by("quarter")
    return ((quarter * _QUARTER_SECONDS, count) for quarter, count in _stream(session, query))


def checkouts_by_thing(session: Session, span: Span) -> Iterator[tuple[Thing, int]]:
    """Give the checkouts begun for each thing."""
    query = _begun(select(*_THING, func.count()), span).group_by(*_THING)
    return ((Thing(*key), count) for *key, count in _stream(session, query))


def sales_by_quarter(session: Session, span: Span) -> Iterator[tuple[int, SaleSums]]:
    """Give the sales of each quarter, apart for each pair of currencies."""
    query = _sold(select(_quarter(Order.paid_at), *_sums()), span).group_by("quarter", *_CURRENCIES)
    return (
        (quarter * _QUARTER_SECONDS, _sale_sums(sums)) for quarter, *sums in _stream(session, query)
    )


def sales_by_thing(session: Session, span: Span) -> Iterator[tuple[Thing, SaleSums]]:
    """Give the sales of each thing, apart for each pair of currencies."""
    query = _sold(select(*_THING, *_sums()), span).group_by(*_THING, *_CURRENCIES)
    return (
        (Thing(picture, post, size), _sale_sums(sums))
        for picture, post, size, *sums in _stream(session, query)
    )


def credits_taken(session: Session, span: Span) -> int:
    """Return the credits that the upscaler says it took for the span's sales, in all attempts.

    Upsampler names the cost of a failed job too, and says that it gave the credits back. An attempt whose
    result was no good has failed as well, but is paid for.
    """
    given_back = and_(
        Upscale.state == "failed", func.coalesce(Upscale.error, "").contains("have been refunded")
    )
    query = (
        select(func.sum(Upscale.credit_cost))
        .join(Order, Order.id == Upscale.order_id)
        .where(not_(given_back))
    )
    return int(session.scalar(_sold(query, span)) or 0)


def customers(session: Session, span: Span) -> tuple[int, int]:
    """Return how many addresses bought in the span, and how many of them more than once.

    Upper and lower case are the same, as far as the database folds them: SQLite folds ASCII alone.
    """
    folded = func.lower(Order.email, type_=PlainText)
    each = (
        _sold(select(func.count().label("sales")), span)
        .where(Order.email.is_not(None))
        .group_by(folded)
        .subquery()
    )
    again = func.sum(case((each.c.sales > 1, 1), else_=0))
    found = session.execute(select(func.count(), again).select_from(each)).one()
    return found[0], int(found[1] or 0)


def sales_as_begun(session: Session, span: Span) -> Iterator[Sale]:
    """Give the span's sales in the order in which their checkouts began."""
    query = _sold(select(Order.attachment_id, _Seconds(Order.created_at), _Seconds(_PAYING)), span)
    return (Sale(*row) for row in _stream(session, query.order_by(Order.created_at)))


def first_and_last_begun(session: Session, span: Span) -> tuple[datetime, datetime] | None:
    """Return when the first and the last of the span's sales began as a checkout; None without sales."""
    query = _sold(select(func.min(Order.created_at), func.max(Order.created_at)), span)
    first, last = session.execute(query).one()
    return None if first is None else (first, last)


def clicks_as_made(session: Session, since: datetime, until: datetime) -> Iterator[tuple[int, int]]:
    """Give (attachment id, epoch seconds) of people's clicks in [since, until], oldest first."""
    query = (
        select(Click.attachment_id, _Seconds(Click.at))
        .where(Click.at >= since, Click.at <= until, Click.bot.is_(False))
        .order_by(Click.at)
    )
    return ((picture, at) for picture, at in _stream(session, query))


def titles(session: Session, wanted: Collection[int], span: Span) -> dict[int, str]:
    """Return the pictures' titles: the catalogue's, or for one that has left it that of the span's orders."""
    listed = _stream(session, select(Image.attachment_id, Image.title))
    found = {number: title for number, title in listed if number in wanted}
    if len(found) < len(wanted):
        bought = select(Order.attachment_id, func.max(Order.title)).group_by(Order.attachment_id)
        for query in (_begun(bought, span), _sold(bought, span)):
            for number, title in _stream(session, query):
                if number in wanted:
                    found.setdefault(number, title)
    return found


_THING: Final = (Order.attachment_id, Order.post_id, Order.resolution)
# Where the money is taken only when the picture is ready, the customer has long been done.
_PAYING: Final = func.coalesce(Order.authorized_at, Order.paid_at)
_PAID_CURRENCY: Final = func.coalesce(Order.paid_currency, Order.currency, type_=PlainText)
_CURRENCIES: Final = (_PAID_CURRENCY, Order.fee_currency)


def _sums() -> tuple[ColumnElement[Any], ...]:
    """Return the columns of SaleSums, in its order."""
    return (
        func.count(),
        _PAID_CURRENCY,
        func.sum(func.coalesce(Order.paid_minor, 0)),
        func.sum(Order.refunded_minor),
        Order.fee_currency.expression,
        func.sum(func.coalesce(Order.fee_minor, 0)),
        func.sum(case((Order.fee_minor.is_(None), 1), else_=0)),
        func.sum(case((Order.completed_at.is_not(None), Order.cost_micro_usd), else_=0)),
    )


def _sale_sums(row: list[Any]) -> SaleSums:
    """Build the sums. PostgreSQL adds up to a Decimal, SQLite to an int."""
    sales, currency, gross, refunded, fee_currency, fee, without_fee, cost = row
    return SaleSums(
        sales, currency, int(gross), int(refunded), fee_currency, int(fee), int(without_fee), int(cost)
    )  # fmt: skip


class _Seconds(FunctionElement[int]):
    """A moment in whole seconds since 1970 in UTC, rounded down."""

    inherit_cache = True
    type = BigInteger()


@compiles(_Seconds, "sqlite")
def _seconds_in_sqlite(element: _Seconds, compiler: SQLCompiler, **how: object) -> str:
    # Without the fraction: strftime would round the last half millisecond up, into the next day at worst.
    moment = compiler.process(element.clauses, **how)
    return f"CAST(strftime('%s', substr({moment}, 1, 19)) AS INTEGER)"


@compiles(_Seconds, "postgresql")
def _seconds_in_postgresql(element: _Seconds, compiler: SQLCompiler, **how: object) -> str:
    moment = compiler.process(element.clauses, **how)
    return f"CAST(floor(extract(epoch FROM {moment})) AS bigint)"


def _quarter(moment: _Moment) -> ColumnElement[int]:
    """Return a moment's quarter of an hour as a number that counts them since 1970."""
    return (_Seconds(moment) // literal_column(str(_QUARTER_SECONDS), BigInteger)).label("quarter")


def _clicks(query: _AnySelect, span: Span) -> _AnySelect:
    return query.where(Click.at >= span.since, Click.at < span.until, Click.bot.is_(False))


def _begun(query: _AnySelect, span: Span) -> _AnySelect:
    return query.where(
        Order.livemode.is_(span.livemode),
        Order.created_at >= span.since,
        Order.created_at < span.until,
    )


def _sold(query: _AnySelect, span: Span) -> _AnySelect:
    return query.where(
        Order.livemode.is_(span.livemode), Order.paid_at >= span.since, Order.paid_at < span.until
    )


def _stream(session: Session, query: _AnySelect) -> Iterator[Row[*tuple[Any, ...]]]:
    """Read rows a few at a time: a year's clicks are not held in memory at once."""
    return iter(session.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE}))

"""How values become words that a customer reads."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smi_desktop.adapters.template_renderer import (
    describe_zone,
    flatten_to_one_line,
    format_file_size,
    format_local_time,
    format_utc_time,
    web_address_or_nothing,
)

EVENING = datetime(2026, 11, 24, 23, 34, tzinfo=UTC)
SUMMER = datetime(2026, 7, 1, 12, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "zone", "style", "printed"),
    [
        (EVENING, "America/New_York", "full", "Tuesday, November 24, 2026, 6:34 PM EST"),
        (EVENING, "Europe/Berlin", "full", "Wednesday, November 25, 2026, 12:34 AM CET"),
        (SUMMER, "Europe/Berlin", "short", "Wed, Jul 1, 2:05 PM CEST"),
        (SUMMER, "UTC", "short", "Wed, Jul 1, 12:05 PM UTC"),
        (EVENING, "America/Sao_Paulo", "short", "Tue, Nov 24, 8:34 PM UTC\N{MINUS SIGN}3"),
        (EVENING, "Asia/Kathmandu", "short", "Wed, Nov 25, 5:19 AM UTC+5:45"),
        (EVENING, "America/New_York", "bare", "Tue, Nov 24, 6:34 PM"),
    ],
)
def test_a_time_is_printed_in_its_zone(
    moment: datetime, zone: str, style: str, printed: str
) -> None:
    assert format_local_time(moment, zone, style) == printed


def test_the_repeated_hour_in_autumn_is_told_apart_by_its_zone() -> None:
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    second = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    assert format_local_time(first, "Europe/Berlin", "short") == "Sun, Oct 25, 2:30 AM CEST"
    assert format_local_time(second, "Europe/Berlin", "short") == "Sun, Oct 25, 2:30 AM CET"


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="without a zone"):
        format_local_time(EVENING.replace(tzinfo=None), "UTC")


@pytest.mark.parametrize(
    ("zone", "printed"),
    [
        ("America/New_York", "23:34 UTC"),
        ("Europe/Berlin", "Nov 24, 23:34 UTC"),
        ("UTC", ""),
        ("Etc/UTC", ""),
    ],
)
def test_the_same_moment_in_utc_names_the_day_only_where_it_differs(
    zone: str, printed: str
) -> None:
    assert format_utc_time(EVENING, zone) == printed


@pytest.mark.parametrize(
    ("zone", "printed"),
    [
        ("America/New_York", "America/New York (EST, UTC\N{MINUS SIGN}5)"),
        ("Europe/London", "Europe/London (GMT, UTC)"),
        ("Asia/Kathmandu", "Asia/Kathmandu (UTC+5:45)"),
        ("UTC", "UTC"),
    ],
)
def test_a_zone_is_named_with_its_distance_from_utc(zone: str, printed: str) -> None:
    assert describe_zone(EVENING, zone) == printed


@pytest.mark.parametrize(
    ("size", "printed"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1_000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (68_200_000, "68.2 MB"),
        (2_147_483_648, "2.1 GB"),
        (3_000_000_000_000, "3.0 TB"),
    ],
)
def test_a_file_size_is_printed_in_decimal_units(size: int, printed: str) -> None:
    assert format_file_size(size) == printed


@given(st.text())
def test_one_line_is_one_line_whatever_came_in(text: str) -> None:
    line = flatten_to_one_line(text)
    assert len(line.splitlines()) <= 1
    assert all(ord(mark) >= ord(" ") for mark in line)


def test_marks_that_turn_the_writing_round_are_removed() -> None:
    assert flatten_to_one_line("a\u202egpj.exe\u202c b") == "agpj.exe b"


@pytest.mark.parametrize("address", ["https://studio.example/a?b=c", "http://127.0.0.1:1/", "/a"])
def test_a_web_address_is_kept(address: str) -> None:
    assert web_address_or_nothing(address) == address


@pytest.mark.parametrize(
    "address",
    [None, "", "javascript:alert(1)", " javascript:alert(1)", "data:text/html,x", "//evil.example",
     "/\\evil.example", "https:///x"],
)  # fmt: skip
def test_what_is_no_web_address_of_ours_becomes_nothing(address: str | None) -> None:
    assert web_address_or_nothing(address) == ""

"""Print sizes, waiting times and the words of errors."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smi_desktop.domain import errors
from smi_desktop.domain.errors import NotFoundError, SmiError, TransientError
from smi_desktop.domain.printing import PrintSize, print_size
from smi_desktop.domain.retry import backoff


@pytest.mark.parametrize(
    ("width", "height", "ppi", "expected"),
    [
        (5120, 3416, 300, PrintSize(300, 17.0, 11.3, 43, 28)),
        (5120, 3416, 200, PrintSize(200, 25.6, 17.0, 65, 43)),
        (8000, 4000, 300, PrintSize(300, 26.6, 13.3, 67, 33)),
        (300, 300, 300, PrintSize(300, 1.0, 1.0, 2, 2)),
        (1, 1, 300, PrintSize(300, 0.0, 0.0, 0, 0)),
    ],
)
def test_a_print_is_never_promised_larger_than_its_file(
    width: int, height: int, ppi: int, expected: PrintSize
) -> None:
    assert print_size(width, height, ppi) == expected


@given(st.integers(1, 100_000), st.integers(1, 100_000), st.integers(72, 1200))
def test_a_promised_print_fits_into_its_pixels(width: int, height: int, ppi: int) -> None:
    found = print_size(width, height, ppi)
    assert found.width_in * ppi <= width + 1e-6
    assert found.height_in * ppi <= height + 1e-6
    assert found.width_cm * ppi <= width * 2.54 + 1e-6
    assert found.height_cm * ppi <= height * 2.54 + 1e-6


def test_waits_double_up_to_the_cap() -> None:
    waits = [backoff(attempt, jitter=0.5).total_seconds() for attempt in range(1, 12)]
    assert waits == [2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]


def test_jitter_moves_a_wait_by_a_quarter_at_most() -> None:
    assert backoff(1, first=100, jitter=0) == timedelta(seconds=75)
    assert backoff(1, first=100, jitter=1) == timedelta(seconds=125)


def test_what_the_other_side_asks_for_is_never_undercut() -> None:
    assert backoff(1, jitter=0.5, asked=3600) == timedelta(hours=1)
    assert backoff(9, jitter=0.5, asked=1) == timedelta(seconds=512)


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_a_wait_stays_in_its_limits_however_often_it_failed(attempt: int, jitter: float) -> None:
    assert timedelta(seconds=1.5) <= backoff(attempt, jitter=jitter) <= timedelta(seconds=1125)


def test_every_error_has_a_heading_and_words_for_a_person() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, SmiError)
    ]
    assert len(kinds) > 10
    for kind in kinds:
        error = kind("What happened.")
        assert error.message == str(error) == "What happened."
        assert error.title[0].isupper()


def test_an_error_may_have_its_own_heading() -> None:
    assert SmiError("Text.", title="Heading").title == "Heading"
    assert SmiError.title == "Something went wrong"
    assert NotFoundError("Text.").title == "Not found"


def test_a_passing_error_may_say_how_long_to_wait() -> None:
    assert TransientError("Busy.", retry_after=5).retry_after == 5
    assert TransientError("Busy.").retry_after is None

"""CSV text: a customer's words are never a formula, our own numbers stay numbers."""

from __future__ import annotations

import csv
import io
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smi_desktop.domain.csv_text import csv_text, safe_cell


@pytest.mark.parametrize(
    "text",
    [
        "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\0=1", "＝1", "＋1", "－1", "＠A1",
        '=HYPERLINK("https://evil.example")',
    ],
)  # fmt: skip
def test_text_that_begins_like_a_formula_gets_an_apostrophe(text: str) -> None:
    assert safe_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "Harbour", "a=b", "1-2", "'quoted", "jo@example.com", "–"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert safe_cell(text) == text


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (-5, "-5"),
        (Decimal("-0.50"), "-0.50"),
        (-0.25, "-0.25"),
        (None, ""),
        (date(2026, 3, 1), "2026-03-01"),
    ],
)
def test_a_number_of_ours_stays_a_number(value: float | Decimal | date | None, cell: str) -> None:
    assert csv_text(["a", "b"], [["x", value]]) == f"a,b\r\nx,{cell}\r\n"


def test_commas_quotes_and_line_breaks_are_quoted() -> None:
    text = csv_text(["title", "n"], [['a,"b"', 1], ["two\nlines", 2], ["one\rreturn", 3]])
    assert text == 'title,n\r\n"a,""b""",1\r\n"two\nlines",2\r\n"one\rreturn",3\r\n'


def test_a_header_is_made_safe_too() -> None:
    assert csv_text(["=a"], []) == "'=a\r\n"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=4))
def test_every_text_is_read_back_and_none_begins_a_formula(cells: list[str]) -> None:
    read = list(csv.reader(io.StringIO(csv_text(["h"] * len(cells), [cells]), newline="")))
    assert [
        cell if cell != f"'{text}" else text for cell, text in zip(read[1], cells, strict=True)
    ] == cells
    assert not any(
        cell[:1] in {"=", "+", "-", "@", "\t", "\r", "\n", "\0"} for cell in read[1] if cell
    )

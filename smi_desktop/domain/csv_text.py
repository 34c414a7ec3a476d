"""Tables as CSV text that a spreadsheet can open without running anything.

Sole owner of which text a spreadsheet would take for a formula. What we hand over as a number stays a
number, also a negative one: no customer can put words into it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from typing import Final, TypeAlias

Cell: TypeAlias = str | int | float | Decimal | date | None
"""What a cell may hold; None is an empty cell."""

# https://owasp.org/www-community/attacks/CSV_Injection, with the full-width forms that a Japanese
# spreadsheet reads alike. A NUL is dropped by some readers, and what follows it would come first.
_STARTS_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "＝", "＋", "－", "＠")


def safe_cell(value: Cell) -> Cell:
    """Return the value, with an apostrophe before text that a spreadsheet would calculate."""
    if isinstance(value, str) and value.startswith(_STARTS_FORMULA):
        return f"'{value}"
    return value


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Return a table as RFC 4180 text: a header, commas, CRLF, quotes where they are needed."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([safe_cell(column) for column in columns])
    for row in rows:
        writer.writerow([safe_cell(cell) for cell in row])
    return text.getvalue()

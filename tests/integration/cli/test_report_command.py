"""`smi-desktop report`, run as a person runs it, on a data folder of its own."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from smi_desktop.cli.root import cli
from smi_desktop.domain.errors import InvalidInputError
from smi_desktop.store import clicks
from smi_desktop.store import settings as settings_rows
from smi_desktop.store.database import Database
from tests.integration.store import rows

NOON = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
# An order whose money came at once, stayed, and whose fee is not known.
PLAIN = {"authorized_at": None, "refunded_minor": 0, "fee_minor": None, "fee_currency": None}
JANUARY = ("--from", "2026-01-01", "--to", "2026-01-31")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder whose secrets would stay in it."""
    monkeypatch.setenv("SMI_SECRETS_BACKEND", "file")
    return tmp_path / "shop"


@pytest.fixture
def database(folder: Path) -> Iterator[Database]:
    """The database in that folder."""
    database = Database(f"sqlite:///{folder / 'shop.db'}")
    database.migrate()
    yield database
    database.close()


def sell(database: Database, order_id: str, **changes: Any) -> None:
    with database.write() as session:
        clicks.add(session, at=NOON, attachment_id=1, post_id=7, bot=False)
        session.add(
            rows.order(order_id, **{**PLAIN, "created_at": NOON, "paid_at": NOON, **changes})
        )


def run(folder: Path, *words: str) -> Result:
    result = CliRunner().invoke(
        cli, ["--data", str(folder), "report", *words], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result


def table(result: Result) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(result.stdout_bytes.decode(), newline="")))


def test_an_empty_shop_says_so(folder: Path) -> None:
    assert run(folder, *JANUARY).output == (
        "Nothing was clicked, begun or sold from 2026-01-01 to 2026-01-31, UTC.\n"
    )


def test_an_empty_shop_has_json_and_csv_too(folder: Path) -> None:
    total = json.loads(run(folder, *JANUARY, "--json").output)["total"]
    assert (total["clicks"], total["sales"], total["conversion"]) == (0, 0, None)
    days = table(run(folder, *JANUARY, "--csv"))
    assert len(days) == 31
    assert set(days[0]) >= {"day", "clicks", "gross_usd", "upscaling_cost_usd"}
    assert table(run(folder, *JANUARY, "--csv", "--by", "image")) == []


def test_the_summary_is_for_people(folder: Path, database: Database) -> None:
    sell(database, "a", fee_minor=65, fee_currency="eur", refunded_minor=1200)
    sell(database, "b", paid_minor=250_000, paid_currency="jpy", title="[bold]Harbour[/]")
    output = run(folder, *JANUARY).output
    assert "2026-01-01 to 2026-01-31, UTC; test orders, no real money" in output
    for words in (
        "$12.00 USD", "$0.00 USD", "¥250,000 JPY", "€0.65 EUR", "100.0%", "1 of the sales", "[bold]Harbour[/]"
    ):  # fmt: skip
        assert words in output
    assert "2026-01-14" not in output


@pytest.mark.parametrize(
    ("by", "words"),
    [
        ("day", "2026-01-14"),
        ("hour", "12:00"),
        ("weekday", "Thursday"),
        ("image", "Title"),
        ("post", "none"),
        ("size", "4x"),
    ],
)
def test_a_table_that_is_named_is_whole(
    folder: Path, database: Database, by: str, words: str
) -> None:
    sell(database, "a", post_id=None)
    assert words in run(folder, *JANUARY, "--by", by).output


def test_a_long_list_is_cut_and_says_how_to_see_the_rest(folder: Path, database: Database) -> None:
    for number in range(1, 13):
        sell(database, f"o{number}", attachment_id=number)
    assert "… and 2 more: smi-desktop report --by image" in run(folder, *JANUARY).output
    assert "more:" not in run(folder, *JANUARY, "--by", "image").output


def test_json_holds_everything(folder: Path, database: Database) -> None:
    sell(database, "a", fee_minor=65, fee_currency="eur", refunded_minor=200, title="Harbour")
    found = json.loads(run(folder, *JANUARY, "--json").output)
    assert (found["from"], found["to"], found["time_zone"]) == ("2026-01-01", "2026-01-31", "UTC")
    assert (found["since"], found["until"]) == ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z")
    revenue = {
        "currency": "usd", "sales": 1, "gross_minor": 1200, "refunds_minor": 200,
        "net_minor": 1000, "average_minor": 1200,
    }  # fmt: skip
    assert found["total"]["revenue"] == [revenue]
    assert found["total"]["fees"] == [{"currency": "eur", "minor": 65}]
    assert found["total"]["popular_size"] == "4x"
    assert found["total"]["click_to_payment"] == {
        "sales": 1, "median_seconds": 0, "p90_seconds": 0
    }  # fmt: skip
    assert {name: len(lines) for name, lines in found["by"].items()} == {
        "day": 31, "hour": 24, "weekday": 7, "image": 1, "post": 1, "size": 1
    }  # fmt: skip
    image = found["by"]["image"][0]
    assert (image["attachment_id"], image["title"], image["revenue"]) == (1, "Harbour", [revenue])
    assert found["by"]["day"][14]["day"] == "2026-01-15"


def test_csv_is_of_days_if_no_table_is_named(folder: Path, database: Database) -> None:
    sell(database, "a", refunded_minor=1500, fee_minor=65, fee_currency="eur")
    sell(database, "b", paid_minor=900, paid_currency="eur")
    result = run(folder, *JANUARY, "--csv")
    assert result.stdout_bytes.count(b"\r\n") == 32
    day = next(row for row in table(result) if row["day"] == "2026-01-15")
    assert day == {
        "day": "2026-01-15", "clicks": "2", "checkouts": "2", "sales": "2", "conversion": "1.0",
        "gross_eur": "9.00", "refunds_eur": "0.00", "net_eur": "9.00", "average_eur": "9.00",
        "gross_usd": "12.00", "refunds_usd": "15.00", "net_usd": "-3.00", "average_usd": "12.00",
        "fees_eur": "0.65", "sales_without_fee": "1", "upscaling_cost_usd": "0.320000",
    }  # fmt: skip


def test_a_title_is_no_formula_in_csv(folder: Path, database: Database) -> None:
    sell(database, "a", title='=HYPERLINK("https://evil.example";"Harbour")')
    [row] = table(run(folder, *JANUARY, "--csv", "--by", "image"))
    assert row["title"] == '\'=HYPERLINK("https://evil.example";"Harbour")'


def test_days_are_the_shops(folder: Path, database: Database) -> None:
    with database.write() as session:
        settings_rows.save(session, {"time_zone": "Pacific/Kiritimati"}, now=NOON)
    sell(database, "a")
    days = table(run(folder, "--from", "2026-01-16", "--to", "2026-01-16", "--csv"))
    assert [(row["day"], row["sales"]) for row in days] == [("2026-01-16", "1")]


@pytest.mark.parametrize(
    "words",
    [("--csv", "--json"), ("--from", "yesterday"), ("--from", "2026-13-01"), ("--by", "customer")],
)
def test_wrong_usage_ends_with_2(folder: Path, words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli, ["--data", str(folder), "report", *words])
    assert result.exit_code == 2
    assert "Error: " in result.output


def test_a_first_day_after_the_last_is_refused_in_words(folder: Path) -> None:
    with pytest.raises(InvalidInputError, match="after its last day, 2026-01-01"):
        run(folder, "--from", "2026-01-02", "--to", "2026-01-01")

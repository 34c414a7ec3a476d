"""The machine's clock and the rehearsal shop's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from smi_desktop.adapters.clock import OffsetClock, SystemClock

CLOSE = timedelta(seconds=5)


def test_the_system_clock_tells_aware_utc() -> None:
    now = SystemClock().now()
    assert now.tzinfo is UTC
    assert abs(now - datetime.now(UTC)) < CLOSE


def test_without_a_file_the_offset_clock_tells_the_true_time(tmp_path: Path) -> None:
    assert abs(OffsetClock(tmp_path / "offset").now() - datetime.now(UTC)) < CLOSE


@pytest.mark.parametrize("text", ["86400", "-3600.5\n", " 1e6 "])
def test_the_offset_in_the_file_moves_the_clock(tmp_path: Path, text: str) -> None:
    path = tmp_path / "offset"
    path.write_text(text, encoding="utf-8")
    moved = OffsetClock(path).now() - datetime.now(UTC)
    assert abs(moved - timedelta(seconds=float(text))) < CLOSE


def test_every_clock_on_the_file_moves_when_it_changes_and_returns_when_it_goes(
    tmp_path: Path,
) -> None:
    path = tmp_path / "offset"
    clocks = [OffsetClock(path), OffsetClock(path)]
    for days in (1, 30, 2):
        path.write_text(str(days * 86400), encoding="utf-8")
        for clock in clocks:
            assert abs(clock.now() - datetime.now(UTC) - timedelta(days=days)) < CLOSE
    path.unlink()
    for clock in clocks:
        assert abs(clock.now() - datetime.now(UTC)) < CLOSE


@pytest.mark.parametrize("text", ["", "soon", "nan", "inf", "1e300", "1 2", "\x00"])
def test_text_that_is_no_offset_leaves_the_clock_as_it_was(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "offset"
    path.write_text("86400", encoding="utf-8")
    clock = OffsetClock(path)
    clock.now()
    path.write_text(text, encoding="utf-8")
    assert abs(clock.now() - datetime.now(UTC) - timedelta(days=1)) < CLOSE
    assert ("cannot be read" in caplog.text) == bool(text)

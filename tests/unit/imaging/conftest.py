"""What the tests of pictures share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.imaging.pictures import paint


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    """Return a small clean picture, 48 x 32."""
    path = tmp_path / "photograph.png"
    paint().pngsave(str(path))
    return path

"""What the tests of the adapters share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.adapters.certificates import TestAuthority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    """A certificate authority of this run."""
    folder: Path = tmp_path_factory.mktemp("certificates")
    return TestAuthority(folder)

"""The rehearsal that the real adapters are held against."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.rehearsal import Rehearsal


@pytest.fixture(scope="session")
def running_rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    """One process for the whole suite."""
    running = Rehearsal(tmp_path_factory.mktemp("rehearsal"))
    yield running
    running.close()


@pytest.fixture
def rehearsal(running_rehearsal: Rehearsal) -> Iterator[Rehearsal]:
    """The process, as if it had just been started."""
    running_rehearsal.clear()
    yield running_rehearsal
    running_rehearsal.clear()

"""One rehearsal shop of real processes for each module of tests."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from smi_desktop.cli.rehearsal import Rehearsal
from smi_desktop.sandbox.customer import Customer
from tests.e2e.watching import Watched


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A rehearsal shop that answers quickly, with eyes on its books."""
    folder: Path = tmp_path_factory.mktemp("shop")
    changes: dict[str, object] = {
        "upsampler_first_poll_seconds": 0.5,
        "upsampler_longest_poll_seconds": 1.0,
        "upsampler_deadline_seconds": 12,
        "rate_checkout_per_address_per_minute": 1000,
        "rate_per_address_per_minute": 10_000,
    }
    with Rehearsal(folder / "data", changes=changes) as shop:
        yield Watched(shop)


@pytest.fixture
def customer(watched: Watched) -> Customer:
    """A customer with an address of his own."""
    address = f"{uuid.uuid4().hex[:12]}@example.com"
    return Customer(watched.shop.relay_url, watched.shop.mailbox_dir, address)

"""A rehearsal shop of real processes, whose invariants are checked after every test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from smi_desktop.cli.rehearsal import Rehearsal
from smi_desktop.sandbox.customer import Customer
from tests.e2e.watching import Watched
from tests.reliability.invariants import broken

QUICK: dict[str, object] = {
    "upsampler_first_poll_seconds": 0.5,
    "upsampler_longest_poll_seconds": 1.0,
    "upsampler_deadline_seconds": 6,
    "account_wait_seconds": 1.0,
    "upscaler": "upsampler",
    "refunds_per_hour": 10_000,
    "rate_checkout_per_address_per_minute": 100_000,
    "rate_checkout_per_image_per_minute": 100_000,
    "rate_checkout_shop_per_minute": 100_000,
    "rate_per_address_per_minute": 100_000,
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A shop for a module."""
    with Rehearsal(tmp_path_factory.mktemp("shop") / "data", changes=QUICK) as rehearsal:
        yield Watched(rehearsal)


@pytest.fixture
def watched(shop: Watched) -> Iterator[Watched]:
    """The shop, with every provider well at first, and with its invariants checked at the end."""
    shop.clear_faults()
    yield shop
    shop.clear_faults()
    assert broken(shop.shop) == []


@pytest.fixture
def customer(watched: Watched) -> Customer:
    """A customer with an address of his own."""
    address = f"{uuid.uuid4().hex[:12]}@example.com"
    return Customer(watched.shop.relay_url, watched.shop.mailbox_dir, address)

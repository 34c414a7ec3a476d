"""Looking into a rehearsal shop's books, and scripting its providers."""

from __future__ import annotations

import email
import email.policy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import requests

from smi_desktop.bootstrap import open_shop
from smi_desktop.cli.rehearsal import Rehearsal, SampleImage
from smi_desktop.domain.tokens import hash_token
from smi_desktop.sandbox.customer import GOOD_CARD, Customer, Purchase
from smi_desktop.store import inbox, orders, tasks, timeline, upscales
from smi_desktop.store.models import InboxEntry, Order, Task, TimelineEntry, Upscale


@dataclass(frozen=True)
class Books:
    """Everything that the shop has written down about one order."""

    order: Order
    upscales: list[Upscale]
    tasks: list[Task]
    timeline: list[TimelineEntry]

    def count(self, kind: str) -> int:
        """Return how often the timeline tells of this."""
        return sum(entry.kind == kind for entry in self.timeline)


@dataclass(frozen=True)
class Watched:
    """A running rehearsal shop."""

    shop: Rehearsal

    @property
    def smallest(self) -> SampleImage:
        """The picture that is enlarged the quickest."""
        return min(self.shop.images, key=lambda image: image.width * image.height)

    def start(self, customer: Customer) -> Purchase:
        """Begin a purchase of the smallest picture."""
        image = self.smallest
        prices = customer.prices(image.attachment_id, image.post_id)
        return customer.start_checkout(image.attachment_id, image.post_id, "4x", prices["quote_id"])

    def buy(self, customer: Customer) -> Purchase:
        """Begin a purchase and pay it."""
        purchase = self.start(customer)
        assert customer.pay(purchase, GOOD_CARD).status_code == 303
        return purchase

    def books(self, order_id: str) -> Books:
        """Return what is written down about an order."""
        with open_shop(self.shop.config()) as shop, shop.database.read() as session:
            order = orders.get(session, order_id)
            assert order is not None
            return Books(
                order,
                list(upscales.of_order(session, order_id)),
                list(tasks.list_page(session, order_id=order_id)),
                list(timeline.of_order(session, order_id)),
            )

    def inbox_states(self) -> dict[str, int]:
        """Return how many events are in each state."""
        with open_shop(self.shop.config()) as shop, shop.database.read() as session:
            return inbox.count_by_state(session)

    def inbox_entry(self, event_id: str) -> list[InboxEntry]:
        """Return the entries of one event of Stripe's."""
        with open_shop(self.shop.config()) as shop, shop.database.read() as session:
            return list(session.query(InboxEntry).filter(InboxEntry.event_id == event_id))

    def fault(self, provider: str, operation: str, fault: str, **fields: Any) -> str:
        """Script a fault and return its id."""
        line = {"provider": provider, "operation": operation, "fault": fault, **fields}
        return str(self.shop.post_to_sandbox("faults", line)["id"])

    def fired(self, fault_id: str) -> int:
        """Return how often a fault has struck."""
        lines = requests.get(f"{self.shop.stripe_url}/_sandbox/faults", timeout=10).json()["faults"]
        return int(next(line["fired"] for line in lines if line["id"] == fault_id))

    def clear_faults(self) -> None:
        """Let the providers work as they should."""
        requests.delete(f"{self.shop.stripe_url}/_sandbox/faults", timeout=10).raise_for_status()

    def restart(self, *names: str) -> None:
        """Kill processes with -9 and start them again."""
        for name in names:
            self.shop.kill(name)
        for name in names:
            self.shop.start_process(name)

    def jobs_of(self, order_id: str) -> list[str]:
        """Return the upscaler's ids of the jobs that it was asked for on behalf of an order."""
        ours = {row.callback_sha256 for row in self.books(order_id).upscales}
        jobs = self.shop.sandbox_state()["jobs"]
        return [job["id"] for job in jobs if hash_token(job["webhook"].rsplit("/")[-1]) in ours]

    def mails_to(self, address: str) -> list[str]:
        """Return the Message-IDs of the mails that one address has got."""
        found = []
        for path in sorted(self.shop.mailbox_dir.glob("*.eml")):
            mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
            if address in str(mail["To"]):
                found.append(str(mail["Message-ID"]))
        return found


def wait_until(holds: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Wait until something holds.

    Raises:
        AssertionError: It does not, in that time.
    """
    ends_at = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends_at, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)

"""Files Stripe's events and hands them to the courier, one delivery for each registered endpoint."""

from __future__ import annotations

import json
from typing import Final

from smi_desktop.sandbox import stripe_objects as objects
from smi_desktop.sandbox.clock import SandboxClock
from smi_desktop.sandbox.courier import STRIPE_TRIES, Courier
from smi_desktop.sandbox.faults import FaultScript, Layer
from smi_desktop.sandbox.store import Json, ObjectStore, Selection

READABLE_SECONDS: Final = 30 * 86_400
"""Events can be read for 30 days. https://docs.stripe.com/api/events"""


class EventBook:
    """Every event there ever was, and who is told."""

    def __init__(
        self,
        store: ObjectStore,
        clock: SandboxClock,
        faults: FaultScript,
        courier: Courier,
    ) -> None:
        self._store = store
        self._clock = clock
        self._faults = faults
        self._courier = courier

    def register(self, url: str, secrets: list[str], kinds: list[str]) -> Json:
        """Tell an address of events from now on; the same address is registered once.

        Args:
            url: Where events are posted.
            secrets: Each event is signed with all of them, as during the roll of a secret.
            kinds: Event types; empty for all.
        """
        with self._store.transaction():
            known = [row for row in self._store.rows("endpoint") if row["url"] == url]
            endpoint_id = known[0]["id"] if known else self._store.new_id("we_")
            endpoint = {
                "id": endpoint_id,
                "url": url,
                "secrets": secrets,
                "events": kinds,
            }
            self._store.put("endpoint", endpoint)
        return endpoint

    def emit(self, kind: str, about: object) -> Json | None:
        """File an event about an object and send it.

        Returns:
            The event, or None if the script says that it was never made.
        """
        about_id = str(about.get("id", "")) if isinstance(about, dict) else ""
        facts = {"type": kind, "id": about_id}
        if self._faults.take("stripe", "event", Layer.EVENT, facts) is not None:
            return None
        with self._store.transaction():
            endpoints = self._store.rows("endpoint", Selection(oldest_first=True))
            wanted = [row for row in endpoints if not row["events"] or kind in row["events"]]
            event = objects.event(
                self._store.new_id("evt_"),
                kind,
                about,
                now=int(self._clock.now()),
                request={"id": self._store.new_id("req_", 14), "idempotency_key": None},
                pending=len(wanted),
            )
            status = "undelivered" if wanted else "delivered"
            self._store.put("event", event, parent=about_id, status=status)
            for endpoint in wanted:
                self._dispatch(event, endpoint)
        return event

    def _dispatch(self, event: Json, endpoint: Json) -> None:
        self._courier.send(
            {
                "about": event["id"],
                "url": endpoint["url"],
                "body": json.dumps(event, indent=2),
                "secrets": endpoint["secrets"],
                "provider": "stripe",
                "tries": STRIPE_TRIES,
            },
            kind=event["type"],
        )

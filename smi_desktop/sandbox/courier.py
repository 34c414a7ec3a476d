"""Delivers events and callbacks: each one until it is taken, with growing pauses, across restarts.

Sole owner of the deliveries in the database. Pauses are real seconds, not the rehearsal's: a day that is
skipped by the clock must not use up the tries. Signatures carry the rehearsal's time.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

import requests
import stripe

from smi_desktop.sandbox.clock import SandboxClock
from smi_desktop.sandbox.faults import Fault, FaultScript, Layer, merged
from smi_desktop.sandbox.store import Json, ObjectStore, Selection

_WORKERS: Final = 8
_TIMEOUT: Final = (2.0, 20.0)
_LONGEST_PAUSE: Final = 30.0
_DOUBLINGS: Final = 5
_IDLE_SECONDS: Final = 0.1
STRIPE_TRIES: Final = 60
CALLBACK_TRIES: Final = 6
_REMEMBERED_ATTEMPTS: Final = 100
_WAITING: Final = ("pending", "sending", "held", "dropped", "failed")


class Courier:
    """Posts what is due from a few threads of its own.

    Args:
        store, clock, faults: The rehearsal's own.
    """

    def __init__(self, store: ObjectStore, clock: SandboxClock, faults: FaultScript) -> None:
        self._store = store
        self._clock = clock
        self._faults = faults
        self._stirred = threading.Event()
        self._stopped = False

    def start(self) -> None:
        """Start delivering; what a killed rehearsal left undelivered is due at once."""
        with self._store.transaction():
            for delivery in self._store.rows(
                "delivery", Selection(statuses=("pending", "sending"))
            ):
                self._store.put("delivery", delivery, status="pending", due=time.time())
        for _ in range(_WORKERS):
            threading.Thread(target=self._work, daemon=True).start()

    def stop(self) -> None:
        """Ask the threads to end."""
        self._stopped = True
        self._stirred.set()

    def send(self, delivery: Json, *, kind: str) -> None:
        """Take a delivery in and post it as soon as can be.

        Args:
            delivery: `about` (the id of the event or job), `url`, `body` (text), `secrets` (texts; empty
                for unsigned), `provider`, `tries`.
            kind: The event's type, by which faults can be matched.
        """
        facts = {
            "type": kind,
            "id": delivery["about"],
            "body": delivery["body"],
            "url": delivery["url"],
        }
        fault = self._faults.take(delivery["provider"], "webhook", Layer.WEBHOOK, facts)
        for _ in range(
            int(fault.params.get("copies", 2)) if fault and fault.name == "duplicate" else 1
        ):
            self._file(delivery, fault)
        self._stirred.set()

    def _file(self, delivery: Json, fault: Fault | None) -> None:
        name = fault.name if fault else ""
        params = fault.params if fault else {}
        body = delivery["body"]
        if name == "patch_event":
            body = json.dumps(merged(json.loads(body), params.get("body", {})))
        row = {
            **delivery,
            "body": body,
            "id": self._store.new_id("dlv_", 16),
            "created": self._clock.now(),
            "attempts": [],
            "tried": 0,
            "bad_signature": name == "bad_signature",
        }
        status = {"hold": "held", "drop": "dropped"}.get(name, "pending")
        wait = float(params.get("seconds", 1)) if name == "delay_event" else 0.0
        self._store.put(
            "delivery",
            row,
            parent=delivery["about"],
            status=status,
            due=time.time() + wait,
        )

    def release(self, abouts: Sequence[str] | None, *, at_once: bool) -> int:
        """Post what was held back; return how many.

        Args:
            abouts: Ids of events or jobs, in the order in which they go out; None for all, as made.
            at_once: Together; otherwise one after the other, and all have been tried on return.
        """
        held = self._store.rows("delivery", Selection(statuses=("held",), oldest_first=True))
        if abouts is not None:
            held = sorted(
                (row for row in held if row["about"] in abouts),
                key=lambda row: abouts.index(row["about"]),
            )
        status = "pending" if at_once else "sending"
        with self._store.transaction():
            for row in held:
                self._store.put("delivery", row, status=status, due=time.time())
        self._stirred.set()
        if not at_once:
            with _open_session() as session:
                for row in held:
                    self._post(session, row)
        return len(held)

    def resend(self, about: str) -> int:
        """Post everything about an event or job once more; return how many."""
        rows = self._store.rows("delivery", Selection(parent=about))
        with self._store.transaction():
            for row in rows:
                self._store.put(
                    "delivery",
                    {**row, "tries": row["tried"] + 1},
                    status="pending",
                    due=time.time(),
                )
        self._stirred.set()
        return len(rows)

    def _work(self) -> None:
        with _open_session() as session:
            while not self._stopped:
                self._stirred.clear()
                delivery = self._claim()
                if delivery is None:
                    self._stirred.wait(_IDLE_SECONDS)
                else:
                    self._post(session, delivery)

    def _claim(self) -> Json | None:
        if not self._store.due("delivery", "pending", time.time(), 1):
            return None
        with self._store.transaction():
            for delivery in self._store.due("delivery", "pending", time.time(), 1):
                self._store.put("delivery", delivery, status="sending")
                return delivery
        return None

    def _post(self, session: requests.Session, delivery: Json) -> None:
        began = time.time()
        try:
            response = session.post(
                delivery["url"],
                data=delivery["body"].encode(),
                headers=self._headers(delivery),
                timeout=_TIMEOUT,
                allow_redirects=False,
            )
            outcome: Any = response.status_code
            taken = response.ok and not response.is_redirect
        except requests.RequestException as error:
            outcome, taken = type(error).__name__, False
        self._record(delivery["id"], {"at": began, "outcome": outcome}, taken)

    def _headers(self, delivery: Json) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Connection": "close",
        }
        if delivery["secrets"]:
            headers["User-Agent"] = "Stripe/1.0 (+https://stripe.com/docs/webhooks)"
            headers["Stripe-Signature"] = self._signature(delivery)
        return headers

    def _signature(self, delivery: Json) -> str:
        signed = ""
        stamp = int(self._clock.now())
        forged = delivery["bad_signature"] and not delivery["tried"]
        for secret in ["whsec_another"] if forged else delivery["secrets"]:
            header = stripe.WebhookSignature.generate_signature_header(
                delivery["body"], secret, stamp
            )
            signed = f"{signed},{header.partition(',')[2]}" if signed else header
        return signed

    def _record(self, delivery_id: str, attempt: Json, taken: bool) -> None:
        with self._store.transaction():
            delivery = self._store.get("delivery", delivery_id)
            if delivery is None:
                return
            delivery["attempts"] = [*delivery["attempts"], attempt][-_REMEMBERED_ATTEMPTS:]
            delivery["tried"] += 1
            spent = delivery["tried"] >= delivery["tries"]
            status = "delivered" if taken else "failed" if spent else "pending"
            pause = (
                _LONGEST_PAUSE if delivery["tried"] > _DOUBLINGS else 2.0 ** (delivery["tried"] - 1)
            )
            self._store.put("delivery", delivery, status=status, due=time.time() + pause)
            self._mark_event(delivery["about"])

    def _mark_event(self, about: str) -> None:
        event = self._store.get("event", about)
        if event is not None:
            waiting = Selection(parent=about, statuses=_WAITING)
            event["pending_webhooks"] = len(self._store.rows("delivery", waiting))
            undelivered = event["pending_webhooks"] > 0
            self._store.put("event", event, status="undelivered" if undelivered else "delivered")


def _open_session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    return session

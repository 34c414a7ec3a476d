"""Receiving webhooks: verify, store durably, and only then acknowledge.

Nothing is acted upon here. An entry and the task that will apply it are one commit; a duplicate adds
nothing. The clock is judged here, in both directions, because the sender's SDK accepts a future time.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from smi_desktop.domain.errors import NotFoundError, SignatureError
from smi_desktop.domain.tokens import hash_token, looks_like_token
from smi_desktop.services.shop import (
    STRIPE_WEBHOOK_SECRET,
    STRIPE_WEBHOOK_SECRET_PREVIOUS,
    Shop,
)
from smi_desktop.services.work import TaskKind
from smi_desktop.store import inbox, tasks, timeline, upscales

STRIPE: Final = "stripe"
UPSAMPLER: Final = "upsampler"
# https://docs.stripe.com/webhooks#verify-manually: five minutes.
TOLERANCE: Final = timedelta(seconds=300)
_LONGEST_ID: Final = 255


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a delivery: `inbox_id` is None for one that we had already."""

    inbox_id: int | None


def watch_key(upscale_id: int) -> str:
    """Return the key of the task that watches an attempt."""
    return f"watch:{upscale_id}"


def receive_stripe_event(shop: Shop, raw: bytes, signature: str) -> Receipt:
    """Store one delivery of Stripe's.

    Raises:
        SignatureError: Forged, stale, or from the future; nothing was stored.
        ConfigurationError: The shop has no signing secret, so nothing can be believed.
        TransientError: It could not be stored; the sender must try again.
    """
    signed_at = shop.verifier.verify(raw, signature, _signing_secrets(shop))
    now = shop.now()
    if abs(now - signed_at) > TOLERANCE:
        raise SignatureError("The signature's time is too far from this machine's.")
    event = _parse_event(raw)
    livemode = event.get("livemode")
    note = _why_ignored(shop, event)
    values = {
        "provider": STRIPE,
        "event_id": event["id"],
        "type": event["type"],
        "livemode": livemode if isinstance(livemode, bool) else None,
        "body": raw,
        "signature": signature,
        "received_at": now,
        "state": "new" if note is None else "ignored",
        "note": note,
    }
    with shop.database.write() as session:
        inbox_id = inbox.insert_once(session, values)
        if inbox_id is not None and note is None:
            tasks.add_once(
                session,
                TaskKind.APPLY_EVENT,
                f"apply:{inbox_id}",
                now=now,
                payload={"inbox_id": inbox_id},
            )
    return Receipt(inbox_id)


def receive_upsampler_callback(shop: Shop, secret: str, raw: bytes) -> Receipt:
    """Store one call of the upscaler's and have its job looked at now.

    The call carries no signature, so its words are worth nothing: the job is read again from the upscaler.
    Only where the answer to our own request was lost do we learn the job's id from it, because nobody but
    the upscaler was ever told this secret.

    Raises:
        NotFoundError: A secret that we did not issue.
        TransientError: It could not be stored; the sender must try again.
    """
    if not looks_like_token(secret):
        raise NotFoundError("There is no such callback.")
    now = shop.now()
    said = _parse_object(raw)
    with shop.database.read() as session:
        # Whoever guesses must not take the one write lock that Stripe's deliveries need.
        if upscales.find_by_callback(session, hash_token(secret)) is None:
            raise NotFoundError("There is no such callback.")
    with shop.database.write() as session:
        upscale = upscales.find_by_callback(session, hash_token(secret))
        if upscale is None:
            raise NotFoundError("There is no such callback.")
        values = {
            "provider": UPSAMPLER,
            "event_id": f"{upscale.id}:{hashlib.sha256(raw).hexdigest()[:32]}",
            "type": str(said.get("status", ""))[:64],
            "livemode": shop.livemode,
            "body": raw,
            "signature": None,
            "received_at": now,
            "state": "applied",
            "order_id": upscale.order_id,
            "applied_at": now,
        }
        inbox_id = inbox.insert_once(session, values)
        if inbox_id is None:
            return Receipt(None)
        job_id = said.get("id")
        if (
            upscale.state == "submitting"
            and isinstance(job_id, str)
            and 0 < len(job_id) <= _LONGEST_ID
            and upscales.find_by_job(session, upscale.provider, job_id) is None
        ):
            upscale.provider_job_id = job_id
            upscale.state = "running"
        tasks.wake(session, watch_key(upscale.id), now)
        timeline.add(
            session,
            upscale.order_id,
            "callback",
            "The upscaler called.",
            at=now,
            actor=upscale.provider,
            facts={"attempt": upscale.attempt, "inbox_id": inbox_id},
        )
    return Receipt(inbox_id)


def _signing_secrets(shop: Shop) -> list[str]:
    # While the secret is rolled, both are good.
    previous = shop.secrets.get(STRIPE_WEBHOOK_SECRET_PREVIOUS)
    return [shop.secret(STRIPE_WEBHOOK_SECRET), *([previous] if previous else [])]


def _parse_event(raw: bytes) -> dict[str, Any]:
    """Read an event; what is signed but strange gets an id of its own and is kept."""
    event = _parse_object(raw)
    event_id = event.get("id")
    if not isinstance(event_id, str) or not 0 < len(event_id) <= _LONGEST_ID:
        event["id"] = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        event["type"] = ""
    kind = event.get("type")
    event["type"] = kind[:_LONGEST_ID] if isinstance(kind, str) else ""
    # PostgreSQL's text cannot hold NUL.
    for name in ("id", "type"):
        event[name] = event[name].replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
    return event


def _parse_object(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _why_ignored(shop: Shop, event: dict[str, Any]) -> str | None:
    if not event["type"]:
        return "Signed, but not an event that can be read."
    if event.get("livemode") is not shop.livemode:
        return "The event is of another mode (live or test) than this shop."
    data = event.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("object"), dict):
        return "The event carries no object."
    return None

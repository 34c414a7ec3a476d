"""The scripted faults of the three providers: what can go wrong, where, and how often it still has to.

Sole owner of the table of names. A provider asks for the next fault of its operation at each layer and
acts on what it gets; to add a name, add a row here and act on it in the layer it belongs to.
The script is kept in the database, so it outlives a kill.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final

from smi_desktop.sandbox.store import Json, ObjectStore, Selection

PROVIDERS: Final = ("stripe", "upsampler", "smtp")
ANY_OPERATION: Final = "*"
WITHOUT_END: Final = -1


class Layer(StrEnum):
    """The moment at which a fault strikes."""

    REQUEST = "before the effect"
    REPLY = "after the effect"
    KEPT = "in what is kept under the idempotency key"
    PAYMENT = "in a payment"
    REFUND = "in a refund"
    JOB = "in an upscale"
    EVENT = "in the making of an event"
    WEBHOOK = "in the delivery of an event or a callback"
    SMTP = "in the mail dialogue"


@dataclass(frozen=True, slots=True)
class FaultKind:
    """One row of the table: where a fault strikes and what it does with which parameters."""

    layer: Layer
    meaning: str


FAULT_KINDS: Final[dict[str, FaultKind]] = {
    # HTTP, nothing has happened yet
    "http_NNN": FaultKind(Layer.REQUEST, "that status; retry_after (seconds), message, code"),
    "delay": FaultKind(Layer.REQUEST, "wait `seconds`, then go on as usual"),
    "timeout": FaultKind(Layer.REQUEST, "no answer for `seconds` (120), then closed; no effect"),
    "drop_request": FaultKind(Layer.REQUEST, "the connection is closed before the effect"),
    "html": FaultKind(Layer.REQUEST, "an HTML page with `status` (200) instead; no effect"),
    "empty": FaultKind(Layer.REQUEST, "an empty body with `status` (200) instead; no effect"),
    "json": FaultKind(Layer.REQUEST, "the JSON `body` with `status` (200) instead; no effect"),
    "redirect": FaultKind(Layer.REQUEST, "302 to `location`; no effect"),
    "file": FaultKind(Layer.REQUEST, "the bytes of the file `path` as `content_type`; no effect"),
    # HTTP, the effect has happened
    "http_NNN_after_effect": FaultKind(Layer.REPLY, "the effect, then that status"),
    "drop_reply_after_effect": FaultKind(Layer.REPLY, "the effect, then the connection is closed"),
    "timeout_after_effect": FaultKind(Layer.REPLY, "the effect, then no answer for `seconds` (120)"),
    "delay_reply": FaultKind(Layer.REPLY, "the effect, then `seconds` later the answer"),
    "cut_reply": FaultKind(Layer.REPLY, "the body ends after `at` bytes or the `share` (0.5) of it"),
    "truncate_reply": FaultKind(Layer.REPLY, "as cut_reply, but Content-Length says that it is whole"),
    "slow_reply": FaultKind(Layer.REPLY, "`bytes_per_second` (1)"),
    "html_after_effect": FaultKind(Layer.REPLY, "the effect, then an HTML page with `status` (200)"),
    "empty_after_effect": FaultKind(Layer.REPLY, "the effect, then an empty body with `status` (200)"),
    "json_after_effect": FaultKind(Layer.REPLY, "the effect, then the JSON `body` with `status` (200)"),
    "patch_reply": FaultKind(Layer.REPLY, "the effect, then its reply with the fields of `body` changed"),
    # Stripe's own
    "stored_NNN": FaultKind(Layer.KEPT, "that status kept under the idempotency key; `effect` (true)"),
    "refund_status": FaultKind(Layer.REFUND, "the refund is made with `status` and `failure_reason`"),
    "async_payment": FaultKind(Layer.PAYMENT, "the session completes unpaid until it is settled"),
    "decline": FaultKind(Layer.PAYMENT, "the card is declined with `decline_code`"),
    # Upsampler's own
    "fail": FaultKind(Layer.JOB, "the job fails with the text `error`"),
    "never_finish": FaultKind(Layer.JOB, "the job stays in `status` (IN_PROGRESS)"),
    "wrong_size": FaultKind(Layer.JOB, "the result is `width` x `height` (1 x 1) pixels"),
    "charge_times": FaultKind(Layer.JOB, "the job costs `factor` (2) times its credits"),
    # Events and callbacks
    "hold": FaultKind(Layer.WEBHOOK, "kept back until released"),
    "drop": FaultKind(Layer.WEBHOOK, "never delivered, though it exists"),
    "not_made": FaultKind(Layer.EVENT, "the event is never made at all"),
    "duplicate": FaultKind(Layer.WEBHOOK, "delivered `copies` (2) times at once"),
    "delay_event": FaultKind(Layer.WEBHOOK, "delivered `seconds` (1) later, so others overtake it"),
    "bad_signature": FaultKind(Layer.WEBHOOK, "signed with another secret, once; then as it should be"),
    "patch_event": FaultKind(Layer.WEBHOOK, "sent with the fields of `body` changed, well signed"),
    # Mail
    "refuse_NNN": FaultKind(Layer.SMTP, "that code and `message` at the command"),
    "cut": FaultKind(Layer.SMTP, "the connection is closed at the command, nothing kept"),
    "cut_before_dot": FaultKind(Layer.SMTP, "data: closed after 354, before the final dot"),
    "cut_after_dot": FaultKind(Layer.SMTP, "dot: the mail is kept, closed before the 250"),
    "slow": FaultKind(Layer.SMTP, "answers `seconds` later"),
}  # fmt: skip
_SMTP_ALIASES: Final = {"drop_reply_after_effect": "cut_after_dot", "timeout": "slow"}
FAULT_ALIASES: Final = {
    "drop_reply": "drop_reply_after_effect",
    "delay_webhook": "delay_event",
}


class UnknownFaultError(ValueError):
    """A script names a provider or a fault that the table does not have."""


@dataclass(slots=True)
class Fault:
    """One line of the script.

    Attributes:
        times: How often it strikes; -1 for ever.
        skip: How many occasions pass unharmed before the first strike.
        match: Strikes only where each of these facts of the occasion (`path`, `body`, `type`, `id`, …)
            contains the text.
        number: The code in the name (`http_503`, `refuse_450`), else 0.
    """

    id: str
    provider: str
    operation: str
    fault: str
    times: int = 1
    skip: int = 0
    params: Json = field(default_factory=dict)
    match: dict[str, str] = field(default_factory=dict)
    seen: int = 0
    fired: int = 0

    @property
    def name(self) -> str:
        """The name as the table has it."""
        return table_name(self.fault)

    @property
    def number(self) -> int:
        """The code in the name, or 0."""
        found = re.search(r"_(\d{3})(_|$)", self.fault)
        return int(found[1]) if found else 0

    @property
    def layer(self) -> Layer:
        """Where it strikes."""
        return FAULT_KINDS[self.name].layer

    def concerns(self, operation: str, facts: Mapping[str, str]) -> bool:
        """Tell whether the fault is meant for this occasion and is not used up."""
        return (
            self.operation in (ANY_OPERATION, operation)
            and (self.times == WITHOUT_END or self.fired < self.times)
            and all(text in facts.get(name, "") for name, text in self.match.items())
        )


def _checked(line: Mapping[str, Any]) -> dict[str, Any]:
    provider, name = line.get("provider"), str(line.get("fault"))
    if provider not in PROVIDERS:
        raise UnknownFaultError(f"provider must be one of {', '.join(PROVIDERS)}")
    name = _SMTP_ALIASES.get(name, name) if provider == "smtp" else name
    kind = FAULT_KINDS.get(table_name(name))
    if kind is None:
        raise UnknownFaultError(f"fault must be one of {', '.join(FAULT_KINDS)}")
    if (kind.layer is Layer.SMTP) != (provider == "smtp"):
        raise UnknownFaultError(f"{provider} has no fault {name}")
    # These two can strike at one command alone, whatever the line says.
    only = {"cut_before_dot": "data", "cut_after_dot": "dot"}.get(name)
    return {**line, "fault": name, "operation": only or line.get("operation", ANY_OPERATION)}


def table_name(fault: str) -> str:
    """Return the table's name for a fault as scripted (`http_503` is `http_NNN`)."""
    return re.sub(r"_\d{3}(?=_|$)", "_NNN", FAULT_ALIASES.get(fault, fault))


def merged(value: Json, changes: Json) -> Json:
    """Return an object with some of its fields changed, at any depth."""
    return value | {
        name: merged(value[name], change)
        if isinstance(change, dict) and isinstance(value.get(name), dict)
        else change
        for name, change in changes.items()
    }


class FaultScript:
    """The queue of faults to come. Safe to use from any thread: the store's lock is its own as well.

    Args:
        store: Where the script is kept.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._faults = [Fault(**row) for row in store.rows("fault", Selection(oldest_first=True))]

    def add(self, line: Mapping[str, Any]) -> Fault:
        """Put a fault at the end of the script.

        Raises:
            UnknownFaultError: The table has no such provider or fault, or the line has an unknown field.
        """
        line = _checked(line)
        try:
            fault = Fault(**{**line, "id": self._store.new_id("flt_", 12)})
        except TypeError as error:
            raise UnknownFaultError(str(error)) from error
        with self._store.transaction():
            self._faults.append(fault)
            self._store.put("fault", asdict(fault))
        return fault

    def clear(self) -> None:
        """Forget the whole script."""
        with self._store.transaction():
            self._faults.clear()
            self._store.delete("fault")

    def lines(self) -> list[Json]:
        """Return the script with what has fired so far."""
        with self._store.transaction():
            return [asdict(fault) for fault in self._faults]

    def take(
        self,
        provider: str,
        operation: str,
        layer: Layer,
        facts: Mapping[str, str] | None = None,
    ) -> Fault | None:
        """Return the fault that strikes now, counted as fired, or None."""
        with self._store.transaction():
            for fault in self._faults:
                if fault.provider != provider or fault.layer is not layer:
                    continue
                if not fault.concerns(operation, facts or {}):
                    continue
                fault.seen += 1
                if fault.seen > fault.skip:
                    fault.fired += 1
                self._store.put("fault", asdict(fault))
                if fault.seen > fault.skip:
                    return fault
        return None

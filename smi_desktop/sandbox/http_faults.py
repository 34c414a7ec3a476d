"""What each HTTP fault does to a request or a reply. The names are in `faults.FAULT_KINDS`."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from smi_desktop.sandbox.faults import Fault, merged
from smi_desktop.sandbox.http_messages import (
    HttpError,
    NoReplyError,
    Reply,
    Sending,
    html_reply,
    json_reply,
)

_FOR_EVER: Final = 120.0
_PORTAL: Final = (
    "<!doctype html><title>Welcome</title><h1>Please accept the terms of this network</h1>"
)
_DRIPS_PER_SECOND: Final = 10

Explain = Callable[[HttpError], Reply]


def before_effect(fault: Fault, stopping: threading.Event, explain: Explain) -> Reply | None:
    """Return the reply instead of the effect, or None to go on.

    Raises:
        NoReplyError: The connection is to be closed.
    """
    params = fault.params
    if fault.name == "delay":
        stopping.wait(float(params.get("seconds", 1)))
        return None
    if fault.name in ("timeout", "drop_request"):
        if fault.name == "timeout":
            stopping.wait(float(params.get("seconds", _FOR_EVER)))
        raise NoReplyError
    if fault.name == "redirect":
        return Reply(302, b"", {"Location": str(params.get("location", ""))})
    if fault.name == "file":
        kind = str(params.get("content_type", "image/png"))
        return Reply(200, Path(params["path"]), {"Content-Type": kind})
    return _instead(fault, explain)


def after_effect(fault: Fault, reply: Reply, stopping: threading.Event, explain: Explain) -> Reply:
    """Return what becomes of the reply.

    Raises:
        NoReplyError: The connection is to be closed.
    """
    params = fault.params
    if fault.name in ("drop_reply_after_effect", "timeout_after_effect"):
        if fault.name == "timeout_after_effect":
            stopping.wait(float(params.get("seconds", _FOR_EVER)))
        raise NoReplyError
    if fault.name == "delay_reply":
        stopping.wait(float(params.get("seconds", 1)))
        return reply
    if fault.name in ("cut_reply", "truncate_reply"):
        share = None if "at" in params else float(params.get("share", 0.5))
        honest = fault.name == "truncate_reply"
        return replace(reply, sending=Sending(params.get("at"), share, honest=honest))
    if fault.name == "slow_reply":
        rate = float(params.get("bytes_per_second", 1))
        piece = max(1, int(rate / _DRIPS_PER_SECOND))
        return replace(reply, sending=Sending(piece=piece, pause=piece / rate))
    if fault.name == "patch_reply" and isinstance(reply.body, bytes):
        changed = merged(json.loads(reply.body), params["body"])
        return replace(reply, body=json.dumps(changed).encode())
    return _instead(fault, explain)


def _instead(fault: Fault, explain: Explain) -> Reply:
    params = fault.params
    status = int(params.get("status", 200))
    plain = fault.name.removesuffix("_after_effect")
    if plain == "html":
        return html_reply(str(params.get("text", _PORTAL)), status)
    if plain == "empty":
        return Reply(status)
    if plain == "json":
        return json_reply(params.get("body"), status)
    headers = {"Retry-After": str(params["retry_after"])} if "retry_after" in params else {}
    message = str(params.get("message", f"Scripted fault {fault.fault}."))
    details: dict[str, object] = {name: params[name] for name in ("code", "type") if name in params}
    return explain(HttpError(fault.number, message, details, headers))

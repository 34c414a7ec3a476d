"""The image child: reads requests from standard input, answers on standard output, in JSON lines.

It alone decodes what came from outside. It takes its limits before anything else is imported, ends
with its parent, and ends by itself when nothing was asked for a while. `client` is the other end.

Request:  {"task": "inspect", "arguments": {...}}
Answers:  {"share": 0.5} any number of times,
          then {"done": {...}} or {"failed": "<class>", "message": "..."}
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from smi_desktop.domain.errors import SmiError, TransientError
from smi_desktop.imaging.limits import Role, limit_this_process

IDLE_SECONDS = 60.0
"""A child that nobody asks anything for so long ends."""
_SHARE_SECONDS = 0.25
"""How often progress is told at most."""
_PATHS = ("path", "result", "source", "destination", "scratch")

Task = Callable[..., Mapping[str, Any]]
Say = Callable[[Mapping[str, Any]], None]


def main(arguments: list[str]) -> None:
    """Serve requests until standard input ends.

    Args:
        arguments: The role and the parent's process id.
    """
    role = Role(arguments[0])
    limit_this_process(role, int(arguments[1]))
    answers = _take_standard_output()
    tasks = _tasks(role)

    def say(answer: Mapping[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    while True:
        try:
            line = requests.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            os._exit(0)
        say(_answer(json.loads(line), tasks, say))


def _take_standard_output() -> IO[str]:
    """Keep the answers' channel to ourselves: what a library prints goes to standard error."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return channel


def _listen(requests: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        requests.put(line)
    # The parent has closed its end or is gone; whatever is being computed has no reader any more.
    os._exit(0)


def _answer(request: Mapping[str, Any], tasks: Mapping[str, Task], say: Say) -> Mapping[str, Any]:
    arguments = {
        name: Path(value) if name in _PATHS else value
        for name, value in request["arguments"].items()
    }
    if request["task"] == "upscale":
        arguments["on_share"] = _now_and_then(say)
    try:
        return {"done": tasks[request["task"]](**arguments)}
    except SmiError as error:
        return {"failed": type(error).__name__, "message": error.message}
    except MemoryError:
        return {
            "failed": TransientError.__name__,
            "message": "There was not enough memory for the picture.",
        }


def _now_and_then(say: Say) -> Callable[[float], None]:
    told_at = 0.0

    def on_share(share: float) -> None:
        nonlocal told_at
        now = time.monotonic()
        if share >= 1.0 or now - told_at >= _SHARE_SECONDS:
            told_at = now
            say({"share": share})

    return on_share


def _tasks(role: Role) -> Mapping[str, Task]:
    """Import what the role needs, and nothing more, under the limits that are already in force."""
    from smi_desktop.imaging import opening

    opening.block_other_decoders()
    if role is Role.UPSCALE:
        from smi_desktop.imaging import upscaling

        def upscale(**arguments: Any) -> Mapping[str, Any]:  # noqa: ANN401 - passed on as they came
            upscaling.upscale(**arguments)
            return {}

        return {"upscale": upscale}
    from smi_desktop.imaging import checking, preview

    return {
        "inspect": checking.inspect,
        "preview": preview.make_preview,
        "finish": checking.finish_result,
    }


if __name__ == "__main__":
    main(sys.argv[1:])

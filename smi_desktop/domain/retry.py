"""How long to wait before the next try. Exponential, capped, with jitter so that orders do not march in step."""

from __future__ import annotations

from datetime import timedelta


def backoff(
    attempt: int,
    *,
    first: float = 2.0,
    cap: float = 900.0,
    jitter: float,
    asked: float | None = None,
) -> timedelta:
    """Return the wait after the `attempt`-th failed try.

    Args:
        attempt: 1 for the first failure.
        first: Seconds after the first failure.
        cap: The longest wait in seconds.
        jitter: A random number in 0..1; the wait is between 75 and 125 % of the schedule.
        asked: Seconds that the other side asked for (Retry-After); never undercut.
    """
    seconds = min(cap, first * 2.0 ** min(attempt - 1, 30)) * (0.75 + 0.5 * jitter)
    return timedelta(seconds=max(seconds, asked or 0.0))

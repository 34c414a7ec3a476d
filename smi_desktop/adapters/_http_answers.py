"""Read what HTTP answers say beside their body."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

# Nobody is believed who asks for more than a day.
_LONGEST_WAIT: Final = 24 * 3600.0


def retry_after_seconds(headers: Mapping[str, str] | None) -> float | None:
    """Return the seconds that `Retry-After` asks for (RFC 9110 10.2.3: seconds or an HTTP date)."""
    named = {name.lower(): value for name, value in (headers or {}).items()}
    text = named.get("retry-after", "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, TypeError):
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.now(UTC)).total_seconds()
    if not math.isfinite(seconds):
        return None
    return min(max(seconds, 0.0), _LONGEST_WAIT)

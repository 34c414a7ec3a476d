"""The SDK's own HTTP client, with answers that cannot be Stripe's turned into connection errors.

The SDK takes for granted that a JSON object came back, with an `error` object if the status says so;
from a captive portal's page, a proxy's 404 or a broken body it fails with an AttributeError or the
like. Decides alone what an answer of Stripe's API looks like.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

import stripe

_ERRORS_BEGIN: Final = 400
_SERVER_ERROR: Final = 500


class StrictRequestsClient(stripe.RequestsClient):
    """Passes on what Stripe may have said, and nothing else."""

    # The SDK's base class and its RequestsClient disagree about this signature; this is the latter's.
    def request(  # type: ignore[override]
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        post_data: object = None,
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Send a request.

        Raises:
            stripe.APIConnectionError: No answer, or none that can be Stripe's.
        """
        content, status, fields = super().request(method, url, headers, post_data)
        if not _can_be_stripes(content, status):
            raise stripe.APIConnectionError(  # type: ignore[no-untyped-call]
                f"The answer is not one of Stripe's API (HTTP {status}).",
                # A gateway before Stripe that is overloaded says so with a page of its own.
                should_retry=status >= _SERVER_ERROR,
            )
        return content, status, fields


def _can_be_stripes(content: bytes, status: int) -> bool:
    try:
        found = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        return False
    if not isinstance(found, dict):
        return False
    if status >= _ERRORS_BEGIN:
        return isinstance(found.get("error"), dict)
    if found.get("object") == "list":
        listed = found.get("data")
        return isinstance(listed, list) and all(isinstance(each, dict) for each in listed)
    return isinstance(found.get("id"), str)

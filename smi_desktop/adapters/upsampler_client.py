"""Upsampler.com's precise upscale. Sole owner of its wire format and of how its answers are read.

The format is the one that public clients use against the live API (nodes.py of
https://github.com/cedarconnor/upsampler). A submit has no idempotency key, so the one question that
counts after a failure is whether the request can have arrived: `_http_call` answers it from whether
the body was handed to the socket, and `_MAYBE_TAKEN` where a gateway answered in the upscaler's place.
Which words of an error mean our account, this picture, or nothing final is decided in `_refusal` alone.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from limits import RateLimitItem, RateLimitItemPerHour, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from smi_desktop.adapters._http_answers import retry_after_seconds
from smi_desktop.adapters._http_call import (
    Answer,
    AnswerLostError,
    NotSentError,
    call,
)
from smi_desktop.domain.errors import (
    AmbiguousError,
    ProviderAccountError,
    RejectedError,
    SmiError,
    TransientError,
)
from smi_desktop.services.ports import RemoteJob, RemoteState, UpscaleRequest

_log = logging.getLogger(__name__)

_STATES: Final = {
    "IN_QUEUE": RemoteState.QUEUED,
    "IN_PROGRESS": RemoteState.RUNNING,
    "SUCCESS": RemoteState.SUCCEEDED,
    "FAILED": RemoteState.FAILED,
}
# The limits that the provider has published (the same project's README).
_SUBMIT_LIMITS: Final = (RateLimitItemPerMinute(90), RateLimitItemPerHour(6000))
_STATUS_LIMITS: Final = (RateLimitItemPerMinute(240),)

# The words that the public clients treat as final (nodes.py, see above).
_ACCOUNT_WORDS: Final = re.compile(
    r"invalid api key|unauthori[sz]ed|insufficient credit", re.IGNORECASE
)
_PICTURE_WORDS: Final = re.compile(r"unsupported|not allowed|exceed|too large", re.IGNORECASE)
_AGAIN_LATER: Final = frozenset({408, 409, 425, 429})
# The order for work went out whole; a gateway that lost its server behind it cannot say what became of it.
_MAYBE_TAKEN: Final = frozenset({408, 500, 502, 504, 520, 521, 522, 523, 524})
_THIS_PICTURE: Final = frozenset({400, 413, 415, 422})
_JOB_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,200}")
_LONGEST_QUOTE: Final = 300


class UpsamplerClient:
    """Implements RemoteUpscaler. Safe from several threads; the rate limit holds for this object.

    Args:
        api_key: Sent as a bearer token. Never logged.
        api_base: Such as `https://upsampler.com/api/v1`.
        image_type: `realism`, `anime` or `universal`.
    """

    name = "upsampler"

    def __init__(self, api_key: str, *, api_base: str, image_type: str) -> None:
        if not api_key.strip():
            raise ProviderAccountError("There is no Upsampler key.")
        self._api_key = api_key
        self._base = api_base.rstrip("/")
        self._image_type = image_type
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def submit(self, request: UpscaleRequest) -> RemoteJob:
        """Start a job.

        A job that the provider took and failed at once comes back as FAILED.

        Raises:
            TransientError: It surely did not start; try again later.
            AmbiguousError: The request went out and no usable answer came.
            ProviderAccountError: Our key or credit, or the provider's interface has changed.
            RejectedError: This picture is refused for good.
        """
        self._take("submit", _SUBMIT_LIMITS)
        body = {
            "webhook": request.callback_url,
            "input": {
                "imageUrl": request.image_url,
                "inputImageType": self._image_type,
                "upscaleFactor": request.factor,
                # A faithful enlargement: no face is redrawn, no blur that was meant is sharpened.
                "shouldEnhanceFaces": False,
                "shouldPreserveBlur": True,
            },
        }
        try:
            answer = self._call("POST", f"{self._base}/precise-upscale", body)
        except NotSentError as error:
            raise TransientError("Upsampler cannot be reached.") from error
        except AnswerLostError as error:
            raise AmbiguousError("Upsampler's answer to an order for work was lost.") from error
        if answer.status in _MAYBE_TAKEN:
            raise AmbiguousError(
                f"Upsampler's gateway answered HTTP {answer.status}: it may have the job."
            )
        self._refuse_errors(answer)
        found = answer.json_object() if answer.is_success else None
        job = _job(found or {})
        if job is not None:
            return job
        refusal = _refusal_by_words(_error_text(found))
        if refusal is not None:
            raise refusal
        _log.warning("Upsampler answered HTTP %s without a job", answer.status)
        raise AmbiguousError(f"Upsampler's answer cannot be used (HTTP {answer.status}).")

    def status(self, job_id: str) -> RemoteJob:
        """Ask for a job.

        Raises:
            TransientError: No usable answer, or the job is not known (yet).
            ProviderAccountError: Our key.
        """
        self._take("status", _STATUS_LIMITS)
        try:
            answer = self._call("GET", f"{self._base}/status/{quote(job_id, safe='')}", None)
        except (NotSentError, AnswerLostError) as error:
            raise TransientError("Upsampler cannot be reached.") from error
        if not answer.is_success:
            refusal = _refusal(answer)
            if isinstance(refusal, ProviderAccountError) and answer.status in {401, 402, 403}:
                raise refusal
            # Also 404 and 400: a job may become known some minutes after it was taken.
            wait = retry_after_seconds(answer.headers)
            raise TransientError(
                f"Upsampler does not tell about the job (HTTP {answer.status}).", retry_after=wait
            )
        job = _job(answer.json_object() or {})
        if job is None or job.id != job_id:
            raise TransientError("Upsampler's answer is not about this job.")
        return job

    def _call(self, method: str, url: str, body: Mapping[str, Any] | None) -> Answer:
        return call(
            method,
            url,
            bearer=self._api_key,
            body=None if body is None else json.dumps(body).encode(),
        )

    def _take(self, what: str, limits: tuple[RateLimitItem, ...]) -> None:
        """Count one request, or refuse it when the provider's limit is used up."""
        for limit in limits:
            if not self._limiter.test(limit, what):
                reset = self._limiter.get_window_stats(limit, what).reset_time
                raise TransientError(
                    "Upsampler's rate limit is used up for the moment.",
                    retry_after=max(1.0, reset - time.time()),
                )
        for limit in limits:
            self._limiter.hit(limit, what)

    @staticmethod
    def _refuse_errors(answer: Answer) -> None:
        if not answer.is_success:
            refusal = _refusal(answer)
            if refusal is not None:
                raise refusal


def _refusal(answer: Answer) -> SmiError | None:
    """Return what an answer other than 2xx means, or None if nobody can tell."""
    status = answer.status
    words = _error_text(answer.json_object()) or answer.text()[:_LONGEST_QUOTE]
    if status >= 500 or status in _AGAIN_LATER:
        wait = retry_after_seconds(answer.headers)
        return TransientError(f"Upsampler is busy or away (HTTP {status}).", retry_after=wait)
    if status < 400:
        # A redirect is not an acceptance, except "see other", which follows one.
        return None if status == 303 else TransientError(f"Upsampler moved away (HTTP {status}).")
    by_words = _refusal_by_words(words)
    if by_words is not None:
        return by_words
    if status in _THIS_PICTURE:
        return RejectedError(f"Upsampler refuses this picture: {words}")
    # 401, 402, 403, and 404 or 405 of an interface that is gone: not the fault of one order.
    return ProviderAccountError(f"Upsampler refuses this shop (HTTP {status}): {words}")


def _refusal_by_words(words: str | None) -> SmiError | None:
    if words and _ACCOUNT_WORDS.search(words):
        return ProviderAccountError(f"Upsampler refuses this shop: {words}")
    if words and _PICTURE_WORDS.search(words):
        return RejectedError(f"Upsampler refuses this picture: {words}")
    return None


def _job(found: Mapping[str, Any]) -> RemoteJob | None:
    job_id, said = found.get("id"), found.get("status")
    if not isinstance(job_id, str) or not _JOB_ID.fullmatch(job_id) or not isinstance(said, str):
        return None
    state = _STATES.get(said, RemoteState.UNKNOWN)
    image_url = found.get("imageUrl")
    cost = found.get("creditCost")
    return RemoteJob(
        id=job_id,
        state=state,
        image_url=image_url if isinstance(image_url, str) and image_url else None,
        credit_cost=cost if type(cost) is int and cost >= 0 else None,
        error=_error_text(found) if state is RemoteState.FAILED else None,
        said=said[:_LONGEST_QUOTE],
    )


def _error_text(found: Mapping[str, Any] | None) -> str | None:
    """Return the provider's own words, on one line and of bounded length."""
    error = (found or {}).get("error") or (found or {}).get("message")
    if isinstance(error, Mapping):
        error = error.get("message")
    if not isinstance(error, str) or not error.strip():
        return None
    return " ".join(error.split())[:_LONGEST_QUOTE]

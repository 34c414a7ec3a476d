"""What every error becomes: JSON of the contract for a program, a page for a person who followed a link."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from smi_desktop.domain.errors import NotFoundError, SmiError
from webhook_relay.answers import answer_error, json_error, problem_page, tell, wants_page
from webhook_relay.limits import TooManyRequestsError
from webhook_relay.runtime import Runtime

_JOB_STATUS: Final = "/smi/v1/job-status/"
_JOB_CODE: Final = "job_not_found"
# Addresses that stand in mails and address bars.
_FOR_PEOPLE: Final = ("/smi/v1/download/", "/order")

ErrorHandler = Callable[[Request, Exception], Awaitable[Response]]


class Failures:
    """Handlers for errors, with what they need."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def handlers(self) -> dict[type[Exception], ErrorHandler]:
        """Return the handler of each kind of error."""
        return {
            SmiError: self._own_error,
            TooManyRequestsError: self._too_many,
            HTTPException: self._http_error,
        }

    async def _own_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, SmiError)
        answer = answer_error(error, not_found_code=_not_found_code(request))
        return await self._for_person(request, answer, *tell(error))

    async def _too_many(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, TooManyRequestsError)
        message = "Too many requests came from your network. Please wait a minute and try again."
        return await self._for_person(request, error.answer(), "One moment, please", message)

    async def _http_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == HTTPStatus.NOT_FOUND:
            code = _not_found_code(request)
            words = "Job not found" if code == _JOB_CODE else "There is nothing at this address."
            return await self._own_error(request, NotFoundError(words))
        refused = error.status_code == HTTPStatus.METHOD_NOT_ALLOWED
        code = "method_not_allowed" if refused else "http_error"
        headers = dict(error.headers) if error.headers else None
        return json_error(error.status_code, code, error.detail, headers)

    async def _for_person(
        self, request: Request, answer: Response, heading: str, message: str
    ) -> Response:
        path: str = request.scope["path"]
        if not wants_page(request) or not path.startswith(_FOR_PEOPLE):
            return answer
        version, status = self._runtime.asset_version, answer.status_code
        try:
            shown = await self._runtime.work(
                problem_page, heading, message, asset_version=version, status=status
            )
        except SmiError:
            # Not even the studio's name can be read at the moment.
            return answer
        if "retry-after" in answer.headers:
            shown.headers["Retry-After"] = answer.headers["retry-after"]
        return shown


def _not_found_code(request: Request) -> str:
    return _JOB_CODE if request.scope["path"].startswith(_JOB_STATUS) else "not_found"

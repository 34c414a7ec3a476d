"""Errors that a test orders in advance, shared by the fakes."""

from __future__ import annotations

from collections import deque


class Scripted:
    """Raises the errors that a test has ordered, one a call, before anything happens.

    Attributes:
        calls: The name of every method that was called, in order.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._ordered: deque[tuple[str | None, Exception]] = deque()
        self._lost: deque[tuple[str | None, Exception]] = deque()

    def fail_next(self, *errors: Exception, method: str | None = None) -> None:
        """Make the next calls (of one method, if named) raise, with nothing done."""
        self._ordered.extend((method, error) for error in errors)

    def lose_reply(self, *errors: Exception, method: str | None = None) -> None:
        """Make the next calls do their work and then raise: the answer was lost on its way."""
        self._lost.extend((method, error) for error in errors)

    def _begin(self, method: str) -> None:
        self.calls.append(method)
        self._raise_first(self._ordered, method)

    def _end(self, method: str) -> None:
        self._raise_first(self._lost, method)

    @staticmethod
    def _raise_first(ordered: deque[tuple[str | None, Exception]], method: str) -> None:
        for entry in ordered:
            if entry[0] in (None, method):
                ordered.remove(entry)
                raise entry[1]

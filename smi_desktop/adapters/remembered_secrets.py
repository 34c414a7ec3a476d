"""Remembers secrets for a few seconds, in memory: a busy relay asks for its signing secret with every webhook."""

from __future__ import annotations

import threading
import time

from smi_desktop.services.ports import SecretStore


class RememberedSecrets:
    """Implements SecretStore in front of another one.

    Args:
        store: Where the secrets really are.
        seconds: For how long an answer is taken for current.
    """

    def __init__(self, store: SecretStore, *, seconds: float) -> None:
        self._store = store
        self._seconds = seconds
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, str | None]] = {}

    def get(self, name: str) -> str | None:
        """Return a secret, at most some seconds old."""
        with self._lock:
            read_at, value = self._known.get(name, (float("-inf"), None))
            if time.monotonic() - read_at >= self._seconds:
                value = self._store.get(name)
                self._known[name] = (time.monotonic(), value)
            return value

    def set(self, name: str, value: str) -> None:
        """Store a secret."""
        self._store.set(name, value)
        self._forget(name)

    def delete(self, name: str) -> None:
        """Remove a secret."""
        self._store.delete(name)
        self._forget(name)

    def describe(self) -> str:
        """Say in words where secrets are kept."""
        return self._store.describe()

    def _forget(self, name: str) -> None:
        with self._lock:
            self._known.pop(name, None)

"""Secrets in memory."""

from __future__ import annotations

from smi_desktop.domain.errors import ConfigurationError


class MemorySecretStore:
    """Implements SecretStore.

    Attributes:
        values: What is stored.
        locked: Set it to make every call fail as a locked keyring does.
    """

    def __init__(self, values: dict[str, str] | None = None) -> None:
        self.values = dict(values or {})
        self.locked = False

    def get(self, name: str) -> str | None:
        """Return a secret, or None."""
        self._check()
        return self.values.get(name)

    def set(self, name: str, value: str) -> None:
        """Store a secret."""
        self._check()
        if not value:
            raise ConfigurationError("An empty secret cannot be stored.")
        self.values[name] = value

    def delete(self, name: str) -> None:
        """Forget a secret."""
        self._check()
        self.values.pop(name, None)

    def describe(self) -> str:
        """Say where secrets are."""
        return "in memory, for this test"

    def _check(self) -> None:
        if self.locked:
            raise ConfigurationError("The keyring is locked. Unlock it and try again.")

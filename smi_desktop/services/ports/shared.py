"""The clock and the secret store."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """What time it is."""

    def now(self) -> datetime:
        """Return the present moment as aware UTC."""
        ...


class SecretStore(Protocol):
    """Where keys and passwords are kept. Never the database, never the settings."""

    def get(self, name: str) -> str | None:
        """Return a secret, or None if there is none.

        Raises:
            ConfigurationError: The store is locked or missing.
        """
        ...

    def set(self, name: str, value: str) -> None:
        """Store a secret and read it back.

        Raises:
            ConfigurationError: The store did not keep it.
        """
        ...

    def delete(self, name: str) -> None:
        """Remove a secret; nothing happens if there is none."""
        ...

    def describe(self) -> str:
        """Say in words where secrets are kept."""
        ...

"""What every use case is given: the open shop with its doors to the outside world."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from smi_desktop.config import Mode, ShopSettings
from smi_desktop.domain.errors import ConfigurationError, TransientError
from smi_desktop.domain.tokens import derive_token, new_key
from smi_desktop.services.ports import (
    Clock,
    Fetcher,
    FileStore,
    ImageReader,
    LocalUpscaler,
    Mailer,
    PaymentGateway,
    RemoteUpscaler,
    SecretStore,
    TemplateRenderer,
    WebhookVerifier,
)
from smi_desktop.store import orders
from smi_desktop.store import settings as settings_rows
from smi_desktop.store.database import Database

STRIPE_SECRET_KEY: Final = "stripe_secret_key"  # noqa: S105 - names of secrets, not secrets
STRIPE_WEBHOOK_SECRET: Final = "stripe_webhook_secret"  # noqa: S105
STRIPE_WEBHOOK_SECRET_PREVIOUS: Final = "stripe_webhook_secret_previous"  # noqa: S105
UPSAMPLER_API_KEY: Final = "upsampler_api_key"
SMTP_PASSWORD: Final = "smtp_password"  # noqa: S105
TOKEN_KEY: Final = "token_key"  # noqa: S105


class _SettingsCache:
    """Keeps settings for a moment: a busy relay reads them for every request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._settings: ShopSettings | None = None
        self._read_at = 0.0

    def get(self, database: Database, seconds: float) -> ShopSettings:
        with self._lock:
            if self._settings is None or time.monotonic() - self._read_at >= seconds:
                with database.read() as session:
                    self._settings = settings_rows.load(session)
                self._read_at = time.monotonic()
            return self._settings


@dataclass(frozen=True)
class Shop:
    """An open shop.

    The doors that depend on settings or keys are functions of the settings, so that a change of either is
    honoured by the next piece of work. Each raises ConfigurationError where the shop is not set up for it.

    Attributes:
        work_dir: A folder for temporary files on the same disk as the file store.
        settings_seconds: For how long settings that were read are taken for current.
    """

    database: Database
    clock: Clock
    secrets: SecretStore
    verifier: WebhookVerifier
    files: FileStore
    images: ImageReader
    templates: TemplateRenderer
    local_upscaler: LocalUpscaler
    payments: Callable[[ShopSettings], PaymentGateway]
    remote_upscaler: Callable[[ShopSettings], RemoteUpscaler]
    mailer: Callable[[ShopSettings], Mailer]
    fetcher: Callable[[ShopSettings], Fetcher]
    work_dir: Path
    mode: Mode
    settings_seconds: float = 0.0
    _cache: _SettingsCache = field(default_factory=_SettingsCache, repr=False)

    def now(self) -> datetime:
        """Return the present moment, aware UTC."""
        return self.clock.now()

    def settings(self) -> ShopSettings:
        """Return the settings of this moment."""
        return self._cache.get(self.database, self.settings_seconds)

    @property
    def livemode(self) -> bool:
        """Whether real money moves."""
        return self.mode is Mode.LIVE

    def secret(self, name: str) -> str:
        """Return a secret that must be there.

        Raises:
            ConfigurationError: It is not.
        """
        value = self.secrets.get(name)
        if not value or not value.strip():
            raise ConfigurationError(
                f"The secret '{name}' is not set; secrets are kept {self.secrets.describe()}."
            )
        return value

    def token(self, purpose: str, *parts: str | int) -> str:
        """Derive the 64-character token of this purpose under the shop's key."""
        return derive_token(self.secret(TOKEN_KEY), purpose, *parts)

    @contextmanager
    def temporary_folder(self, purpose: str) -> Iterator[Path]:
        """Give a folder that is gone afterwards.

        Raises:
            TransientError: No space or no access.
        """
        try:
            self.work_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder = tempfile.TemporaryDirectory(dir=self.work_dir, prefix=f"{purpose}-")
        except OSError as error:
            raise TransientError(f"{self.work_dir} cannot be written: {error.strerror}.") from error
        with folder as path:
            yield Path(path)


def ensure_token_key(secrets: SecretStore, database: Database) -> None:
    """Make the shop's token key once.

    Raises:
        ConfigurationError: The store cannot keep it; or it is gone although there are orders, whose links
            a new key would all end.
    """
    if secrets.get(TOKEN_KEY):
        return
    with database.read() as session:
        if orders.list_page(session, limit=1):
            raise ConfigurationError(
                f"The secret '{TOKEN_KEY}' is gone, though this shop has orders: every link that was "
                f"delivered is made with it. Bring it back; secrets are kept {secrets.describe()}."
            )
    secrets.set(TOKEN_KEY, new_key())

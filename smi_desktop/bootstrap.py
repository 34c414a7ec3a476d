"""Opens a shop: the only place where concrete classes meet."""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar, cast
from urllib.parse import urlsplit

from smi_desktop.adapters._addresses import is_loopback_host, is_loopback_url
from smi_desktop.adapters.clock import OffsetClock, SystemClock
from smi_desktop.adapters.embedded_upscaler import EmbeddedUpscaler
from smi_desktop.adapters.file_store import LocalFileStore
from smi_desktop.adapters.http_fetcher import HttpFetcher
from smi_desktop.adapters.image_reader import ProcessImageReader
from smi_desktop.adapters.remembered_secrets import RememberedSecrets
from smi_desktop.adapters.secret_store import (
    EnvironmentSecretStore,
    FileSecretStore,
    KeyringSecretStore,
)
from smi_desktop.adapters.smtp_mailer import SmtpMailer
from smi_desktop.adapters.stripe_webhooks import StripeSignatureVerifier
from smi_desktop.adapters.template_renderer import JinjaRenderer
from smi_desktop.config import Mode, ProcessConfig, SecretsBackend, ShopSettings
from smi_desktop.domain.errors import ConfigurationError
from smi_desktop.services.ports import (
    Clock,
    Fetcher,
    Mailer,
    PaymentGateway,
    RemoteUpscaler,
    SecretStore,
)
from smi_desktop.services.shop import (
    SMTP_PASSWORD,
    STRIPE_SECRET_KEY,
    UPSAMPLER_API_KEY,
    Shop,
    ensure_token_key,
)
from smi_desktop.store.database import Database

_T = TypeVar("_T")

CLOCK_FILE: Final = "clock-offset"
SECRETS_FILE: Final = "secrets.json"
_SECONDS_CURRENT: Final = 1.0


@contextmanager
def open_shop(config: ProcessConfig, *, only_look: bool = False) -> Iterator[Shop]:
    """Open the shop of a data folder, bringing its database up to this version.

    Args:
        config: The process's configuration.
        only_look: Open it without its key too: to look at orders, or to find out what is missing.

    Raises:
        ConfigurationError: The folder, the database or the secret store cannot be used;
            NewerDataError if a newer version has written the data.
    """
    _prepare_folder(config.data_dir)
    secrets = RememberedSecrets(_secret_store(config), seconds=_SECONDS_CURRENT)
    database = Database(config.effective_database_url)
    images = ProcessImageReader(config.data_dir / "work")
    try:
        database.migrate()
        if not only_look:
            ensure_token_key(secrets, database)
        yield _assemble(config, database, secrets, images)
    finally:
        images.close()
        database.close()


def presence_dir(config: ProcessConfig) -> Path:
    """Return where the engines of this machine tell each other that they live."""
    return config.data_dir / "engines"


def _assemble(
    config: ProcessConfig, database: Database, secrets: SecretStore, images: ProcessImageReader
) -> Shop:
    work_dir = config.data_dir / "work"
    doors = _Doors(config.mode, secrets)
    return Shop(
        database=database,
        clock=_clock(config),
        secrets=secrets,
        verifier=StripeSignatureVerifier(),
        files=LocalFileStore(config.data_dir / "files"),
        images=images,
        templates=JinjaRenderer(),
        local_upscaler=EmbeddedUpscaler(work_dir),
        payments=doors.payments,
        remote_upscaler=doors.remote_upscaler,
        mailer=doors.mailer,
        fetcher=doors.fetcher,
        work_dir=work_dir,
        mode=config.mode,
        settings_seconds=_SECONDS_CURRENT,
    )


class _Doors:
    """Makes the adapters that depend on settings and keys, anew whenever either changes."""

    def __init__(self, mode: Mode, secrets: SecretStore) -> None:
        self._mode = mode
        self._secrets = secrets
        self._made: dict[str, tuple[Hashable, object]] = {}
        self._lock = threading.Lock()

    def payments(self, settings: ShopSettings) -> PaymentGateway:
        """Return the payment provider.

        Raises:
            ConfigurationError: No key, or a key of another mode than the shop's.
        """
        # Importing Stripe takes some tenths of a second that a relay's start does not have.
        from smi_desktop.adapters.stripe_gateway import StripeGateway

        key = self._key(STRIPE_SECRET_KEY)
        self._check_stripe_key(key)
        base = self._checked_base(settings.stripe_api_base, "Stripe")
        if base and self._mode is not Mode.REHEARSAL:
            raise ConfigurationError(
                "Only a rehearsal shop has a Stripe address of its own: empty stripe_api_base."
            )
        return self._keep("payments", (key, base), lambda: StripeGateway(key, api_base=base))

    def remote_upscaler(self, settings: ShopSettings) -> RemoteUpscaler:
        """Return the remote upscaler.

        Raises:
            ConfigurationError: No key.
        """
        from smi_desktop.adapters.upsampler_client import UpsamplerClient

        key = self._key(UPSAMPLER_API_KEY)
        base = self._checked_base(settings.upsampler_api_base, "Upsampler")
        kind = settings.upsampler_image_type
        return self._keep(
            "upscaler",
            (key, base, kind),
            lambda: UpsamplerClient(key, api_base=base, image_type=kind),
        )

    def mailer(self, settings: ShopSettings) -> Mailer:
        """Return the mail server.

        Raises:
            ConfigurationError: The settings would send something in the clear, or lack something.
        """
        if not settings.mail_from:
            raise ConfigurationError("The address that mails come from is not set (mail_from).")
        host = settings.smtp_host
        if self._mode is Mode.REHEARSAL and host and not is_loopback_host(host):
            raise ConfigurationError("A rehearsal shop's mail server must be on this machine.")
        return SmtpMailer(
            host,
            settings.smtp_port,
            security=settings.smtp_security,
            user=settings.smtp_user,
            password=self._key(SMTP_PASSWORD) if settings.smtp_user else "",
        )

    def fetcher(self, _settings: ShopSettings) -> Fetcher:
        """Return the downloader; only a rehearsal shop may fetch from this machine."""
        loopback = self._mode is Mode.REHEARSAL
        return self._keep("fetcher", loopback, lambda: HttpFetcher(allow_loopback=loopback))

    def _key(self, name: str) -> str:
        value = self._secrets.get(name)
        if not value or not value.strip():
            raise ConfigurationError(f"The secret '{name}' is not set.")
        return value

    def _check_stripe_key(self, key: str) -> None:
        if not key.startswith(("sk_", "rk_")):
            raise ConfigurationError(
                "What is stored as Stripe key does not look like one: it begins with sk_ or rk_."
            )
        live = key.startswith(("sk_live_", "rk_live_"))
        if live is not (self._mode is Mode.LIVE):
            raise ConfigurationError(
                f"This is a {self._mode} shop, but the Stripe key is "
                f"{'a live one' if live else 'not a live one'}. Nothing was sent."
            )

    def _checked_base(self, base: str, name: str) -> str:
        """A rehearsal shop must never reach the real world, nor a real one the rehearsal's."""
        loopback = is_loopback_url(base)
        if self._mode is Mode.REHEARSAL:
            if not loopback:
                raise ConfigurationError(f"A rehearsal shop's {name} must be on this machine.")
        elif loopback:
            raise ConfigurationError(
                f"{name}'s address is on this machine; only a rehearsal's may be."
            )
        elif base and urlsplit(base).scheme != "https":
            raise ConfigurationError(
                f"{name}'s address must begin with https: a key is sent there."
            )
        return base

    def _keep(self, name: str, made_of: Hashable, make: Callable[[], _T]) -> _T:
        with self._lock:
            known = self._made.get(name)
            if known is not None and known[0] == made_of:
                return cast("_T", known[1])
            fresh = make()
            self._made[name] = (made_of, fresh)
            return fresh


def _secret_store(config: ProcessConfig) -> SecretStore:
    match config.secrets_backend:
        case SecretsBackend.KEYRING:
            return KeyringSecretStore(f"smi-desktop {config.data_dir}")
        case SecretsBackend.FILE:
            return FileSecretStore(config.data_dir / SECRETS_FILE)
        case SecretsBackend.ENVIRONMENT:
            return EnvironmentSecretStore()


def _clock(config: ProcessConfig) -> Clock:
    if config.mode is Mode.REHEARSAL:
        return OffsetClock(config.data_dir / CLOCK_FILE)
    return SystemClock()


def _prepare_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder.stat().st_mode & stat.S_ISVTX:
            raise ConfigurationError(
                f"{folder} is shared by everybody on this machine; choose a folder of your own."
            )
        _private(folder)
        _private(folder / "work")
    except OSError as error:
        raise ConfigurationError(
            f"The data folder {folder} cannot be used: {error.strerror}."
        ) from error


def _private(folder: Path) -> None:
    folder.mkdir(exist_ok=True, mode=0o700)
    folder.chmod(0o700)

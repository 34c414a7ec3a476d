"""Keep keys and passwords: in the desktop's keyring, in a file, or in the environment.

Decides alone which places are fit for a secret. A place that throws secrets away, or keeps them
where others can read them, is refused with words that say what to do. Every value is read back
after it was written, because some keyrings discard silently. Values are never logged.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from smi_desktop.domain.errors import ConfigurationError

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_OTHERS: Final = 0o077
_ADVICE: Final = (
    "Start a desktop keyring such as GNOME Keyring or KWallet, or put "
    'secrets_backend = "file" into config.toml in the data folder.'
)


class KeyringSecretStore:
    """Implements SecretStore over the desktop's keyring.

    Args:
        service_name: The name under which the keyring lists our secrets.
        backend: A keyring backend; the system's own choice if left out.

    Raises:
        ConfigurationError: There is no keyring, or it would lose or expose what it is given.
    """

    def __init__(self, service_name: str, *, backend: KeyringBackend | None = None) -> None:
        self._service = service_name
        with _keyring_translated():
            self._backend = backend or _system_backend()
        _refuse_unfit(self._backend)

    def get(self, name: str) -> str | None:
        """Return a secret, or None.

        Raises:
            ConfigurationError: The keyring is locked or away.
        """
        with _keyring_translated():
            return self._backend.get_password(self._service, _checked(name))

    def set(self, name: str, value: str) -> None:
        """Store a secret and read it back.

        Raises:
            ConfigurationError: The keyring is locked or away, or did not keep the value.
        """
        _check_value(value)
        with _keyring_translated():
            self._backend.set_password(self._service, _checked(name), value)
            kept = self._backend.get_password(self._service, name)
        if kept != value:
            raise ConfigurationError(f"The keyring did not keep the secret. {_ADVICE}")

    def delete(self, name: str) -> None:
        """Remove a secret; nothing happens if there is none.

        Raises:
            ConfigurationError: The keyring is locked or away.
        """
        if self.get(name) is None:
            return
        with _keyring_translated():
            self._backend.delete_password(self._service, name)

    def describe(self) -> str:
        """Say which keyring it is."""
        return f"in the desktop's keyring ({self._backend.name})"


class FileSecretStore:
    """Implements SecretStore over one JSON file that its owner alone can read.

    Made for a server and the rehearsal shop. Writes are atomic; two processes that write at the
    same moment may lose one of the values, so set secrets from one place.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def get(self, name: str) -> str | None:
        """Return a secret, or None.

        Raises:
            ConfigurationError: The file is damaged, or others can read it.
        """
        return self._read().get(_checked(name))

    def set(self, name: str, value: str) -> None:
        """Store a secret and read it back.

        Raises:
            ConfigurationError: The file cannot be written, is damaged, or others can read it.
        """
        _check_value(value)
        with self._lock:
            self._write({**self._read(), _checked(name): value})
            if self._read().get(name) != value:
                raise ConfigurationError(f"The file {self._path} did not keep the secret.")

    def delete(self, name: str) -> None:
        """Remove a secret; nothing happens if there is none.

        Raises:
            ConfigurationError: The file cannot be written, is damaged, or others can read it.
        """
        with self._lock:
            values = self._read()
            if values.pop(_checked(name), None) is not None:
                self._write(values)

    def describe(self) -> str:
        """Say which file it is."""
        return f"in the file {self._path}, which its owner alone can read"

    def _read(self) -> dict[str, str]:
        try:
            with self._path.open(encoding="utf-8") as file:
                self._refuse_readable_by_others(os.fstat(file.fileno()))
                values = json.load(file)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ConfigurationError(
                f"The secrets in {self._path} cannot be read: {error.strerror}."
            ) from error
        except ValueError:
            # The parser's own words may quote the file's content.
            raise ConfigurationError(f"The file {self._path} is damaged.") from None
        if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
            raise ConfigurationError(f"The file {self._path} is damaged.")
        return values

    def _refuse_readable_by_others(self, facts: os.stat_result) -> None:
        if stat.S_IMODE(facts.st_mode) & _OTHERS:
            raise ConfigurationError(
                f"Others on this machine may read {self._path}. Take that away with "
                f"'chmod 600 {self._path}' and make new keys: these may be known."
            )

    def _write(self, values: Mapping[str, str]) -> None:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if stat.S_IMODE(self._path.parent.stat().st_mode) & _OTHERS:
                self._path.parent.chmod(0o700)
            descriptor, part = tempfile.mkstemp(
                prefix=f"{self._path.name}.", suffix=".part", dir=self._path.parent
            )
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    json.dump(dict(values), file, indent=1, sort_keys=True)
                    file.flush()
                    os.fsync(file.fileno())
                Path(part).replace(self._path)
            except BaseException:
                Path(part).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise ConfigurationError(
                f"The secrets cannot be written to {self._path}: {error.strerror}."
            ) from error


class EnvironmentSecretStore:
    """Implements SecretStore over variables such as `SMI_SECRET_STRIPE_KEY`; read only."""

    def __init__(
        self, prefix: str = "SMI_SECRET_", *, environ: Mapping[str, str] | None = None
    ) -> None:
        self._prefix = prefix
        self._environ = os.environ if environ is None else environ

    def get(self, name: str) -> str | None:
        """Return a secret, or None; an empty variable counts as none."""
        return self._environ.get(self._variable(name)) or None

    def set(self, name: str, value: str) -> None:  # noqa: ARG002
        """Refuse: the environment belongs to whoever started the process.

        Raises:
            ConfigurationError: Always; the message names the variable to be set.
        """
        raise ConfigurationError(
            f"Secrets come from the environment here: set {self._variable(name)} and start again."
        )

    def delete(self, name: str) -> None:
        """Refuse, unless there is nothing to be removed.

        Raises:
            ConfigurationError: The variable is set.
        """
        if self.get(name) is not None:
            raise ConfigurationError(
                "Secrets come from the environment here: "
                f"remove {self._variable(name)} and start again."
            )

    def describe(self) -> str:
        """Say which variables they are."""
        return f"in environment variables that begin with {self._prefix}"

    def _variable(self, name: str) -> str:
        return self._prefix + _checked(name).upper()


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            "The name of a secret is lower-case letters, figures and underscores."
        )
    return name


def _check_value(value: str) -> None:
    if not value.strip():
        raise ConfigurationError("An empty secret cannot be stored.")


def _system_backend() -> KeyringBackend:
    import keyring

    return keyring.get_keyring()


def _refuse_unfit(backend: KeyringBackend) -> None:
    from keyring.backends import fail, null
    from keyring.backends.chainer import ChainerBackend

    if isinstance(backend, ChainerBackend):
        for each in backend.backends:
            _refuse_unfit(each)
    kind = type(backend)
    if isinstance(backend, fail.Keyring):
        raise ConfigurationError(f"There is no keyring on this machine. {_ADVICE}")
    if isinstance(backend, null.Keyring):
        raise ConfigurationError(
            f"The configured keyring throws secrets away without a word. {_ADVICE}"
        )
    # keyrings.alt keeps secrets in plain or base64 text, and is picked silently where installed.
    if kind.__module__.startswith("keyrings.alt") or "plaintext" in kind.__name__.lower():
        raise ConfigurationError(f"The configured keyring keeps secrets as plain text. {_ADVICE}")


@contextmanager
def _keyring_translated() -> Iterator[None]:
    from keyring.errors import (
        InitError,
        KeyringError,
        KeyringLocked,
        NoKeyringError,
    )

    try:
        yield
    except (KeyringLocked, InitError) as error:
        raise ConfigurationError("The keyring is locked. Unlock it and try again.") from error
    except NoKeyringError as error:
        raise ConfigurationError(f"There is no keyring on this machine. {_ADVICE}") from error
    except (KeyringError, OSError) as error:
        raise ConfigurationError(f"The keyring does not answer. {_ADVICE}") from error
    except Exception as error:
        # The Secret Service's own libraries pass their errors on as they are.
        if type(error).__module__.partition(".")[0] in {"secretstorage", "jeepney", "dbus"}:
            raise ConfigurationError(f"The keyring does not answer. {_ADVICE}") from error
        raise

"""Where secrets are kept: real files, real backends, and the refusal of unfit ones."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from keyring.backend import KeyringBackend
from keyring.backends import fail, null
from keyring.backends.chainer import ChainerBackend
from keyring.errors import InitError, KeyringLocked, PasswordDeleteError, PasswordSetError

from smi_desktop.adapters.secret_store import (
    EnvironmentSecretStore,
    FileSecretStore,
    KeyringSecretStore,
)
from smi_desktop.domain.errors import ConfigurationError

CANARY = "sk_live_canary_4711"


class MemoryKeyring(KeyringBackend):
    """A backend that works, until a test gives it an error to raise.

    The keyring library registers every backend class: below 0 it never chooses one by itself.
    """

    priority = -1

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept: dict[tuple[str, str], str] = {}
        self.error: Exception | None = None

    def get_password(self, service: str, username: str) -> str | None:
        self._raise()
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._raise()
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._raise()
        if self.kept.pop((service, username), None) is None:
            raise PasswordDeleteError

    def _raise(self) -> None:
        if self.error is not None:
            raise self.error


class ForgetfulKeyring(MemoryKeyring):
    """Takes everything and keeps nothing, as a null backend under another name."""

    priority = -1

    def set_password(self, service: str, username: str, password: str) -> None:
        pass


class PlaintextKeyring(MemoryKeyring):
    """Named as the one of keyrings.alt."""

    priority = -1


class SecretServiceError(Exception):
    """Stands for what the Secret Service's own library raises."""


SecretServiceError.__module__ = "secretstorage.exceptions"


@pytest.fixture
def keyring() -> MemoryKeyring:
    return MemoryKeyring()


def test_a_secret_is_kept_in_the_keyring_under_our_name(keyring: MemoryKeyring) -> None:
    store = KeyringSecretStore("smi-desktop test", backend=keyring)
    assert store.get("stripe_key") is None
    store.set("stripe_key", CANARY)
    assert store.get("stripe_key") == CANARY
    assert list(keyring.kept) == [("smi-desktop test", "stripe_key")]
    store.delete("stripe_key")
    store.delete("stripe_key")
    assert keyring.kept == {}
    assert "keyring" in store.describe()


@pytest.mark.parametrize("kind", [null.Keyring, fail.Keyring, PlaintextKeyring])
def test_a_keyring_that_loses_or_exposes_secrets_is_refused(kind: Any) -> None:
    with pytest.raises(ConfigurationError, match="secrets_backend"):
        KeyringSecretStore("smi-desktop test", backend=kind())


def test_a_chain_with_an_unfit_keyring_is_refused() -> None:
    class Chain(ChainerBackend):
        priority = -1
        backends = [MemoryKeyring(), PlaintextKeyring()]  # noqa: RUF012

    chain: Any = Chain
    with pytest.raises(ConfigurationError, match="plain text"):
        KeyringSecretStore("smi-desktop test", backend=chain())


def test_a_keyring_of_keyrings_alt_is_refused_by_where_it_comes_from() -> None:
    class Keyring(MemoryKeyring):
        priority = -1

    Keyring.__module__ = "keyrings.alt.file"
    with pytest.raises(ConfigurationError, match="plain text"):
        KeyringSecretStore("smi-desktop test", backend=Keyring())


def test_a_keyring_that_forgets_is_found_out_at_once() -> None:
    store = KeyringSecretStore("smi-desktop test", backend=ForgetfulKeyring())
    with pytest.raises(ConfigurationError, match="did not keep"):
        store.set("stripe_key", CANARY)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyringLocked("locked"), "locked"),
        (InitError("no prompt"), "locked"),
        (PasswordSetError("no"), "does not answer"),
        (ConnectionResetError("D-Bus went away"), "does not answer"),
        (SecretServiceError("gone"), "does not answer"),
    ],
)
def test_a_keyring_that_fails_is_told_in_plain_words(
    keyring: MemoryKeyring, error: Exception, words: str
) -> None:
    store = KeyringSecretStore("smi-desktop test", backend=keyring)
    keyring.error = error
    calls: list[Callable[[], object]] = [
        lambda: store.get("stripe_key"),
        lambda: store.set("stripe_key", CANARY),
        lambda: store.delete("stripe_key"),
    ]
    for call in calls:
        with pytest.raises(ConfigurationError, match=words) as caught:
            call()
        assert CANARY not in str(caught.value)


def test_an_error_of_ours_is_not_taken_for_the_keyrings(keyring: MemoryKeyring) -> None:
    store = KeyringSecretStore("smi-desktop test", backend=keyring)
    keyring.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        store.get("stripe_key")


@pytest.fixture(params=["keyring", "file"])
def writable(request: pytest.FixtureRequest, tmp_path: Path, keyring: MemoryKeyring) -> Any:
    if request.param == "keyring":
        return KeyringSecretStore("smi-desktop test", backend=keyring)
    return FileSecretStore(tmp_path / "secrets.json")


@pytest.mark.parametrize("value", ["", " ", "\n"])
def test_an_empty_secret_is_never_stored(writable: Any, value: str) -> None:
    with pytest.raises(ConfigurationError):
        writable.set("stripe_key", value)
    assert writable.get("stripe_key") is None


@pytest.mark.parametrize("name", ["", "Stripe", "a b", "../x", "a\nb", "1x", "a" * 65])
def test_a_name_of_another_form_is_refused(writable: Any, name: str) -> None:
    with pytest.raises(ConfigurationError):
        writable.get(name)
    with pytest.raises(ConfigurationError):
        writable.set(name, CANARY)


@pytest.fixture(params=[0o000, 0o022], ids=oct)
def open_umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def test_a_file_is_readable_by_its_owner_alone_from_birth(open_umask: None, tmp_path: Path) -> None:
    path = tmp_path / "shop" / "secrets.json"
    store = FileSecretStore(path)
    store.set("stripe_key", CANARY)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["secrets.json"]


def test_a_file_keeps_several_secrets_over_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    FileSecretStore(path).set("stripe_key", CANARY)
    FileSecretStore(path).set("smtp_password", "pässwörd")
    again = FileSecretStore(path)
    assert (again.get("stripe_key"), again.get("smtp_password")) == (CANARY, "pässwörd")
    again.delete("stripe_key")
    again.delete("stripe_key")
    assert json.loads(path.read_text(encoding="utf-8")) == {"smtp_password": "pässwörd"}
    assert str(path) in again.describe()


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660, 0o666, 0o601])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secrets.json"
    store = FileSecretStore(path)
    store.set("stripe_key", CANARY)
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        store.get("stripe_key")
    with pytest.raises(ConfigurationError, match="chmod 600"):
        store.set("other", "x")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"stripe_key": 7}', CANARY, "\ud800"])
def test_a_damaged_file_is_told_without_quoting_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "secrets.json"
    path.touch(mode=0o600)
    path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    with pytest.raises(ConfigurationError, match="damaged") as caught:
        FileSecretStore(path).get("stripe_key")
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "shop").write_bytes(b"a file where a folder should be")
    store = FileSecretStore(tmp_path / "shop" / "secrets.json")
    with pytest.raises(ConfigurationError):
        store.set("stripe_key", CANARY)


def test_threads_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    store = FileSecretStore(tmp_path / "secrets.json")
    writers = [
        threading.Thread(target=store.set, args=(f"name_{number}", str(number)))
        for number in range(16)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(20)
    assert [store.get(f"name_{number}") for number in range(16)] == [str(n) for n in range(16)]


def test_the_environment_is_read_and_never_written() -> None:
    environ = {"SMI_SECRET_STRIPE_KEY": CANARY, "SMI_SECRET_EMPTY": ""}
    store = EnvironmentSecretStore(environ=environ)
    assert store.get("stripe_key") == CANARY
    assert store.get("empty") is None
    assert store.get("other") is None
    with pytest.raises(ConfigurationError, match="SMI_SECRET_OTHER"):
        store.set("other", "x")
    with pytest.raises(ConfigurationError, match="SMI_SECRET_STRIPE_KEY"):
        store.delete("stripe_key")
    store.delete("other")
    assert environ == {"SMI_SECRET_STRIPE_KEY": CANARY, "SMI_SECRET_EMPTY": ""}
    assert "SMI_SECRET_" in store.describe()

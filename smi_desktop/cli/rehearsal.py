"""Starting a rehearsal shop: its providers, its relay and its engine, each a process of its own.

The processes end with this one, however it ends: each watches the pipe on its standard input.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import requests

from smi_desktop.bootstrap import open_shop
from smi_desktop.config import (
    CONFIG_FILE,
    Mode,
    ProcessConfig,
    SecretsBackend,
    load_process_config,
)
from smi_desktop.domain.errors import ConfigurationError
from smi_desktop.resources import resource_path
from smi_desktop.sandbox.constants import STRIPE_SECRET_KEY as SANDBOX_STRIPE_KEY
from smi_desktop.sandbox.constants import UPSAMPLER_API_KEY as SANDBOX_UPSAMPLER_KEY
from smi_desktop.services.catalogue import CatalogueEntry, add_picture
from smi_desktop.services.shop import (
    STRIPE_SECRET_KEY,
    STRIPE_WEBHOOK_SECRET,
    UPSAMPLER_API_KEY,
    Shop,
)
from smi_desktop.store import images
from smi_desktop.store import settings as settings_rows
from webhook_relay.server import check_port

_HOST: Final = "127.0.0.1"
_STOP_SECONDS: Final = 10
_PORTS_FILE: Final = "rehearsal-ports.json"
_LOCK_FILE: Final = "rehearsal.lock"


@dataclass(frozen=True, slots=True)
class SampleImage:
    """A catalogued sample picture."""

    attachment_id: int
    post_id: int
    width: int
    height: int
    title: str


class Rehearsal:
    """A rehearsal shop that is open while it is used as a context.

    Args:
        data_dir: Its data folder; made if missing, used again if it is a rehearsal's.
        port: The relay's port; 0 takes a free one.
        seed: Makes the providers' ids the same each time.
        changes: Settings that differ from a rehearsal's own.
        database_url: For another database than the SQLite file in the folder.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int = 0,
        seed: int = 1,
        changes: dict[str, object] | None = None,
        database_url: str = "",
    ) -> None:
        forget_other_shops()
        self.data_dir = data_dir.expanduser().absolute()
        self._ports = _Ports(self.data_dir / _PORTS_FILE)
        self._port = check_port(_HOST, port) if port else self._ports.again("relay")
        self._seed = seed
        self._changes = changes or {}
        self._database_url = database_url
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._lock: int | None = None
        self.relay_url = f"http://{_HOST}:{self._port}"
        self.stripe_url = ""
        self.upsampler_url = ""
        self.webhook_secret = ""
        self.images: list[SampleImage] = []

    @property
    def mailbox_dir(self) -> Path:
        """Where mails land."""
        return self.data_dir / "mailbox"

    @property
    def log_dir(self) -> Path:
        """Where the processes write their logs."""
        return self.data_dir / "logs"

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def config(self) -> ProcessConfig:
        """Return the configuration that its processes run with."""
        return load_process_config(self.data_dir)

    def describe(self) -> dict[str, Any]:
        """Return what a program needs to drive this shop from outside."""
        return {
            "relay_url": self.relay_url,
            "stripe_url": self.stripe_url,
            "upsampler_url": self.upsampler_url,
            "mailbox_dir": str(self.mailbox_dir),
            "data_dir": str(self.data_dir),
            "stripe_webhook_secret": self.webhook_secret,
            "images": [
                {
                    "attachment_id": image.attachment_id,
                    "post_id": image.post_id,
                    "width": image.width,
                    "height": image.height,
                    "title": image.title,
                }
                for image in self.images
            ],
        }

    def start_process(self, name: str) -> None:
        """Start `relay` or `engine` (again) and wait until it is ready."""
        self._begin(name, self._command(name))
        self._wait_until_ready(name)

    def kill(self, name: str) -> None:
        """End a process as a power cut would."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()
        _close_pipes(process)

    def pid(self, name: str) -> int:
        """Return a process's id."""
        return self._processes[name].pid

    def is_whole(self) -> bool:
        """Tell whether every process of the shop is running."""
        return all(process.poll() is None for process in self._processes.values())

    def advance_clock(self, seconds: float) -> None:
        """Let the time of the whole rehearsal go on."""
        self.post_to_sandbox("clock", {"advance_seconds": seconds})

    def post_to_sandbox(self, path: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Tell the providers something."""
        answer = requests.post(f"{self.stripe_url}/_sandbox/{path}", json=fields, timeout=10)
        answer.raise_for_status()
        data: dict[str, Any] = answer.json()
        return data

    def sandbox_state(self) -> dict[str, Any]:
        """Return what the providers know."""
        answer = requests.get(f"{self.stripe_url}/_sandbox/state", timeout=10)
        answer.raise_for_status()
        data: dict[str, Any] = answer.json()
        return data

    def stop(self) -> None:
        """End all processes in good order; the relay first, so that nobody comes in any more."""
        for name in ("relay", "engine", "sandbox"):
            process = self._processes.pop(name, None)
            if process is None:
                continue
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            _close_pipes(process)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _open(self) -> None:
        _write_config(self.data_dir, self._database_url)
        self._lock = _lock_folder(self.data_dir)
        self.log_dir.mkdir(exist_ok=True, mode=0o700)
        command = [sys.executable, "-m", "smi_desktop.sandbox", "--data", str(self.data_dir)]
        for name in ("stripe", "upsampler", "smtp"):
            command += [f"--{name}-port", str(self._ports.again(name))]
        self._begin("sandbox", [*command, "--seed", str(self._seed), "--exit-with-parent"])
        ready = self._wait_until_ready("sandbox")
        self.stripe_url = ready["stripe_url"]
        self.upsampler_url = ready["upsampler_url"]
        self._ports.remember(
            relay=self._port,
            stripe=urlsplit(self.stripe_url).port,
            upsampler=urlsplit(self.upsampler_url).port,
            smtp=ready["smtp_port"],
        )
        with open_shop(self.config()) as shop:
            self._set_up(shop, ready["smtp_port"])
            self.images = _add_samples(shop)
        endpoint = {"url": f"{self.relay_url}/smi-webhook/stripe/", "secret": self.webhook_secret}
        self.post_to_sandbox("endpoints", endpoint)
        for name in ("relay", "engine"):
            self._begin(name, self._command(name))
        for name in ("relay", "engine"):
            self._wait_until_ready(name)

    def _set_up(self, shop: Shop, smtp_port: int) -> None:
        known = shop.secrets.get(STRIPE_WEBHOOK_SECRET)
        self.webhook_secret = known or f"whsec_{secrets.token_hex(16)}"
        shop.secrets.set(STRIPE_WEBHOOK_SECRET, self.webhook_secret)
        shop.secrets.set(STRIPE_SECRET_KEY, SANDBOX_STRIPE_KEY)
        shop.secrets.set(UPSAMPLER_API_KEY, SANDBOX_UPSAMPLER_KEY)
        wanted: dict[str, object] = {
            "studio_name": "Rehearsal Studio",
            "studio_address": "12 Harbor Lane, Portland, ME",
            "support_email": "hello@rehearsal-studio.example",
            "mail_from": "pictures@rehearsal-studio.example",
            "order_prefix": "RS",
            "allow_loopback_origins": True,
            "cleanup_seconds": 1.0,
            "upsampler_first_poll_seconds": 2.0,
            # Everybody comes from the same address here.
            "rate_per_address_per_minute": 60_000,
            "rate_checkout_per_address_per_minute": 200,
            "rate_checkout_per_image_per_minute": 200,
            **self._changes,
            "public_url": self.relay_url,
            "stripe_api_base": self.stripe_url,
            "upsampler_api_base": self.upsampler_url,
            "smtp_host": _HOST,
            "smtp_port": smtp_port,
            "smtp_security": "none",
        }
        with shop.database.write() as session:
            settings_rows.save(session, wanted, now=shop.now())

    def _command(self, name: str) -> list[str]:
        extra = ["--port", str(self._port)] if name == "relay" else []
        command = [sys.executable, "-m", "smi_desktop", "--data", str(self.data_dir), name]
        return [*command, *extra, "--json", "--exit-with-parent"]

    def _begin(self, name: str, command: list[str]) -> None:
        with (self.log_dir / f"{name}.log").open("a") as errors:
            self._processes[name] = subprocess.Popen(  # noqa: S603 - our own interpreter and modules
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=self.data_dir,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )

    def _wait_until_ready(self, name: str) -> dict[str, Any]:
        """Return the line of JSON that a process prints when it is ready.

        Raises:
            ConfigurationError: It ended instead; the message carries the end of its log.
        """
        process = self._processes[name]
        line = process.stdout.readline() if process.stdout else ""
        if not line.strip():
            process.wait(_STOP_SECONDS)
            log = (self.log_dir / f"{name}.log").read_text()
            tail = "\n".join(log.splitlines()[-5:])
            raise ConfigurationError(f"The {name} did not start. Its log ends with:\n{tail}")
        ready: dict[str, Any] = json.loads(line)
        return ready


class _Ports:
    """The ports that a rehearsal used last: addresses in its mails, pages and jobs name them."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def again(self, name: str) -> int:
        """Return the port used last if it is free, else any free one."""
        try:
            last = int(json.loads(self._file.read_text())[name])
            return check_port(_HOST, last)
        except (OSError, ValueError, KeyError, TypeError, ConfigurationError):
            return check_port(_HOST, 0)

    def remember(self, **ports: int | None) -> None:
        """Keep the ports for the next start."""
        self._file.write_text(json.dumps(ports))


def _lock_folder(data_dir: Path) -> int:
    """Hold a rehearsal's folder for as long as this process lives.

    Raises:
        ConfigurationError: Another rehearsal runs on it; two would change each other's shop.
    """
    file = os.open(data_dir / _LOCK_FILE, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(file)
        raise ConfigurationError(
            f"A rehearsal is running on {data_dir} already. End it first, or give another --data.",
            title="The folder is in use",
        ) from error
    return file


def forget_other_shops() -> None:
    """Drop every `SMI_…` variable: a rehearsal must never open another shop's database."""
    for name in [name for name in os.environ if name.startswith("SMI_")]:
        del os.environ[name]


def _write_config(data_dir: Path, database_url: str) -> None:
    """Mark a folder as a rehearsal's.

    Raises:
        ConfigurationError: It holds another kind of shop.
    """
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = data_dir / CONFIG_FILE
    known = load_process_config(data_dir)
    if (file.exists() or (data_dir / "shop.db").exists()) and known.mode is not Mode.REHEARSAL:
        raise ConfigurationError(
            f"{data_dir} holds a {known.mode} shop. A rehearsal needs a folder of its own."
        )
    lines = {"mode": Mode.REHEARSAL.value, "secrets_backend": SecretsBackend.FILE.value}
    if database_url:
        lines["database_url"] = database_url
    file.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items()))


def _add_samples(shop: Shop) -> list[SampleImage]:
    folder = resource_path("samples")
    samples = []
    for entry in json.loads((folder / "samples.json").read_text()):
        with shop.database.read() as session:
            image = images.get(session, entry["attachment_id"])
        if image is None:
            image = add_picture(
                shop,
                CatalogueEntry(
                    folder / entry["file"],
                    entry["title"],
                    attachment_id=entry["attachment_id"],
                    post_id=entry["post_id"],
                ),
            )
        samples.append(
            SampleImage(
                image.attachment_id,
                image.post_id or entry["post_id"],
                image.width,
                image.height,
                image.title,
            )
        )
    return samples


def _close_pipes(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()

"""A customer of the rehearsal shop: everything a visitor's browser and mail program would do, over real HTTP."""

from __future__ import annotations

import email
import email.policy
import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final

import requests

GOOD_CARD: Final = "4242 4242 4242 4242"
DECLINED_CARD: Final = "4000 0000 0000 0002"
_LINK: Final = re.compile(r"https?://[^\s\"<>]+/smi/v1/download/[0-9a-f]{64}")
# A browser's, so that clicks are counted as a person's.
_AGENT: Final = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36"
_LOOK_SECONDS: Final = 0.2


class UnexpectedError(Exception):
    """The shop did something else than it should."""


@dataclass(frozen=True, slots=True)
class Purchase:
    """A checkout that was begun."""

    job_id: str
    checkout_url: str
    amount: float


@dataclass(frozen=True, slots=True)
class Delivery:
    """A file that was downloaded.

    Attributes:
        name: The name that the server gave it.
    """

    content: bytes
    name: str
    media_type: str

    @property
    def sha256(self) -> str:
        """The content's hash."""
        return hashlib.sha256(self.content).hexdigest()


class Customer:
    """One customer.

    Args:
        relay_url: The shop's address.
        mailbox_dir: Where mails to him land.
        address: His e-mail address.
    """

    def __init__(self, relay_url: str, mailbox_dir: Path, address: str) -> None:
        self.address = address
        self._relay = relay_url
        self._mailbox = mailbox_dir
        self._http = requests.Session()
        self._http.trust_env = False
        self._http.headers["User-Agent"] = _AGENT

    def click(self, attachment_id: int, post_id: int) -> None:
        """Click the button beside a picture."""
        answer = self._post("track-button-click", attachment_id=attachment_id, post_id=post_id)
        expect(answer.get("success") is True, f"the click was not counted: {answer}")

    def prices(self, attachment_id: int, post_id: int) -> dict[str, Any]:
        """Look at the prices."""
        return self._post("calculate-all-prices", attachment_id=attachment_id, post_id=post_id)

    def start_checkout(
        self, attachment_id: int, post_id: int, size: str, quote_id: str
    ) -> Purchase:
        """Choose a size and ask for the checkout page."""
        answer = self._post(
            "create-checkout",
            attachment_id=attachment_id,
            post_id=post_id,
            resolution=size,
            email=self.address,
            quote_id=quote_id,
        )
        return Purchase(answer["job_id"], answer["checkout_url"], answer["amount"])

    def pay(self, purchase: Purchase, card: str) -> requests.Response:
        """Fill the card page in and send it; a redirect is not followed."""
        shown = self._http.get(purchase.checkout_url, timeout=10)
        expect(shown.status_code == 200, f"the card page answers {shown.status_code}")
        fields = {
            "action": "pay",
            "email": self.address,
            "name": "Jo Winter",
            "card_number": card,
            "exp": "12 / 34",
            "cvc": "123",
        }
        return self._http.post(
            purchase.checkout_url, data=fields, timeout=10, allow_redirects=False
        )

    def return_to_shop(self, answer: requests.Response) -> str:
        """Follow the way back from the card page and return the page's text."""
        expect(answer.status_code == 303, f"paying answered {answer.status_code}, not a way back")
        page = self._http.get(
            answer.headers["Location"], headers={"Accept": "text/html"}, timeout=10
        )
        expect(page.status_code == 200, f"the order page answers {page.status_code}")
        return page.text

    def leave(self, purchase: Purchase) -> None:
        """Leave the card page without paying."""
        answer = self._http.post(
            purchase.checkout_url, data={"action": "leave"}, timeout=10, allow_redirects=False
        )
        expect(answer.status_code == 303, f"leaving answered {answer.status_code}")

    def status(self, job_id: str) -> dict[str, Any]:
        """Look at how the order stands."""
        answer = self._http.get(f"{self._relay}/smi/v1/job-status/{job_id}", timeout=10)
        expect(answer.status_code == 200, f"job-status answers {answer.status_code}")
        data: dict[str, Any] = answer.json()["data"]
        return data

    def wait_for_status(
        self,
        job_id: str,
        wanted: str,
        seconds: float,
        on_change: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> dict[str, Any]:
        """Look again and again until the order has the wanted status."""
        ends_at = time.monotonic() + seconds
        while True:
            data = self.status(job_id)
            on_change(data)
            if data["status"] == wanted:
                return data
            if time.monotonic() > ends_at:
                raise UnexpectedError(
                    f"the order is '{data['status']}' after {seconds:.0f} s, not '{wanted}'"
                )
            time.sleep(_LOOK_SECONDS)

    def wait_for_mail(self, seconds: float) -> tuple[EmailMessage, str]:
        """Wait for the mail with the link; return the mail and the link."""
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            for message in self._mails():
                text = message.get_body(("plain",))
                links = _LINK.findall(text.get_content()) if text else []
                if links:
                    return message, links[0]
            time.sleep(_LOOK_SECONDS)
        raise UnexpectedError(f"no mail with a link reached {self.address}")

    def wait_for_words(self, subject: str, seconds: float) -> str:
        """Wait for a mail whose subject holds some words; return its text."""
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            for message in self._mails():
                text = message.get_body(("plain",))
                if text is not None and subject.lower() in str(message["Subject"]).lower():
                    return str(text.get_content())
            time.sleep(_LOOK_SECONDS)
        raise UnexpectedError(f"no mail about '{subject}' reached {self.address}")

    def renew(self, job_id: str) -> dict[str, Any]:
        """Ask for an ended link to live again; return how the order stands."""
        answer = self._http.post(f"{self._relay}/order/{job_id}/renew", timeout=10)
        expect(answer.status_code == 200, f"renewing answers {answer.status_code}")
        data: dict[str, Any] = answer.json()["data"]
        return data

    def download(self, link: str) -> Delivery:
        """Fetch the file whole."""
        answer = self._http.get(link, timeout=60)
        expect(answer.status_code == 200, f"the link answers {answer.status_code}")
        return Delivery(
            answer.content,
            answer.headers["Content-Disposition"],
            answer.headers["Content-Type"],
        )

    def download_in_two_ranges(self, link: str) -> bytes:
        """Fetch the file as a browser does that was interrupted: a first part, then the rest."""
        head = self._http.head(link, timeout=10)
        total, etag = int(head.headers["Content-Length"]), head.headers["ETag"]
        middle = total // 2
        parts = []
        for span in (f"bytes=0-{middle - 1}", f"bytes={middle}-"):
            headers = {"Range": span, "If-Range": etag}
            answer = self._http.get(link, headers=headers, timeout=60)
            expect(answer.status_code == 206, f"{span} answers {answer.status_code}, not 206")
            parts.append(answer.content)
        return b"".join(parts)

    def try_link(self, link: str) -> int:
        """Return the HTTP status that a link answers with."""
        return self._http.get(link, timeout=10).status_code

    def _mails(self) -> Iterator[EmailMessage]:
        for path in sorted(self._mailbox.glob("*.eml")):
            parsed = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
            if isinstance(parsed, EmailMessage) and self.address in str(parsed["To"]):
                yield parsed

    def _post(self, path: str, **fields: object) -> dict[str, Any]:
        answer = self._http.post(f"{self._relay}/smi/v1/{path}", json=fields, timeout=30)
        expect(
            answer.status_code == 200, f"{path} answers {answer.status_code}: {answer.text[:300]}"
        )
        data: dict[str, Any] = answer.json()
        return data


def expect(holds: bool, otherwise: str) -> None:
    """Insist on something.

    Raises:
        UnexpectedError: It does not hold.
    """
    if not holds:
        raise UnexpectedError(otherwise)


@contextmanager
def deadline(seconds: float, otherwise: str) -> Iterator[Callable[[], None]]:
    """Give a function to call in a waiting loop; it waits a moment, or insists that it took too long."""
    ends_at = time.monotonic() + seconds

    def wait() -> None:
        expect(time.monotonic() < ends_at, otherwise)
        time.sleep(_LOOK_SECONDS)

    yield wait

"""Stand-ins for the ports, with state, so that a test can ask what happened.

Each passes the same contract suite (`tests/contract`) as the real adapter. A fake does what
the real thing promises and nothing kinder: it refuses what that one refuses.
"""

from tests.fakes.clock import FakeClock
from tests.fakes.fetcher import FakeFetcher
from tests.fakes.file_store import FakeFileStore
from tests.fakes.image_reader import FakeImageReader, fake_image
from tests.fakes.mailer import FakeMailer
from tests.fakes.payment_gateway import FakePaymentGateway
from tests.fakes.secret_store import MemorySecretStore
from tests.fakes.upscaler import FakeLocalUpscaler, FakeRemoteUpscaler

__all__ = [
    "FakeClock",
    "FakeFetcher",
    "FakeFileStore",
    "FakeImageReader",
    "FakeLocalUpscaler",
    "FakeMailer",
    "FakePaymentGateway",
    "FakeRemoteUpscaler",
    "MemorySecretStore",
    "fake_image",
]

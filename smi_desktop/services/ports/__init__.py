"""The doors to the outside world, as Protocols, with the plain values that pass through them.

An adapter implements one of these; services call nothing else that leaves the process. What each method
may raise is part of its contract: errors of `smi_desktop.domain.errors`, nothing of a vendor.
"""

from __future__ import annotations

from smi_desktop.services.ports.mail import (
    InlineImage,
    Mailer,
    OutgoingMail,
    RenderedMail,
    TemplateRenderer,
)
from smi_desktop.services.ports.payments import (
    CheckoutRequest,
    CheckoutSession,
    Dispute,
    Payment,
    PaymentGateway,
    PaymentRefund,
    WebhookVerifier,
)
from smi_desktop.services.ports.pictures import (
    Fetcher,
    FileStore,
    ImageFacts,
    ImageReader,
    QualityLimits,
    StoredFile,
)
from smi_desktop.services.ports.shared import (
    Clock,
    SecretStore,
)
from smi_desktop.services.ports.upscaling import (
    LocalUpscaler,
    RemoteJob,
    RemoteState,
    RemoteUpscaler,
    UpscaleRequest,
)

__all__ = [
    "CheckoutRequest",
    "CheckoutSession",
    "Clock",
    "Dispute",
    "Fetcher",
    "FileStore",
    "ImageFacts",
    "ImageReader",
    "InlineImage",
    "LocalUpscaler",
    "Mailer",
    "OutgoingMail",
    "Payment",
    "PaymentGateway",
    "PaymentRefund",
    "QualityLimits",
    "RemoteJob",
    "RemoteState",
    "RemoteUpscaler",
    "RenderedMail",
    "SecretStore",
    "StoredFile",
    "TemplateRenderer",
    "UpscaleRequest",
    "WebhookVerifier",
]

"""The keys and limits of the rehearsal's providers. Public on purpose: no money hangs on them."""

from __future__ import annotations

from typing import Final

STRIPE_SECRET_KEY: Final = "sk_test_rehearsalOnlyNoRealMoneyMovesWithThisKey"  # noqa: S105 - public on purpose
"""What the rehearsal's Stripe accepts, unless `DIR/stripe-secret-key` holds another one."""
UPSAMPLER_API_KEY: Final = "ups_rehearsal_only_no_real_credits"
"""What the rehearsal's Upsampler accepts, unless `DIR/upsampler-api-key` holds another one."""

STRIPE_KEY_FILE: Final = "stripe-secret-key"
UPSAMPLER_KEY_FILE: Final = "upsampler-api-key"
CLOCK_OFFSET_FILE: Final = "clock-offset"
DATABASE_FILE: Final = "sandbox.db"
MAILBOX_FOLDER: Final = "mailbox"
RESULTS_FOLDER: Final = "upsampler-results"

CARD_PAID: Final = "4242424242424242"
CARD_DECLINED: Final = "4000000000000002"

"""The tree of errors that people may read.

This module alone decides which kinds of failure the program tells apart. Adapters translate what
a vendor raises into one of these at the edge; whatever they do not know stays an unknown exception
and is treated as our own bug, never as success.

SmiError
├── InvalidInputError            somebody sent what cannot be used
│   ├── NotForSaleError          the picture or the size cannot be sold
│   ├── PriceChangedError        the quote has ended and the price is another
│   └── SignatureError           a webhook is not from whom it says
├── NotFoundError
├── IllegalTransitionError       a change of state that the table does not allow
├── ConfigurationError           the shop is not set up for this
│   └── NewerDataError           the data folder was written by a newer version
├── TransientError               the outside world is away: the same call may go through later
├── AmbiguousError               nobody knows whether the effect happened
├── ProviderAccountError         our key or our credit is the problem, not this order
├── RejectedError                the outside world said no for good
│   └── LinkExpiredError         a temporary address has ended; a fresh one may be had
└── BadResultError               what came back is not the picture that was ordered
"""

from __future__ import annotations


class SmiError(Exception):
    """An error with a title and a message in plain words.

    Args:
        message: One or two sentences that a person can act on.
        title: A short heading; the class's own one if left out.
    """

    title = "Something went wrong"

    def __init__(self, message: str, *, title: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if title is not None:
            self.title = title


class InvalidInputError(SmiError):
    """What was sent cannot be used as it is."""

    title = "This cannot be used"


class NotForSaleError(InvalidInputError):
    """The picture, or this size of it, cannot be sold."""

    title = "Not for sale"


class PriceChangedError(InvalidInputError):
    """The quote has ended and today's price is another one."""

    title = "The price has changed"


class SignatureError(InvalidInputError):
    """A webhook's signature is missing, wrong or out of time."""

    title = "Not signed by the sender it names"


class NotFoundError(SmiError):
    """The thing asked for does not exist here."""

    title = "Not found"


class IllegalTransitionError(SmiError):
    """A change of state that the table of transitions does not allow."""

    title = "This order cannot change like that"


class ConfigurationError(SmiError):
    """The shop lacks a setting or a secret, or has one that cannot work."""

    title = "The shop is not set up for this"


class NewerDataError(ConfigurationError):
    """The data was written by a newer version of the program."""

    title = "This data folder belongs to a newer version"


class TransientError(SmiError):
    """The outside world is away or busy; nothing happened, and the same call may go through later.

    Args:
        message: What happened.
        retry_after: Seconds that the other side asked us to wait, if it did.
    """

    title = "Not reachable at the moment"

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class AmbiguousError(SmiError):
    """The call was sent and the answer was lost: the effect may or may not have happened."""

    title = "No answer"


class ProviderAccountError(SmiError):
    """The provider refuses us, not this order: a revoked key, no credit left."""

    title = "The provider refuses this shop's account"


class RejectedError(SmiError):
    """The outside world refused this request for good; asking again gives the same answer."""

    title = "Refused"


class LinkExpiredError(RejectedError):
    """A temporary address has ended; its owner may hand out a fresh one."""

    title = "The address has expired"


class BadResultError(SmiError):
    """A result that cannot be delivered at all: of another size, or damaged. What is doubtful is told otherwise."""

    title = "The result failed its check"

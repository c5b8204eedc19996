"""What secure aggregation refuses. Every refusal is an exception; nothing is ever clipped or skipped."""

from __future__ import annotations


class SecAggError(Exception):
    """Anything this package refuses; the message may be shown to an admin."""


class MessageRefused(SecAggError):
    """A message that is forged, altered, repeated, misaddressed, or belongs to another attempt."""


class OutOfRange(SecAggError):
    """An input with NaN, infinity, or a value outside the plan's public range."""


class TooFew(SecAggError):
    """Fewer than the threshold, or fewer than three sites: the attempt is aborted, nothing is opened."""


class OutOfOrder(SecAggError):
    """A step that the protocol does not allow now."""


class OpeningRefused(SecAggError):
    """This survivor set, with what was opened before, would let somebody subtract one site's input."""

"""This site's time as the coordinator counts it: the own clock plus a measured offset of at most ten minutes.

The coordinator signs its time together with a nonce of the asker, so an old answer cannot be shown again. A
clock that is further off is not corrected: the machine's owner must set it, as its records are wrong too.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.utils import timezone

from federation.errors import ClockWrong, InvalidMessage, NotAuthentic
from federation.identity import public_key
from federation.models import Membership
from federation.transcript import digest

MAXIMUM_MS: Final = 600_000
_MILLISECOND: Final = dt.timedelta(milliseconds=1)


def milliseconds(moment: dt.datetime) -> int:
    """Whole milliseconds since 1970."""
    return (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // _MILLISECOND


def now() -> dt.datetime:
    """UTC by this site's clock with the stored offset: what `created` of a signature says."""
    stored = Membership.objects.filter(pk=1).values_list("clock_offset_ms", flat=True).first()
    return timezone.now() + (stored or 0) * _MILLISECOND


def time_sign(key: Ed25519PrivateKey, *, nonce: str, at: int) -> str:
    """The coordinator's signature (hex) of its time `at` (ms since 1970) for the asker's nonce."""
    return key.sign(bytes.fromhex(digest("time", [nonce, at]))).hex()


def time_verify(public: str, *, nonce: str, at: int, signature: str) -> None:
    """NotAuthentic unless the key `public` (64 hex) signed this time for this nonce."""
    try:
        public_key(public).verify(bytes.fromhex(signature), bytes.fromhex(digest("time", [nonce, at])))
    except (InvalidSignature, ValueError, TypeError, InvalidMessage):
        raise NotAuthentic("The time was not signed by this federation's coordinator.") from None


def offset_between(*, at: int, local: dt.datetime, uncertain_ms: int) -> int:
    """Milliseconds to add to the local clock, or ClockWrong when they are more than ten minutes.

    at: the coordinator's time; local: the own clock at that moment, known to `uncertain_ms`.
    """
    offset = at - milliseconds(local)
    if abs(offset) > MAXIMUM_MS + uncertain_ms:
        raise ClockWrong(
            f"This machine's clock is {abs(offset) // 60_000} minutes away from the coordinator's. Set the "
            "clock (ten minutes at most are corrected), then try again."
        )
    return max(-MAXIMUM_MS, min(MAXIMUM_MS, offset))


class Clock:
    """The corrected clock a connection signs with. Before there is a Membership, the offset lives here."""

    def __init__(self) -> None:
        self._offset_ms = 0

    def now(self) -> dt.datetime:
        """UTC, corrected."""
        if Membership.objects.filter(pk=1).exists():
            return now()
        return timezone.now() + self._offset_ms * _MILLISECOND

    def correct(self, *, at: int, local: dt.datetime, uncertain_ms: int) -> int:
        """Measure, keep and return the offset in milliseconds, or ClockWrong and nothing changes."""
        offset = offset_between(at=at, local=local, uncertain_ms=uncertain_ms)
        self._offset_ms = offset
        Membership.objects.filter(pk=1).update(clock_offset_ms=offset)
        return offset

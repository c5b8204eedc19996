"""A new identity key, announced by the old one; safe wherever the machine stops."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from diagnosis.models import User
from federation.models import Outgoing


def key_rotate(*, user: User) -> Outgoing:
    """Make the next key and announce it in an entry that the key in use signs."""
    raise NotImplementedError


def key_waiting() -> Ed25519PrivateKey | None:
    """The announced key that is not in use yet, or None."""
    raise NotImplementedError


def key_promote(public_key: str) -> None:
    """Use the waiting key from now on, as the federation accepted it. Idempotent."""
    raise NotImplementedError

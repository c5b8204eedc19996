"""Whose keys this site's admin compared out of band. Only those count here."""

from __future__ import annotations

from diagnosis.models import User
from federation.models import Outgoing, Peer


def keys_confirmed() -> dict[str, str]:
    """name → key (hex) of the members this site may count, itself among them."""
    raise NotImplementedError


def peer_confirm(*, user: User | None, peer: Peer, fingerprint: str) -> Outgoing:
    """Say that this fingerprint, read out by the other site's admin, is the one shown here."""
    raise NotImplementedError


def peer_unconfirm(*, user: User, peer: Peer, reason: str) -> Outgoing | None:
    """Take a confirmation back; None when there is none."""
    raise NotImplementedError

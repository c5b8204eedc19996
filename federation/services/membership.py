"""Founding, joining and leaving a federation. Confirming keys, inviting and changing keys: the modules beside."""

from __future__ import annotations

from diagnosis.models import User
from federation.models import Membership, Outgoing, Peer
from federation.services.confirmations import peer_confirm, peer_unconfirm
from federation.services.invitations import invitation_create
from federation.services.rotation import key_rotate

__all__ = [
    "federation_found", "invitation_create", "key_rotate", "peer_confirm", "peer_remove", "peer_unconfirm",
    "site_join", "site_leave",
]  # fmt: skip


def federation_found(*, user: User | None, title: str, address: str = "") -> Membership:
    """Coordinator: begin a federation. address: how hospitals reach this site (https://host[:port])."""
    raise NotImplementedError


def site_join(*, user: User | None, code: str, name: str, title: str) -> Membership:
    """Hospital: join by an invitation. name: [A-Za-z0-9._-]{1,64}, for good; title: as people read it."""
    raise NotImplementedError


def site_leave(*, user: User, reason: str) -> Outgoing:
    """Hospital: leave the federation for good."""
    raise NotImplementedError


def peer_remove(*, user: User, peer: Peer, reason: str) -> None:
    """Coordinator: a site's key counts no longer, anywhere."""
    raise NotImplementedError

"""Founding, joining and leaving a federation. Inviting, confirming and changing keys: the modules beside."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final

from django.db import transaction

from diagnosis.errors import Duplicate, InvalidInput
from diagnosis.models import User
from diagnosis.services.audit import audit
from federation import identity, kinds
from federation.models import Membership, Outgoing, Peer
from federation.permissions import require, require_coordinator, require_hospital
from federation.services.confirmations import peer_confirm, peer_unconfirm
from federation.services.invitations import code_parse, invitation_create
from federation.services.own import membership_found, membership_locked, own_peer
from federation.services.rotation import key_rotate
from federation.services.speaking import entry_say
from federation.services.texts import require_reason, require_title
from federation.services.withdrawing import sums_leave
from federation.transport import require_address

__all__ = [
    "federation_found", "invitation_create", "key_rotate", "peer_confirm", "peer_remove", "peer_unconfirm",
    "site_join", "site_leave",
]  # fmt: skip

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def federation_found(*, user: User | None, title: str, address: str = "") -> Membership:
    """Coordinator: begin a federation. Its name for programs is 32 random bytes, its key is made here.

    address: how hospitals reach this site (https://host[:port]); invitations carry it. user None: the
    site's own set-up. Duplicate if there is one already.
    """
    require_coordinator()
    if user is not None:
        require(user, "coordinator.manage")
    title, address = require_title(title), require_address(address) if address else ""
    with transaction.atomic():
        if membership_found() is not None:
            raise Duplicate("This site coordinates a federation already. One site coordinates one.")
        key = identity.identity_create()
        membership = Membership.objects.create(
            pk=1, role="coordinator", federation=secrets.token_hex(32), name=kinds.COORDINATOR, title=title,
            coordinator_address=address, coordinator_key=key,
        )  # fmt: skip
        audit(actor=user, action="federation.founded", subject="federation", federation=membership.federation)
    return membership


def site_join(*, user: User | None, code: str, name: str, title: str) -> Membership:
    """Hospital: join by an invitation's code. name: for good; title: as people read it.

    The site is a member once the coordinator has admitted it and counts at another hospital once that
    hospital's admin has confirmed its fingerprint. After a refused attempt (name taken, invitation expired)
    it may be tried again. user None: the site's own set-up.
    """
    require_hospital()
    if user is not None:
        require(user, "federation.manage")
    invitation, name, title = code_parse(code), _require_name(name), require_title(title)
    with transaction.atomic():
        _require_no_membership()
        public = identity.identity_create()
        membership = Membership.objects.create(
            pk=1, role="hospital", federation=invitation.federation, name=name, title=title,
            coordinator_address=invitation.address, coordinator_key=invitation.coordinator_key,
            invitation=invitation.token,
        )  # fmt: skip
        token_sha256 = hashlib.sha256(invitation.token.encode()).hexdigest()
        entry_say(kinds.Join(title, public, token_sha256), key=f"join/{public[:16]}")
        audit(actor=user, action="federation.joined", subject="federation", name=name,
              federation=invitation.federation, coordinator_key=invitation.coordinator_key)  # fmt: skip
    return membership


def _require_name(name: str) -> str:
    name = name.strip()
    if _NAME.fullmatch(name) is None:
        raise InvalidInput("A site's short name has 1 to 64 letters, digits, dots, hyphens or underscores.")
    if name.lower() == kinds.COORDINATOR:
        raise InvalidInput("The short name “coordinator” is the coordinator's own. Choose another one.")
    return name


def _require_no_membership() -> None:
    """Duplicate for a member. What is left of a refused attempt to join is cleared away."""
    found = membership_found()
    if found is None:
        return
    refused = Outgoing.objects.filter(kind="Join").exclude(refusal="")
    if found.left:
        raise Duplicate(
            "This site has left a federation and keeps its records. Set up a new site to join one."
        )
    if not refused.exists() or own_peer() is not None:
        raise Duplicate("This site belongs to a federation already, and to one only.")
    refused.delete()
    found.delete()


def site_leave(*, user: User, reason: str) -> Outgoing:
    """Hospital: leave the federation for good. Rounds under way go on without this site.

    What was opened and published before stays: a sum cannot be taken back.
    """
    require_hospital()
    require(user, "federation.manage")
    reason = require_reason(reason)
    with transaction.atomic():
        membership = membership_locked()
        said = entry_say(kinds.Leave(reason), key=f"leave/{membership.federation[:16]}")
        if not membership.left:
            Membership.objects.filter(pk=1).update(left=True)
            sums_leave(None, "This site left the federation.")
            audit(actor=user, action="federation.left", subject="federation")
    return said


def peer_remove(*, user: User, peer: Peer, reason: str) -> None:
    """Coordinator: this site's key counts no longer, anywhere. Said again, it changes nothing."""
    from federation.services.coordination import coordinator_say  # hospitals never load this side

    require_coordinator()
    require(user, "coordinator.manage")
    reason = require_reason(reason)
    with transaction.atomic():
        if Peer.objects.select_for_update().get(pk=peer.pk).state != "joined":
            return
        coordinator_say(kinds.Removed(peer.name, reason), key=f"removed/{peer.name}")
        audit(actor=user, action="federation.peer_removed", subject=f"peer:{peer.pk}", name=peer.name)
    peer.refresh_from_db()

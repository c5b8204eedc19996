"""Whose keys this site's admin compared out of band. Only those count here: for n, for t, for the three.

A confirmation stands for one key: after a change of key it is asked for again.
"""

from __future__ import annotations

from django.db import transaction
from django.db.models import QuerySet

from diagnosis.errors import InvalidInput, NotReady
from diagnosis.models import User
from diagnosis.services.audit import audit
from federation import identity, kinds
from federation.models import Outgoing, Peer
from federation.peer_selectors import key_confirmed_here, keys_confirmed
from federation.permissions import require, require_hospital
from federation.services.own import membership_locked, own_peer
from federation.services.speaking import entry_say

__all__ = ["keys_confirmed", "peer_confirm", "peer_unconfirm"]


def peer_confirm(*, user: User | None, peer: Peer, fingerprint: str) -> Outgoing:
    """Say that `fingerprint`, as the other site's admin read it out, is the one shown here.

    InvalidInput if it is another: then somebody stands between, or the key was changed. user None: the
    site's own set-up.
    """
    require_hospital()
    if user is not None:
        require(user, "federation.manage")
    with transaction.atomic():
        membership_locked()
        peer = _other_member(peer)
        if _plain(fingerprint) != _plain(identity.fingerprint(peer.public_key)):
            raise InvalidInput(
                f"This is not the fingerprint of the key that this site has for {peer.title}. Do not confirm "
                "it. Telephone again; if it still differs, tell the coordinator's admin."
            )
        confirmed = key_confirmed_here(peer)
        times = _said("unconfirm", peer).count()
        said = entry_say(kinds.Confirm(peer.name, peer.public_key), key=f"{_key('confirm', peer)}/{times}")
        if not confirmed:
            audit(actor=user, action="federation.peer_confirmed", subject=f"peer:{peer.pk}", name=peer.name,
                  public_key=peer.public_key)  # fmt: skip
    return said


def peer_unconfirm(*, user: User, peer: Peer, reason: str) -> Outgoing | None:
    """Take this site's confirmation of a member's key back; it counts here at once. None if there is none."""
    require_hospital()
    require(user, "federation.manage")
    with transaction.atomic():
        membership_locked()
        peer = _other_member(peer)
        times = _said("confirm", peer).count()
        if not times:
            return None
        body = kinds.Unconfirm(peer.name, peer.public_key, " ".join(reason.split())[:200])
        earlier = Outgoing.objects.filter(key=f"{_key('unconfirm', peer)}/{times}").first()
        if earlier is not None:
            return earlier
        audit(actor=user, action="federation.peer_unconfirmed", subject=f"peer:{peer.pk}", name=peer.name,
              public_key=peer.public_key)  # fmt: skip
        return entry_say(body, key=f"{_key('unconfirm', peer)}/{times}")


def _other_member(peer: Peer) -> Peer:
    """The peer as it is now, if it is a member and another site than this one."""
    own, peer = own_peer(), Peer.objects.get(pk=peer.pk)
    if own is None:
        raise NotReady("The coordinator has not admitted this site yet. Try again once it has.")
    if peer.pk == own.pk:
        raise InvalidInput("This is this site's own key. Other hospitals confirm it, not this one.")
    if peer.state != "joined":
        raise InvalidInput(f"{peer.title} is no member of the federation any more.")
    return peer


def _key(what: str, peer: Peer) -> str:
    return f"{what}/{peer.name}/{peer.public_key[:16]}"


def _said(what: str, peer: Peer) -> QuerySet[Outgoing]:
    return Outgoing.objects.filter(key__startswith=f"{_key(what, peer)}/")


def _plain(fingerprint: str) -> str:
    return "".join(fingerprint.split()).lower()

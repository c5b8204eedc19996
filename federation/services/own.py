"""Who this site is in its federation."""

from __future__ import annotations

from diagnosis.errors import NotReady
from federation.models import Membership, Peer


def membership_found() -> Membership | None:
    """This site's membership, or None before it joined or founded a federation."""
    return Membership.objects.filter(pk=1).first()


def membership_now() -> Membership:
    """This site's membership. NotReady without one."""
    found = membership_found()
    if found is None:
        raise NotReady("This site belongs to no federation yet. A site admin joins one under Federation.")
    return found


def membership_locked() -> Membership:
    """The same, under the row's lock: one process at a time reads or extends the transcript."""
    found = Membership.objects.select_for_update().filter(pk=1).first()
    if found is None:
        raise NotReady("This site belongs to no federation yet. A site admin joins one under Federation.")
    return found


def own_peer() -> Peer | None:
    """This site's own row among the peers, or None until the coordinator has admitted it."""
    return Peer.objects.filter(name=membership_now().name).first()

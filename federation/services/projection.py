"""The transcript as tables: every site and the coordinator fold the same entries by the same functions.

An entry that may not be said now is refused here. At the coordinator that is its sender's error; at a site it
means that the coordinator let something pass that it must not, and the site stops following it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from cryptography.exceptions import InvalidSignature

from federation import identity, kinds
from federation.errors import Conflict, FederationError, InvalidMessage, NotAMember
from federation.models import Confirmation, Participation, Peer, Round
from federation.services import projection_rounds as rounds
from federation.services import projection_sums as sums
from federation.services.transitions import move
from federation.states import IllegalMove
from federation.transcript import Link, rotation_bytes


def entry_project(link: Link) -> None:
    """Apply one link in the caller's transaction. FederationError, nothing changed, if it does not fit."""
    entry = link.entry
    if (entry.author == kinds.COORDINATOR) != (entry.kind in kinds.BY_COORDINATOR):
        raise InvalidMessage(f"A {entry.kind} entry is not {entry.author}'s to make.")
    try:
        body = kinds.read_body(entry.kind, entry.body)
        PROJECTIONS[entry.kind](link, body)
    except IllegalMove as error:
        raise Conflict(str(error)) from None
    except kinds.BodyRefused as error:
        raise InvalidMessage(str(error)) from None


def peer_named(name: str) -> Peer:
    """A member by its name. NotAMember for a name that is unknown, has left or was removed."""
    found = Peer.objects.filter(name=name).first()
    if found is None or found.state != "joined":
        raise NotAMember(f"{name[:64]} is not a member of this federation.")
    return found


# --- who belongs ---


def _join(link: Link, body: kinds.Join) -> None:
    if link.entry.author == kinds.COORDINATOR or Peer.objects.filter(name=link.entry.author).exists():
        raise Conflict("This name is taken in the federation. Choose another one.")
    if Peer.objects.filter(public_key=body.public_key).exists():
        raise Conflict("This key belongs to another site already.")
    identity.public_key(body.public_key)
    if not 0 < len(body.title) <= 80:
        raise InvalidMessage("A site's name as people read it has 1 to 80 characters.")
    Peer.objects.create(
        name=link.entry.author, title=body.title, public_key=body.public_key, joined_seq=link.seq
    )


def _confirm(link: Link, body: kinds.Confirm) -> None:
    author, subject = peer_named(link.entry.author), peer_named(body.site)
    if author == subject or subject.public_key != body.public_key:
        raise Conflict(f"{subject.title} has another key by now. Compare fingerprints again.")
    Confirmation.objects.update_or_create(
        author=author, subject=subject, public_key=body.public_key,
        defaults={"withdrawn": False, "seq": link.seq},
    )  # fmt: skip


def _unconfirm(link: Link, body: kinds.Unconfirm) -> None:
    given = Confirmation.objects.filter(
        author__name=link.entry.author, subject__name=body.site, public_key=body.public_key
    )
    if not given.update(withdrawn=True, seq=link.seq):
        raise Conflict("This key was not confirmed by this site.")


def _rotate(link: Link, body: kinds.Rotate) -> None:
    peer = peer_named(link.entry.author)
    _require_not_in_round(peer)
    message = rotation_bytes(link.entry.federation, peer.name, body.public_key)
    try:
        identity.public_key(body.public_key).verify(bytes.fromhex(body.proof), message)
    except (InvalidSignature, ValueError):
        raise InvalidMessage("The new key does not show that the site holds it.") from None
    if Peer.objects.filter(public_key=body.public_key).exists():
        raise Conflict("This key is in use already.")
    move(peer, "rotated", public_key=body.public_key)


def _leave(link: Link, body: kinds.Leave) -> None:
    peer = peer_named(link.entry.author)
    _drop_everywhere(peer, "left the federation", link)
    move(peer, "left", reason=body.reason[:200])


def _removed(link: Link, body: kinds.Removed) -> None:
    peer = peer_named(body.site)
    _drop_everywhere(peer, "was removed from the federation", link)
    move(peer, "removed", reason=body.reason[:200])


def _unfinished(peer: Peer) -> list[Participation]:
    return list(
        Participation.objects.filter(
            peer=peer, round__in=Round.objects.filter(state__in=rounds.UNFINISHED)
        ).exclude(state__in=("declined", "dropped", "done"))
    )


def _require_not_in_round(peer: Peer) -> None:
    if _unfinished(peer):
        raise Conflict("A round is under way. Change the key after it has ended.")


def _drop_everywhere(peer: Peer, reason: str, link: Link) -> None:
    for participation in _unfinished(peer):
        move(participation, "dropped", reason=reason, changed_at=link.at)


def _note_only(link: Link, body: Any) -> None:
    """Kinds that the transcript keeps and no table does."""
    if link.entry.author != kinds.COORDINATOR:
        peer_named(link.entry.author)


PROJECTIONS: Final[dict[str, Callable[[Link, Any], None]]] = {
    "Join": _join,
    "Confirm": _confirm,
    "Unconfirm": _unconfirm,
    "Rotate": _rotate,
    "Leave": _leave,
    "Removed": _removed,
    "Propose": rounds.propose,
    "Asked": rounds.asked,
    "Answer": rounds.answer,
    "Answered": rounds.answered,
    "Drop": rounds.drop,
    "StopRound": rounds.stop,
    "CandidateAsked": rounds.candidate_asked,
    "Vote": rounds.vote,
    "Published": rounds.published,
    "Adopted": rounds.adopted,
    "Aborted": rounds.aborted,
    "SumBegun": sums.begun,
    "Advert": sums.advert,
    "KeysClosed": sums.keys_closed,
    "Shares": sums.shares,
    "SharesClosed": sums.shares_closed,
    "Trained": sums.trained,
    "Masked": sums.masked,
    "InputsClosed": sums.inputs_closed,
    "Signed": sums.signed,
    "Unmask": sums.unmask,
    "Opened": sums.opened,
    "Failed": sums.failed,
    "Checked": _note_only,
}

__all__ = ["FederationError", "entry_project", "peer_named"]

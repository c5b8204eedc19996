"""Reads about members: whose keys count here, who confirmed whom, who has been heard of."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from django.conf import settings
from django.utils import timezone

from federation import identity
from federation.models import Confirmation, Membership, Outgoing, Peer

SILENT_POLLS: Final = 3  # a site that missed so many polls in a row is called silent
SILENT_AT_LEAST: Final = dt.timedelta(minutes=2)


@dataclass(frozen=True)
class PeerRow:
    """A member as this site sees it.

    confirmed_here: by this site's admin, for the key it has now; confirmed_by: titles of the sites that
    confirmed this key; waiting: "", "confirm" or "unconfirm", said but not accepted yet. health: a sentence.
    """

    peer: Peer
    fingerprint: str
    is_own: bool
    confirmed_here: bool
    confirmed_by: tuple[str, ...]
    waiting: str
    last_seen_at: dt.datetime | None
    health: str
    healthy: bool


def own_name() -> str:
    """This site's name in its federation, or "" without one."""
    return Membership.objects.filter(pk=1).values_list("name", flat=True).first() or ""


def keys_confirmed() -> dict[str, str]:
    """name → key (hex) of the members that this site may count: its own, and those its admin compared.

    A confirmation that was taken back counts no longer from that moment on, whether the others know or not.
    """
    own = own_name()
    found = {peer.name: peer.public_key for peer in Peer.objects.filter(name=own, state="joined")}
    given = Confirmation.objects.filter(author__name=own, withdrawn=False, subject__state="joined")
    taken_back = _unsettled("Unconfirm")
    for row in given.select_related("subject"):
        current = row.public_key == row.subject.public_key
        if current and _tag(row.subject) not in taken_back:
            found[row.subject.name] = row.public_key
    return found


def key_confirmed_here(peer: Peer) -> bool:
    """Whether this site's admin confirmed the key that `peer` has now."""
    return keys_confirmed().get(peer.name) == peer.public_key


def peers_with_confirmations() -> tuple[PeerRow, ...]:
    """Members that have not left, this site among them, in order of name."""
    own, counted = own_name(), keys_confirmed()
    by_peer: dict[int, list[str]] = defaultdict(list)
    for row in Confirmation.objects.filter(withdrawn=False).select_related("author", "subject"):
        if row.public_key == row.subject.public_key and row.author.state == "joined":
            by_peer[row.subject_id].append(row.author.title)
    said = dict.fromkeys(_unsettled("Confirm"), "confirm")
    said |= dict.fromkeys(_unsettled("Unconfirm"), "unconfirm")
    return tuple(
        PeerRow(
            peer=peer, fingerprint=identity.fingerprint(peer.public_key), is_own=peer.name == own,
            confirmed_here=counted.get(peer.name) == peer.public_key,
            confirmed_by=tuple(sorted(by_peer[peer.pk])), waiting=said.get(_tag(peer), ""),
            last_seen_at=peer.last_seen_at, health=health_words(peer), healthy=not is_silent(peer),
        )
        for peer in Peer.objects.filter(state="joined")
    )  # fmt: skip


def is_silent(peer: Peer) -> bool:
    """Whether the coordinator has not heard of this site for several polls."""
    allowed = max(SILENT_POLLS * dt.timedelta(seconds=settings.FEDERATION_POLL_SECONDS), SILENT_AT_LEAST)
    return peer.last_seen_at is None or timezone.now() - peer.last_seen_at > allowed


def health_words(peer: Peer) -> str:
    """When the coordinator last heard of a site, in a sentence."""
    if peer.last_seen_at is None:
        return "Not heard of yet."
    moment = timezone.localtime(peer.last_seen_at)
    if is_silent(peer):
        return f"Not heard of since {moment:%Y-%m-%d %H:%M}."
    return f"In touch, last at {moment:%H:%M}."


def _unsettled(kind: str) -> set[str]:
    """ "name/key16" of what this site said about others and the coordinator has not accepted or refused."""
    keys = Outgoing.objects.filter(kind=kind, sent=False, refusal="").values_list("key", flat=True)
    return {key.split("/", 1)[1].rsplit("/", 1)[0] for key in keys}


def _tag(peer: Peer) -> str:
    return f"{peer.name}/{peer.public_key[:16]}"

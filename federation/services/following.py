"""A site reads the transcript: checks every link, folds it into its tables, stops where one does not fit."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction
from django.utils import timezone

from diagnosis.services.audit import audit
from federation import kinds
from federation.errors import FederationError
from federation.models import Membership, Peer, TranscriptLink
from federation.services.coordination import link_store
from federation.services.own import membership_locked
from federation.services.projection import entry_project
from federation.services.restoring import own_entry_note
from federation.transcript import GENESIS, EntryRefused, Link, read_head, read_link, require_next

log = logging.getLogger(__name__)


def links_follow(links: Sequence[Mapping[str, Any]], head: Mapping[str, Any]) -> int:
    """Read new links, each in a transaction of its own; returns how many.

    A link that is forged, out of place, or says what may not be said now raises the site's alarm: nothing
    after it is read, and this site says nothing more until an admin has looked.
    """
    try:
        newest = read_head(head)
        for found in links:
            _link_follow(read_link(found))
        _head_check(newest.__dict__)
    except (EntryRefused, FederationError) as error:
        alarm_raise(str(error))
        return 0
    return len(links)


def _link_follow(link: Link) -> None:
    with transaction.atomic():
        membership = membership_locked()
        if link.seq <= membership.seq:
            _require_known(link)
            return
        require_next(link, after=membership.seq, sha256=membership.sha256)
        _verify(link, membership)
        entry_project(link)
        link_store(link)
        if link.entry.author == membership.name:
            _own_entry(link)
        membership.seq, membership.sha256 = link.seq, link.sha256
        membership.save(update_fields=["seq", "sha256"])


def _own_entry(link: Link) -> None:
    """What this site said has its place now; a new key that it announced is in use from here on."""
    own_entry_note(link)
    if link.entry.kind == "Rotate":
        from federation.services.rotation import key_promote

        key_promote(str(link.entry.body["public_key"]))


def _require_known(link: Link) -> None:
    """A link that comes again must be the one that was read."""
    if not TranscriptLink.objects.filter(seq=link.seq, sha256=link.sha256).exists():
        raise EntryRefused(f"The coordinator shows another entry {link.seq} than before.")


def _verify(link: Link, membership: Membership) -> None:
    entry = link.entry
    if entry.federation != membership.federation:
        raise EntryRefused("The coordinator shows an entry of another federation.")
    entry.verify(_author_key(link, membership))
    if entry.seen >= link.seq or entry.seen_sha256 != _sha256_at(entry.seen):
        raise EntryRefused(f"{entry.author} was shown another list than this site: the coordinator forks it.")


def _author_key(link: Link, membership: Membership) -> str:
    entry = link.entry
    if entry.author == kinds.COORDINATOR:
        return membership.coordinator_key
    if entry.kind == "Join":
        return str(entry.body.get("public_key", ""))
    peer = Peer.objects.filter(name=entry.author, state="joined").first()
    if peer is None:
        raise EntryRefused(f"The coordinator shows an entry of {entry.author}, which is no member.")
    return peer.public_key


def _sha256_at(seq: int) -> str | None:
    if seq == 0:
        return GENESIS
    return TranscriptLink.objects.filter(seq=seq).values_list("sha256", flat=True).first()


def _head_check(found: Mapping[str, Any]) -> None:
    """The signed head may be ahead of what was read, never behind it or beside it."""
    head = read_head(found)
    with transaction.atomic():
        membership = membership_locked()
        head.verify(membership.coordinator_key)
        if head.federation != membership.federation or head.seq < membership.seq:
            raise EntryRefused("The coordinator's list is shorter than what this site has read.")
        if head.seq == membership.seq and head.sha256 != membership.sha256:
            raise EntryRefused("The coordinator's head is not the list that this site has read.")
        membership.seen_at = timezone.now()
        membership.save(update_fields=["seen_at"])


def alarm_raise(sentence: str) -> None:
    """Stop following the coordinator, say why on the pages and in the audit chain."""
    with transaction.atomic():
        membership = membership_locked()
        if membership.alarm:
            return
        membership.alarm = sentence[:300]
        membership.save(update_fields=["alarm"])
        audit(actor=None, action="federation.alarm", subject="federation", after=membership.seq)
    log.error("this site stopped following its coordinator after entry %s", membership.seq)

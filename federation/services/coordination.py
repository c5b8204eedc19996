"""The coordinator's transcript: what sites say is checked and given a place; deadlines move rounds on.

The coordinator relays, orders and adds up. It holds no photo, no model and no secret of a site, and
everything it says can be checked by every site from the transcript.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from federation import kinds
from federation.errors import Conflict, FederationError, InvalidMessage, NotAMember, NotAuthentic
from federation.identity import identity_now
from federation.learning.errors import LearningError
from federation.models import Invitation, Membership, Peer, Round, SecureSum, TranscriptLink
from federation.services import advancing, summing_up
from federation.services.own import membership_locked, membership_now
from federation.services.projection import entry_project
from federation.services.projection_rounds import UNFINISHED
from federation.services.summing_up import now_ms
from federation.transcript import GENESIS, Entry, EntryRefused, Head, Link, decode_entry

log = logging.getLogger(__name__)
#: Set whenever the transcript grew, so that the loop looks at once.
news: Final = threading.Event()


# --- what sites say ---


def entry_append(*, peer: Peer | None, data: bytes, invitation: str = "") -> dict[str, Any]:
    """Give an entry its place: {"seq", "head"}. The same entry again gets the same place.

    peer: who signed the request, None for a site that is about to join with an invitation. FederationError,
    with nothing changed, for an entry that is malformed, not its sender's, or not possible now.
    """
    with transaction.atomic():
        membership = _coordinator()
        entry = _decoded(data, membership)
        known = TranscriptLink.objects.filter(author=entry.author, key=entry.key).first()
        if known is not None and known.text != data.decode():
            raise Conflict("This site has said something else under this key already.")
        seq = known.seq if known else _accepted(entry, peer, invitation, membership)
        return {"seq": seq, "head": head_of(membership).__dict__}


def _coordinator() -> Membership:
    membership = membership_locked()
    if membership.role != "coordinator":
        raise NotAMember("This site is a hospital. Entries go to the federation's coordinator.")
    return membership


def _decoded(data: bytes, membership: Membership) -> Entry:
    try:
        entry = decode_entry(data)
    except EntryRefused as error:
        raise InvalidMessage(str(error)) from None
    if entry.federation != membership.federation:
        raise InvalidMessage("The entry belongs to another federation.")
    if entry.author == kinds.COORDINATOR or entry.kind in kinds.BY_COORDINATOR:
        raise NotAMember("Only the coordinator says that.")
    return entry


def _accepted(entry: Entry, peer: Peer | None, invitation: str, membership: Membership) -> int:
    given = _invitation(entry, invitation) if entry.kind == "Join" else None
    _require_author(entry, peer, joining=given is not None)
    _require_seen(entry)
    if entry.kind in summing_up.MESSAGES:
        summing_up.message_check(entry)
    link = link_append(entry, membership)
    if given is not None:
        given.used_by = Peer.objects.get(name=entry.author)
        given.save(update_fields=["used_by"])
    rounds_advance(membership)
    return link.seq


def _require_author(entry: Entry, peer: Peer | None, *, joining: bool) -> None:
    if joining:
        key = str(entry.body.get("public_key", ""))
    elif peer is None or peer.name != entry.author:
        raise NotAMember("An entry is sent by its own author.")
    else:
        key = peer.public_key
    try:
        entry.verify(key)
    except EntryRefused as error:
        raise NotAuthentic(str(error)) from None


def _invitation(entry: Entry, token: str) -> Invitation:
    """The unused invitation that a joining site holds, which its entry must name."""
    sha256 = hashlib.sha256(token.encode()).hexdigest()
    found = Invitation.objects.select_for_update().filter(token_sha256=sha256, used_by=None).first()
    if not token or found is None or found.expires_at < timezone.now():
        raise NotAMember("This invitation is unknown, used or expired. Ask the coordinator for a new one.")
    if entry.body.get("invitation_sha256") != sha256:
        raise InvalidMessage("The entry names another invitation than the one it came with.")
    return found


def _require_seen(entry: Entry) -> None:
    """An author that has read another list than ours has been shown a fork, or restored an old backup."""
    link = TranscriptLink.objects.filter(seq=entry.seen).values_list("sha256", flat=True).first()
    if entry.seen_sha256 != (GENESIS if entry.seen == 0 else link):
        raise Conflict("The entry's author has read another list than this coordinator's.")


# --- the list ---


def link_append(entry: Entry, membership: Membership) -> Link:
    """Put an entry at the end, fold it into the tables, and move the head. The membership is locked."""
    last = TranscriptLink.objects.order_by("-seq").values_list("at", flat=True).first() or 0
    link = Link(membership.seq + 1, membership.sha256, max(now_ms(), last), entry)
    entry_project(link)
    link_store(link)
    membership.seq, membership.sha256 = link.seq, link.sha256
    membership.save(update_fields=["seq", "sha256"])
    transaction.on_commit(news.set)
    return link


def link_store(link: Link) -> None:
    """Keep a link as evidence."""
    TranscriptLink.objects.create(
        seq=link.seq, sha256=link.sha256, previous=link.previous, at=link.at, author=link.entry.author,
        kind=link.entry.kind, key=link.entry.key, text=link.entry.encode().decode(),
    )  # fmt: skip


def coordinator_say(body: Any, *, key: str) -> Link:
    """Add an entry of the coordinator's own. Said again with the same key, it changes nothing."""
    with transaction.atomic():
        membership = _coordinator()
        known = TranscriptLink.objects.filter(author=kinds.COORDINATOR, key=key).first()
        if known is not None:
            return Link(known.seq, known.previous, known.at, decode_entry(known.text.encode()))
        entry = Entry(
            federation=membership.federation, author=kinds.COORDINATOR, kind=type(body).__name__, key=key,
            seen=membership.seq, seen_sha256=membership.sha256, body=kinds.plain(body),
        ).sign(identity_now())  # fmt: skip
        return link_append(entry, membership)


def head_of(membership: Membership) -> Head:
    """How far the transcript goes, signed with the coordinator's time."""
    head = Head(membership.federation, membership.seq, membership.sha256, now_ms())
    return head.sign(identity_now())


def head_now() -> dict[str, Any]:
    """The signed head as JSON."""
    return dict(head_of(membership_now()).__dict__)


def links_after(*, seq: int, limit_bytes: int) -> list[dict[str, Any]]:
    """Links after number `seq`, oldest first, up to about so many bytes; at least one if there is one."""
    links: list[dict[str, Any]] = []
    size = 0
    for row in TranscriptLink.objects.filter(seq__gt=seq).order_by("seq").iterator(chunk_size=100):
        size += len(row.text)
        if links and size > limit_bytes:
            break
        links.append({"seq": row.seq, "previous": row.previous, "at": row.at, "entry": row.text})
    return links


# --- time passes ---


def rounds_advance(membership: Membership) -> None:
    """Say whatever follows from the transcript and the clock now. The membership is locked."""
    for _ in range(64):  # each pass says one thing; a round has far fewer steps at one moment
        round_ = Round.objects.filter(state__in=UNFINISHED).first()
        following = advancing.following(round_, now_ms()) if round_ is not None else None
        if following is None:
            return
        body, key = following
        membership.refresh_from_db()
        coordinator_say(body, key=key)
    log.error("a round did not come to rest")


def tick() -> None:
    """Look at deadlines and open sums that are ready. Called often; does nothing when nothing is due."""
    with transaction.atomic():
        rounds_advance(_coordinator())
    for total in summing_up.ready():
        _open(total)


def _open(total: SecureSum) -> None:
    """Add up outside of any transaction, then say the result, or why there is none."""
    body: kinds.Opened | kinds.Failed
    try:
        body = kinds.Opened(total.name, summing_up.sum_open(total))
    except (FederationError, LearningError) as error:
        if getattr(error, "retry", False):  # a full disk: nobody's fault, and nobody has to train again
            raise
        body = kinds.Failed(total.name, str(error), ())
    with transaction.atomic():
        membership = _coordinator()
        if SecureSum.objects.filter(pk=total.pk, state="survivors").exists():
            coordinator_say(body, key=f"ended/{total.name}")
            membership.refresh_from_db()
            rounds_advance(membership)


def news_since(seq: int) -> bool:
    """Whether the transcript goes further than `seq`: one cheap query."""
    return Membership.objects.filter(pk=1, seq__gt=seq).exists()

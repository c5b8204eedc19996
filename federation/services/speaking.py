"""What this site says to its federation: signed, stored, and sent later, unchanged, until it is accepted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import transaction

from diagnosis.errors import NotReady
from federation import kinds
from federation.errors import Conflict
from federation.identity import identity_now
from federation.models import Outgoing
from federation.services.own import membership_locked
from federation.transcript import Entry, decode_entry


def entry_say(body: Any, *, key: str, blobs: Sequence[str] = ()) -> Outgoing:
    """Sign `body` and queue it, in the caller's transaction, with the local effect that it tells of.

    key: the same key is said once; again with the same body it is the same row, with another Conflict.
    blobs: hashes of files that the coordinator needs before it accepts the entry. NotReady while this site
    has stopped following its coordinator.
    """
    with transaction.atomic():
        membership = membership_locked()
        said = Outgoing.objects.filter(key=key).first()
        if said is not None:
            return _same(said, body)
        if membership.alarm:
            raise NotReady(f"This site has stopped following the coordinator: {membership.alarm}")
        if Outgoing.objects.filter(kind="Rotate", sent=False).exists():
            raise NotReady("This site's new key is not accepted yet. Try again in a minute.")
        entry = Entry(
            federation=membership.federation, author=membership.name, kind=type(body).__name__, key=key,
            seen=membership.seq, seen_sha256=membership.sha256, body=kinds.plain(body),
        ).sign(identity_now())  # fmt: skip
        return Outgoing.objects.create(
            key=key, kind=entry.kind, text=entry.encode().decode(), blobs=list(blobs)
        )


def _same(said: Outgoing, body: Any) -> Outgoing:
    entry = decode_entry(said.text.encode())
    if (entry.kind, entry.body) != (type(body).__name__, kinds.plain(body)):
        raise Conflict("This site has said something else there already. Reload the page.")
    return said


def waiting() -> list[Outgoing]:
    """What has not been accepted or refused yet, oldest first."""
    return list(Outgoing.objects.filter(sent=False).order_by("pk"))

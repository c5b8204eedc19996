"""A site reads an entry of its own that it does not know: its database is an older copy, put back.

It takes the entry as said, leaves the sums that were under way, and learns again which survivor sets it has
answered, so that what it has forgotten cannot be asked of it twice.
"""

from __future__ import annotations

from typing import Final

from federation import secrets_store
from federation.models import Opening, Outgoing, OwnSum, SecureSum
from federation.plans import parse_plan
from federation.services.contexts import purpose_of
from federation.services.projection_sums import sum_named
from federation.services.summing_up import MESSAGES
from federation.services.transitions import move
from federation.transcript import Link

RESTORED: Final = "This hospital's database was restored from a backup; it leaves the sum that was under way."


def own_entry_note(link: Link) -> None:
    """Note that an entry of this site has its place, known or not. In the transaction that follows it."""
    text, place = link.entry.encode().decode(), {"sent": True, "seq": link.seq, "refusal": ""}
    if Outgoing.objects.filter(key=link.entry.key, text=text).update(**place):
        return
    facts = {"kind": link.entry.kind, "text": text, "blobs": [], **place}
    Outgoing.objects.update_or_create(key=link.entry.key, defaults=facts)
    if link.entry.kind in MESSAGES:
        _sum_forgotten(sum_named(str(link.entry.body["sum"])), link.entry.kind)


def _sum_forgotten(total: SecureSum, kind: str) -> None:
    own, _ = OwnSum.objects.get_or_create(sum=total)
    if own.state not in ("left", "answered"):
        move(own, "left", reason=RESTORED)
    if kind == "Unmask":
        _opening_note(total)


def _opening_note(total: SecureSum) -> None:
    base, purpose = parse_plan(total.round.plan).base_sha256, purpose_of(total)
    secrets_store.opening_note(base, purpose, frozenset(total.survivors))
    opening = {"base_model": base, "purpose": purpose, "survivors": sorted(total.survivors)}
    if not Opening.objects.filter(sum=total.name).exists():
        Opening.objects.create(sum=total.name, **opening)

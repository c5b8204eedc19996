"""Files that a round needed and nothing needs any more: masked inputs, and sums that have become a model."""

from __future__ import annotations

from typing import Final

from federation import storage
from federation.models import Round, SecureSum
from federation.secagg import wire
from federation.services.summing_up import now_ms
from federation.states import ENDED

#: Long enough for a site that was away to add a sum up itself.
KEEP_MS: Final = 7 * 24 * 3600 * 1000


def files_tidy() -> int:
    """Remove masked inputs and summed updates of rounds that ended a week ago; returns how many files."""
    removed = 0
    for round_ in Round.objects.filter(state__in=ENDED, tidied=False):
        if round_.moments.get(round_.state, 0) > now_ms() - KEEP_MS:
            continue
        for total in round_.sums.all():
            removed += _remove(total)
        Round.objects.filter(pk=round_.pk).update(tidied=True)
    return removed


def _remove(total: SecureSum) -> int:
    names = [
        message.sha256.hex()
        for row in total.messages.filter(kind="masked")
        if isinstance(message := wire.decode(row.text.encode()), wire.MaskedCommitment)
    ]
    names += [total.result] if total.purpose == "update" and total.result else []
    for name in names:
        storage.blob_remove(name)
    return len(names)

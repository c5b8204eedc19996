"""This site takes no further part: said once, and its own side of open sums ends in the same transaction."""

from __future__ import annotations

from functools import partial

from django.db import transaction

from federation import secrets_store
from federation.models import OwnSum, Round
from federation.services.transitions import move

#: From here on this site's masked input exists, or its part is over.
_OVER = ("masked", "signed", "answered", "left")


def sums_leave(round_: Round | None, reason: str) -> int:
    """End this site's side of all sums (of one round, if given) that it has not masked yet; how many.

    Their secrets, a plain input among them, are removed once the caller's transaction is committed.
    """
    rows = OwnSum.objects.exclude(state__in=_OVER)
    if round_ is not None:
        rows = rows.filter(sum__round=round_)
    left = list(rows.select_related("sum"))
    for row in left:
        move(row, "left", reason=reason)
        transaction.on_commit(partial(secrets_store.forget, row.sum.name))
    return len(left)

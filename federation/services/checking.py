"""A site adds an opened sum up again, from the masked inputs and answers that everybody can fetch.

So a coordinator cannot announce another sum than the one it opened (2-protocol, secure aggregation, step 6).
"""

from __future__ import annotations

from django.conf import settings
from django.db import transaction

from federation import kinds, secrets_store
from federation.errors import FederationError
from federation.models import OwnSum, SecureSum
from federation.secagg import wire
from federation.secagg.errors import SecAggError
from federation.secagg.server import ServerSession
from federation.services import contexts, results
from federation.services.following import alarm_raise
from federation.services.own import membership_now
from federation.services.speaking import entry_say
from federation.services.summing_up import message_take, sha256_of_sum

#: name of a file and its size in bytes, to be fetched
Needed = tuple[str, int]


def unchecked() -> list[OwnSum]:
    """Opened sums that this site took part in and has not added up yet."""
    rows = OwnSum.objects.filter(checked="", sum__state="opened").exclude(state="left")
    return list(rows.select_related("sum__round").order_by("pk"))


def size_of(total: SecureSum) -> int:
    """Bytes of one input, or of the sum."""
    return total.words * total.bits // 8


def too_large(total: SecureSum) -> bool:
    """Whether fetching every masked input is more than this site is set to."""
    return size_of(total) * len(total.survivors) > settings.FEDERATION_RECOMPUTE_BYTES


def files_needed(own: OwnSum) -> list[Needed]:
    """The opened sum and, unless that is too much, every survivor's masked input."""
    total, size = own.sum, size_of(own.sum)
    names = [total.result]
    if not too_large(total):
        rows = total.messages.filter(kind="masked", site__in=total.survivors)
        names += [wire.decode(row.text.encode()).sha256.hex() for row in rows]  # type: ignore[attr-defined]
    return [(name, size) for name in names]


def sum_recheck(own: OwnSum) -> str:
    """Compare, note what was found, and say so. Another sum than the announced one raises the alarm."""
    total = own.sum
    found = "too large" if too_large(total) else _compare(total)
    if found == "differs":
        alarm_raise(f"The sum that the coordinator announced for {total.name} is not the sum of the inputs.")
    with transaction.atomic():
        OwnSum.objects.filter(pk=own.pk).update(checked=found)
        if found == "agrees":
            entry_say(kinds.Checked(total.name, total.result), key=f"checked/{total.name}")
    secrets_store.forget(total.name)
    return found


def _compare(total: SecureSum) -> str:
    try:
        results.words_of(total)
        return "agrees" if sha256_of_sum(_verified_session(total), total) == total.result else "differs"
    except (SecAggError, FederationError):
        return "differs"


def _verified_session(total: SecureSum) -> ServerSession:
    """The coordinator's session, from messages whose every signature is verified here."""
    session = ServerSession(contexts.roster_of(total), contexts.context_of(total, membership_now()))
    by_kind: dict[str, list[wire.Signed]] = {}
    for row in total.messages.all():
        by_kind.setdefault(row.kind, []).append(wire.decode(row.text.encode()))
    for message in by_kind.get("advert", []):
        if message.site in total.keyed:
            message_take(session, message)
    session.close_keys()
    for message in (*by_kind.get("share", []), *by_kind.get("masked", [])):
        message_take(session, message)
    session.close()
    for message in (*by_kind.get("signed", []), *by_kind.get("unmask", [])):
        message_take(session, message)
    return session

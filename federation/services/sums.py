"""This site's side of secure sums: one step at a time, each durable before what it says is sent.

Every step writes the session's secrets first (`secrets_store`, outside backups), then queues its message in
the transaction that notes the step. A step that was cut off anywhere is done again and says the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from django.db import transaction

from diagnosis import jobs
from diagnosis.errors import ConsentMissing
from diagnosis.jobs import Lease
from federation import kinds, secrets_store, storage
from federation.identity import identity_now
from federation.learning.errors import LearningError
from federation.models import Opening, Outgoing, OwnSum, SecureSum
from federation.secagg import wire
from federation.secagg.errors import SecAggError
from federation.secagg.site import SiteSession
from federation.services import contexts, validity
from federation.services.own import membership_now
from federation.services.projection_rounds import live_sites
from federation.services.speaking import entry_say
from federation.services.transitions import move

#: The site's state → what the sum must have reached before the next step, or None for "whenever".
WAITS_FOR: Final = {
    "asked": None, "advertised": "shares", "shared": "inputs", "prepared": None, "masked": "survivors",
    "signed": "survivors",
}  # fmt: skip
OVER: Final = ("opened", "failed")


@dataclass(frozen=True)
class _Work:
    """One sum with its session loaded."""

    own: OwnSum
    session: SiteSession

    @property
    def total(self) -> SecureSum:
        return self.own.sum

    def keep(self) -> None:
        """Store the session's secrets, durably."""
        secrets_store.write(self.total.name, "session", self.session.dump())


# --- which sums ---


def sums_step() -> bool:
    """Take every step that can be taken now; whether any was."""
    _secrets_tidy()
    moved = False
    for own in _own_sums():
        _left_say(own)
        while own.state in WAITS_FOR and _step(own):
            moved = True
    return moved


def _secrets_tidy() -> None:
    """Remove what is not needed any more: the process may have ended between the last step and the removal.

    Plain inputs go once they are masked, everything goes with the end of the sum or of this site's part.
    """
    rows = OwnSum.objects.filter(sum__name__in=secrets_store.names()).select_related("sum")
    for own in rows:
        if own.state == "left" or own.sum.state == "failed" or own.checked:
            secrets_store.forget(own.sum.name)
        elif own.masked:
            secrets_store.forget(own.sum.name, "input", "facts")


def _own_sums() -> list[OwnSum]:
    """This site's side of every sum that is not over and that it has approved."""
    name = membership_now().name
    running = SecureSum.objects.exclude(state__in=OVER).select_related("round")
    mine = [
        total for total in running
        if name in total.sites and name in live_sites(total.round) and not _dropping(total)
    ]  # fmt: skip
    return [OwnSum.objects.get_or_create(sum=total)[0] for total in mine]


def _dropping(total: SecureSum) -> bool:
    """Whether this site has said that it takes no further part, accepted by now or not."""
    return Outgoing.objects.filter(key=f"drop/{total.round.sha256}").exists()


def _step(own: OwnSum) -> bool:
    """One step, if its time has come. A refusal by the protocol ends this site's part, with the reason."""
    own.sum.refresh_from_db()
    needed = WAITS_FOR[own.state]
    if needed is not None and own.sum.state != needed:
        return False
    try:
        return STEPS[own.state](own)
    except (SecAggError, LearningError, validity.SumRefused, ConsentMissing) as error:
        sum_leave(own, str(error))
        return False


def sum_leave(own: OwnSum, reason: str) -> None:
    """Take no further part in this sum nor, unless the sum is over, in its round, and say so."""
    own.sum.refresh_from_db()
    with transaction.atomic():
        move(own, "left", reason=reason[:300])
        round_ = own.sum.round
        if own.sum.state not in OVER and not _dropping(own.sum):
            entry_say(kinds.Drop(round_.sha256, reason[:200]), key=f"drop/{round_.sha256}")
    secrets_store.forget(own.sum.name)


def _left_say(own: OwnSum) -> None:
    """A part that was left while reading, after a restore, is said to have been left."""
    key = f"drop/{own.sum.round.sha256}"
    if own.state == "left" and not Outgoing.objects.filter(key=key).exists():
        entry_say(kinds.Drop(own.sum.round.sha256, own.reason[:200]), key=key)


# --- the session ---


def _session(own: OwnSum) -> _Work:
    """The stored session, or a new one before the first step."""
    total = own.sum
    context = contexts.context_of(total, membership_now())
    roster = contexts.roster_of(total)
    facts: dict[str, Any] = {
        "site": membership_now().name, "identity": identity_now(), "roster": roster, "context": context,
    }  # fmt: skip
    kept = secrets_store.read(total.name, "session")
    if kept is None and own.state != "asked":
        raise validity.SumRefused("The secrets of this attempt are not here, as after a restore.")
    return _Work(own, SiteSession(**facts) if kept is None else SiteSession.load(kept, **facts))


def _messages(total: SecureSum, kind: str, **filters: str) -> list[Any]:
    rows = total.messages.filter(kind=kind, **filters)
    return [wire.decode(row.text.encode()) for row in rows]


def _said(work: _Work, event: str, body: Any, word: str, **fields: Any) -> bool:
    """Note the step and queue what it says, in one transaction; the secrets are stored already."""
    blobs = [fields["masked"]] if "masked" in fields else []
    with transaction.atomic():
        entry_say(body, key=f"{word}/{work.total.name}", blobs=blobs)
        move(work.own, event, **fields)
    return True


# --- steps ---


def _advertise(own: OwnSum) -> bool:
    validity.sum_check(own.sum)
    if own.sum.purpose == "update":
        validity.training_plan_note(own.sum)
    work = _session(own)
    message = work.session.advertise()
    work.keep()
    return _said(work, "advertised", kinds.Advert(own.sum.name, _text(message)), "advert")


def _share(own: OwnSum) -> bool:
    work = _session(own)
    adverts = [m for m in _messages(own.sum, "advert") if m.site in own.sum.keyed]
    messages = work.session.share(adverts)
    work.keep()
    return _said(work, "shared", kinds.Shares(own.sum.name, tuple(map(_text, messages))), "shares")


def _receive(own: OwnSum) -> bool:
    """All shares are there: from now on this site can mask. Its input is prepared by a job of its own."""
    work = _session(own)
    work.session.receive(_messages(own.sum, "share", receiver=work.session.site))
    work.keep()
    with transaction.atomic():
        move(own, "received")
        jobs.enqueue(kind="federation_prepare", subject=own.pk, key=f"federation_prepare:{own.pk}")
    return True


def sum_prepare(*, lease: Lease, own: OwnSum) -> None:
    """Do the job `federation_prepare`: train or count, and keep the plain input in the key folder."""
    from federation.services import contributions

    if own.state == "received" and own.sum.state not in OVER:
        prepared = contributions.input_words(own.sum)
        facts = {"patients": prepared.patients, "photos": prepared.photos}
        secrets_store.write(own.sum.name, "facts", json.dumps(facts).encode())
        secrets_store.write(own.sum.name, "input", _bytes(prepared.words))
    with jobs.finish(lease):
        own.refresh_from_db()
        if own.state == "left":  # withdrawn from meanwhile: nothing plain stays behind
            secrets_store.forget(own.sum.name)
        if own.state == "received":
            move(own, "prepared")
            if own.sum.purpose == "update":
                entry_say(kinds.Trained(own.sum.name), key=f"trained/{own.sum.name}")


def _mask(own: OwnSum) -> bool:
    """Mask the input once and keep the bytes; they are sent again unchanged, never computed again."""
    from federation.services import contributions

    if own.sum.state != "inputs":
        return False
    facts = _facts(own.sum)
    if facts is None or not contributions.still_allowed(facts["patients"], facts["photos"]):
        return _withdrawn(own)
    work = _session(own)
    sha256, message = _masked(work)
    with transaction.atomic():
        contributions.contribution_record(own.sum, patients=facts["patients"], photos=facts["photos"])
        _said(work, "masked", kinds.Masked(own.sum.name, _text(message)), "masked", masked=sha256)
    secrets_store.forget(own.sum.name, "input", "facts")
    return True


def _facts(total: SecureSum) -> dict[str, Any] | None:
    """Who entered the input that lies in the key folder; None unless both are there."""
    facts, words = (secrets_store.read(total.name, kind) for kind in ("facts", "input"))
    return None if facts is None or words is None else dict(json.loads(facts))


def _masked(work: _Work) -> tuple[str, wire.MaskedCommitment]:
    total = work.total
    plain = secrets_store.require(total.name, "input")
    if work.session.commitment is not None:  # cut off between commitment and note: the bytes lie here
        if hashlib.sha256(plain).digest() != work.session.masking:
            raise validity.SumRefused("Another input than this one was masked, before a restore.")
        return work.session.commitment.sha256.hex(), work.session.commitment
    words = np.frombuffer(plain, dtype=f"<u{total.bits // 8}")
    keep: Callable[[bytes], None] = lambda dump: secrets_store.write(total.name, "session", dump)  # noqa: E731
    data, message = work.session.mask(words.astype(f"u{total.bits // 8}"), keep)
    sha256 = storage.blob_add(data, owner=work.session.site)
    work.keep()
    return sha256, message


def _withdrawn(own: OwnSum) -> bool:
    """Somebody withdrew after the input was made, or it is gone: make it again, unless masking had begun."""
    if _session(own).session.masking is not None:
        raise validity.SumRefused("A patient withdrew, or the input was lost, when masking had begun.")
    secrets_store.forget(own.sum.name, "input", "facts")
    with transaction.atomic():
        move(own, "withdrawn")
        jobs.enqueue(kind="federation_prepare", subject=own.pk, key=f"federation_prepare:{own.pk}")
    return False


def _sign(own: OwnSum) -> bool:
    work = _session(own)
    commitments = {m.site: m for m in _messages(own.sum, "masked") if m.site in own.sum.survivors}
    message = work.session.sign_survivors(list(own.sum.survivors), commitments)
    work.keep()
    return _said(work, "signed", kinds.Signed(own.sum.name, _text(message)), "signed")


def _answer(own: OwnSum) -> bool:
    """Once t survivors signed the same set: give the shares that open it, if it may be opened."""
    work = _session(own)
    signatures = _messages(own.sum, "signed")
    if not validity.enough(signatures, work.session.signed, own.sum):
        return False
    base, purpose = work.session.context.base_model, contexts.purpose_of(own.sum)
    message = work.session.answer(signatures, opened_before=_opened(base, purpose, own.sum))
    survivors = frozenset(own.sum.survivors)
    secrets_store.opening_note(base, purpose, survivors)
    work.keep()
    with transaction.atomic():
        opening = {"base_model": base, "purpose": purpose, "survivors": sorted(survivors)}
        if not Opening.objects.filter(sum=own.sum.name).exists():
            Opening.objects.create(sum=own.sum.name, **opening)
        return _said(work, "answered", kinds.Unmask(own.sum.name, _text(message)), "unmask")


def _opened(base: str, purpose: str, total: SecureSum) -> list[frozenset[str]]:
    """What this site has opened before, by the database and by the key folder, whichever knows more."""
    rows = Opening.objects.filter(base_model=base, purpose=purpose).exclude(sum=total.name)
    known = {frozenset(survivors) for survivors in rows.values_list("survivors", flat=True)}
    return sorted(known | set(secrets_store.openings(base, purpose)), key=sorted)


def _text(message: wire.Signed) -> str:
    return wire.encode(message).decode()


def _bytes(words: Any) -> bytes:
    return bytes(words.astype(words.dtype.newbyteorder("<"), copy=False).tobytes())


STEPS: Final[dict[str, Callable[[OwnSum], bool]]] = {
    "asked": _advertise, "advertised": _share, "shared": _receive, "prepared": _mask, "masked": _sign,
    "signed": _answer,
}  # fmt: skip

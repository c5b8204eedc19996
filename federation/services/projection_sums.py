"""Secure sums in the transcript: messages as rows, steps as states. No secret passes through here."""

from __future__ import annotations

from typing import Final

from federation import kinds
from federation.errors import Conflict, InvalidMessage, NotAMember
from federation.models import SecureSum, SumMessage
from federation.secagg import rules, wire
from federation.secagg.errors import SecAggError
from federation.services.projection_rounds import (
    GONE,
    live_sites,
    participation_of,
    round_move,
    round_named,
)
from federation.services.transitions import move
from federation.transcript import Link

PURPOSES: Final = ("presence", "counts", "update", "centroids")


def sum_named(name: str) -> SecureSum:
    """A sum by its name."""
    found = SecureSum.objects.filter(name=name).select_related("round").first()
    if found is None:
        raise InvalidMessage("An entry names a sum that the transcript does not hold.")
    return found


def sum_name(round_sha256: str, purpose: str, member: str, attempt: int) -> str:
    """The name of an attempt: "<round, 16 digits>.<purpose>[.<member>].<attempt>"."""
    return ".".join(part for part in (round_sha256[:16], purpose, member, str(attempt)) if part)


def begun(link: Link, body: kinds.SumBegun) -> None:
    round_ = round_named(body.round)
    if body.sum != sum_name(body.round, body.purpose, body.member, body.attempt):
        raise InvalidMessage("A sum has another name than its round, purpose and attempt give.")
    if list(body.sites) != live_sites(round_):
        raise Conflict("The sum's participants are not the sites that take part in the round.")
    if round_.sums.exclude(state__in=("opened", "failed")).exists():
        raise Conflict("Another sum of this round is not over yet.")
    if round_.sums.filter(purpose=body.purpose, member=body.member, state="opened").exists():
        raise Conflict("This sum was opened already.")
    if body.bits != (32 if body.purpose == "update" else 64) or not 0 < body.words <= wire.MAXIMUM_WORDS:
        raise InvalidMessage("A sum has another ring or length than any of the protocol.")
    _require_stage(round_.state, body.purpose)
    SecureSum.objects.create(
        name=body.sum, round=round_, purpose=body.purpose, member=body.member, attempt=body.attempt,
        sites=list(body.sites), words=body.words, bits=body.bits,
    )  # fmt: skip
    if body.purpose == "update":
        round_move(round_, "keys_asked", link)


def _require_stage(state: str, purpose: str) -> None:
    stages = {"presence": ("counting",), "counts": ("counting",), "centroids": ("validating",)}
    if purpose in stages and state not in stages[purpose]:
        raise Conflict("This sum does not belong to this stage of the round.")


def _store(total: SecureSum, kind: str, text: str, site: str) -> None:
    """Keep one message of `site`, once. InvalidMessage unless it is a message of that site at all."""
    try:
        message = wire.decode(text.encode())
    except SecAggError as error:
        raise InvalidMessage(str(error)) from None
    expected = {"advert": wire.KeyAdvert, "share": wire.SealedShare, "masked": wire.MaskedCommitment,
                "signed": wire.SurvivorSet, "unmask": wire.UnmaskAnswer}  # fmt: skip
    if type(message) is not expected[kind] or message.site != site:
        raise InvalidMessage("A message of secure aggregation is of another kind or another site.")
    receiver = message.receiver if isinstance(message, wire.SealedShare) else ""
    kept, created = SumMessage.objects.get_or_create(
        sum=total, kind=kind, site=site, receiver=receiver, defaults={"text": text}
    )
    if not created and kept.text != text:
        raise Conflict(f"{site} sent two different messages for one step.")


def _require(total: SecureSum, state: str, site: str) -> None:
    if total.state != state:
        raise Conflict("This step of the sum is over, or has not begun.")
    if site not in (total.keyed or total.sites):
        raise NotAMember(f"{site} takes no part in this sum.")
    if participation_of(total.round, site).state in GONE:
        raise NotAMember(f"{site} takes no further part in this round.")


def _participation(total: SecureSum, site: str, event: str, link: Link) -> None:
    """Only updates move a site's state: counting and centroids are steps on the way."""
    if total.purpose == "update":
        move(participation_of(total.round, site), event, changed_at=link.at)


def advert(link: Link, body: kinds.Advert) -> None:
    total = sum_named(body.sum)
    _require(total, "keys", link.entry.author)
    _store(total, "advert", body.message, link.entry.author)
    _participation(total, link.entry.author, "keys_sent", link)


def keys_closed(link: Link, body: kinds.KeysClosed) -> None:
    total = sum_named(body.sum)
    sent = total.messages.filter(kind="advert", site__in=live_sites(total.round))
    _require_list(body.sites, sent.values_list("site", flat=True), len(total.sites))
    move(total, "keys_closed", keyed=list(body.sites))
    _drop_others(total, body.sites, "sent no keys in time", link)


def _require_list(named: tuple[str, ...], found: object, sites: int) -> None:
    if list(named) != sorted(found):  # type: ignore[call-overload]
        raise Conflict("The list that was closed is not that of the messages in the transcript.")
    try:
        rules.require_enough(named, sites)
    except SecAggError as error:
        raise Conflict(str(error)) from None


def _drop_others(total: SecureSum, staying: tuple[str, ...], reason: str, link: Link) -> None:
    for site in set(total.sites) - set(staying):
        row = participation_of(total.round, site)
        if row.state not in GONE:
            move(row, "dropped", reason=reason, changed_at=link.at)


def shares(link: Link, body: kinds.Shares) -> None:
    total = sum_named(body.sum)
    _require(total, "shares", link.entry.author)
    if len(body.messages) != len(total.keyed):
        raise InvalidMessage("A site deals one share to each site of the key list, itself among them.")
    for text in body.messages:
        _store(total, "share", text, link.entry.author)


def shares_closed(link: Link, body: kinds.SharesClosed) -> None:
    total = sum_named(body.sum)
    if total.messages.filter(kind="share").count() != len(total.keyed) ** 2:
        raise Conflict("Not every share of this sum is in the transcript.")
    move(total, "shares_closed")
    if total.purpose == "update":
        round_move(total.round, "shares_dealt", link)


def trained(link: Link, body: kinds.Trained) -> None:
    total = sum_named(body.sum)
    _require(total, "inputs", link.entry.author)
    _participation(total, link.entry.author, "trained", link)


def masked(link: Link, body: kinds.Masked) -> None:
    total = sum_named(body.sum)
    _require(total, "inputs", link.entry.author)
    _store(total, "masked", body.message, link.entry.author)
    _participation(total, link.entry.author, "uploaded", link)
    if total.purpose == "update" and total.round.state == "training":
        round_move(total.round, "input_arrived", link)


def inputs_closed(link: Link, body: kinds.InputsClosed) -> None:
    total = sum_named(body.sum)
    sent = total.messages.filter(kind="masked").values_list("site", flat=True)
    _require_list(body.survivors, sent, len(total.sites))
    move(total, "inputs_closed", survivors=list(body.survivors))
    _drop_others(total, body.survivors, "sent no input in time", link)
    if total.purpose == "update":
        round_move(total.round, "inputs_closed", link)


def signed(link: Link, body: kinds.Signed) -> None:
    total = sum_named(body.sum)
    _require(total, "survivors", link.entry.author)
    _store(total, "signed", body.message, link.entry.author)


def unmask(link: Link, body: kinds.Unmask) -> None:
    total = sum_named(body.sum)
    _require(total, "survivors", link.entry.author)
    _store(total, "unmask", body.message, link.entry.author)
    _participation(total, link.entry.author, "confirmed", link)


def opened(link: Link, body: kinds.Opened) -> None:
    total = sum_named(body.sum)
    answers = total.messages.filter(kind="unmask").values_list("site", flat=True)
    try:
        rules.require_enough(answers, len(total.sites))
    except SecAggError as error:
        raise Conflict(str(error)) from None
    move(total, "opened", result=body.sha256)


def failed(link: Link, body: kinds.Failed) -> None:
    total = sum_named(body.sum)
    move(total, "failed", reason=body.reason[:300])
    for site in body.blamed:
        row = participation_of(total.round, site)
        if row.state not in GONE:
            move(row, "dropped", reason=body.reason[:200], changed_at=link.at)

"""Reads that shape what other selectors know for one page each."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from federation.models import (
    Approval,
    Confirmation,
    Membership,
    Outgoing,
    OwnSum,
    Peer,
    Round,
    StandingRule,
    TranscriptLink,
)
from federation.moments import at
from federation.peer_selectors import PeerRow, keys_confirmed, own_name, peers_with_confirmations
from federation.plans import RoundPlan, parse_plan
from federation.services import approval_words as words
from federation.services.approval_facts import answer_closed, own_answer
from federation.states import ENDED

Choices = list[tuple[str, str]]
_MASKED = ("masked", "signed", "answered")


@dataclass(frozen=True)
class Member:
    """A row of the members' table. missing: titles of members that have not compared this key yet."""

    row: PeerRow
    missing: tuple[str, ...]


@dataclass(frozen=True)
class PlanInWords:
    """A plan as people read it: what is asked, its settings, how long each answer may take."""

    sha256: str
    text: str
    asked: tuple[str, ...]
    settings: tuple[tuple[str, str], ...]
    invited: tuple[str, ...]
    answer_by: dt.datetime
    minimum_participants: int
    colluders: int


@dataclass(frozen=True)
class OwnChoices:
    """What this hospital's admin may still do about a round."""

    may_answer: bool
    may_withdraw: bool
    may_stop: bool


@dataclass(frozen=True)
class RuleShown:
    """A standing rule with the titles of its hospitals, and whether it still answers."""

    rule: StandingRule
    titles: tuple[str, ...]
    state: str
    answered: int


def members_shown() -> tuple[Member, ...]:
    """All members with who has not compared their key yet, in order of name."""
    rows = peers_with_confirmations()
    return tuple(Member(row, _missing(row, rows)) for row in rows)


def _missing(row: PeerRow, rows: Sequence[PeerRow]) -> tuple[str, ...]:
    others = [other.peer.title for other in rows if other.peer.pk != row.peer.pk]
    return tuple(title for title in others if title not in row.confirmed_by)


def member_shown(peer: Peer) -> Member | None:
    """One member, or None for a site that has left or was removed."""
    return next((member for member in members_shown() if member.row.peer.pk == peer.pk), None)


def former_members() -> QuerySet[Peer]:
    """Sites that have left or were removed."""
    return Peer.objects.exclude(state="joined")


def peer_pks() -> dict[str, int]:
    """Name → primary key of all sites."""
    return dict(Peer.objects.values_list("name", "pk"))


def earlier_confirmation(peer: Peer) -> bool:
    """Whether this site's admin once compared another key of this member: then its key was changed since."""
    given = Confirmation.objects.filter(author__name=own_name(), subject=peer)
    return given.exclude(public_key=peer.public_key).exists()


def membership_words() -> str:
    """This site's standing in its federation as one word: joining, member, refused, left or removed."""
    membership = Membership.objects.filter(pk=1).first()
    if membership is None:
        return "none"
    if membership.role == "coordinator":
        return "coordinator"
    own = Peer.objects.filter(name=membership.name).first()
    if own is not None and own.state == "removed":
        return "removed"
    if membership.left or (own is not None and own.state == "left"):
        return "left"
    if own is not None:
        return "member"
    return "refused" if Outgoing.objects.filter(kind="Join").exclude(refusal="").exists() else "joining"


def sites_to_invite() -> Choices:
    """(name, title) of the members that this site may count, this one among them."""
    confirmed, own = keys_confirmed(), own_name()
    peers = Peer.objects.filter(name__in=confirmed, state="joined")
    return [(peer.name, f"{peer.title} (here)" if peer.name == own else peer.title) for peer in peers]


def sites_unconfirmed() -> list[PeerRow]:
    """Members that cannot be invited from here, because nobody here has compared their key."""
    return [row for row in peers_with_confirmations() if not row.is_own and not row.confirmed_here]


def plan_in_words(plan: RoundPlan, proposer: str, text: str) -> PlanInWords:
    """What a plan asks. proposer: its title; text: its canonical form."""
    from federation.secagg.rules import colluders

    titles = dict(Peer.objects.values_list("name", "title"))
    return PlanInWords(
        sha256=plan.sha256, text=text, asked=words.asked(plan, proposer),
        settings=words.settings_of(plan), invited=tuple(titles.get(site, site) for site in plan.keys),
        answer_by=at(plan.schedule.answer_by),
        minimum_participants=plan.minimum_participants, colluders=colluders(len(plan.invited)),
    )  # fmt: skip


def plan_of(round_: Round) -> PlanInWords:
    """The same for a round."""
    return plan_in_words(parse_plan(round_.plan), round_.proposer.title, round_.plan)


def own_choices(round_: Round) -> OwnChoices:
    """What may still be done about a round from here; nothing at the coordinator."""
    own = round_.participations.filter(peer__name=own_name()).first()
    if settings.SITE_ROLE != "hospital" or own is None or round_.state in ENDED:
        return OwnChoices(False, False, False)
    return OwnChoices(
        may_answer=not answer_closed(round_, parse_plan(round_.plan)), may_withdraw=_may_withdraw(round_),
        may_stop=round_.proposer.name == own.peer.name,
    )  # fmt: skip


def _may_withdraw(round_: Round) -> bool:
    """Until the masked update has been made; the service looks once more."""
    made = OwnSum.objects.filter(sum__round=round_, sum__purpose="update", state__in=_MASKED)
    return own_answer(round_) == "approve" and not made.exists()


def rules_shown(rules: QuerySet[StandingRule]) -> list[RuleShown]:
    """Rules with words for their limits."""
    titles, now = dict(Peer.objects.values_list("name", "title")), timezone.now()
    return [
        RuleShown(
            rule, tuple(titles.get(site, site) for site in rule.sites),
            "ended" if rule.ended_at else "expired" if rule.expires_at <= now else "active",
            rule_answers(rule),
        )
        for rule in rules
    ]  # fmt: skip


def rule_answers(rule: StandingRule) -> int:
    """How many rounds a rule has answered."""
    return Approval.objects.filter(rule=rule).count()


def transcript_links() -> QuerySet[TranscriptLink]:
    """Every entry in its place, newest first, without its text."""
    return TranscriptLink.objects.order_by("-seq").defer("text")

"""Reads of the federation for its pages. Members: `peer_selectors`; one round: `round_selectors`."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import QuerySet

from federation import identity
from federation.models import GlobalModel, Invitation, Membership, Outgoing, Round, StandingRule
from federation.peer_selectors import (
    PeerRow,
    key_confirmed_here,
    keys_confirmed,
    peers_with_confirmations,
)
from federation.round_selectors import (
    CurveLine,
    Moment,
    SiteProgress,
    SumProgress,
    Timeline,
    ValidationFigures,
    approval_of,
    curves,
    round_timeline,
    validation,
    waiting_for_answer,
)
from federation.states import ENDED

__all__ = [
    "CurveLine", "Moment", "Overview", "PeerRow", "SiteProgress", "SumProgress", "Timeline",
    "ValidationFigures", "approval_of", "curves", "federation_overview", "invitations", "key_confirmed_here",
    "keys_confirmed", "peers_with_confirmations", "published_models", "round_timeline", "rounds",
    "standing_rules", "validation", "waiting_for_answer",
]  # fmt: skip

REFUSED_SHOWN = 5


@dataclass(frozen=True)
class Overview:
    """The federation's first page. membership None: this site belongs to none yet.

    to_confirm: joined members whose key this site's admin has not compared. current: the unfinished round.
    unsent: entries of this site that wait; refused: why the last ones were not accepted. next_step: a
    sentence that says what a person does next, or "".
    """

    membership: Membership | None
    is_coordinator: bool
    coordinator_fingerprint: str
    own_fingerprint: str
    peers: tuple[PeerRow, ...]
    to_confirm: tuple[PeerRow, ...]
    current: Round | None
    waiting: tuple[Round, ...]
    model: GlobalModel | None
    unsent: int
    refused: tuple[str, ...]
    alarm: str
    next_step: str


def federation_overview() -> Overview:
    """Everything the federation's first page says."""
    membership = Membership.objects.filter(pk=1).first()
    if membership is None:
        step = "Join a federation with an invitation's code, or found one at the coordinator's site."
        return Overview(None, False, "", "", (), (), None, (), None, 0, (), "", step)
    coordinator = membership.role == "coordinator"
    peers = peers_with_confirmations()
    to_confirm = (
        () if coordinator else tuple(row for row in peers if not row.is_own and not row.confirmed_here)
    )
    waiting = () if coordinator else waiting_for_answer()
    refused = Outgoing.objects.exclude(refusal="").order_by("-pk")[:REFUSED_SHOWN]
    return Overview(
        membership=membership, is_coordinator=coordinator,
        coordinator_fingerprint=identity.fingerprint(membership.coordinator_key),
        own_fingerprint=identity.fingerprint(identity.public_hex(identity.identity_now())), peers=peers,
        to_confirm=to_confirm, current=Round.objects.exclude(state__in=ENDED).first(), waiting=waiting,
        model=published_models().first(), unsent=Outgoing.objects.filter(sent=False).count(),
        refused=tuple(f"{row.kind}: {row.refusal}" for row in refused), alarm=membership.alarm,
        next_step=_next_step(membership, peers, to_confirm, waiting),
    )  # fmt: skip


def _next_step(
    membership: Membership, peers: tuple[PeerRow, ...], to_confirm: tuple[PeerRow, ...],
    waiting: tuple[Round, ...],
) -> str:  # fmt: skip
    """The most urgent thing that a person does, in a sentence."""
    if membership.alarm:
        return "This site has stopped following the coordinator. Telephone its admin before anything else."
    if membership.left:
        return "This site has left the federation. Its records stay here."
    if membership.role == "coordinator":
        return "" if peers else "Invite the first hospital."
    if not any(row.is_own for row in peers):
        refused = Outgoing.objects.filter(kind="Join").exclude(refusal="").exists()
        return (
            "The coordinator did not admit this site. Join again with a new invitation or another name."
            if refused
            else "The coordinator has not admitted this site yet. This page changes by itself."
        )
    if waiting:
        return f"Round {waiting[0].number} waits for this hospital's answer."
    if to_confirm:
        return f"Telephone {to_confirm[0].peer.title}, compare its fingerprint and confirm it."
    return ""


def rounds() -> QuerySet[Round]:
    """All rounds, newest first, with proposer at hand."""
    return Round.objects.select_related("proposer").order_by("-number", "-pk")


def standing_rules() -> QuerySet[StandingRule]:
    """All standing rules, newest first."""
    return StandingRule.objects.select_related("created_by").order_by("-pk")


def invitations() -> QuerySet[Invitation]:
    """Coordinator: all invitations, newest first."""
    return Invitation.objects.select_related("created_by", "used_by").order_by("-pk")


def published_models() -> QuerySet[GlobalModel]:
    """The federation's models, newest first."""
    return GlobalModel.objects.select_related("round").order_by("-number")

"""Reads of the federation for its pages."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.db.models import QuerySet

from federation.models import Approval, GlobalModel, Invitation, Membership, Peer, Round, StandingRule


@dataclass(frozen=True)
class PeerRow:
    """A member as this site sees it.

    confirmed_here: by this site's admin, for the key it has now; confirmed_by: titles of the sites that
    confirmed this key; waiting: "", "confirm" or "unconfirm", said but not accepted yet. health: a sentence.
    """

    peer: Peer
    fingerprint: str
    is_own: bool
    confirmed_here: bool
    confirmed_by: tuple[str, ...]
    waiting: str
    last_seen_at: dt.datetime | None
    health: str
    healthy: bool


@dataclass(frozen=True)
class Overview:
    """The federation's first page. membership None: this site belongs to none yet.

    to_confirm: joined members whose key this site's admin has not compared. current: the unfinished round.
    unsent, refused: entries of this site that wait, and why the last ones were not accepted.
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


@dataclass(frozen=True)
class Moment:
    """One state on the timeline. at: None while it has not been reached; reached: whether it was."""

    state: str
    label: str
    at: dt.datetime | None
    reached: bool
    is_current: bool


@dataclass(frozen=True)
class SiteProgress:
    """One site's part in a round. label: its state in words; silent: not heard of for longer than a poll."""

    name: str
    title: str
    state: str
    label: str
    samples: int
    reason: str
    ballot: str
    changed_at: dt.datetime | None
    last_seen_at: dt.datetime | None
    silent: bool
    is_own: bool


@dataclass(frozen=True)
class SumProgress:
    """One secure sum. own_state: this site's side, or ""; checked: what it found adding up itself."""

    name: str
    label: str
    state: str
    state_label: str
    attempt: int
    sites: tuple[str, ...]
    survivors: tuple[str, ...]
    words: int
    bytes_each: int
    result: str
    reason: str
    own_state: str
    checked: str
    due: dt.datetime | None


@dataclass(frozen=True)
class Timeline:
    """A round as everybody can follow it. next: sentences that say what happens next and without whom."""

    round: Round
    moments: tuple[Moment, ...]
    sites: tuple[SiteProgress, ...]
    sums: tuple[SumProgress, ...]
    next: tuple[str, ...]
    ended: bool
    answer_by: dt.datetime


@dataclass(frozen=True)
class CurveLine:
    """Local training of one member in one attempt. points: (epoch, mean loss, macro top-1 or None)."""

    member: str
    attempt: int
    points: tuple[tuple[int, float, float | None], ...]


@dataclass(frozen=True)
class ValidationFigures:
    """What the candidate did for this site's own held-out patients; accuracies in [0, 1] or None.

    change: (low, estimate, high) of candidate − now, or None.
    """

    ballot: str
    reason: str
    before: float | None
    after: float | None
    alone: float | None
    patients: int
    change: tuple[float, float, float] | None


def federation_overview() -> Overview:
    """Everything the federation's first page says."""
    raise NotImplementedError


def peers_with_confirmations() -> tuple[PeerRow, ...]:
    """Members that have not left, this site among them, in order of name."""
    raise NotImplementedError


def rounds() -> QuerySet[Round]:
    """All rounds, newest first, with proposer at hand."""
    raise NotImplementedError


def round_timeline(round_: Round) -> Timeline:
    """A round's states with times, its sites, its sums, and what happens next."""
    raise NotImplementedError


def curves(round_: Round) -> tuple[CurveLine, ...]:
    """This site's own training curves of a round."""
    raise NotImplementedError


def validation(round_: Round) -> ValidationFigures | None:
    """This site's own figures for a round's candidate, or None."""
    raise NotImplementedError


def waiting_for_answer() -> tuple[Round, ...]:
    """Rounds that wait for this hospital's answer."""
    raise NotImplementedError


def approval_of(round_: Round) -> Approval | None:
    """This hospital's answer to a round, or None."""
    raise NotImplementedError


def standing_rules() -> QuerySet[StandingRule]:
    """All standing rules, newest first."""
    raise NotImplementedError


def invitations() -> QuerySet[Invitation]:
    """Coordinator: all invitations, newest first."""
    raise NotImplementedError


def published_models() -> QuerySet[GlobalModel]:
    """The federation's models, newest first."""
    raise NotImplementedError

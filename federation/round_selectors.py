"""Reads about one round: its states with times, its sites, its sums, and this site's own figures."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Final

from federation.models import Approval, OwnSum, Participation, Round, SecureSum, SiteValidation
from federation.moments import at, sum_due
from federation.peer_selectors import is_silent, own_name
from federation.plans import parse_plan
from federation.round_next import next_words
from federation.states import ENDED

STATE_WORDS: Final = {
    "proposed": "Proposed",
    "approving": "Hospitals answer",
    "counting": "Syndromes and patients are counted",
    "keying": "Keys are exchanged",
    "training": "Hospitals train",
    "collecting": "Masked updates arrive",
    "unmasking": "The sum is opened",
    "validating": "Hospitals try the result and vote",
    "published": "Published",
    "aborted": "Ended without a model",
}
PART_WORDS: Final = {
    "invited": "not answered yet",
    "approved": "approved",
    "declined": "declined",
    "keyed": "has sent keys",
    "trained": "has trained",
    "uploaded": "has sent its masked update",
    "confirmed": "has confirmed the sum",
    "done": "uses the new model",
    "dropped": "takes no further part",
}
PURPOSE_WORDS: Final = {
    "presence": "Which syndromes are open",
    "counts": "Patients of each open syndrome",
    "update": "Update of {member}",
    "centroids": "Sums of embeddings of each open syndrome",
}
SUM_WORDS: Final = {
    "keys": "waiting for keys",
    "shares": "waiting for sealed shares",
    "inputs": "waiting for masked inputs",
    "survivors": "waiting for signatures and answers",
    "opened": "opened",
    "failed": "ended unopened",
}


@dataclass(frozen=True)
class Moment:
    """One state on the timeline. at: None while it has not been reached."""

    state: str
    label: str
    at: dt.datetime | None
    reached: bool
    is_current: bool


@dataclass(frozen=True)
class SiteProgress:
    """One site's part in a round. label: its state in words; silent: it missed several polls."""

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
    """One secure sum. words: how many; bytes_each: that one site sends; result: hash of the opened sum.

    own_state: this site's side, or ""; checked: what it found adding up itself; due: when the step in hand
    must be over.
    """

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
    """What the candidate did for this site's own held-out patients: macro (per-syndrome) shares in [0, 1].

    before: the model now; after: the candidate; alone: what this site trained by itself from the same base;
    each top-1, with _5 top-5, None where it could not be measured. change: (low, estimate, high) of
    after − before in macro top-1, or None.
    """

    ballot: str
    reason: str
    before: float | None
    after: float | None
    alone: float | None
    before_5: float | None
    after_5: float | None
    alone_5: float | None
    patients: int
    change: tuple[float, float, float] | None


def round_timeline(round_: Round) -> Timeline:
    """A round's states with times, its sites, its sums, and what happens next."""
    plan = parse_plan(round_.plan)
    own_sums = {own.sum_id: own for own in OwnSum.objects.filter(sum__round=round_)}
    return Timeline(
        round=round_, moments=_moments(round_), sites=tuple(_site(row) for row in _parts(round_)),
        sums=tuple(_sum(total, own_sums.get(total.pk)) for total in round_.sums.all()),
        next=next_words(round_, plan), ended=round_.state in ENDED, answer_by=at(plan.schedule.answer_by),
    )  # fmt: skip


def _moments(round_: Round) -> tuple[Moment, ...]:
    """States in their order. A state that was entered again shows its last time."""
    states = [state for state in STATE_WORDS if (state == "aborted") <= (round_.state == "aborted")]
    if round_.state == "aborted":
        states = [state for state in states if state in round_.moments]
    return tuple(
        Moment(state, STATE_WORDS[state], _at(round_.moments.get(state)), state in round_.moments,
               state == round_.state)
        for state in states
    )  # fmt: skip


def _at(milliseconds: int | None) -> dt.datetime | None:
    return at(milliseconds) if milliseconds else None


def _parts(round_: Round) -> list[Participation]:
    return list(round_.participations.select_related("peer").order_by("peer__name"))


def _site(row: Participation) -> SiteProgress:
    return SiteProgress(
        name=row.peer.name, title=row.peer.title, state=row.state, label=PART_WORDS[row.state],
        samples=row.samples, reason=row.reason, ballot=row.ballot, changed_at=_at(row.changed_at),
        last_seen_at=row.peer.last_seen_at, silent=is_silent(row.peer), is_own=row.peer.name == own_name(),
    )  # fmt: skip


def _sum(total: SecureSum, own: OwnSum | None) -> SumProgress:
    return SumProgress(
        name=total.name, label=PURPOSE_WORDS[total.purpose].format(member=total.member), state=total.state,
        state_label=SUM_WORDS[total.state], attempt=total.attempt, sites=tuple(total.sites),
        survivors=tuple(total.survivors), words=total.words, bytes_each=total.words * total.bits // 8,
        result=total.result, reason=total.reason, own_state=own.state if own else "",
        checked=own.checked if own else "", due=sum_due(total),
    )  # fmt: skip


def curves(round_: Round) -> tuple[CurveLine, ...]:
    """This site's own training curves of a round: they are never sent."""
    found: dict[tuple[str, int], list[tuple[int, float, float | None]]] = {}
    for row in round_.curves.all():
        found.setdefault((row.member, row.attempt), []).append((row.epoch, row.loss, row.top_1))
    return tuple(CurveLine(member, attempt, tuple(points)) for (member, attempt), points in found.items())


def validation(round_: Round) -> ValidationFigures | None:
    """This site's own figures for a round's candidate, or None."""
    found = SiteValidation.objects.filter(round=round_).first()
    if found is None:
        return None
    figures: dict[str, Any] = found.figures
    return ValidationFigures(
        ballot=found.ballot, reason=found.reason, before=_macro(figures, "before", 1),
        after=_macro(figures, "after", 1), alone=_macro(figures, "alone", 1),
        before_5=_macro(figures, "before", 5), after_5=_macro(figures, "after", 5),
        alone_5=_macro(figures, "alone", 5), patients=int(figures.get("patients") or 0),
        change=_interval(figures.get("change")),
    )  # fmt: skip


def _macro(figures: dict[str, Any], which: str, k: int) -> float | None:
    shares: dict[str, float] = (figures.get(which) or {}).get("macro", {})
    return shares.get(str(k))


def _interval(found: list[float | None] | None) -> tuple[float, float, float] | None:
    low, value, high = found or (None, None, None)
    return None if low is None or value is None or high is None else (low, value, high)


def waiting_for_answer() -> tuple[Round, ...]:
    """Rounds that wait for this hospital's answer, newest first."""
    own = Participation.objects.filter(peer__name=own_name(), state="invited").values("round")
    open_ = Round.objects.filter(state="approving", pk__in=own, approval=None)
    return tuple(open_.select_related("proposer"))


def approval_of(round_: Round) -> Approval | None:
    """This hospital's answer to a round, or None."""
    return Approval.objects.filter(round=round_).select_related("user", "rule").first()

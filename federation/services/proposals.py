"""Proposing a round: a plan suggested from what is here, checked like everybody else's, and said."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Sequence
from typing import Final

from django.db import transaction

from diagnosis.errors import InvalidInput, NotReady
from diagnosis.models import User
from diagnosis.services.audit import audit
from federation import clock, kinds
from federation.learning.config import MINIMUM_SITES, AnalyticOptions, LocalTraining, ServerStep, Strategy
from federation.learning.errors import PlanRefused
from federation.models import Outgoing, Peer, Round
from federation.peer_selectors import keys_confirmed
from federation.permissions import require, require_hospital
from federation.plans import (
    DATA_USE,
    VERSION,
    Invited,
    MemberAsked,
    RoundPlan,
    Schedule,
    VoteTerms,
    default_views,
    encode_plan,
    vocabulary_of,
)
from federation.services.base_model import BaseModel, base_now, neck_of
from federation.services.own import membership_locked, membership_now
from federation.services.plan_checks import plan_refusal
from federation.services.projection_rounds import UNFINISHED
from federation.services.results import vocabulary
from federation.services.speaking import entry_say

__all__ = ["LIVE_STRATEGIES", "plan_refusal", "plan_suggest", "round_propose"]

#: What a live round may use; `analytic` needs N0 patients behind its second moments.
LIVE_STRATEGIES: Final[tuple[Strategy, ...]] = ("fedavg", "fedprox", "fedadam", "fedavgm")
#: Chosen with the learning rates on the tuning cohorts of docs/experiments/gain.md.
SERVER_STEPS: Final[dict[Strategy, ServerStep]] = {
    "fedadam": ServerStep(learning_rate=0.01, tau=0.001),
    "fedavgm": ServerStep(momentum=0.5),
}
LONGEST_MINUTES: Final = 30 * 24 * 60
#: Rows of a class count by its patients: a row that one of four sites holds is not moved a quarter only.
ROW_WEIGHTING: Final = "class"


def plan_suggest(
    *,
    user: User | None,
    strategy: Strategy = "fedavg",
    sites: Sequence[str] | None = None,
    minimum_participants: int = MINIMUM_SITES,
    epochs: int = LocalTraining.epochs,
    batch_photos: int = LocalTraining.batch_photos,
    neck_learning_rate: float = 1e-3,
    classifier_learning_rate: float = 3e-4,
    proximal_mu: float = 0.1,
    k: int = 5,
    answer_hours: float = 72.0,
    step_minutes: float = 60.0,
    training_minutes: float = 240.0,
    vote_minutes: float = 240.0,
    largest_loss: float = 0.02,
    minimum_patients: int = 10,
    quorum: int = 0,
    seed: int | None = None,
) -> RoundPlan:
    """A plan for the next round. InvalidInput or NotReady, with a sentence, when there can be none.

    sites: names to invite, this one among them; all confirmed members if None. quorum 0: more than half
    of minimum_participants. proximal_mu: used with fedprox only. user None: the site's own set-up.
    """
    require_hospital()
    if user is not None:
        require(user, "round.propose")
    base, membership = base_now(), membership_now()
    names = vocabulary()
    try:
        local = LocalTraining(
            epochs=epochs, batch_photos=batch_photos, neck_learning_rate=neck_learning_rate,
            classifier_learning_rate=classifier_learning_rate,
            proximal_mu=proximal_mu if strategy == "fedprox" else 0.0,
        )  # fmt: skip
        return RoundPlan(
            version=VERSION, federation=membership.federation, number=Round.objects.count() + 1,
            proposer=membership.name, strategy=strategy,
            seed=secrets.randbelow(1 << 53) if seed is None else seed, k=k, row_weighting=ROW_WEIGHTING,
            views=default_views(), members=_members(base, local),
            server=SERVER_STEPS.get(strategy, ServerStep()), analytic=AnalyticOptions(),
            invited=_invited(sites, membership.name), minimum_participants=minimum_participants,
            vocabulary_sha256=vocabulary_of(names), vocabulary_size=len(names),
            previous_round=base.previous_round,
            schedule=_schedule(answer_hours, step_minutes, training_minutes, vote_minutes),
            vote=VoteTerms(largest_loss, minimum_patients, quorum or minimum_participants // 2 + 1),
            data_use=DATA_USE, rows_per_member=base.rows_per_member,
        )  # fmt: skip
    except PlanRefused as refused:
        raise InvalidInput(str(refused)) from None


def _members(base: BaseModel, local: LocalTraining) -> tuple[MemberAsked, ...]:
    return tuple(
        MemberAsked(member.name, member.architecture, member.sha256, neck_of(member.architecture), local)
        for member in base.members
    )


def _invited(sites: Sequence[str] | None, own: str) -> tuple[Invited, ...]:
    """The confirmed members among `sites`. Others cannot be invited from here: nobody compared their key."""
    confirmed = keys_confirmed()
    if own not in confirmed:
        raise NotReady("The coordinator has not admitted this site yet. Try again once it has.")
    chosen = sorted(confirmed if sites is None else set(sites) | {own})
    unknown = [site for site in chosen if site not in confirmed]
    if unknown:
        title = Peer.objects.filter(name=unknown[0]).values_list("title", flat=True).first() or unknown[0]
        raise InvalidInput(f"The key of {title} is not confirmed here. Compare its fingerprint first.")
    if len(chosen) < MINIMUM_SITES:
        raise NotReady(
            f"A round needs {MINIMUM_SITES} hospitals whose keys are confirmed here; {len(chosen)} are, this "
            "one among them. Compare fingerprints under Members."
        )
    return tuple(Invited(site, confirmed[site]) for site in chosen)


def _schedule(answer_hours: float, step: float, training: float, vote: float) -> Schedule:
    for minutes in (60 * answer_hours, step, training, vote):
        if not 0 < minutes <= LONGEST_MINUTES:
            raise InvalidInput("Each step takes longer than nothing and at most 30 days.")
    answer_by = clock.now() + dt.timedelta(hours=answer_hours)
    seconds = [max(1, round(60 * minutes)) for minutes in (step, training, vote)]
    return Schedule(clock.milliseconds(answer_by), *seconds)


def round_propose(*, user: User | None, plan: RoundPlan) -> Outgoing:
    """Say a plan to the federation; its hash (`plan.sha256`) names the round once it is accepted.

    One round at a time: NotReady while another is under way or a proposal of this site waits. user None:
    the site's own set-up.
    """
    require_hospital()
    if user is not None:
        require(user, "round.propose")
    key = f"propose/{plan.sha256}"
    with transaction.atomic():
        membership = membership_locked()
        said = Outgoing.objects.filter(key=key).first()
        if said is not None:
            return said
        if plan.proposer != membership.name:
            raise InvalidInput("A hospital proposes plans in its own name only.")
        _require_alone()
        refusal = plan_refusal(plan)
        if refusal:
            raise InvalidInput(refusal)
        if plan.schedule.answer_by <= clock.milliseconds(clock.now()):
            raise InvalidInput("The time to answer is over already. Give the hospitals some hours.")
        audit(actor=user, action="round.proposed", subject="federation", plan=plan.sha256)
        return entry_say(kinds.Propose(encode_plan(plan)), key=key)


def _require_alone() -> None:
    if Round.objects.filter(state__in=UNFINISHED).exists():
        raise NotReady("A round is under way. Propose the next one when it has ended.")
    if Outgoing.objects.filter(kind="Propose", sent=False, refusal="").exists():
        raise NotReady("A proposal of this site is on its way already. Reload the page in a moment.")

"""What a candidate does for this hospital's own held-out patients, and its vote. Figures stay here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from diagnosis import selectors
from diagnosis.errors import NotReady
from federation.errors import FederationError
from federation.kinds import MadeMember
from federation.learning.errors import FeaturesRefused
from federation.models import Round, SiteValidation
from federation.plans import RoundPlan, parse_plan
from federation.services import results
from federation.services.features import features_of
from federation.services.in_words import refused_in_words
from federation.services.local_training import TrainingInput, train, training_input
from federation.services.networks import base_network
from federation.services.population import Split, split_now
from federation.storage import blob_path

if TYPE_CHECKING:
    from torch import nn

    from diagnosis.phenotype.ranking.metrics import Accuracy
    from federation.learning.validate import JudgedMember, Validation, Vote


@dataclass(frozen=True)
class _Judgement:
    """The vote and what it rests on; figures as SiteValidation keeps them."""

    vote: Vote
    figures: dict[str, Any]


def candidate_validate(round_: Round, members: Sequence[MadeMember]) -> SiteValidation:
    """Judge the candidate on this site's held-out patients and keep the figures, once per round.

    Queries: photos of held-out patients, who were never trained with nor counted. Gallery: photos of all
    other patients who agreed to training (only theirs have cached features) and to stand in this hospital's
    gallery, which is what its doctors rank against. Before: the plan's base model. Alone: necks that this
    site trained by itself in this round, from the same base, with the same photos: what the hospital would
    have without the others. Too few patients, or none whose syndrome the gallery holds, is an abstention.
    """
    known = SiteValidation.objects.filter(round=round_).first()
    if known is not None:
        return known
    with refused_in_words():
        found = _judge(round_, members)
    return SiteValidation.objects.create(
        round=round_, ballot=found.vote.ballot, reason=found.vote.reason[:300], figures=found.figures,
        members=[asdict(member) for member in members],
    )  # fmt: skip


def _judge(round_: Round, members: Sequence[MadeMember]) -> _Judgement:
    from federation.learning.validate import Vote, VoteRule, validate_ensemble, vote

    plan = parse_plan(round_.plan)
    judged = _members(plan, members, split_now(plan.k))
    try:
        found = validate_ensemble(judged)
    except FeaturesRefused as refused:
        return _Judgement(Vote("abstain", str(refused)), {"patients": 0})
    rule = VoteRule(plan.vote.largest_loss, plan.vote.minimum_patients)
    return _Judgement(vote(found, rule), _figures(found, _alone(round_, plan, judged)))


def _members(plan: RoundPlan, made: Sequence[MadeMember], split: Split) -> list[JudgedMember]:
    """Each network's neck now and as candidate, with features of the same photos through its own trunk."""
    from diagnosis.phenotype.embed.weights import load_weights
    from federation.learning.validate import JudgedMember

    gallery = _gallery(split)
    judged = []
    for asked, one in zip(plan.members, made, strict=True):
        base = base_network(asked)
        weights = blob_path(one.weights)
        candidate = load_weights(weights, sha256=one.weights, architecture=asked.architecture)
        held_out = features_of((entrant.photo for entrant in split.held_out), base)
        judged.append(JudgedMember(base.neck, candidate.neck, held_out, features_of(gallery, base)))
    return judged


def _gallery(split: Split) -> list[int]:
    """Photos of the training part that may stand in this hospital's gallery at this moment."""
    standing = set(selectors.for_gallery().values_list("pk", flat=True))
    return [entrant.photo for entrant in split.training if entrant.photo in standing]


# --- without the others --------------------------------------------------------------------------------


def _alone(round_: Round, plan: RoundPlan, judged: Sequence[JudgedMember]) -> Validation | None:
    """The same photos judged by necks trained at this site only; None where this site could not train.

    Training is repeated, which gives the same bits: nothing of an update is ever kept.
    """
    from dataclasses import replace

    from federation.learning.validate import validate_ensemble

    try:
        necks = [_trained_alone(round_, member.name) for member in plan.members]
    except (FederationError, NotReady):
        return None
    pairs = zip(judged, necks, strict=True)
    return validate_ensemble([replace(member, candidate=neck) for member, neck in pairs])


def _trained_alone(round_: Round, member: str) -> nn.Module:
    from federation.learning.heads import build_head, unflatten

    total = results.opened_sum(round_, "update", member)
    if total is None:
        raise NotReady("The sum of this member is not open.")
    inputs: TrainingInput = training_input(total)
    result = train(inputs)
    head = build_head(inputs.base, len(inputs.training_plan.classes))
    unflatten(head, inputs.start + result.update)
    return head.neck


# --- figures -------------------------------------------------------------------------------------------


def _figures(found: Validation, alone: Validation | None) -> dict[str, Any]:
    change = found.change.as_dict() if found.change else {}
    return {
        "before": _shares(found.before),
        "after": _shares(found.after),
        "alone": _shares(alone.after if alone else None),
        "patients": found.patients,
        "change": [change[name] for name in ("low", "value", "high")] if change else None,
    }


def _shares(found: Accuracy | None) -> dict[str, Any] | None:
    """Macro and micro top-k in [0, 1] by k as text, as JSON has it."""
    if found is None:
        return None
    shares = {
        name: {str(k): share for k, share in getattr(found, name).items()} for name in ("macro", "micro")
    }
    return {**shares, "queries": found.queries, "syndromes": found.syndromes}

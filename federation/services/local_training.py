"""This site's part of an update: who trains, the local training itself, and what is kept of it here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from diagnosis import vault
from federation.models import Curve, Round, SecureSum
from federation.plans import MemberAsked, RoundPlan, parse_plan
from federation.services import results
from federation.services.consent_follow import consent_follow
from federation.services.features import features_of
from federation.services.in_words import refused_in_words
from federation.services.local_rows import rows_keep, rows_kept
from federation.services.networks import base_network
from federation.services.own import membership_now
from federation.services.population import (
    Entrant,
    Sets,
    Split,
    counted,
    entrants_of,
    few_of,
    split_now,
    unchanged,
    within,
)
from federation.services.starting import start_vector

if TYPE_CHECKING:
    from diagnosis.phenotype.embed.backbone import Backbone
    from federation.learning.config import TrainingPlan
    from federation.learning.features import FeatureSet
    from federation.learning.heads import Float32
    from federation.learning.loop import EpochCurve, LocalResult


@dataclass(frozen=True, eq=False)
class TrainingInput:
    """Everything that local training reads. entrants: the photos behind `training`."""

    plan: RoundPlan
    training_plan: TrainingPlan
    member: MemberAsked
    base: Backbone
    start: Float32
    training: FeatureSet
    held_out: FeatureSet
    entrants: tuple[Entrant, ...]


def training_input(total: SecureSum) -> TrainingInput:
    """What this site trains with for one update sum, as consent allows it now."""
    consent_follow()
    plan = parse_plan(total.round.plan)
    training_plan = results.training_plan_of(total.round, total.sites)
    member = plan.member(total.member)
    base = base_network(member)
    split = split_now(plan.k)
    chosen = who_trains(total.round, split, training_plan)
    entrants = within(entrants_of(split.training, chosen), _answered(training_plan))
    training = features_of((entrant.photo for entrant in entrants), base)
    training, entrants = whole_classes(training, entrants, chosen)
    held_out = features_of((entrant.photo for entrant in split.held_out), base)
    start = start_vector(plan, training_plan, member.name, base)
    return TrainingInput(plan, training_plan, member, base, start, training, held_out, entrants)


def who_trains(round_: Round, split: Split, training_plan: TrainingPlan) -> Sets:
    """Open syndrome → patients: those that were counted, and the few of syndromes below k.

    A syndrome that had k patients when it was counted, or that the k rule holds back, is left out whole.
    """
    ours = counted(round_)
    whole = unchanged(ours, split)
    few = few_of(split, training_plan.identifiers, training_plan.k)
    return {name: few[name] for name in few if name not in ours} | {
        name: whole[name] for name in training_plan.identifiers if name in whole
    }


def _answered(training_plan: TrainingPlan) -> int:
    """The samples that this site's answer named."""
    own = membership_now().name
    return next((entry.samples for entry in training_plan.participants if entry.site == own), 0)


def whole_classes(
    found: FeatureSet, entrants: tuple[Entrant, ...], chosen: Sets
) -> tuple[FeatureSet, tuple[Entrant, ...]]:
    """Without the syndromes of which a chosen patient has no readable photo left: never a set in between."""
    present = {(name, int(pk)) for name, pk in zip(found.labels, found.patients, strict=True)}
    whole = {name for name, patients in chosen.items() if all((name, pk) in present for pk in patients)}
    kept = found.select(np.array([label in whole for label in found.labels], dtype=np.bool_))
    photos = set(map(int, kept.keys))
    return kept, tuple(entrant for entrant in entrants if entrant.photo in photos)


def site_seed(round_sha256: str, member: str) -> int:
    """The secret seed (63 bits) of order of photos and choice of views here; the same in each attempt."""
    secret = vault.keyed_hash("federation/site-seed", f"{round_sha256}/{member}".encode())
    return int(secret[:16], 16) >> 1


def train(inputs: TrainingInput, *, keep_curves_of: SecureSum | None = None) -> LocalResult:
    """Train one member here. Deterministic in the photos. keep_curves_of: the sum whose curves to write."""
    from federation.learning.loop import train_local

    def epoch_over(curve: EpochCurve) -> None:
        if keep_curves_of is not None:
            curve_write(keep_curves_of, curve)

    plan, name = inputs.plan, inputs.member.name
    kept = rows_kept(plan=plan, member=name, entrants=inputs.entrants)
    with refused_in_words():
        return train_local(
            inputs.training_plan, inputs.training_plan.member(name), inputs.base, inputs.start,
            inputs.training, site_seed=site_seed(plan.sha256, name), held_out=inputs.held_out,
            kept_rows=kept, progress=epoch_over,
        )  # fmt: skip


def curve_write(total: SecureSum, curve: EpochCurve) -> None:
    """One epoch's line, at once and in its own transaction, so that the page shows it while training runs."""
    Curve.objects.update_or_create(
        round=total.round, member=total.member, attempt=total.attempt, epoch=curve.epoch,
        defaults={"loss": curve.loss, "top_1": curve.held_out_top_1},
    )  # fmt: skip


def local_rows_keep(inputs: TrainingInput, result: LocalResult) -> None:
    """Keep the rows of syndromes below k, sealed, for this site's next round."""
    rows_keep(plan=inputs.plan, member=inputs.member.name, rows=result.local_rows, entrants=inputs.entrants)

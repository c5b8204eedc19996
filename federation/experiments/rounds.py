"""Federated rounds from cached features: counting, training, secure sums and candidates, one after another.

Everything that decides is `federation.learning` and `federation.secagg`; here stands only who calls whom.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import safetensors.torch

from diagnosis.phenotype.embed.backbone import Backbone
from federation.experiments.plans import (
    MEMBER,
    RoundOptions,
    Sites,
    derived_seed,
    next_plan,
    weights_sha256,
)
from federation.experiments.secure import MemoryFederation
from federation.learning import heads
from federation.learning.aggregate import Candidate, load_rows, make_candidate
from federation.learning.closed_form import site_words, solve_candidate
from federation.learning.config import TrainingPlan
from federation.learning.errors import AggregateRefused
from federation.learning.heads import Float32, Rows
from federation.learning.loop import LocalResult, train_local
from federation.learning.strategies import ServerState, initial_state
from federation.learning.words import encode_update

Watch = Callable[[int, Backbone], None]


@dataclass(frozen=True)
class RoundCurve:
    """One round: mean loss over the photos in the last local epoch, |w_after − w_before| of all weights."""

    round: int
    loss: float
    step: float


@dataclass(frozen=True, eq=False)
class Model:
    """Between two rounds: the published network and rows, the strategy's state, each site's own rows."""

    backbone: Backbone
    rows: Rows = field(default_factory=dict)
    state: ServerState | None = None
    kept: Mapping[str, Rows] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Trained:
    """The last model, one curve per round, and the last round's plan. No curves for closed forms."""

    model: Model
    curves: tuple[RoundCurve, ...]
    plan: TrainingPlan


def run_rounds(
    options: RoundOptions, base: Backbone, sites: Sites, federation: MemoryFederation, *, seed: int,
    watch: Watch | None = None,
) -> Trained:  # fmt: skip
    """All rounds of one strategy over the sites' training photos. watch(round, network) after each.

    Refuses as the rounds do. Deterministic in everything but the masks, which cancel.
    """
    if options.strategy == "analytic":
        return run_analytic(options, base, sites, federation, seed=seed)
    model, curves = Model(base), []
    for number in range(1, options.rounds + 1):
        plan = next_plan(options, model.backbone, sites, federation, derived_seed(seed, "round", number))
        model, curve = run_round(plan, model, sites, federation, number, seed)
        curves.append(curve)
        if watch is not None:
            watch(number, model.backbone)
    return Trained(model, tuple(curves), plan)


def run_round(
    plan: TrainingPlan, model: Model, sites: Sites, federation: MemoryFederation, number: int, seed: int
) -> tuple[Model, RoundCurve]:
    """One round: every site trains and sends masked words; the opened sum gives the next model."""
    member = plan.member(MEMBER)
    start = heads.initial_vector(model.backbone, plan.identifiers, plan.seed, model.rows)
    results = {
        name: train_local(
            plan, member, model.backbone, start, own,
            site_seed=derived_seed(seed, name, number), kept_rows=model.kept.get(name),
        )
        for name, own in sites.items()
    }  # fmt: skip
    candidate = aggregate_round(plan, model, start, results, federation)
    after = Model(
        with_weights(model.backbone, candidate),
        load_rows(candidate.classifier),
        candidate.state,
        {name: result.local_rows for name, result in results.items()},
    )
    return after, RoundCurve(number, mean_loss(list(results.values())), length(candidate.vector - start))


def aggregate_round(
    plan: TrainingPlan, model: Model, start: Float32, results: Mapping[str, LocalResult],
    federation: MemoryFederation,
) -> Candidate:  # fmt: skip
    """Words, their secure sum, and the candidate that every site would compute from it."""
    member = plan.member(MEMBER)
    layout = heads.layout_of(heads.build_head(model.backbone, len(plan.classes)))
    words = {
        name: encode_update(
            plan, member, layout, result.update, site=name, class_patients=result.class_patients
        )
        for name, result in results.items()
    }
    total = federation.secure_sum(words, purpose="update", base_model=member.base_sha256, plan=plan.sha256)
    state = model.state or initial_state(len(start), plan.strategy, plan.server)
    return make_candidate(
        plan, member, model.backbone, start, np.asarray(total, dtype=np.uint32),
        survivors=words, state=state,
    )  # fmt: skip


def run_analytic(
    options: RoundOptions, base: Backbone, sites: Sites, federation: MemoryFederation, *, seed: int
) -> Trained:
    """The closed form: one secure sum of statistics. StatisticsRefused where the plan's minima forbid it."""
    plan = next_plan(options, base, sites, federation, derived_seed(seed, "round", 1))
    member = plan.member(MEMBER)
    words = {name: site_words(plan, base, own) for name, own in sites.items()}
    total = federation.secure_sum(
        words, purpose="statistics", base_model=member.base_sha256, plan=plan.sha256
    )
    candidate = solve_candidate(plan, member, base, np.asarray(total, dtype=np.uint64), survivors=words)
    model = Model(with_weights(base, candidate), load_rows(candidate.classifier), candidate.state)
    return Trained(model, (), plan)


def with_weights(base: Backbone, candidate: Candidate) -> Backbone:
    """The network in a candidate's bytes, as a site installs it. AggregateRefused if it is another one."""
    made = copy.deepcopy(base)
    # Batch counters are in no file and are never read.
    made.load_state_dict(safetensors.torch.load(candidate.weights), strict=False)
    if weights_sha256(made) != candidate.sha256:
        raise AggregateRefused("The candidate's bytes are not its weights. Abort the round.")
    return made.eval()


def mean_loss(results: list[LocalResult]) -> float:
    """Over all photos of all sites, in the last epoch."""
    photos = sum(result.samples for result in results)
    return sum(result.curves[-1].loss * result.samples for result in results) / photos


def length(vector: Float32) -> float:
    """Euclidean."""
    return float(np.linalg.norm(vector.astype(np.float64)))

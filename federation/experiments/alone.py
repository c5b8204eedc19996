"""What a federation is compared with: the same training on the photos of one site, or of all in one place.

The twin is kind to whoever stays alone: the k rule hides nothing from its own photos, so all its classes
count, with its own class weights; no proximal term holds it back; and it takes as many local epochs in all,
in the same portions, from the same base.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from diagnosis.phenotype.embed.backbone import Backbone
from federation.experiments.plans import MEMBER, RoundOptions, derived_seed, make_plan
from federation.experiments.rounds import Model, RoundCurve, Trained, Watch, length
from federation.learning import heads
from federation.learning.aggregate import with_neck
from federation.learning.analytic import site_moments, solve_head
from federation.learning.config import OpenClass, TrainingPlan
from federation.learning.features import RANKING_VIEWS, FeatureSet
from federation.learning.folding import fold_head
from federation.learning.heads import neck_outputs
from federation.learning.loop import train_local
from federation.learning.statistics import patients_per_class

#: A plan names three sites or more. A twin sends nothing, so these decide nothing.
_PLAN_SITES = ("a", "b", "c")


def train_alone(
    options: RoundOptions, base: Backbone, training: FeatureSet, *, seed: int,
    classes: Sequence[str] | None = None, watch: Watch | None = None,
) -> Trained:  # fmt: skip
    """rounds × local epochs on these photos only. classes: all that have photos, or those named."""
    own = twin_options(options)
    counted = own_classes(training, options.k, classes)
    model, curves = Model(base), []
    for number in range(1, own.rounds + 1):
        plan = make_plan(
            own, model.backbone, counted, dict.fromkeys(_PLAN_SITES, training),
            derived_seed(seed, "round", number),
        )  # fmt: skip
        model, curve = _train_once(plan, model, training, number, derived_seed(seed, "site", number))
        curves.append(curve)
        if watch is not None:
            watch(number, model.backbone)
    return Trained(model, tuple(curves), plan)


def twin_options(options: RoundOptions) -> RoundOptions:
    """The same local training without the strategy."""
    return replace(options, strategy="fedavg", local=replace(options.local, proximal_mu=0.0))


def own_classes(training: FeatureSet, k: int, names: Sequence[str] | None = None) -> tuple[OpenClass, ...]:
    """Classes with their patients here. A plan states k at least, so rarer ones weigh as if they had k."""
    counts = patients_per_class(training.labels, training.patients)
    kept = sorted(counts if names is None else counts.keys() & set(names))
    return tuple(OpenClass(name, max(counts[name], k)) for name in kept)


def _train_once(
    plan: TrainingPlan, model: Model, training: FeatureSet, number: int, site_seed: int
) -> tuple[Model, RoundCurve]:
    start = heads.initial_vector(model.backbone, plan.identifiers, plan.seed, model.rows)
    result = train_local(
        plan, plan.member(MEMBER), model.backbone, start, training, site_seed=site_seed,
        kept_rows=model.kept.get("own"),
    )  # fmt: skip
    vector = start + result.update
    head = heads.build_head(model.backbone, len(plan.classes))
    heads.unflatten(head, vector)
    rows = heads.take_rows(vector, heads.layout_of(head), plan.identifiers)
    after = Model(with_neck(model.backbone, head), rows, kept={"own": result.local_rows})
    return after, RoundCurve(number, result.curves[-1].loss, length(result.update))


def solve_alone(
    options: RoundOptions, base: Backbone, training: FeatureSet, classes: Sequence[str] | None = None
) -> Backbone:
    """The closed form of these photos only: all their classes or those named, and no minima."""
    counted = own_classes(training, options.k, classes)
    rows = np.stack([neck_outputs(base.neck, training, view) for view in RANKING_VIEWS], axis=1)
    moments = site_moments(
        rows, training.labels, training.patients, [entry.identifier for entry in counted], k=1, kind="full"
    )
    return fold_head(base, solve_head(moments, options.analytic))

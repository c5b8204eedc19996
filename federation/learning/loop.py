"""Local training: one plain loop over cached features. Same inputs and seed, same bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from diagnosis.phenotype.embed.backbone import Backbone
from diagnosis.phenotype.ranking.metrics import macro_top_k
from diagnosis.phenotype.types import EMBEDDING_SIZE
from federation.learning.config import LocalTraining, MemberPlan, TrainingPlan
from federation.learning.errors import FeaturesRefused
from federation.learning.features import FeatureSet
from federation.learning.heads import (
    Float32,
    Rows,
    TrainableHead,
    build_head,
    class_weights,
    classifier_rows,
    flatten,
    layout_of,
    put_rows,
    take_rows,
    trained_tensors,
    unflatten,
)
from federation.learning.statistics import contributed, patients_per_class
from federation.learning.threads import one_thread

Int64 = npt.NDArray[np.int64]
UNTRAINED = -1


@dataclass(frozen=True)
class EpochCurve:
    """One epoch at this site, never sent: mean loss, macro top-1 in [0, 1] of held-out patients or None."""

    epoch: int
    loss: float
    held_out_top_1: float | None


@dataclass(frozen=True, eq=False)
class LocalResult:
    """update (k,) float32 = trained − start, exact zeros in rows of classes below k; counts are the site's.

    local_rows: the trained rows of classes with 1 to k − 1 patients here, to be kept (sealed) and given
    back to the next round; they never leave the site.
    """

    update: Float32
    samples: int
    class_patients: dict[str, int]
    local_rows: Rows
    curves: tuple[EpochCurve, ...]


Progress = Callable[[EpochCurve], None]


def train_local(
    plan: TrainingPlan, member: MemberPlan, backbone: Backbone, start: Float32, training: FeatureSet, *,
    site_seed: int, held_out: FeatureSet | None = None, kept_rows: Mapping[str, Float32] | None = None,
    progress: Progress | None = None,
) -> LocalResult:  # fmt: skip
    """Train one member on this site's photos of open classes, from `start` (k,) float32.

    site_seed: the site's own, kept secret; order of photos and choice of views follow from it.
    Raises FeaturesRefused if there is no photo of an open class or a view of the plan is missing.
    """
    with one_thread():
        data = _training_data(plan, training)
        head = build_head(backbone, len(plan.classes))
        layout = layout_of(head)
        counts = patients_per_class(training.labels, training.patients)
        ours = contributed(counts, plan.identifiers, plan.k)
        few = [name for name, yes in zip(plan.identifiers, ours, strict=True) if counts.get(name) and not yes]
        begin = start.copy()
        put_rows(begin, layout, few, {}) if not kept_rows else _put_kept(begin, head, plan, few, kept_rows)
        unflatten(head, begin)
        curves = _train(plan, member.local, head, data, counts, site_seed, held_out, progress)
        end = flatten(head)
    update = end - start
    weight, bias = classifier_rows(update, layout)
    weight[~ours], bias[~ours] = 0.0, 0.0
    rows = take_rows(end, layout, plan.identifiers)
    return LocalResult(update, len(data.classes), counts, {name: rows[name] for name in few}, curves)

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
from federation.learning import heads
from federation.learning.config import LocalTraining, MemberPlan, TrainingPlan
from federation.learning.errors import FeaturesRefused
from federation.learning.features import Features, FeatureSet
from federation.learning.heads import Float32, Rows, TrainableHead
from federation.learning.statistics import contributed, patients_per_class
from federation.learning.threads import one_thread

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class EpochCurve:
    """One epoch at this site, never sent: mean loss, macro top-1 in [0, 1] of held-out patients or None."""

    epoch: int
    loss: float
    held_out_top_1: float | None


@dataclass(frozen=True, eq=False)
class LocalResult:
    """update (k,) float32 = trained − start, exact zeros in the rows of classes below k.

    samples: photos trained on; class_patients: this site's patients per label. local_rows: trained rows
    (513,) of classes with 1 to k − 1 patients here. They never leave the site; give them back as kept_rows.
    """

    update: Float32
    samples: int
    class_patients: dict[str, int]
    local_rows: Rows
    curves: tuple[EpochCurve, ...]


@dataclass(frozen=True, eq=False)
class Batches:
    """features (n, v, F) and classes (n,) int64 of the photos of open classes, shares (v,) of the views."""

    features: Features
    classes: Int64
    shares: npt.NDArray[np.float64]


Progress = Callable[[EpochCurve], None]


def train_local(
    plan: TrainingPlan, member: MemberPlan, backbone: Backbone, start: Float32, training: FeatureSet, *,
    site_seed: int, held_out: FeatureSet | None = None, kept_rows: Mapping[str, Float32] | None = None,
    progress: Progress | None = None,
) -> LocalResult:  # fmt: skip
    """Train one member on this site's photos of open classes, from `start` (k,) float32.

    site_seed: the site's own, kept secret; order of photos and choice of views follow from it. Rows of
    classes without a patient here stand still, so that they are not pushed away by everybody else's.
    Raises FeaturesRefused if there is no photo of an open class or a view of the plan is missing.
    """
    data = open_class_photos(plan, training)
    counts = patients_per_class(training.labels, training.patients)
    ours = contributed(counts, plan.identifiers, plan.k)
    few = [name for name, yes in zip(plan.identifiers, ours, strict=True) if counts.get(name) and not yes]
    with one_thread():
        head = heads.build_head(backbone, len(plan.classes))
        layout = heads.layout_of(head)
        begin = start.copy()
        kept = {name: row for name, row in (kept_rows or {}).items() if name in few}
        heads.put_rows(begin, layout, plan.identifiers, kept)
        heads.unflatten(head, begin)
        curves = _epochs(plan, member.local, head, data, site_seed, held_out, progress)
        end = heads.flatten(head)
    update = end - start
    weight, bias = heads.classifier_rows(update, layout)
    weight[~ours], bias[~ours] = 0.0, 0.0
    rows = heads.take_rows(end, layout, plan.identifiers)
    return LocalResult(update, len(data.classes), counts, {name: rows[name] for name in few}, curves)


def open_class_photos(plan: TrainingPlan, training: FeatureSet) -> Batches:
    """The photos of open classes, with the plan's views in the plan's order."""
    place = {name: index for index, name in enumerate(plan.identifiers)}
    chosen = np.array([label in place for label in training.labels], dtype=np.bool_)
    if not chosen.any():
        raise FeaturesRefused("This site has no consented photo of an open class, so it cannot train.")
    missing = [view.name for view in plan.views if view.name not in training.views]
    if missing:
        raise FeaturesRefused(f"The cached features have no view {missing[0]!r}. Compute them again.")
    order = [training.views.index(view.name) for view in plan.views]
    classes = [place[label] for label in training.labels if label in place]
    shares = np.array([view.share for view in plan.views])
    return Batches(
        training.features[chosen][:, order], np.array(classes, dtype=np.int64), shares / shares.sum()
    )


def batch_loss(head: TrainableHead, features: Tensor, classes: Tensor, weights: Tensor,
               keep: Tensor | None = None) -> Tensor:  # fmt: skip
    """features (b, F), classes (b,) int64, weights (C,) → class-weighted mean cross-entropy, scalar."""
    return functional.cross_entropy(head(features, keep), classes, weight=weights)


def _epochs(
    plan: TrainingPlan, local: LocalTraining, head: TrainableHead, data: Batches, site_seed: int,
    held_out: FeatureSet | None, progress: Progress | None,
) -> tuple[EpochCurve, ...]:  # fmt: skip
    generator = np.random.default_rng([plan.seed, site_seed])
    weights = heads.class_weights([entry.patients for entry in plan.classes])
    step = Stepper(head, local, weights, absent_rows(len(plan.classes), data.classes))
    curves = []
    for epoch in range(1, local.epochs + 1):
        order = generator.permutation(len(data.classes))
        views = generator.choice(len(data.shares), size=len(order), p=data.shares)
        total = 0.0
        for first in range(0, len(order), local.batch_photos):
            rows = order[first : first + local.batch_photos]
            features = torch.from_numpy(data.features[rows, views[rows]].astype(np.float32))  # (b, F)
            keep = dropout_mask(len(rows), local.dropout, generator)
            total += step(features, torch.from_numpy(data.classes[rows]), keep) * len(rows)
        curves.append(EpochCurve(epoch, total / len(order), held_out_top_1(head, plan, held_out)))
        if progress is not None:
            progress(curves[-1])
    return tuple(curves)


class Stepper:
    """One Adam step (Kingma & Ba 2015) on one batch; neck and classifier have their own rates and decays."""

    def __init__(self, head: TrainableHead, local: LocalTraining, weights: Tensor, absent: Tensor) -> None:
        self._head, self._weights, self._absent, self._mu = head, weights, absent, local.proximal_mu
        tensors = heads.trained_tensors(head)
        self._tensors = list(tensors.values())
        self._start = [tensor.detach().clone() for tensor in self._tensors]
        classifier = (local.classifier_learning_rate, local.classifier_weight_decay)
        neck = (local.neck_learning_rate, local.neck_weight_decay)
        groups = []
        for name, tensor in tensors.items():
            rate, decay = classifier if name in (heads.WEIGHT, heads.BIAS) else neck
            groups.append({"params": [tensor], "lr": rate, "weight_decay": decay})
        self._optimiser = torch.optim.Adam(groups)

    def __call__(self, features: Tensor, classes: Tensor, keep: Tensor | None) -> float:
        """features (b, F), classes (b,) → the batch's loss before the step, without the proximal term."""
        self._optimiser.zero_grad()
        loss = batch_loss(self._head, features, classes, self._weights, keep)
        (loss + self._proximal() if self._mu else loss).backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        self._restore_absent_rows()
        return float(loss.detach())

    def _proximal(self) -> Tensor:
        """mu / 2 · |w − w_start|² (Li et al., MLSys 2020, equation 2)."""
        pairs = zip(self._tensors, self._start, strict=True)
        distance = torch.stack([(tensor - start).square().sum() for tensor, start in pairs]).sum()
        return 0.5 * self._mu * distance

    def _restore_absent_rows(self) -> None:
        """Not by zero gradients: Adam's weight decay would still move them."""
        names = list(heads.trained_tensors(self._head))
        with torch.no_grad():
            for name in (heads.WEIGHT, heads.BIAS):
                place = names.index(name)
                self._tensors[place][self._absent] = self._start[place][self._absent]


def absent_rows(classes: int, present: Int64) -> Tensor:
    """(C,) bool: classes without a single photo here."""
    absent = np.ones(classes, dtype=np.bool_)
    absent[present] = False
    return torch.from_numpy(absent)


def dropout_mask(rows: int, share: float, generator: np.random.Generator) -> Tensor | None:
    """(rows, 512) float32 of 0 and 1 / (1 − share), or None without dropout."""
    if share == 0.0:
        return None
    kept = generator.random((rows, EMBEDDING_SIZE), dtype=np.float32) >= share
    return torch.from_numpy(kept.astype(np.float32) / np.float32(1.0 - share))


def held_out_top_1(head: TrainableHead, plan: TrainingPlan, held_out: FeatureSet | None) -> float | None:
    """Macro top-1 of the classifier on held-out photos of open classes, un-augmented; None without any."""
    place = {name: index for index, name in enumerate(plan.identifiers)}
    chosen = [index for index, label in enumerate(held_out.labels) if label in place] if held_out else []
    if held_out is None or not chosen:
        return None
    truth = np.array([place[held_out.labels[index]] for index in chosen])
    with torch.inference_mode():
        logits = head(torch.from_numpy(held_out.view("original")[chosen].astype(np.float32))).numpy()
    own = logits[np.arange(len(truth)), truth]
    ranks = 1 + (logits > own[:, None]).sum(axis=1)
    return macro_top_k(ranks.astype(np.int64), truth, 1)

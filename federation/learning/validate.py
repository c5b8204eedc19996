"""What a candidate does for this site's own held-out patients, and the vote that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import nn

from diagnosis.phenotype.ranking.grouping import Grouping
from diagnosis.phenotype.ranking.intervals import Estimate, bootstrap
from diagnosis.phenotype.ranking.metrics import Accuracy, Ranks, accuracy, macro_top_k, true_ranks
from federation.learning import heads
from federation.learning.errors import FeaturesRefused
from federation.learning.features import RANKING_VIEWS, FeatureSet

Float32 = npt.NDArray[np.float32]
Ballot = Literal["accept", "reject", "abstain"]

TOP_K = (1, 5)


@dataclass(frozen=True)
class VoteRule:
    """largest_loss: macro top-1 in [0, 1] that a candidate may lose; below minimum_patients: no opinion."""

    largest_loss: float = 0.02
    minimum_patients: int = 10
    level: float = 0.95


@dataclass(frozen=True)
class Validation:
    """Macro and micro top-1 and top-5 of the site's model now and of the candidate, and the difference.

    change: candidate − now in macro top-1 with a bootstrap interval over patients. usable: whether the
    candidate gave finite, non-zero embeddings at all.
    """

    before: Accuracy
    after: Accuracy | None
    change: Estimate | None
    patients: int
    usable: bool


@dataclass(frozen=True)
class Vote:
    """The site's ballot and the sentence that goes with it; an admin may overrule it before it is signed."""

    ballot: Ballot
    reason: str


def validate(
    now: nn.Module, candidate: nn.Module, *, held_out: FeatureSet, gallery: FeatureSet,
    level: float = VoteRule.level,
) -> Validation:  # fmt: skip
    """Rank held-out photos against the site's gallery through either neck. Same patients on both sides.

    Photos whose syndrome the gallery lacks are left out. FeaturesRefused if none is left, or if a patient
    stands in both parts.
    """
    if set(held_out.patients) & set(gallery.patients):
        raise FeaturesRefused("A held-out patient stands in the gallery too. Split by patient.")
    known = set(gallery.labels) - {""}
    queries = held_out.select(np.array([label in known for label in held_out.labels], dtype=np.bool_))
    if not len(queries):
        raise FeaturesRefused("No held-out patient has a syndrome of the gallery. Hold out more patients.")
    before = _ranks(now, queries, gallery)
    after = _ranks(candidate, queries, gallery)
    people = len(set(queries.patients))
    if before is None:
        raise FeaturesRefused(
            "The model in use gives embeddings that are zero or not finite. Install it again."
        )
    first = accuracy(before, queries.labels, top_k=TOP_K)
    if after is None:
        return Validation(first, None, None, people, usable=False)
    change = _change(before, after, queries, level)
    return Validation(first, accuracy(after, queries.labels, top_k=TOP_K), change, people, usable=True)


def embed_rows(neck: nn.Module, found: FeatureSet) -> Float32 | None:
    """(n, m·512) float32: unit rows of the un-augmented views, end to end; None if one is no direction."""
    rows = []
    for view in RANKING_VIEWS:
        answer = heads.neck_outputs(neck, found, view)  # (n, 512)
        lengths = np.linalg.norm(answer.astype(np.float64), axis=1, keepdims=True)
        if not np.isfinite(lengths).all() or not (lengths > 0).all():
            return None
        rows.append((answer / lengths).astype(np.float32))
    return np.concatenate(rows, axis=1)


def _ranks(neck: nn.Module, queries: FeatureSet, gallery: FeatureSet) -> Ranks | None:
    """(Q,) rank of each query's syndrome by its nearest gallery photo (mean cosine distance over views)."""
    left, right = embed_rows(neck, queries), embed_rows(neck, gallery)
    if left is None or right is None:
        return None
    distances = 1.0 - (left @ right.T) / np.float32(len(RANKING_VIEWS))  # (Q, N)
    syndromes = Grouping.from_keys([(label,) if label else () for label in gallery.labels])
    return true_ranks(distances, syndromes, queries.labels)


def _change(before: Ranks, after: Ranks, queries: FeatureSet, level: float) -> Estimate:
    labels = np.asarray(queries.labels, dtype=np.str_)

    def difference(drawn: npt.NDArray[np.intp]) -> float:
        return macro_top_k(after[drawn], labels[drawn], 1) - macro_top_k(before[drawn], labels[drawn], 1)

    return bootstrap(difference, np.asarray(queries.patients, dtype=np.str_), level=level)


def vote(found: Validation, rule: VoteRule | None = None) -> Vote:
    """Reject what cannot be used or is surely worse than the rule allows; abstain with too few patients."""
    limits = rule or VoteRule()
    if not found.usable or found.after is None or found.change is None:
        return Vote("reject", "The candidate gives embeddings that are zero or not finite.")
    if found.patients < limits.minimum_patients:
        return Vote(
            "abstain", f"Only {found.patients} held-out patients; {limits.minimum_patients} are needed."
        )
    figures = f"top-1 {found.before.macro[1]:.1%} before, {found.after.macro[1]:.1%} with the candidate"
    if found.change.high < -limits.largest_loss:
        return Vote("reject", f"Surely worse on this site's held-out patients: {figures}.")
    return Vote("accept", f"Not surely worse on this site's held-out patients: {figures}.")

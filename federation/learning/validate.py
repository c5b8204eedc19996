"""What a candidate does for this site's own held-out patients, and the vote that follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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


@dataclass(frozen=True, eq=False)
class JudgedMember:
    """One network of an ensemble: its neck now and as a candidate, and the same photos by its own trunk."""

    now: nn.Module
    candidate: nn.Module
    held_out: FeatureSet
    gallery: FeatureSet


def validate(
    now: nn.Module, candidate: nn.Module, *, held_out: FeatureSet, gallery: FeatureSet,
    level: float = VoteRule.level,
) -> Validation:  # fmt: skip
    """`validate_ensemble` for an ensemble of one."""
    return validate_ensemble([JudgedMember(now, candidate, held_out, gallery)], level=level)


def validate_ensemble(members: Sequence[JudgedMember], *, level: float = VoteRule.level) -> Validation:
    """Rank held-out photos against the site's gallery by either model. Same patients on both sides.

    Photos whose syndrome the gallery lacks are left out. FeaturesRefused if none is left, if a patient
    stands in both parts, or if members look at other photos.
    """
    first = members[0]
    if any((m.held_out.keys, m.gallery.keys) != (first.held_out.keys, first.gallery.keys) for m in members):
        raise FeaturesRefused("The members of an ensemble judge different photos. Compute them again.")
    if set(first.held_out.patients) & set(first.gallery.patients):
        raise FeaturesRefused("A held-out patient stands in the gallery too. Split by patient.")
    known = set(first.gallery.labels) - {""}
    chosen = np.array([label in known for label in first.held_out.labels], dtype=np.bool_)
    if not chosen.any():
        raise FeaturesRefused("No held-out patient has a syndrome of the gallery. Hold out more patients.")
    asked = [replace(member, held_out=member.held_out.select(chosen)) for member in members]
    before = _ranks([(member.now, member) for member in asked])
    after = _ranks([(member.candidate, member) for member in asked])
    if before is None:
        raise FeaturesRefused(
            "The model in use gives embeddings that are zero or not finite. Install it again."
        )
    return _judged(before, after, asked[0].held_out, level)


def _judged(before: Ranks, after: Ranks | None, queries: FeatureSet, level: float) -> Validation:
    first, people = accuracy(before, queries.labels, top_k=TOP_K), len(set(queries.patients))
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


def _ranks(necks: Sequence[tuple[nn.Module, JudgedMember]]) -> Ranks | None:
    """(Q,) rank of each query's syndrome by its nearest gallery photo: mean cosine distance over all rows."""
    left = [embed_rows(neck, member.held_out) for neck, member in necks]
    right = [embed_rows(neck, member.gallery) for neck, member in necks]
    if any(rows is None for rows in (*left, *right)):
        return None
    queries, gallery = (np.concatenate([rows for rows in side if rows is not None], axis=1)
                        for side in (left, right))  # fmt: skip
    distances = 1.0 - (queries @ gallery.T) / np.float32(len(necks) * len(RANKING_VIEWS))  # (Q, N)
    member = necks[0][1]
    syndromes = Grouping.from_keys([(label,) if label else () for label in member.gallery.labels])
    return true_ranks(distances, syndromes, member.held_out.labels)


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

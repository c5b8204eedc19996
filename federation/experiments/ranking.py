"""Held-out patients against a site's gallery, photo by photo, so that gains can be drawn again by patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import nn

from diagnosis.phenotype.ranking.grouping import Grouping
from diagnosis.phenotype.ranking.metrics import Ranks, macro_top_k, true_ranks
from federation.learning.errors import FeaturesRefused
from federation.learning.features import RANKING_VIEWS, FeatureSet
from federation.learning.validate import embed_rows

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


def known_queries(held_out: FeatureSet, gallery: FeatureSet) -> FeatureSet:
    """Held-out photos whose syndrome the gallery has, as `learning.validate` chooses them."""
    if set(held_out.patients) & set(gallery.patients):
        raise FeaturesRefused("A held-out patient stands in the gallery too. Split by patient.")
    known = set(gallery.labels) - {""}
    return held_out.select(np.array([label in known for label in held_out.labels], dtype=np.bool_))


def rank_queries(neck: nn.Module, queries: FeatureSet, gallery: FeatureSet) -> Ranks:
    """(Q,) rank of each photo's syndrome by its nearest gallery photo, as `learning.validate` ranks."""
    left, right = embed_rows(neck, queries), embed_rows(neck, gallery)
    if left is None or right is None:
        raise FeaturesRefused("A trained neck gives embeddings that are zero or not finite.")
    distances = 1.0 - (left @ right.T) / np.float32(len(RANKING_VIEWS))  # (Q, N)
    syndromes = Grouping.from_keys([(label,) if label else () for label in gallery.labels])
    return true_ranks(distances, syndromes, queries.labels)


@dataclass(frozen=True, eq=False)
class Groups:
    """Of (Q,) photos: syndrome (Q,) and patient (Q,) as numbers, how many patients there are."""

    syndromes: Int64
    patients: Int64
    people: int

    @classmethod
    def of(cls, queries: FeatureSet) -> Groups:
        """Numbered in sorted order."""
        _, syndromes = np.unique(np.asarray(queries.labels, dtype=np.str_), return_inverse=True)
        names, patients = np.unique(np.asarray(queries.patients, dtype=np.str_), return_inverse=True)
        return cls(syndromes.astype(np.int64), patients.astype(np.int64), len(names))


def macro(ranks: Ranks, groups: Groups, k: int) -> float:
    """Macro top-k in [0, 1]."""
    return macro_top_k(ranks, groups.syndromes, k)


def draw_weights(
    groups: Groups, generator: np.random.Generator, draws: int, *, by_syndrome: bool = True
) -> Int64:
    """(draws, Q): how often each photo counts when as many patients are drawn with replacement.

    by_syndrome: as many of each syndrome as there are. Otherwise draws lose rare syndromes, whose weight in a
    macro average then falls to the frequent ones, so that draws do not centre on the value.
    """
    syndrome_of = np.zeros(groups.people, dtype=np.int64)  # a patient has one syndrome
    if by_syndrome:
        syndrome_of[groups.patients] = groups.syndromes
    times = np.zeros((draws, groups.people), dtype=np.int64)
    for syndrome in np.unique(syndrome_of):
        members = np.flatnonzero(syndrome_of == syndrome)
        share = np.full(len(members), 1.0 / len(members))
        times[:, members] = generator.multinomial(len(members), share, draws)
    return times[:, groups.patients]


def weighted_macro(ranks: Ranks, groups: Groups, k: int, weights: Int64) -> Float64:
    """(draws,) macro top-k under each row of weights (draws, Q), over the syndromes that a draw holds."""
    member = np.zeros((len(ranks), int(groups.syndromes.max()) + 1))
    member[np.arange(len(ranks)), groups.syndromes] = 1.0
    photos = weights @ member  # (draws, S)
    hits = (weights * (ranks <= k)) @ member
    shares = np.divide(hits, photos, out=np.zeros_like(photos), where=photos > 0)
    return np.asarray(shares.sum(axis=1) / (photos > 0).sum(axis=1))

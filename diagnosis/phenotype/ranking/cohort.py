"""A cohort's figures: how alike its photos are, beside random cohorts and beside another cohort.

Embeddings are (n, m, d) float32 unit rows, one photo per patient. Draws come from a seeded generator, so a
page that names cohort, gallery and seed can be made again number for number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from diagnosis.phenotype.errors import GalleryError
from diagnosis.phenotype.ranking.distance import Float32, batch_distances, pairwise_distances
from diagnosis.phenotype.ranking.intervals import Float64

RANDOM_COHORTS = 10_000
SUBSAMPLES = 100


@dataclass(frozen=True)
class Percentile:
    """Mean pairwise distance of a cohort; share of random cohorts that are at least as alike (mid-rank)."""

    mean_distance: float
    percentile: float
    draws: int


@dataclass(frozen=True)
class SameOrDifferent:
    """A threshold on the mean distance between two cohorts, and what it measured on pairs of known kind."""

    threshold: float
    sensitivity: float
    specificity: float

    def positive_predictive_value(self, prior: float = 0.5) -> float:
        """Chance that cohorts called different are different, if `prior` of all pairs are. NaN if none is."""
        true, false = self.sensitivity * prior, (1.0 - self.specificity) * (1.0 - prior)
        return true / (true + false) if true + false > 0.0 else float("nan")


@dataclass(frozen=True)
class Comparison:
    """Mean distances between sub-samples of two cohorts (s,), the share above the threshold, the verdict."""

    distances: Float64
    exceeding: float
    different: bool


def rank_matrix(cohort: Float32, gallery: Float32) -> npt.NDArray[np.int64]:
    """(n, m, d) and (N, m, d) without the cohort's photos → (n, n): place of photo j in the list of photo i.

    The list of i holds the gallery and j: 1 + the gallery images nearer to i than j is. Diagonal 0. Not
    symmetric: j may be the first in the list of i while i is far down in the list of j.
    """
    count, rows, size = cohort.shape
    pairs = pairwise_distances(cohort)
    ranks = np.zeros((count, count), dtype=np.int64)
    query = 0
    for block in batch_distances(cohort.reshape(count, -1), gallery.reshape(-1, rows * size), rows):
        for distances in block:
            ranks[query] = 1 + np.searchsorted(np.sort(distances), pairs[query], side="left")
            query += 1
    np.fill_diagonal(ranks, 0)
    return ranks


def mean_pairwise_distance(cohort: Float32) -> float:
    """(n, m, d) unit rows → mean over all pairs. Raises GalleryError for fewer than two photos.

    Σ_{i≠j} x_i · x_j = |Σ x_i|² − Σ |x_i|², so no n × n matrix is needed.
    """
    count, rows = cohort.shape[:2]
    if count < 2:
        raise GalleryError("A cohort needs at least two patients with a photo. Add some.")
    flat = cohort.reshape(count, -1).astype(np.float64)
    total = flat.sum(axis=0)
    products = float(total @ total - np.sum(flat * flat))
    return float(1.0 - products / (rows * count * (count - 1)))


def percentile_among_random(
    cohort: Float32, pool: Float32, *, draws: int = RANDOM_COHORTS, seed: int = 0
) -> Percentile:
    """Cohorts of the same size drawn without replacement from the pool (P, m, d), one photo per patient.

    A small percentile says that few random cohorts are as alike. Ties count half.
    """
    if len(pool) < len(cohort):
        found = f"Only {len(pool)} patients to draw from, the cohort has {len(cohort)}"
        raise GalleryError(f"{found}. Widen the pool.")
    own = mean_pairwise_distance(cohort)
    generator = np.random.default_rng(seed)
    drawn = np.array(
        [
            mean_pairwise_distance(pool[generator.choice(len(pool), len(cohort), replace=False)])
            for _ in range(draws)
        ]
    )
    below = np.count_nonzero(drawn < own) + 0.5 * np.count_nonzero(drawn == own)
    return Percentile(own, 100.0 * below / draws, draws)


def fit_same_or_different(same: Float64, different: Float64) -> SameOrDifferent:
    """Mean distances of cohort pairs of the same and of different syndromes → Youden-optimal threshold.

    Different means above the threshold. Among equally good ones the lowest is taken (Youden 1950:
    sensitivity + specificity − 1 is largest). The threshold belongs to the model it was measured on.
    """
    if not len(same) or not len(different):
        raise GalleryError("A threshold needs pairs of the same and of different syndromes. Add the missing.")
    candidates = np.unique(np.concatenate([same, different]))
    sensitivity = np.array([np.mean(different > each) for each in candidates])
    specificity = np.array([np.mean(same <= each) for each in candidates])
    best = int(np.argmax(sensitivity + specificity))
    return SameOrDifferent(float(candidates[best]), float(sensitivity[best]), float(specificity[best]))


def compare_cohorts(
    first: Float32, second: Float32, *, threshold: float, samples: int = SUBSAMPLES, seed: int = 0
) -> Comparison:
    """Two cohorts (n, m, d) and (k, m, d) with no common patient; different if most sub-samples exceed it.

    Each sub-sample takes half of the smaller cohort (at least one) from either, without replacement; its
    figure is the mean of all distances between the two halves.
    """
    if not len(first) or not len(second):
        raise GalleryError("Both cohorts need a patient with a photo. Add one.")
    rows = first.shape[1]
    size = max(1, min(len(first), len(second)) // 2)
    generator = np.random.default_rng(seed)
    distances = np.empty(samples)
    for sample in range(samples):
        left = first[generator.choice(len(first), size, replace=False)].mean(axis=0, dtype=np.float64)
        right = second[generator.choice(len(second), size, replace=False)].mean(axis=0, dtype=np.float64)
        distances[sample] = 1.0 - float(np.sum(left * right)) / rows  # the mean product is that of the means
    exceeding = float(np.mean(distances > threshold))
    return Comparison(distances, exceeding, exceeding > 0.5)

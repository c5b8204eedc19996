"""How well an extractor finds the syndrome of patients it has never seen, by several ways to compare.

Embeddings are (n, m, d): n photos, m views (flip × grey) of d numbers. Accuracy is macro: per syndrome
first, then averaged, so that a frequent syndrome does not hide a rare one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from diagnosis.phenotype.ranking.metrics import TOP_K, accuracy, ranks_among
from diagnosis.synthetic.training_whitening import Float64, whitening_matrix, within_class_covariance

Labels = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Photos:
    """embeddings (n, m, d) float, syndromes (n,) and patients (n,) int64."""

    embeddings: Floats
    syndromes: Labels
    patients: Labels


Method = Callable[[Photos, Photos], Float64]  # (gallery, queries) → distances (q, syndromes in order)


def unit(vectors: Floats) -> Float64:
    """(..., d) → (..., d) float64 of unit length."""
    exact = np.asarray(vectors, dtype=np.float64)
    return np.asarray(exact / np.linalg.norm(exact, axis=-1, keepdims=True))


def joined(embeddings: Floats) -> Float64:
    """(n, m, d) → (n, m·d), scaled so that one product of two rows is the mean of the m cosines."""
    rows = unit(embeddings)
    return np.asarray(rows.reshape(len(rows), -1) / np.sqrt(rows.shape[1]))


def nearest_image(gallery: Photos, queries: Photos) -> Float64:
    """Mean cosine distance to the nearest gallery image of each syndrome: (q, s), syndromes ascending."""
    distances = 1.0 - joined(queries.embeddings) @ joined(gallery.embeddings).T  # (q, n)
    names = np.unique(gallery.syndromes)
    return np.stack([distances[:, gallery.syndromes == name].min(axis=1) for name in names], axis=1)


def nearest_centroid(gallery: Photos, queries: Photos) -> Float64:
    """Mean cosine distance to the mean unit row of each syndrome: (q, s), syndromes ascending."""
    names = np.unique(gallery.syndromes)
    rows = unit(gallery.embeddings)
    means = np.stack([rows[gallery.syndromes == name].mean(axis=0) for name in names])
    return np.asarray(1.0 - joined(queries.embeddings) @ joined(means).T)


def whitened(method: Method, shrinkage: float) -> Method:
    """`method` after within-class whitening of each view, fitted on the gallery alone (closed form)."""

    def run(gallery: Photos, queries: Photos) -> Float64:
        left, right = [], []
        for view in range(gallery.embeddings.shape[1]):
            known, asked = unit(gallery.embeddings[:, view]), unit(queries.embeddings[:, view])
            matrix = whitening_matrix(within_class_covariance(known, gallery.syndromes), shrinkage)
            origin = known.mean(axis=0)
            left.append((known - origin) @ matrix)
            right.append((asked - origin) @ matrix)
        return method(_replaced(gallery, left), _replaced(queries, right))

    return run


def _replaced(photos: Photos, views: list[Float64]) -> Photos:
    return Photos(np.stack(views, axis=1), photos.syndromes, photos.patients)


def macro_top_k(distances: Float64, gallery: Photos, queries: Photos) -> dict[str, float]:
    """distances (q, s) as a Method gives them → macro per cent of queries within the first k."""
    ranks, truth = query_ranks(distances, gallery, queries)
    return {f"top{k}": 100 * share for k, share in accuracy(ranks, truth, top_k=TOP_K).macro.items()}


def query_ranks(distances: Float64, gallery: Photos, queries: Photos) -> tuple[Labels, list[str]]:
    """Rank from 1 of each query's syndrome, and the syndromes by name, ties as in the pipeline."""
    names = [f"{name:06d}" for name in np.unique(gallery.syndromes)]
    truth = [f"{name:06d}" for name in queries.syndromes]
    return ranks_among(distances, names, truth), truth

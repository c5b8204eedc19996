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
from diagnosis.phenotype.ranking.whitening import Whitening, fit_whitening

Float64 = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Photos:
    """embeddings (n, m, d) float, syndromes (n,) and patients (n,) int64."""

    embeddings: Floats
    syndromes: Labels
    patients: Labels

    def part(self, chosen: npt.NDArray[np.generic]) -> Photos:
        """The photos at these indices, or where this mask is true."""
        return Photos(self.embeddings[chosen], self.syndromes[chosen], self.patients[chosen])


Method = Callable[[Photos, Photos], Float64]  # (gallery, queries) → distances (q, syndromes ascending)


def unit(vectors: Floats) -> Float64:
    """(..., d) → (..., d) float64 of unit length."""
    exact = np.asarray(vectors, dtype=np.float64)
    return np.asarray(exact / np.linalg.norm(exact, axis=-1, keepdims=True))


def joined(rows: Floats) -> Float64:
    """(n, m, d) → (n, m·d), scaled so that the product of two photos' unit rows is the mean of m cosines."""
    return np.asarray(rows.reshape(len(rows), -1) / np.sqrt(rows.shape[1]), dtype=np.float64)


def nearest_image(gallery: Photos, queries: Photos) -> Float64:
    """Mean cosine distance to the nearest gallery image of each syndrome: (q, s), syndromes ascending."""
    distances = 1.0 - joined(unit(queries.embeddings)) @ joined(unit(gallery.embeddings)).T  # (q, n)
    names = np.unique(gallery.syndromes)
    return np.stack([distances[:, gallery.syndromes == name].min(axis=1) for name in names], axis=1)


def nearest_centroid(gallery: Photos, queries: Photos) -> Float64:
    """Mean cosine distance to the mean unit row of each syndrome: (q, s), syndromes ascending."""
    names = np.unique(gallery.syndromes)
    rows = unit(gallery.embeddings)
    means = np.stack([rows[gallery.syndromes == name].mean(axis=0) for name in names])
    return np.asarray(1.0 - joined(unit(queries.embeddings)) @ joined(unit(means)).T)


def whitened(method: Method) -> Method:
    """`method` after within-class whitening, fitted on the gallery alone (closed form, Ledoit–Wolf)."""

    def run(gallery: Photos, queries: Photos) -> Float64:
        return method(*whiten_both(gallery, queries))

    return run


def whiten_both(gallery: Photos, queries: Photos) -> tuple[Photos, Photos]:
    """Gallery and queries in the gallery's whitened space. All views share one space."""
    labels = [str(name) for name in gallery.syndromes]
    whitening = fit_whitening(unit(gallery.embeddings), labels)
    return _whitened_photos(gallery, whitening), _whitened_photos(queries, whitening)


def _whitened_photos(photos: Photos, whitening: Whitening) -> Photos:
    shape = photos.embeddings.shape
    rows = unit(photos.embeddings).reshape(-1, shape[2])  # one matrix: n small products are ten times slower
    return Photos(whitening.apply(rows).reshape(shape), photos.syndromes, photos.patients)


def compare_all(gallery: Photos, queries: Photos) -> dict[str, Float64]:
    """Method name → distances (q, s), syndromes ascending. Whitening is fitted once for both its methods."""
    white = whiten_both(gallery, queries)
    return {
        "nearest image": nearest_image(gallery, queries),
        "centroids": nearest_centroid(gallery, queries),
        "whitened, nearest image": nearest_image(*white),
        "whitened, centroids": nearest_centroid(*white),
    }


def macro_top_k(distances: Float64, gallery: Photos, queries: Photos) -> dict[str, float]:
    """distances (q, s) as a Method gives them → macro per cent of queries within the first k."""
    ranks, truth = query_ranks(distances, gallery, queries)
    return {f"top{k}": 100 * share for k, share in accuracy(ranks, truth, top_k=TOP_K).macro.items()}


def query_ranks(distances: Float64, gallery: Photos, queries: Photos) -> tuple[Labels, list[str]]:
    """Rank from 1 of each query's syndrome, and the syndromes by name, ties as in the pipeline."""
    names = [f"{name:06d}" for name in np.unique(gallery.syndromes)]
    truth = [f"{name:06d}" for name in queries.syndromes]
    return ranks_among(distances, names, truth), truth

"""Within-class whitening: make directions in which patients of one syndrome differ count less.

Whitened, the cosine of two embeddings weighs a difference by how unusual it is between two patients with
the same syndrome (the within-class half of linear discriminant analysis). It is one linear map, so a
trainer can fold it into the last layer: y = (x − mean) · matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from diagnosis.phenotype.errors import CalibrationError
from diagnosis.phenotype.ranking.distance import AnyFloat, Float32, unit_rows

Float64 = npt.NDArray[np.float64]
#: Keeps the inverse finite where neither data nor shrinkage reach.
FLOOR = 1e-12


@dataclass(frozen=True)
class Whitening:
    """mean (d,), matrix (d, d) symmetric float64; shrinkage in [0, 1] that the scatter was given."""

    mean: Float64
    matrix: Float64
    shrinkage: float

    def apply(self, embeddings: AnyFloat) -> Float32:
        """(..., d) → (..., d) float32 unit rows: ((x − mean) · matrix), then normalised."""
        return unit_rows((np.asarray(embeddings, dtype=np.float64) - self.mean) @ self.matrix)


def fit_whitening(
    embeddings: AnyFloat, labels: Sequence[str], *, shrinkage: float | None = None
) -> Whitening:
    """embeddings (n, d), or (n, m, d) whose rows share one space; labels: the syndrome of each photo.

    Syndromes with one photo tell nothing about the spread within a syndrome and only enter the mean.
    shrinkage None: the Ledoit–Wolf optimum. Raises CalibrationError where no syndrome has two photos.
    """
    stacked = np.asarray(embeddings, dtype=np.float64)
    if stacked.ndim == 2:
        stacked = stacked[:, None, :]
    residuals, freedom = _within_class_residuals(stacked, labels)
    scatter, chosen = ledoit_wolf(residuals, shrinkage=shrinkage)
    spread = scatter * (len(residuals) / freedom)
    return Whitening(stacked.mean(axis=(0, 1)), inverse_root(spread), chosen)


def whitening_from_moments(mean: Float64, scatter: Float64, *, shrinkage: float) -> Whitening:
    """Whitening from a mean (d,) and within-class covariance (d, d), as secure sums give them.

    Ledoit–Wolf's optimum needs fourth moments, which no sum of second moments has: state the shrinkage.
    """
    size = len(scatter)
    target = np.trace(scatter) / size * np.eye(size)
    return Whitening(mean, inverse_root((1.0 - shrinkage) * scatter + shrinkage * target), shrinkage)


def ledoit_wolf(samples: Float64, *, shrinkage: float | None = None) -> tuple[Float64, float]:
    """Centred samples (n, d) → covariance (d, d) shrunk towards its mean variance, and the shrinkage used.

    Ledoit & Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", J. Multivariate
    Anal. 88 (2004), section 3: shrinkage = min(b̄², d²) / d² with d² = |S − μI|² and
    b̄² = 1/n² · Σ |x xᵀ − S|² = (Σ |x|⁴ / n − |S|²) / n, Frobenius norms, all divided by d there.
    """
    count, size = samples.shape
    sample = samples.T @ samples / count
    level = np.trace(sample) / size
    squared = float(np.sum(sample * sample))
    if shrinkage is None:
        distance = squared - size * level * level
        fourth = float(np.mean(np.sum(samples * samples, axis=1) ** 2))
        noise = max(0.0, (fourth - squared) / count)
        shrinkage = min(1.0, noise / distance) if distance > 0.0 else 1.0
    return (1.0 - shrinkage) * sample + shrinkage * level * np.eye(size), shrinkage


def inverse_root(covariance: Float64) -> Float64:
    """Symmetric C^(−1/2) of a positive semidefinite (d, d), eigenvalues floored at 1e-12 of the largest."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2.0)
    if not values[-1] > 0.0:
        raise CalibrationError("All photos of each syndrome have the same embedding. Use more patients.")
    floored = np.maximum(values, FLOOR * values[-1])
    return np.asarray((vectors / np.sqrt(floored)) @ vectors.T, dtype=np.float64)


def _within_class_residuals(stacked: Float64, labels: Sequence[str]) -> tuple[Float64, int]:
    """Rows minus the mean of their class and row index, classes of one photo left out; degrees of freedom."""
    count, rows, size = stacked.shape
    if len(labels) != count:
        raise CalibrationError(f"{count} photos but {len(labels)} labels. Give one label for each.")
    _, group, sizes = np.unique(np.asarray(labels, dtype=np.str_), return_inverse=True, return_counts=True)
    sums = np.zeros((len(sizes), rows, size))
    np.add.at(sums, group, stacked)
    residuals = stacked - (sums / sizes[:, None, None])[group]
    several = sizes[group] > 1
    freedom = int(several.sum() - np.sum(sizes > 1)) * rows
    if freedom == 0:
        raise CalibrationError("No syndrome has two photos, so its spread is unknown. Add photos.")
    return residuals[several].reshape(-1, size), freedom

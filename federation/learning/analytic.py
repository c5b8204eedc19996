"""Closed-form heads from secure sums: the solution that pooled data would give, however patients are spread.

Each site adds, over its patients of the classes it contributes (k rule), counts n_c, class sums
s_c = Σ_p x_p and second moments M = Σ_p mean(x xᵀ), a patient's photos and views averaged so that each
patient counts once. Then within-class covariance = (M − Σ_c s_c s_cᵀ / n_c) / (N − C), whose inverse root
whitens, and which folds into the neck's last Linear: only that layer changes, BatchNorm statistics do not.
Compare AFL (He et al., CVPR 2025) for the ridge classifier from the same sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from diagnosis.phenotype.ranking.distance import unit_rows
from diagnosis.phenotype.ranking.whitening import inverse_root
from federation.learning.config import AnalyticOptions
from federation.learning.errors import StatisticsRefused
from federation.learning.moments import MomentKind
from federation.learning.statistics import contributing_photos, patient_weights
from federation.secagg.quantize import StatisticsQuantiser

Float64 = npt.NDArray[np.float64]
Words64 = npt.NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class ClassMoments:
    """counts (C,), sums (C, d), second (d, d) or its diagonal (d,), float64; one site's or a total."""

    counts: Float64
    sums: Float64
    second: Float64

    @property
    def kind(self) -> MomentKind:
        return "full" if self.second.ndim == 2 else "diagonal"


def site_moments(
    rows: npt.NDArray[np.floating], labels: Sequence[str], patients: Sequence[str],
    classes: Sequence[str], *, k: int, kind: MomentKind,
) -> ClassMoments:  # fmt: skip
    """rows (n, v, d): n photos as v views, not normalised → this site's sums; zeros for classes below k."""
    chosen = contributing_photos(labels, patients, classes, k)
    exact = np.asarray(rows, dtype=np.float64)[chosen]  # (n', v, d)
    weights = patient_weights(labels, patients)[chosen]  # (n',)
    member = np.array([[label == name for name in classes] for label in labels], dtype=np.float64)
    by_class = (member.reshape(len(labels), len(classes))[chosen] * weights[:, None]).T  # (C, n')
    views = exact.shape[1]
    spread = np.sqrt(weights / views)[:, None, None] * exact
    flat = spread.reshape(-1, exact.shape[2])  # (n'·v, d)
    second = flat.T @ flat if kind == "full" else np.sum(flat * flat, axis=0)
    return ClassMoments(np.rint(by_class.sum(axis=1)), by_class @ exact.mean(axis=1), second)


# --- words ---------------------------------------------------------------------------------------------


def pack(moments: ClassMoments) -> Float64:
    """One vector: counts, class sums row after row, upper triangle (or diagonal) of the second moments."""
    second = moments.second
    triangle = second[np.triu_indices(len(second))] if moments.kind == "full" else second
    return np.concatenate([moments.counts, moments.sums.reshape(-1), triangle])


def unpack(vector: Float64, *, classes: int, size: int, kind: MomentKind) -> ClassMoments:
    """What `pack` packed, for C = classes and d = size. StatisticsRefused for another length."""
    triangle = size * (size + 1) // 2 if kind == "full" else size
    if vector.shape != (classes + classes * size + triangle,):
        raise StatisticsRefused("The opened statistics have another length than the plan's. Abort the round.")
    counts, sums, rest = np.split(vector, [classes, classes + classes * size])
    second = rest
    if kind == "full":
        upper = np.zeros((size, size))
        upper[np.triu_indices(size)] = rest
        second = upper + np.triu(upper, 1).T
    return ClassMoments(counts, sums.reshape(classes, size), second)


def encode_moments(moments: ClassMoments, *, sites: int) -> Words64:
    """uint64 words at 2^−40, ready to be masked; sites: the plan's. OutOfRange above 2^23 / sites."""
    return StatisticsQuantiser(sites).encode(pack(moments))


def decode_moments(
    total: Words64, *, sites: int, classes: int, size: int, kind: MomentKind, k: int
) -> ClassMoments:
    """The opened sum. StatisticsRefused for counts that are no whole numbers, or lie between 1 and k − 1."""
    found = unpack(StatisticsQuantiser(sites).decode(total), classes=classes, size=size, kind=kind)
    whole = np.rint(found.counts)
    if not np.array_equal(whole, found.counts) or ((whole < k) & (whole != 0)).any():
        raise StatisticsRefused("An opened count is impossible under the k rule. Abort the round.")
    return found


# --- the head ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class AnalyticHead:
    """y = matrix @ (x − mean) for embeddings x (d,); logits = weight @ y + bias. All float64.

    classes: which rows of the plan's classes had patients; weight (len(classes), d) stands in that order.
    """

    mean: Float64
    matrix: Float64
    weight: Float64
    bias: Float64
    classes: tuple[int, ...]


def solve_head(moments: ClassMoments, options: AnalyticOptions) -> AnalyticHead:
    """Opened sums → whitening and classifier. StatisticsRefused with fewer than two classes with patients."""
    kept = np.flatnonzero(moments.counts > 0)
    counts, sums = moments.counts[kept], moments.sums[kept]
    patients = float(counts.sum())
    if len(kept) < 2 or patients <= len(kept):
        raise StatisticsRefused("Closed-form heads need two classes with several patients. Wait for more.")
    mean = sums.sum(axis=0) / patients
    means = sums / counts[:, None] - mean  # (C, d), centred
    covariance = within_class_covariance(moments, kept)
    matrix = discriminant(covariance, means, counts, options)
    centred = means @ matrix.T
    if options.classifier == "centroids":
        weight, bias = unit_rows(centred).astype(np.float64), np.zeros(len(kept))
    else:
        weight, bias = _ridge(moments, mean, matrix, centred, counts, options.ridge)
    return AnalyticHead(mean, matrix, weight, bias, tuple(kept.tolist()))


def within_class_covariance(moments: ClassMoments, kept: npt.NDArray[np.intp]) -> Float64:
    """(d, d) float64 pooled around each class's own mean; with diagonal moments zero off the diagonal."""
    counts, sums = moments.counts[kept], moments.sums[kept]
    freedom = counts.sum() - len(kept)
    if moments.kind == "diagonal":
        return np.diag((moments.second - np.sum(sums * sums / counts[:, None], axis=0)) / freedom)
    scatter = moments.second - (sums / counts[:, None]).T @ sums
    return np.asarray((scatter + scatter.T) / (2.0 * freedom))


def discriminant(covariance: Float64, means: Float64, counts: Float64, options: AnalyticOptions) -> Float64:
    """(d, d): whitening by the shrunk within-class covariance, then a weight for each direction.

    In whitened space a direction whose class means have variance λ is multiplied by (λ / (λ + 1))^exponent,
    λ freed of what means of n_c patients have by chance (Ioffe, "Probabilistic LDA", ECCV 2006).
    """
    level = np.trace(covariance) / len(covariance)
    shrunk = (1.0 - options.shrinkage) * covariance + options.shrinkage * level * np.eye(len(covariance))
    whitening = inverse_root(shrunk)
    if options.between_exponent == 0.0:
        return whitening
    chance = whitening @ covariance @ whitening * np.mean(1.0 / counts)
    values, vectors = np.linalg.eigh(np.cov((means @ whitening).T) - chance)
    explained = np.maximum(values, 0.0) / (np.maximum(values, 0.0) + 1.0)
    # Symmetric, so that neither signs nor the order of equal eigenvalues change the head.
    return np.asarray((vectors * explained**options.between_exponent) @ vectors.T @ whitening)


def _ridge(
    moments: ClassMoments, mean: Float64, matrix: Float64, centred: Float64, counts: Float64, ridge: float
) -> tuple[Float64, Float64]:
    """argmin Σ_p |W y_p + b − e_p|² + ridge · N · |W|² over patients, b unpenalised, e_p one-hot."""
    if moments.kind == "diagonal":
        raise StatisticsRefused("A ridge classifier needs full second moments. Choose centroids in the plan.")
    patients = float(counts.sum())
    total = moments.second - patients * np.outer(mean, mean)
    scatter = matrix @ total @ matrix.T + ridge * patients * np.eye(len(matrix))
    weight = np.linalg.solve(scatter, (centred * counts[:, None]).T).T  # (C, d)
    return np.asarray(weight), counts / patients

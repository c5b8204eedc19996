"""Within-class whitening, fitted on training syndromes and folded into the neck.

Whitening shrinks the directions in which patients of one syndrome differ (who they are, age, light),
so that the plain cosine distance of the pipeline weighs what separates syndromes. It is linear, and so
is the neck (Linear, then BatchNorm with frozen statistics): the shipped network simply has it inside.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Float64 = npt.NDArray[np.float64]


def within_class_covariance(embeddings: Float64, labels: npt.NDArray[np.int64]) -> Float64:
    """embeddings (n, d), labels (n,) → pooled covariance (d, d) around each class's own mean."""
    order = np.argsort(labels, kind="stable")
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    ordered = embeddings[order]
    sums = np.add.reduceat(ordered, starts, axis=0)
    centred = ordered - np.repeat(sums / counts[:, None], counts, axis=0)
    covariance: Float64 = centred.T @ centred / max(1, len(embeddings) - len(starts))
    return covariance


def whitening_matrix(covariance: Float64, shrinkage: float) -> Float64:
    """(d, d) → symmetric (d, d) matrix W with W C W ≈ I, C = (1-s)·covariance + s·mean variance·I."""
    size = len(covariance)
    shrunk = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / size * np.eye(size)
    values, vectors = np.linalg.eigh(shrunk)
    return np.asarray((vectors / np.sqrt(values)) @ vectors.T)


def discriminant_matrix(
    embeddings: Float64, labels: npt.NDArray[np.int64], shrinkage: float, exponent: float
) -> Float64:
    """Whitening, then each direction weighted by how much of its spread lies between syndromes: (d, d).

    In whitened space the within-class covariance is I. A direction whose class means have variance λ there
    is multiplied by (λ / (λ + 1)) ** exponent, the share of its variance that a syndrome explains, as in
    probabilistic linear discriminant analysis (Ioffe, ECCV 2006); λ is freed of the part that means of
    finitely many patients have by chance. exponent 0 keeps whitening alone, up to a rotation.
    """
    whitening = whitening_matrix(within_class_covariance(embeddings, labels), shrinkage)
    whitened = (embeddings - embeddings.mean(axis=0)) @ whitening
    between = between_class_covariance(whitened, labels)
    spread, directions = np.linalg.eigh(between)
    positive = np.maximum(spread, 0.0)
    weights = (positive / (positive + 1.0)) ** exponent
    return np.asarray(weights[:, None] * (directions.T @ whitening))


def between_class_covariance(points: Float64, labels: npt.NDArray[np.int64]) -> Float64:
    """points (n, d) → covariance (d, d) of class means, less what their own sampling adds. Not always ≥ 0."""
    _, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), points.shape[1]))
    np.add.at(sums, place, points)
    means = sums / counts[:, None]
    chance = within_class_covariance(points, labels) * np.mean(1.0 / counts)
    return np.asarray(np.cov(means.T) - chance)


def add_constant_coordinate(neck: nn.Sequential, value: float) -> None:
    """Make the first number of every embedding `value`, after `fold_into_neck`.

    A unit row forgets how far a face lies from the average, which is what tells unaffected faces. With one
    constant coordinate the length survives: the nearer to the average, the more a row turns towards it.
    """
    linear, norm = _parts(neck)
    with torch.no_grad():
        linear.weight[0] = 0.0
        linear.bias[0] = value
        norm.bias[0] = 0.0


def fold_into_neck(neck: nn.Sequential, matrix: Float64, origin: Float64) -> None:
    """Change neck (Linear, BatchNorm1d) in place so that it answers matrix @ (old answer - origin).

    matrix (512, 512), origin (512,). The BatchNorm becomes the identity on the new numbers: its running
    statistics and its scale and shift cancel, which keeps it trainable afterwards.
    """
    linear, norm = _parts(neck)
    weight, bias = _as_affine(linear, norm)
    new_weight = matrix @ weight
    new_bias = matrix @ (bias - origin)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(new_weight))
        linear.bias.copy_(torch.from_numpy(new_bias))
        norm.running_mean.zero_()  # type: ignore[union-attr]
        norm.running_var.fill_(1.0)  # type: ignore[union-attr]
        norm.weight.fill_((1.0 + norm.eps) ** 0.5)
        norm.bias.zero_()


def _parts(neck: nn.Sequential) -> tuple[nn.Linear, nn.BatchNorm1d]:
    linear, norm = neck[0], neck[1]
    if not isinstance(linear, nn.Linear) or not isinstance(norm, nn.BatchNorm1d):
        raise TypeError("whitening folds into a neck that is Linear followed by BatchNorm1d.")
    return linear, norm


def _as_affine(linear: nn.Linear, norm: nn.BatchNorm1d) -> tuple[Float64, Float64]:
    """The neck in evaluation mode as weight (512, F) and bias (512,), float64."""
    mean, variance = _double(norm.running_mean), _double(norm.running_var)
    gain = _double(norm.weight) / np.sqrt(variance + norm.eps)
    weight = gain[:, None] * _double(linear.weight)
    return weight, gain * (_double(linear.bias) - mean) + _double(norm.bias)


def _double(values: Tensor | None) -> Float64:
    if values is None:
        raise TypeError("whitening needs a BatchNorm with running statistics.")
    return np.asarray(values.detach().numpy(), dtype=np.float64)

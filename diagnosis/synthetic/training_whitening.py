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

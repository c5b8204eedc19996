"""Kernels of masked rows, query × gallery, block by block: no Gram matrix is ever kept.

Inner products are those of the unmasked rows, so each kernel is the pooled one (arXiv 2509.10635, section 3):

    linear G_ij    cosine G_ij / √(G_ii G_jj)
    polynomial (γ G_ij + r)^d    rbf exp(−γ (G_ii + G_jj − 2 G_ij))

each the mean over the m rows of a patient, and the distance of two patients is 1 − their mean cosine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from federation.kernel.config import KernelName
from federation.kernel.errors import RowsRefused

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Shape:
    """Constants of the rbf (gamma) and polynomial (gamma, offset, degree) kernels."""

    gamma: float = 1.0
    offset: float = 1.0
    degree: int = 3


def kernel_blocks(
    queries: Float32, gallery: Iterable[Float32], kernel: KernelName, shape: Shape | None = None
) -> Iterator[Float32]:
    """Queries (Q, m, k') against blocks (b, m, k'), rows of any length → (Q, b) float32 per block."""
    shape = shape or Shape()
    own = _squares(queries)  # (m, Q)
    for block in gallery:
        products = _products(queries, block)  # (m, Q, b)
        values = _kernel(products, own[:, :, None], _squares(block)[:, None, :], kernel, shape)
        yield values.mean(axis=0)


def distance_blocks(queries: Float32, gallery: Iterable[Float32]) -> Iterator[Float32]:
    """Unit rows: queries (Q, m, k') against blocks (b, m, k') → distances (Q, b) float32 per block.

    The mean of m cosines of unit rows is one product of the rows laid end to end: the gallery is read once.
    """
    count, members, size = queries.shape
    flat = np.ascontiguousarray(queries).reshape(count, members * size)
    for block in gallery:
        _require_alike(queries, block)
        laid = block.reshape(len(block), members * size)
        # The gallery on the left: BLAS then packs the few queries, not the many rows.
        products = laid @ flat[0] if count == 1 else laid @ flat.T  # (b,) or (b, Q)
        yield np.float32(1.0) - products.reshape(len(block), count).T / np.float32(members)


def distances(queries: Float32, gallery: Iterable[Float32]) -> Float32:
    """(Q, N) float32 of `distance_blocks`: Q numbers per patient are all that is kept."""
    found = list(distance_blocks(queries, gallery))
    return np.concatenate(found, axis=1) if found else np.empty((len(queries), 0), dtype=np.float32)


def _products(queries: Float32, block: Float32) -> Float32:
    """(m, Q, b): one product per row index, on views."""
    _require_alike(queries, block)
    products: Float32 = np.matmul(queries.transpose(1, 0, 2), block.transpose(1, 2, 0))
    return products


def _squares(rows: Float32) -> Float32:
    """(m, n) squared lengths."""
    squares: Float32 = np.einsum("nmk,nmk->mn", rows, rows)
    return squares


def _kernel(products: Float32, left: Float32, right: Float32, kernel: KernelName, shape: Shape) -> Float32:
    if kernel == "linear":
        return products
    if kernel == "cosine":
        return np.asarray(products / np.sqrt(left * right), dtype=np.float32)
    gamma = np.float32(shape.gamma)
    if kernel == "rbf":
        return np.asarray(np.exp(-gamma * (left + right - 2 * products)), dtype=np.float32)
    return np.asarray((gamma * products + np.float32(shape.offset)) ** shape.degree, dtype=np.float32)


def _require_alike(queries: Float32, block: Float32) -> None:
    if queries.ndim != 3 or block.ndim != 3 or queries.shape[1:] != block.shape[1:]:
        raise RowsRefused("Masked rows of two configurations cannot be compared. Mask them again.")

"""Aligned training faces with the renderer's truth beside them, in memory or memory-mapped.

Photos are rendered once into shards of uint8 crops on disk; a training reads them as one set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from diagnosis.phenotype.types import CROP_SIDE, FloatArray, PixelArray

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Mirror:
    """What a flip does to the truth: mirrored[i] = sign[i] * original[place[i]].

    place (p,) int64, its own inverse; sign (p,) float32 of 1, or -1 where left and right have signs.
    """

    place: Indices
    sign: FloatArray

    def apply(self, rows: FloatArray) -> FloatArray:
        """(n, p) float32 standardised truth of faces → (n, p) that of their mirror images."""
        return np.asarray(rows[:, self.place] * self.sign, dtype=np.float32)


@dataclass(frozen=True)
class FaceSet:
    """n faces: pixels (n, 112, 112, 3) uint8, aligned; one row of truth for each.

    parameters (n, p) float32, standardised over the training set; mirror says what a flip does to them;
    syndromes (n,) int64 in 0..syndrome_count-1, or -1 if unaffected;
    patients (n,) int64, the same number for photos of the same person.
    """

    pixels: PixelArray
    parameters: FloatArray
    mirror: Mirror
    syndromes: Indices
    patients: Indices
    syndrome_count: int

    def __post_init__(self) -> None:
        count = len(self.pixels)
        if self.pixels.shape[1:] != (CROP_SIDE, CROP_SIDE, 3) or self.pixels.dtype != np.uint8:
            raise ValueError("training faces are (n, 112, 112, 3) uint8")
        if not count == len(self.parameters) == len(self.syndromes) == len(self.patients):
            raise ValueError("a set of faces needs one row of parameters, syndrome and patient per face")

    def __len__(self) -> int:
        return len(self.pixels)

    def mirrored_parameters(self, indices: Indices) -> FloatArray:
        """(k, p) float32: the truth about the mirror images of these faces."""
        return self.mirror.apply(self.parameters[indices])


@dataclass(frozen=True)
class Standardisation:
    """mean and scale, (p,) float32 each: standardised = (raw - mean) / scale."""

    mean: FloatArray
    scale: FloatArray

    def apply(self, raw: FloatArray) -> FloatArray:
        """(n, p) float32 raw → (n, p) float32; a parameter that never varies becomes 0."""
        return np.asarray((raw - self.mean) / self.scale, dtype=np.float32)


def fit_standardisation(raw: FloatArray, mirror: Mirror) -> Standardisation:
    """Mean and standard deviation of (n, p), equal for mirrored twins so that flips stay exact."""
    mean = raw.mean(axis=0, dtype=np.float64)
    mean = (mean + mirror.sign * mean[mirror.place]) / 2
    variance = ((raw - mean) ** 2).mean(axis=0, dtype=np.float64)
    variance = (variance + variance[mirror.place]) / 2
    scale = np.where(variance > 1e-10, np.sqrt(variance), np.inf)
    return Standardisation(mean.astype(np.float32), scale.astype(np.float32))


def mirror_of(names: Sequence[str], shifts: Sequence[str]) -> Mirror:
    """The mirror of named parameters: 'l-x' ↔ 'r-x', every other stays; those in `shifts` change sign."""
    places = {name: place for place, name in enumerate(names)}
    twins = [places.get(_twin(name), place) for place, name in enumerate(names)]
    signs = [-1.0 if name in shifts else 1.0 for name in names]
    return Mirror(np.array(twins, dtype=np.int64), np.array(signs, dtype=np.float32))


def _twin(name: str) -> str:
    return {"l-": "r-", "r-": "l-"}.get(name[:2], name[:2]) + name[2:]


def save_shard(path: Path, **arrays: npt.NDArray[np.generic]) -> None:
    """Write one shard so that an interrupted run never leaves half a file under the final name."""
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **arrays)  # type: ignore[arg-type]
    partial.replace(path)


def read_shards(paths: Sequence[Path]) -> dict[str, npt.NDArray[np.generic]]:
    """All arrays of these shards, joined in the order given. No pickles are read."""
    parts: dict[str, list[npt.NDArray[np.generic]]] = {}
    for path in paths:
        with np.load(path, allow_pickle=False) as shard:
            for name in shard.files:
                parts.setdefault(name, []).append(shard[name])
    return {name: np.concatenate(values) for name, values in parts.items()}

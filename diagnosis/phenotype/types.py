"""Values that cross the borders between the rooms of the science. Frozen, no behaviour beyond checks.

Arrays inside are never written to after construction.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
PixelArray = npt.NDArray[np.uint8]

CROP_SIDE = 112
EMBEDDING_SIZE = 512


@dataclass(frozen=True)
class Refusal:
    """Why a photo (or one face of it) cannot be ranked: stable code, sentence, what to do."""

    code: str
    sentence: str
    remedy: str


@dataclass(frozen=True)
class DetectedFace:
    """One face. box (4,) float32 px x0 y0 x1 y1; landmarks (5, 2) float32 px: eyes, nose, mouth corners.

    The order is left eye, right eye, nose, left and right mouth corner as seen in the picture, in the
    pixel coordinates of the full-size photo. probability in [0, 1].
    """

    box: FloatArray
    landmarks: FloatArray
    probability: float


@dataclass(frozen=True)
class Quality:
    """Measured quality of one face. score in [0, 1]; measures hold px, degrees, grey levels by name."""

    score: float
    measures: dict[str, float]
    refusal: Refusal | None = None
    warnings: tuple[Refusal, ...] = ()


@dataclass(frozen=True)
class AlignedFace:
    """pixels (112, 112, 3) uint8 RGB on the ArcFace template; landmarks (5, 2) float32 px in the photo."""

    pixels: PixelArray
    landmarks: FloatArray

    def __post_init__(self) -> None:
        if self.pixels.shape != (CROP_SIDE, CROP_SIDE, 3) or self.pixels.dtype != np.uint8:
            raise ValueError("an aligned face is (112, 112, 3) uint8")


@dataclass(frozen=True)
class EmbeddingSet:
    """rows (m, 512) float32, each of unit length: members × flip × grey of one aligned face."""

    rows: FloatArray
    model_sha256: str

    def __post_init__(self) -> None:
        if self.rows.ndim != 2 or self.rows.shape[1] != EMBEDDING_SIZE or self.rows.dtype != np.float32:
            raise ValueError("an embedding set is (m, 512) float32")


@dataclass(frozen=True)
class RankedItem:
    """One row of a ranking: rank from 1, mean cosine distance in [0, 2], gallery image that caused it.

    key is a syndrome identifier, a gene symbol or a patient key. images are gallery image keys, nearest
    first; patients is the number of gallery patients behind the row.
    """

    rank: int
    key: str
    distance: float
    images: tuple[str, ...]
    patients: int


@dataclass(frozen=True)
class Ranking:
    """First hits of one query (one photo, or several photos of one patient fused), nearest first."""

    syndromes: tuple[RankedItem, ...]
    genes: tuple[RankedItem, ...]
    patients: tuple[RankedItem, ...]
    extra: dict[str, Any] = field(default_factory=dict)

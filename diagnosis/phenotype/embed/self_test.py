"""A numerical test that every network passes before a site uses it, on inputs made by a formula."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from diagnosis.phenotype.embed.backbone import Backbone
from diagnosis.phenotype.embed.views import View, view_batch
from diagnosis.phenotype.errors import WeightsRefused
from diagnosis.phenotype.types import CROP_SIDE, EMBEDDING_SIZE, PixelArray

SMALLEST_NORM = 1e-6  # below, the direction of a float32 embedding is noise
SMALLEST_DIFFERENCE = 1e-4  # between unit rows of unlike inputs; constant networks give 0
BATCH_TOLERANCE = 1e-4  # a face alone against the same face in a batch


@dataclass(frozen=True)
class SelfTest:
    """What was measured: norms before normalising, and the largest cosine between unlike inputs."""

    smallest_norm: float
    largest_norm: float
    largest_cosine: float

    def to_json(self) -> dict[str, float]:
        """The three numbers by name."""
        return asdict(self)


def synthetic_faces(count: int) -> PixelArray:
    """(count, 112, 112, 3) uint8 RGB: an oval with eyes and a mouth over a gradient, different for each.

    No random numbers and no photo: the same on every machine.
    """
    y, x = np.mgrid[0:CROP_SIDE, 0:CROP_SIDE].astype(np.float64) / (CROP_SIDE - 1) - 0.5
    faces = [_synthetic_face(x, y, index) for index in range(count)]
    return np.stack(faces).astype(np.uint8)


def _synthetic_face(x: np.ndarray, y: np.ndarray, index: int) -> np.ndarray:
    turn = 2.399963 * index  # the golden angle: no two inputs alike
    shade = 0.5 + 0.3 * (x * np.cos(turn) + y * np.sin(turn))
    oval = (x / 0.36) ** 2 + (y / (0.44 + 0.02 * np.sin(turn))) ** 2 < 1
    eyes = (np.abs(np.abs(x) - 0.16 - 0.02 * np.cos(turn)) < 0.05) & (np.abs(y + 0.05) < 0.03)
    mouth = (np.abs(x) < 0.14 + 0.03 * np.sin(turn)) & (np.abs(y - 0.32) < 0.03)
    grey = np.where(eyes | mouth, 0.15, np.where(oval, shade + 0.2, shade - 0.1))
    tint = np.array([1.0, 0.82, 0.72]) + 0.05 * np.cos(turn)
    return np.asarray(np.clip(255 * grey[..., None] * tint, 0, 255).round())


def unit_rows(embeddings: Tensor) -> Tensor:
    """(b, 512) float32 → rows of unit length. WeightsRefused for NaN, infinity or rows without length."""
    norms = torch.linalg.vector_norm(embeddings, dim=1, keepdim=True)  # (b, 1)
    if not bool(torch.isfinite(norms).all()) or float(norms.min()) < SMALLEST_NORM:
        raise WeightsRefused(
            "The network answers a face with NaN, infinity or zeros; install its weights again from an "
            "undamaged file."
        )
    return torch.div(embeddings, norms)


def run_self_test(backbone: Backbone) -> SelfTest:
    """Embed fixed synthetic faces and check the answer.

    Raises WeightsRefused unless embeddings are (b, 512) float32, finite, not constant, the same when
    computed again and, to 1e-4, the same alone as in a batch.
    """
    faces = view_batch(synthetic_faces(3), [View(flip=False, grey=False)])  # (3, 3, 112, 112)
    with torch.inference_mode():
        embeddings = backbone.eval()(faces)
        if embeddings.shape != (len(faces), EMBEDDING_SIZE) or embeddings.dtype != torch.float32:
            raise WeightsRefused("The network does not give 512 float32 numbers per face; get another file.")
        rows = unit_rows(embeddings)
        _check_repeated(backbone, faces, rows)
    return _measure(embeddings, rows)


def _check_repeated(backbone: Backbone, faces: Tensor, rows: Tensor) -> None:
    alone = unit_rows(backbone(faces[:1]))
    again = unit_rows(backbone(faces[:1]))
    if not torch.equal(alone, again) or float((alone - rows[:1]).abs().max()) > BATCH_TOLERANCE:
        raise WeightsRefused(
            "The network gives different embeddings for the same face; its weights cannot be used."
        )


def _measure(embeddings: Tensor, rows: Tensor) -> SelfTest:
    others = ~torch.eye(len(rows), dtype=torch.bool)
    differences = torch.cdist(rows, rows)[others]
    if float(differences.min()) < SMALLEST_DIFFERENCE:
        raise WeightsRefused(
            "The network gives the same embedding for different faces; its weights are not trained or "
            "are damaged. Get the file again."
        )
    norms = torch.linalg.vector_norm(embeddings, dim=1)
    cosine = (rows @ rows.T)[others].max()
    return SelfTest(float(norms.min()), float(norms.max()), float(cosine))

"""What the default extractor is asked for: the renderer's own numbers, the syndrome, and "affected or not".

A renderer gives dense truth for nothing, so the embedding must let a linear map read off every local
change of the face; margin softmax pulls the patients of a syndrome together on top of that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from diagnosis.phenotype.types import EMBEDDING_SIZE

NO_SYNDROME = -1


@dataclass(frozen=True)
class LossWeights:
    """Dimensionless factors of the three parts, and the margin softmax' scale and angular margin."""

    regression: float = 1.0
    margin: float = 0.03
    affected: float = 0.1
    scale: float = 16.0
    margin_rad: float = 0.1


class Targets(NamedTuple):
    """parameters (b, p) float32, standardised; syndromes (b,) int64, NO_SYNDROME where unaffected."""

    parameters: Tensor
    syndromes: Tensor


class LossParts(NamedTuple):
    """Scalars float32: the parts before weighting, and their weighted sum."""

    regression: Tensor
    margin: Tensor
    affected: Tensor
    total: Tensor


class MarginSoftmax(nn.Module):
    """Additive angular margin softmax (ArcFace, Deng et al. 2019, eq. 3) over training syndromes."""

    def __init__(self, classes: int, scale: float, margin_rad: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, EMBEDDING_SIZE))
        nn.init.normal_(self.weight, std=0.01)
        self.scale = scale
        self.margin_rad = margin_rad

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """embeddings (b, 512) float32, labels (b,) int64 in 0..classes-1 → mean cross-entropy, scalar."""
        rows = functional.normalize(embeddings)
        cosines = rows @ functional.normalize(self.weight).T  # (b, classes)
        own = cosines.gather(1, labels[:, None])  # (b, 1)
        logits = cosines.scatter(1, labels[:, None], self._with_margin(own))
        return functional.cross_entropy(self.scale * logits, labels)

    def _with_margin(self, cosine: Tensor) -> Tensor:
        """cos(θ + m) while θ + m ≤ π; beyond it a line that keeps falling, so the loss stays monotone."""
        sine = (1.0 - cosine.square()).clamp_min(1e-9).sqrt()
        widened = cosine * math.cos(self.margin_rad) - sine * math.sin(self.margin_rad)
        fallback = cosine - math.sin(self.margin_rad) * self.margin_rad
        return torch.where(cosine > -math.cos(self.margin_rad), widened, fallback)


class TrainingHeads(nn.Module):
    """The three questions asked of an embedding (b, 512) while training. None of them is shipped."""

    def __init__(self, parameters: int, syndromes: int, weights: LossWeights) -> None:
        super().__init__()
        self.weights = weights
        self.regression = nn.Linear(EMBEDDING_SIZE, parameters)
        self.affected = nn.Linear(EMBEDDING_SIZE, 1)
        self.margin = MarginSoftmax(syndromes, weights.scale, weights.margin_rad)

    def start_from_zero(self) -> None:
        """So that fresh heads do not push a trained network about while they learn."""
        for head in (self.regression, self.affected):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(self, embeddings: Tensor, targets: Targets) -> LossParts:
        """embeddings (b, 512) float32 → the loss and its parts."""
        regression = functional.mse_loss(self.regression(embeddings), targets.parameters)
        is_affected = targets.syndromes != NO_SYNDROME  # (b,)
        affected = functional.binary_cross_entropy_with_logits(
            self.affected(embeddings).squeeze(1), is_affected.to(embeddings.dtype)
        )
        margin = self._margin_of_affected(embeddings, targets.syndromes, is_affected)
        total = (
            self.weights.regression * regression
            + self.weights.margin * margin
            + self.weights.affected * affected
        )
        return LossParts(regression, margin, affected, total)

    def _margin_of_affected(self, embeddings: Tensor, syndromes: Tensor, is_affected: Tensor) -> Tensor:
        if not bool(is_affected.any()):
            return embeddings.sum() * 0.0  # a batch of unaffected faces has no class to be pulled to
        part: Tensor = self.margin(embeddings[is_affected], syndromes[is_affected])
        return part

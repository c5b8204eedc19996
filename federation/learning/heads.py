"""What is trained: a member's neck and one linear classifier over the open classes, as one flat vector."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from diagnosis.phenotype.embed.backbone import Backbone
from diagnosis.phenotype.types import EMBEDDING_SIZE
from federation.learning.errors import AggregateRefused
from federation.learning.features import FeatureSet
from federation.learning.threads import one_thread

Float32 = npt.NDArray[np.float32]
Rows = dict[str, Float32]

WEIGHT, BIAS = "classifier.weight", "classifier.bias"
#: Spread of fresh classifier rows: small against trained ones, so that no class starts ahead.
FRESH_ROW_STD = 0.01


class TrainableHead(nn.Module):
    """features (b, F) → logits (b, C). BatchNorm uses its stored running statistics and never moves them."""

    def __init__(self, neck: nn.Module, classes: int) -> None:
        super().__init__()
        self.neck = copy.deepcopy(neck).eval()
        # Zeros, not nn.Linear's own start: that would draw from the process's random numbers.
        self.classifier: nn.Linear = nn.utils.skip_init(  # type: ignore[no-untyped-call]
            nn.Linear, EMBEDDING_SIZE, classes
        )
        for parameter in self.classifier.parameters():
            nn.init.zeros_(parameter)

    def train(self, mode: bool = True) -> TrainableHead:
        """Always stays in evaluation mode, or one forward pass would drift the frozen statistics."""
        return self if not mode else self.eval()

    def forward(self, features: Tensor, keep: Tensor | None = None) -> Tensor:
        """features (b, F) float32 → logits (b, C). keep (b, 512): dropout's scaled mask, if any."""
        embedding = self.neck(features)  # (b, 512)
        logits: Tensor = self.classifier(embedding if keep is None else embedding * keep)
        return logits


def build_head(backbone: Backbone, classes: int) -> TrainableHead:
    """A head on a copy of the backbone's neck; the backbone itself is never changed by training."""
    return TrainableHead(backbone.neck, classes)


def neck_outputs(neck: nn.Module, found: FeatureSet, view: str, batch_photos: int = 256) -> Float32:
    """(n, 512) float32, not normalised: what a neck answers to the cached features of one view."""
    rows = np.empty((len(found), EMBEDDING_SIZE), dtype=np.float32)
    features = found.view(view)
    with one_thread(), torch.inference_mode():
        for start in range(0, len(rows), batch_photos):
            batch = torch.from_numpy(features[start : start + batch_photos].astype(np.float32))
            rows[start : start + len(batch)] = neck.eval()(batch).numpy()
    return rows


@dataclass(frozen=True)
class TensorSlice:
    """Elements start..stop of the vector are the tensor `name` of this shape, row after row."""

    name: str
    shape: tuple[int, ...]
    start: int
    stop: int


def trained_tensors(head: TrainableHead) -> dict[str, nn.Parameter]:
    """What moves, by name: all parameters that are not fixed by the architecture, in sorted order."""
    found = {name: parameter for name, parameter in head.named_parameters() if parameter.requires_grad}
    return {name: found[name] for name in sorted(found)}


def layout_of(head: TrainableHead) -> tuple[TensorSlice, ...]:
    """Where each trained tensor stands in the vector: names in sorted order, no gaps."""
    slices, start = [], 0
    for name, tensor in trained_tensors(head).items():
        slices.append(TensorSlice(name, tuple(tensor.shape), start, start + tensor.numel()))
        start += tensor.numel()
    return tuple(slices)


def flatten(head: TrainableHead) -> Float32:
    """All trained tensors as one (k,) float32 vector."""
    return np.concatenate([tensor.detach().numpy().reshape(-1) for tensor in trained_tensors(head).values()])


def unflatten(head: TrainableHead, vector: Float32) -> None:
    """Write a (k,) float32 vector into the head. AggregateRefused for another length, dtype, or NaN."""
    layout = layout_of(head)
    if vector.shape != (layout[-1].stop,) or vector.dtype != np.float32 or not np.isfinite(vector).all():
        raise AggregateRefused(
            f"The weights of this round are not {layout[-1].stop} finite float32 numbers. Fetch them again."
        )
    tensors = trained_tensors(head)
    with torch.no_grad():
        for part in layout:
            values = torch.from_numpy(vector[part.start : part.stop].reshape(part.shape))
            tensors[part.name].copy_(values)


def slice_of(layout: Sequence[TensorSlice], name: str) -> slice:
    """Where one tensor stands."""
    part = next(part for part in layout if part.name == name)
    return slice(part.start, part.stop)


def classifier_rows(vector: Float32, layout: Sequence[TensorSlice]) -> tuple[Float32, Float32]:
    """Views of the vector: classifier weight (C, 512) and bias (C,). Writing to them writes to the vector."""
    bias = vector[slice_of(layout, BIAS)]
    return vector[slice_of(layout, WEIGHT)].reshape(len(bias), EMBEDDING_SIZE), bias


def fresh_row(identifier: str, seed: int) -> Float32:
    """(513,) float32 row and bias of a class without a published one: from seed and identifier alone.

    So every site starts a class alike, whatever other classes are open.
    """
    digest = hashlib.sha256(f"classifier\0{seed}\0{identifier}".encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest, "big"))
    row = generator.normal(0.0, FRESH_ROW_STD, EMBEDDING_SIZE + 1).astype(np.float32)
    row[-1] = 0.0
    return row


def initial_vector(
    backbone: Backbone, classes: Sequence[str], seed: int, published: Mapping[str, Float32] | None = None
) -> Float32:
    """(k,) float32: the base model's neck, published classifier rows where known, fresh ones elsewhere."""
    head = build_head(backbone, len(classes))
    vector, layout = flatten(head), layout_of(head)
    put_rows(vector, layout, classes, {name: fresh_row(name, seed) for name in classes})
    put_rows(vector, layout, classes, published or {})
    return vector


def put_rows(
    vector: Float32, layout: Sequence[TensorSlice], classes: Sequence[str], rows: Mapping[str, Float32]
) -> None:
    """Write rows (513,) = weights and bias of some classes into the vector, in place."""
    weight, bias = classifier_rows(vector, layout)
    for index, name in enumerate(classes):
        if name in rows:
            weight[index], bias[index] = rows[name][:-1], rows[name][-1]


def take_rows(vector: Float32, layout: Sequence[TensorSlice], classes: Sequence[str]) -> Rows:
    """Every class's row and bias as (513,) float32, by identifier."""
    weight, bias = classifier_rows(vector, layout)
    return {name: np.append(weight[index], bias[index]) for index, name in enumerate(classes)}


def class_weights(counts: Sequence[int]) -> Tensor:
    """Public counts (C,) → (C,) float32 weights 0.5 + 0.5 · min / count (GestaltMatcher-Arc's loss)."""
    exact = np.asarray(counts, dtype=np.float64)
    return torch.from_numpy((0.5 + 0.5 * exact.min() / exact).astype(np.float32))

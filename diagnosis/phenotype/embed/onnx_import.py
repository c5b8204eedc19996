"""InsightFace's ONNX files (glint360k_r50.onnx, glint360k_r100.onnx) → state dicts of our iResNets.

Names in an exported file are often numbers, so tensors are recognised by their place: the graph is
walked from its input to its output, and every node must be the one that an iResNet has there. Exporters
fold the BatchNorm behind a convolution into it; then the convolution's bias becomes a BatchNorm that
only adds it, which is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

from diagnosis.phenotype.embed.iresnet import (
    BATCH_NORM_EPS,
    FEATURE_SIZE,
    IRESNETS,
    STAGE_WIDTHS,
    adding_batch_norm,
)
from diagnosis.phenotype.embed.onnx_graph import Array, OnnxGraph, attributes_of
from diagnosis.phenotype.errors import WeightsRefused
from diagnosis.phenotype.types import EMBEDDING_SIZE

DEFAULT_ONNX_EPSILON = 1e-5


@dataclass(frozen=True)
class OnnxNetwork:
    """What an ONNX file holds. state has our names (trunk.…, neck.…); its values are not yet checked.

    folded is the number of BatchNorms that the exporter had folded into the layer before them.
    """

    architecture: str
    state: dict[str, Tensor]
    folded: int


def read_onnx(data: bytes, *, file_name: str) -> OnnxNetwork:
    """The iResNet-50 or -100 in an ONNX file in memory.

    Raises WeightsRefused for files with external data, absurd sizes, weights that are not float32, or
    any node that these networks do not have at its place.
    """
    try:
        graph = OnnxGraph(onnx.load_model_from_string(data).graph, file_name)
        architecture = _architecture_of(graph)
        walk = _Walk(graph)
        walk.run(IRESNETS[architecture].blocks)
    except WeightsRefused:
        raise
    except Exception as error:  # onnx has no type of its own for damage; nodes may lack inputs or attributes
        raise WeightsRefused(f"{file_name} is not a complete ONNX file; get it again.") from error
    return OnnxNetwork(architecture, walk.state, walk.folded)


def _architecture_of(graph: OnnxGraph) -> str:
    sums = [node for node in graph.nodes if node.op_type == "Add"]
    blocks = sum(not any(map(graph.is_constant, node.input)) for node in sums)
    for name, network in IRESNETS.items():
        if sum(network.blocks) == blocks:
            return name
    raise graph.refusal(f"it has {blocks} residual blocks where an iresnet50 has 24 and an iresnet100 49")


@dataclass
class _Walk:
    """One pass from input to output; collects the state dict and the nodes that were recognised."""

    graph: OnnxGraph
    state: dict[str, Tensor] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    folded: int = 0

    def run(self, blocks: tuple[int, int, int, int]) -> None:
        """The whole walk: fills state with every tensor of the iResNet with these blocks per stage."""
        at = self._convolution(self.graph.input, "trunk.conv1", "trunk.bn1", (64, 3, 3, 3), stride=1)
        at = self._prelu(at, "trunk.prelu", 64)
        inputs = STAGE_WIDTHS[0]
        for stage, (outputs, count) in enumerate(zip(STAGE_WIDTHS, blocks, strict=True), start=1):
            for block in range(count):
                name = f"trunk.layer{stage}.{block}"
                at = self._block(at, name, inputs if block == 0 else outputs, outputs, first=block == 0)
            inputs = outputs
        at = self._flatten(self._batch_norm(at, "trunk.bn2", 512))
        at = self._embedding(at)
        if at != self.graph.output or len(self.seen) != len(self.graph.nodes):
            raise self.graph.refusal("it has nodes that an iResNet does not have")

    def _block(self, at: str, name: str, inputs: int, outputs: int, *, first: bool) -> str:
        stride = 2 if first else 1
        out = self._batch_norm(at, f"{name}.bn1", inputs)
        out = self._convolution(out, f"{name}.conv1", f"{name}.bn2", (outputs, inputs, 3, 3), stride=1)
        out = self._prelu(out, f"{name}.prelu", outputs)
        out = self._convolution(out, f"{name}.conv2", f"{name}.bn3", (outputs, outputs, 3, 3), stride=stride)
        shortcut = at
        if first:
            down = f"{name}.downsample"
            shortcut = self._convolution(at, f"{down}.0", f"{down}.1", (outputs, inputs, 1, 1), stride=2)
        return self._add(out, shortcut)

    def _take(self, at: str, operation: str) -> Any:
        """The one node of this operation that reads the tensor, as its first input."""
        nodes = self.graph.consumers(at, operation)
        if len(nodes) != 1 or self.graph.resolve(nodes[0].input[0]) != at:
            raise self.graph.refusal(f"a {operation} is missing after {len(self.seen)} recognised nodes")
        self.seen.add(nodes[0].output[0])
        return nodes[0]

    def _store(self, name: str, array: Array) -> None:
        self.state[name] = torch.from_numpy(np.ascontiguousarray(array))

    def _convolution(
        self, at: str, name: str, batch_norm: str, shape: tuple[int, int, int, int], *, stride: int
    ) -> str:
        """A convolution and its BatchNorm, or the one into which it was folded."""
        node = self._take(at, "Conv")
        self._check_convolution(node, kernel=shape[2], stride=stride)
        self._store(f"{name}.weight", self.graph.weights(node.input[1], shape))
        has_bias = len(node.input) > 2 and bool(node.input[2])
        bias = self.graph.weights(node.input[2], shape[:1]) if has_bias else None
        if self.graph.only_consumer_is(node.output[0], "BatchNormalization"):
            return self._batch_norm(node.output[0], batch_norm, shape[0], inner_bias=bias)
        if bias is None:
            bias = np.zeros(shape[0], np.float32)
        self._adding_batch_norm(batch_norm, bias)
        return str(node.output[0])

    def _check_convolution(self, node: Any, *, kernel: int, stride: int) -> None:
        attributes = attributes_of(node)
        side = kernel // 2
        plain = (
            attributes.get("auto_pad", b"NOTSET") == b"NOTSET"
            and attributes.get("group", 1) == 1
            and list(attributes.get("dilations", [1, 1])) == [1, 1]
            and list(attributes.get("strides", [1, 1])) == [stride, stride]
            and list(attributes.get("pads", [0] * 4)) == [side] * 4
        )
        if not plain:
            raise self.graph.refusal("a convolution has other strides, padding, dilation or groups")

    def _adding_batch_norm(self, name: str, bias: Array) -> None:
        """What stays of a BatchNorm that the exporter folded."""
        self.folded += 1
        self.state |= adding_batch_norm(name, torch.from_numpy(bias))

    def _batch_norm(self, at: str, name: str, channels: int, inner_bias: Array | None = None) -> str:
        """A BatchNorm; a bias of the layer before it (inner_bias) moves into its mean."""
        node = self._take(at, "BatchNormalization")
        attributes = attributes_of(node)
        if len(node.input) != 5 or attributes.get("training_mode", 0):
            raise self.graph.refusal("a BatchNorm was exported in training mode")
        weight, bias, mean, variance = (self.graph.weights(n, (channels,)) for n in node.input[1:])
        # iResNet has one eps; another one in the file is the same as a shifted variance.
        shift = float(attributes.get("epsilon", DEFAULT_ONNX_EPSILON)) - BATCH_NORM_EPS
        if abs(shift) > 1e-9:
            variance = (variance + shift).astype(variance.dtype)
        self._store(f"{name}.weight", weight)
        self._store(f"{name}.bias", bias)
        self._store(f"{name}.running_mean", mean if inner_bias is None else mean - inner_bias)
        self._store(f"{name}.running_var", variance)
        return str(node.output[0])

    def _prelu(self, at: str, name: str, channels: int) -> str:
        node = self._take(at, "PRelu")
        self._store(f"{name}.weight", self.graph.channel_slopes(node.input[1], channels))
        return str(node.output[0])

    def _add(self, branch: str, shortcut: str) -> str:
        nodes = self.graph.consumers(branch, "Add")
        names = set(map(self.graph.resolve, nodes[0].input)) if len(nodes) == 1 else set()
        if names != {branch, shortcut}:
            raise self.graph.refusal("a residual block does not end in the sum with its shortcut")
        self.seen.add(nodes[0].output[0])
        return str(nodes[0].output[0])

    def _flatten(self, at: str) -> str:
        """(b, 512, 7, 7) → (b, 25088), as Flatten or as Reshape to a constant shape."""
        if self.graph.only_consumer_is(at, "Reshape"):
            node = self._take(at, "Reshape")
            target = self.graph.constant(node.input[1], (2,)).tolist()
            if target[0] not in (-1, 0, 1) or target[1] not in (-1, FEATURE_SIZE):
                raise self.graph.refusal("the features are reshaped to something else than 25088 values")
            return str(node.output[0])
        node = self._take(at, "Flatten")
        if attributes_of(node).get("axis", 1) != 1:
            raise self.graph.refusal("the features are flattened along another axis")
        return str(node.output[0])

    def _embedding(self, at: str) -> str:
        """The neck: Gemm (or MatMul and Add), then the last BatchNorm unless it was folded into it."""
        at, weight, bias = (
            self._matrix_product(at) if self.graph.only_consumer_is(at, "MatMul") else self._gemm(at)
        )
        self._store("neck.fc.weight", weight)
        self._store("neck.fc.bias", bias)
        if self.graph.only_consumer_is(at, "BatchNormalization"):
            return self._batch_norm(at, "neck.features", EMBEDDING_SIZE)
        self._adding_batch_norm("neck.features", np.zeros(EMBEDDING_SIZE, np.float32))
        return at

    def _gemm(self, at: str) -> tuple[str, Array, Array]:
        node = self._take(at, "Gemm")
        attributes = attributes_of(node)
        scales = (attributes.get("alpha", 1.0), attributes.get("beta", 1.0), attributes.get("transA", 0))
        if scales != (1.0, 1.0, 0) or len(node.input) != 3:
            raise self.graph.refusal("the last linear layer is scaled, transposed or without bias")
        transposed = bool(attributes.get("transB", 0))
        weight = self._linear_weight(node.input[1], transposed=transposed)
        return str(node.output[0]), weight, self.graph.weights(node.input[2], (EMBEDDING_SIZE,))

    def _matrix_product(self, at: str) -> tuple[str, Array, Array]:
        product = self._take(at, "MatMul")
        weight = self._linear_weight(product.input[1], transposed=False)
        adds = self.graph.consumers(product.output[0], "Add")
        biases = [name for n in adds for name in n.input if self.graph.is_constant(name)]
        if len(adds) != 1 or len(biases) != 1:
            raise self.graph.refusal("the last linear layer has no bias")
        self.seen.add(adds[0].output[0])
        return str(adds[0].output[0]), weight, self.graph.weights(biases[0], (EMBEDDING_SIZE,))

    def _linear_weight(self, name: str, *, transposed: bool) -> Array:
        """(512, 25088) as torch stores it, from the file's (512, 25088) or (25088, 512)."""
        if transposed:
            return self.graph.weights(name, (EMBEDDING_SIZE, FEATURE_SIZE))
        return self.graph.weights(name, (FEATURE_SIZE, EMBEDDING_SIZE)).T

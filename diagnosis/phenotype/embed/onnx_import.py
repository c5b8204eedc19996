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
import numpy.typing as npt
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from torch import Tensor

from diagnosis.phenotype.embed.iresnet import BATCH_NORM_EPS, FEATURE_SIZE, IRESNETS
from diagnosis.phenotype.errors import WeightsRefused
from diagnosis.phenotype.types import EMBEDDING_SIZE

MAX_NODES = 4096  # an iResNet-100 has about 400
MAX_INITIALISERS = 8192
MAX_VALUES = 100_000_000  # float32 values in all; iResNet-100 has 65.2 million
DEFAULT_ONNX_EPSILON = 1e-5
TRANSPARENT = ("Identity", "Dropout")  # the identity in evaluation

Array = npt.NDArray[Any]


def read_onnx(data: bytes, *, architecture: str | None, file_name: str) -> tuple[str, dict[str, Tensor]]:
    """(architecture, state dict in our names) of an ONNX file in memory; values are checked elsewhere.

    architecture None takes what the number of residual blocks says. Raises WeightsRefused for files with
    external data, absurd sizes, or any node that an iResNet-50 or -100 does not have at its place.
    """
    graph = _Graph(_parse(data, file_name=file_name), file_name)
    found = _architecture_of(graph)
    if architecture is not None and architecture != found:
        raise WeightsRefused(
            f"{file_name} is an {found}, not an {architecture}; install it under the architecture it has."
        )
    return found, _Walk(graph).state_dict(IRESNETS[found].blocks)


def _parse(data: bytes, *, file_name: str) -> Any:
    try:
        graph = onnx.load_model_from_string(data).graph
    except (DecodeError, ValueError, RuntimeError) as error:
        raise WeightsRefused(f"{file_name} is not an ONNX file; get it again from its origin.") from error
    if not graph.node or len(graph.node) > MAX_NODES or len(graph.initializer) > MAX_INITIALISERS:
        raise WeightsRefused(
            f"{file_name} holds no network of the size of an iResNet; give an InsightFace recognition model "
            "such as glint360k_r100.onnx."
        )
    return graph


def _architecture_of(graph: _Graph) -> str:
    blocks = sum(node.op_type == "Add" and not graph.is_bias_add(node) for node in graph.nodes)
    for name, network in IRESNETS.items():
        if sum(network.blocks) == blocks:
            return name
    raise WeightsRefused(
        f"{graph.file_name} has {blocks} residual blocks; an iresnet50 has 24 and an iresnet100 has 49. "
        "Give one of these two."
    )


class _Graph:
    """An ONNX graph with its constants by name, its consumers by tensor, and refusals with its name."""

    def __init__(self, graph: Any, file_name: str) -> None:
        self.file_name = file_name
        self._constants = {constant.name: constant for constant in graph.initializer}
        self._aliases: dict[str, str] = {}
        self.nodes: list[Any] = []
        for node in graph.node:
            self._add(node)
        inputs = [value.name for value in graph.input if value.name not in self._constants]
        if len(inputs) != 1 or len(graph.output) != 1:
            raise self.refusal("it has more than one input or output")
        self.input, self.output = inputs[0], graph.output[0].name
        self._values_read = 0

    def _add(self, node: Any) -> None:
        """Constants join the initialisers; nodes that change nothing in evaluation become aliases."""
        if node.op_type == "Constant" and len(node.attribute) == 1 and node.attribute[0].HasField("t"):
            self._constants[node.output[0]] = node.attribute[0].t
        elif node.op_type in TRANSPARENT and node.input and node.output:
            self._aliases[node.output[0]] = self.resolve(node.input[0])
        else:
            self.nodes.append(node)

    def resolve(self, name: str) -> str:
        return self._aliases.get(name, name)

    def refusal(self, what: str) -> WeightsRefused:
        return WeightsRefused(
            f"{self.file_name} is not an iResNet as InsightFace exports it: {what}. Give an InsightFace "
            "recognition model such as glint360k_r100.onnx, or an arcface_torch state dict."
        )

    def is_constant(self, name: str) -> bool:
        return self.resolve(name) in self._constants

    def is_bias_add(self, node: Any) -> bool:
        return any(self.is_constant(name) for name in node.input)

    def consumers(self, name: str) -> list[Any]:
        return [node for node in self.nodes if name in map(self.resolve, node.input)]

    def constant(self, name: str, shape: tuple[int, ...]) -> Array:
        """The named constant, which must have exactly this shape (checked before its bytes are read)."""
        tensor = self._constants.get(self.resolve(name))
        if tensor is None:
            raise self.refusal(f"{name[:80]!r} is computed where a stored tensor is needed")
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise WeightsRefused(
                f"{self.file_name} keeps its tensors in other files; save it as one file "
                "(onnx.save with save_as_external_data=False) and install that."
            )
        if tuple(tensor.dims) != shape:
            raise self.refusal(f"a tensor has shape {tuple(tensor.dims)} where {shape} is needed")
        return self._read(tensor)

    def _read(self, tensor: Any) -> Array:
        self._values_read += int(np.prod(tuple(tensor.dims), dtype=np.int64))
        if self._values_read > MAX_VALUES:
            raise self.refusal("it stores more values than an iResNet-100")
        try:
            return np.array(numpy_helper.to_array(tensor))
        except (ValueError, TypeError, RuntimeError, KeyError) as error:
            raise self.refusal("a tensor has fewer or more bytes than its shape says") from error


@dataclass
class _Walk:
    """One pass from input to output; collects the state dict and the nodes that were recognised."""

    graph: _Graph
    state: dict[str, Tensor] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    def state_dict(self, blocks: tuple[int, int, int, int]) -> dict[str, Tensor]:
        """The whole walk; the caller gets every tensor of the iResNet with these blocks per stage."""
        at = self._convolution(self.graph.input, "trunk.conv1", "trunk.bn1", (64, 3, 3, 3), stride=1)
        at = self._prelu(at, "trunk.prelu", 64)
        inputs = 64
        for stage, (outputs, count) in enumerate(zip((64, 128, 256, 512), blocks, strict=True), start=1):
            for block in range(count):
                name = f"trunk.layer{stage}.{block}"
                at = self._block(at, name, inputs if block == 0 else outputs, outputs, first=block == 0)
            inputs = outputs
        at = self._flatten(self._batch_norm(at, "trunk.bn2", 512))
        at = self._embedding(at)
        if at != self.graph.resolve(self.graph.output) or len(self.seen) != len(self.graph.nodes):
            raise self.graph.refusal("it has nodes that an iResNet does not have")
        return self.state

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
        nodes = [n for n in self.graph.consumers(at) if n.op_type == operation]
        if len(nodes) != 1 or self.graph.resolve(nodes[0].input[0]) != at:
            raise self.graph.refusal(f"a {operation} is missing after {len(self.seen)} recognised nodes")
        self.seen.add(nodes[0].output[0])
        return nodes[0]

    def _follows(self, at: str, operation: str) -> bool:
        consumers = self.graph.consumers(at)
        return len(consumers) == 1 and consumers[0].op_type == operation

    def _store(self, name: str, array: Array) -> None:
        self.state[name] = torch.from_numpy(np.ascontiguousarray(array))

    def _convolution(
        self, at: str, name: str, batch_norm: str, shape: tuple[int, int, int, int], *, stride: int
    ) -> str:
        """A convolution and its BatchNorm, or the one into which it was folded."""
        node = self._take(at, "Conv")
        self._check_convolution(node, kernel=shape[2], stride=stride)
        self._store(f"{name}.weight", self.graph.constant(node.input[1], shape))
        has_bias = len(node.input) > 2 and bool(node.input[2])
        bias = self.graph.constant(node.input[2], shape[:1]) if has_bias else None
        if self._follows(node.output[0], "BatchNormalization"):
            return self._batch_norm(node.output[0], batch_norm, shape[0], inner_bias=bias)
        if bias is None:
            bias = np.zeros(shape[0], np.float32)
        self._adding_batch_norm(batch_norm, bias)
        return str(node.output[0])

    def _check_convolution(self, node: Any, *, kernel: int, stride: int) -> None:
        attributes = _attributes(node)
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
        """A BatchNorm that only adds: weight 1, mean 0 and variance 1 - eps, whose root with eps is 1."""
        self._store(f"{name}.weight", np.ones_like(bias))
        self._store(f"{name}.bias", bias)
        self._store(f"{name}.running_mean", np.zeros_like(bias))
        self._store(f"{name}.running_var", np.full_like(bias, 1.0 - BATCH_NORM_EPS))

    def _batch_norm(self, at: str, name: str, channels: int, inner_bias: Array | None = None) -> str:
        """A BatchNorm; a bias of the layer before it (inner_bias) moves into its mean."""
        node = self._take(at, "BatchNormalization")
        attributes = _attributes(node)
        if len(node.input) != 5 or attributes.get("training_mode", 0):
            raise self.graph.refusal("a BatchNorm was exported in training mode")
        weight, bias, mean, variance = (self.graph.constant(n, (channels,)) for n in node.input[1:])
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
        self._store(f"{name}.weight", self.graph.constant(node.input[1], (channels, 1, 1)).reshape(-1))
        return str(node.output[0])

    def _add(self, branch: str, shortcut: str) -> str:
        nodes = [n for n in self.graph.consumers(branch) if n.op_type == "Add"]
        names = set(map(self.graph.resolve, nodes[0].input)) if len(nodes) == 1 else set()
        if names != {branch, shortcut}:
            raise self.graph.refusal("a residual block does not end in the sum with its shortcut")
        self.seen.add(nodes[0].output[0])
        return str(nodes[0].output[0])

    def _flatten(self, at: str) -> str:
        """(b, 512, 7, 7) → (b, 25088), as Flatten or as Reshape to a constant shape."""
        if self._follows(at, "Reshape"):
            node = self._take(at, "Reshape")
            target = self.graph.constant(node.input[1], (2,)).tolist()
            if target[0] not in (-1, 0, 1) or target[1] not in (-1, FEATURE_SIZE):
                raise self.graph.refusal("the features are reshaped to something else than 25088 values")
            return str(node.output[0])
        node = self._take(at, "Flatten")
        if _attributes(node).get("axis", 1) != 1:
            raise self.graph.refusal("the features are flattened along another axis")
        return str(node.output[0])

    def _embedding(self, at: str) -> str:
        """The neck: Gemm (or MatMul and Add), then the last BatchNorm unless it was folded into it."""
        at, weight, bias = self._matrix_product(at) if self._follows(at, "MatMul") else self._gemm(at)
        self._store("neck.fc.weight", weight)
        self._store("neck.fc.bias", bias)
        if self._follows(at, "BatchNormalization"):
            return self._batch_norm(at, "neck.features", EMBEDDING_SIZE)
        self._adding_batch_norm("neck.features", np.zeros(EMBEDDING_SIZE, np.float32))
        return at

    def _gemm(self, at: str) -> tuple[str, Array, Array]:
        node = self._take(at, "Gemm")
        attributes = _attributes(node)
        scales = (attributes.get("alpha", 1.0), attributes.get("beta", 1.0), attributes.get("transA", 0))
        if scales != (1.0, 1.0, 0) or len(node.input) != 3:
            raise self.graph.refusal("the last linear layer is scaled, transposed or without bias")
        transposed = bool(attributes.get("transB", 0))
        weight = self._linear_weight(node.input[1], transposed=transposed)
        return str(node.output[0]), weight, self.graph.constant(node.input[2], (EMBEDDING_SIZE,))

    def _matrix_product(self, at: str) -> tuple[str, Array, Array]:
        product = self._take(at, "MatMul")
        weight = self._linear_weight(product.input[1], transposed=False)
        adds = [n for n in self.graph.consumers(product.output[0]) if n.op_type == "Add"]
        biases = [name for n in adds for name in n.input if self.graph.is_constant(name)]
        if len(adds) != 1 or len(biases) != 1:
            raise self.graph.refusal("the last linear layer has no bias")
        self.seen.add(adds[0].output[0])
        return str(adds[0].output[0]), weight, self.graph.constant(biases[0], (EMBEDDING_SIZE,))

    def _linear_weight(self, name: str, *, transposed: bool) -> Array:
        """(512, 25088) as torch stores it, from the file's (512, 25088) or (25088, 512)."""
        if transposed:
            return self.graph.constant(name, (EMBEDDING_SIZE, FEATURE_SIZE))
        return self.graph.constant(name, (FEATURE_SIZE, EMBEDDING_SIZE)).T


def _attributes(node: Any) -> dict[str, Any]:
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}

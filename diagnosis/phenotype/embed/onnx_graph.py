"""An ONNX graph as the importer reads it: constants by name, consumers by tensor, refusals by sentence.

Only the `onnx` package's message types are used; nothing of the graph is run.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from diagnosis.phenotype.errors import WeightsRefused

MAX_NODES = 4096  # an iResNet-100 has about 400
MAX_INITIALISERS = 8192
MAX_VALUES = 100_000_000  # in all tensors that are read; an iResNet-100 has 65.2 million
TRANSPARENT = ("Identity", "Dropout")  # change nothing in evaluation
OWN_DOMAINS = ("", "ai.onnx")

Array = npt.NDArray[Any]


class OnnxGraph:
    """A checked view of one ONNX graph with one input and one output.

    Identity, Dropout, Constant and Unsqueeze of a constant disappear: `nodes` holds what computes.
    """

    def __init__(self, graph: Any, file_name: str) -> None:
        self.file_name = file_name
        if not graph.node or len(graph.node) > MAX_NODES or len(graph.initializer) > MAX_INITIALISERS:
            raise self.refusal("it has no nodes, or many times those of an iResNet-100")
        self._constants = {constant.name: constant for constant in graph.initializer}
        self._aliases: dict[str, str] = {}
        self._unsqueezed: dict[str, Any] = {}
        self._consumers: dict[str, list[Any]] = defaultdict(list)
        self._values_read = 0
        self.nodes: list[Any] = []
        for node in graph.node:
            self._add(node)
        inputs = [value.name for value in graph.input if value.name not in self._constants]
        if len(inputs) != 1 or len(graph.output) != 1:
            raise self.refusal("it has more than one input or output")
        self.input, self.output = inputs[0], self.resolve(graph.output[0].name)

    def _add(self, node: Any) -> None:
        if node.domain not in OWN_DOMAINS:
            raise self.refusal("it uses operations that are not ONNX's own")
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            self._constants[node.output[0]] = node.attribute[0].t
        elif node.op_type in TRANSPARENT:
            self._aliases[node.output[0]] = self.resolve(node.input[0])
        elif node.op_type == "Unsqueeze" and self.is_constant(node.input[0]):
            self._unsqueezed[node.output[0]] = node
        else:
            self.nodes.append(node)
            for name in {self.resolve(name) for name in node.input}:
                self._consumers[name].append(node)

    def refusal(self, what: str) -> WeightsRefused:
        """The error to raise when the file is not an iResNet because of `what`."""
        return WeightsRefused(
            f"{self.file_name} is not an iResNet as InsightFace exports it: {what}. Give an InsightFace "
            "recognition model such as glint360k_r100.onnx, or an arcface_torch state dict."
        )

    def resolve(self, name: str) -> str:
        """The tensor that this name stands for, behind nodes that change nothing."""
        return self._aliases.get(name, name)

    def consumers(self, name: str, operation: str) -> list[Any]:
        """The nodes of this operation that read the tensor."""
        return [node for node in self._consumers[name] if node.op_type == operation]

    def only_consumer_is(self, name: str, operation: str) -> bool:
        """Whether exactly one node reads the tensor, and is of this operation."""
        return [node.op_type for node in self._consumers[name]] == [operation]

    def is_constant(self, name: str) -> bool:
        """Whether the tensor is stored in the file."""
        return self.resolve(name) in self._constants

    def constant(self, name: str, shape: tuple[int, ...]) -> Array:
        """The stored tensor, which must have exactly this shape (checked before its bytes are read)."""
        tensor = self._constants.get(self.resolve(name))
        if tensor is None:
            raise self.refusal("a tensor is computed where a stored one is needed")
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise WeightsRefused(
                f"{self.file_name} keeps its tensors in other files; save it as one file "
                "(onnx.save with save_as_external_data=False) and install that."
            )
        if tuple(tensor.dims) != shape:
            raise self.refusal(f"a tensor has shape {tuple(tensor.dims)} where {shape} is needed")
        self._values_read += int(np.prod(shape))
        if self._values_read > MAX_VALUES:
            raise self.refusal("it stores more values than an iResNet-100")
        return np.array(numpy_helper.to_array(tensor))

    def weights(self, name: str, shape: tuple[int, ...]) -> Array:
        """`constant` that must be float32."""
        array = self.constant(name, shape)
        if array.dtype != np.float32:
            raise WeightsRefused(
                f"{self.file_name} stores weights as {array.dtype}; convert it to float32 and save it again."
            )
        return array

    def channel_slopes(self, name: str, channels: int) -> Array:
        """(channels,) slopes of a PRelu on maps: stored as (channels, 1, 1), or unsqueezed to that."""
        node = self._unsqueezed.get(self.resolve(name))
        if node is None:
            return self.weights(name, (channels, 1, 1)).reshape(channels)
        axes = attributes_of(node).get("axes")
        if axes is None:  # an input since opset 13
            axes = self.constant(node.input[1], (2,)).tolist()
        if list(axes) != [1, 2]:
            raise self.refusal("the slopes of a PRelu do not lie along the channels")
        return self.weights(node.input[0], (channels,))


def attributes_of(node: Any) -> dict[str, Any]:
    """Name → value of a node's attributes."""
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}

"""State dicts as GestaltMatcher-Arc's training saves them, made here from an exported network."""

from __future__ import annotations

import io
import warnings
from collections import Counter

import onnx
import pytest
import torch
from onnx import numpy_helper

from diagnosis.phenotype.embed.gestaltmatcher import read_gestaltmatcher
from diagnosis.phenotype.embed.install import convert_weights
from diagnosis.phenotype.embed.views import View, view_batch
from diagnosis.phenotype.embed.weights import fill_backbone
from diagnosis.phenotype.errors import WeightsRefused


def onnx_nodes(network):
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = (torch.zeros(1, 3, 112, 112),)
        torch.onnx.export(network, example, stream, dynamo=False, opset_version=11)
    graph = onnx.load_model_from_string(stream.getvalue()).graph
    constants = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Identity":
            constants[node.output[0]] = constants[node.input[0]]
    return [node for node in graph.node if node.op_type != "Identity"], constants


PARAMETERS = {
    "Conv": ("weight", "bias"),
    "Gemm": ("weight", "bias"),
    "BatchNormalization": ("weight", "bias", "running_mean", "running_var"),
}


@pytest.fixture(scope="module")
def saved_state(iresnets):
    """What onnx2torch and GestaltMatcher make of an ONNX file: modules by operation and number within it."""
    nodes, constants = onnx_nodes(iresnets["iresnet50"])
    state, head, numbers = {}, {}, Counter()
    for node in nodes:
        name = f"{node.op_type}_{numbers[node.op_type]}"
        numbers[node.op_type] += 1
        if node.op_type == "PRelu":
            slopes = numbers["PRelu"] - 1
            state[f"base.initializers.onnx_initializer_{slopes}"] = constants[node.input[1]]
        in_head = node.op_type == "Gemm" or name == "BatchNormalization_25"
        for parameter, value in zip(PARAMETERS.get(node.op_type, ()), node.input[1:], strict=False):
            target = head if in_head else state
            target[f"{'features' if in_head else 'base'}.{name}.{parameter}"] = constants[value]
        if node.op_type == "BatchNormalization":
            target[f"{'features' if in_head else 'base'}.{name}.num_batches_tracked"] = torch.tensor(0)
    head |= {"classifier.1.weight": torch.rand(204, 512), "classifier.1.bias": torch.rand(204)}
    return state | head


def test_a_gestaltmatcher_state_dict_installs(saved_state, iresnets, faces, tmp_path):
    path = tmp_path / "s1_glint360k_r50.pt"
    torch.save(saved_state, path)
    converted = convert_weights(path)
    assert (converted.architecture, converted.source_format) == ("iresnet50", "gestaltmatcher")
    assert converted.folded_batch_norms == 53
    tensors = read_gestaltmatcher(without_counters(saved_state), file_name="x").state
    network = fill_backbone(tensors, architecture="iresnet50", file_name="x")
    batch = view_batch(faces[:2], [View(flip=False, grey=False)])
    with torch.inference_mode():
        expected = iresnets["iresnet50"](batch)
        assert torch.allclose(network(batch), expected, atol=1e-4)
    with pytest.raises(WeightsRefused, match="is an iresnet50, not an iresnet100"):
        convert_weights(path, architecture="iresnet100")


def without_counters(state):
    return {name: tensor for name, tensor in state.items() if "num_batches" not in name}


def drop_last_slopes(state):
    del state["base.initializers.onnx_initializer_24"]


def drop_a_bias(state):
    del state["base.Conv_7.bias"]


def drop_a_batch_norm(state):
    for part in PARAMETERS["BatchNormalization"]:
        del state[f"base.BatchNormalization_3.{part}"]


def add_a_convolution(state):
    state["base.Conv_99.weight"], state["base.Conv_99.bias"] = torch.zeros(1, 1, 1, 1), torch.zeros(1)


def drop_the_head(state):
    for name in [name for name in state if name.startswith("features.Gemm")]:
        del state[name]


@pytest.mark.parametrize(
    "spoil", [drop_last_slopes, drop_a_bias, drop_a_batch_norm, add_a_convolution, drop_the_head]
)
def test_another_network_in_those_names_is_refused(saved_state, spoil):
    state = without_counters(saved_state)
    spoil(state)
    with pytest.raises(WeightsRefused, match="is not its iResNet-50 or -100"):
        read_gestaltmatcher(state, file_name="x.pt")


def test_convolutions_in_another_order_do_not_pass_for_an_iresnet(saved_state):
    """The widths of neighbouring stages differ, so a shifted order fails on a shape."""
    state = without_counters(saved_state)
    names = [name for name in state if name.startswith("base.Conv")]
    moved = {name: state[name] for name in [*names[2:], *names[:2]]}
    state = {n: t for n, t in state.items() if n not in moved} | moved
    with pytest.raises(WeightsRefused, match="of shape"):
        tensors = read_gestaltmatcher(state, file_name="x.pt").state
        fill_backbone(tensors, architecture="iresnet50", file_name="x.pt")

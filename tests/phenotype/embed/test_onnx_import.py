"""ONNX files as InsightFace exports them: numerically against onnxruntime, and refused where they differ."""

from __future__ import annotations

import io
import warnings
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from diagnosis.phenotype.embed.install import convert_weights
from diagnosis.phenotype.embed.onnx_import import read_onnx
from diagnosis.phenotype.embed.views import View, view_batch
from diagnosis.phenotype.embed.weights import load_weights
from diagnosis.phenotype.errors import WeightsRefused

ARCHITECTURES = ("iresnet50", "iresnet100")
CONVOLUTIONS = {"iresnet50": 53, "iresnet100": 103}


def exported(network, *, folded, opset=11):
    """The network as an ONNX file: like InsightFace's own exports (folded), or with every BatchNorm."""
    options = {} if folded else {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = (torch.zeros(1, 3, 112, 112),)
        axes = {"data": {0: "n"}}
        torch.onnx.export(
            network, example, stream, dynamo=False, opset_version=opset, input_names=["data"],
            dynamic_axes=axes, **options,
        )  # fmt: skip
    return numbered(onnx.load_model_from_string(stream.getvalue()))


def numbered(model):
    """The same graph with a number for every name, in an order that tells nothing."""
    names = {name for node in model.graph.node for name in (*node.input, *node.output)}
    order = np.random.default_rng(1).permutation(len(names))
    number = {name: str(order[i]) for i, name in enumerate(sorted(names))}
    for node in model.graph.node:
        node.name = ""
        node.input[:] = [number[name] for name in node.input]
        node.output[:] = [number[name] for name in node.output]
    for value in (*model.graph.initializer, *model.graph.input, *model.graph.output):
        value.name = number[value.name]
    del model.graph.value_info[:]
    return model


def embedded_by_onnxruntime(data, faces):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: faces})[0]


@pytest.fixture(scope="module")
def onnx_file(iresnets):
    """(architecture, folded) → bytes of its ONNX file; the iResNet-50's are kept for several tests."""
    kept = {}

    def make(architecture, folded):
        if (architecture, folded) in kept:
            return kept[architecture, folded]
        data = exported(iresnets[architecture], folded=folded).SerializeToString()
        if architecture == "iresnet50":
            kept[architecture, folded] = data
        return data

    return make


@pytest.fixture(scope="module")
def inputs(faces):
    return view_batch(faces[:2], [View(flip=False, grey=False)])


@pytest.mark.parametrize("folded", [True, False], ids=["folded", "not folded"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_onnx_file_installs_and_gives_onnxruntimes_embeddings(
    onnx_file, inputs, tmp_path, architecture, folded
):
    data = onnx_file(architecture, folded)
    nodes = onnx.load_model_from_string(data).graph.node
    batch_norms = Counter(node.op_type for node in nodes)["BatchNormalization"]
    assert batch_norms == {  # folded, only those before a convolution, and the two last, remain
        ("iresnet50", True): 26, ("iresnet100", True): 51,
        ("iresnet50", False): 79, ("iresnet100", False): 154,
    }[architecture, folded]  # fmt: skip
    source, installed = tmp_path / "glint360k.onnx", tmp_path / "installed.safetensors"
    source.write_bytes(data)
    converted = convert_weights(source)
    assert converted.architecture == architecture
    assert converted.folded_batch_norms == (CONVOLUTIONS[architecture] if folded else 0)
    installed.write_bytes(converted.data)
    network = load_weights(installed, sha256=converted.sha256, architecture=architecture)
    expected = embedded_by_onnxruntime(data, inputs.numpy())
    with torch.inference_mode():
        ours = network(inputs).numpy()
    assert np.linalg.norm(expected, axis=1).min() > 1  # so that 1e-4 is also a small relative difference
    assert np.abs(ours - expected).max() < 1e-4
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (ours, expected)]
    assert np.abs(unit[0] - unit[1]).max() < 1e-5


@pytest.fixture(scope="module")
def small_model(onnx_file):
    """A folded iResNet-50 to spoil. Copies are cheap: all convolutions share one constant per shape."""
    return shared_constants(onnx.load_model_from_string(onnx_file("iresnet50", True)))


def shared_constants(model):
    """Equal shapes get the same zeros: the graph stays an iResNet's, the file becomes small."""
    first = {}
    for tensor in list(model.graph.initializer):
        key = (tuple(tensor.dims), tensor.data_type)
        if tensor.data_type == TensorProto.FLOAT and key in first:
            for node in model.graph.node:
                node.input[:] = [first[key] if name == tensor.name else name for name in node.input]
            model.graph.initializer.remove(tensor)
        else:
            first[key] = tensor.name
    keep = [t for t in model.graph.initializer if np.prod(t.dims) < 10_000]
    large = [t.name for t in model.graph.initializer if np.prod(t.dims) >= 10_000]
    dims = {t.name: list(t.dims) for t in model.graph.initializer if t.name in large}
    del model.graph.initializer[:]
    model.graph.initializer.extend(keep)
    for name in large:  # no bytes behind the large ones: reading stops there at the latest
        model.graph.initializer.append(TensorProto(name=name, dims=dims[name], data_type=TensorProto.FLOAT))
    return model


def nodes_of(model, operation):
    return [node for node in model.graph.node if node.op_type == operation]


def constant(model, name):
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def set_attribute(node, name, value):
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def stride(model):
    set_attribute(nodes_of(model, "Conv")[0], "strides", [2, 2])


def padding(model):
    set_attribute(nodes_of(model, "Conv")[0], "pads", [0, 0, 0, 0])


def groups(model):
    set_attribute(nodes_of(model, "Conv")[0], "group", 3)


def external(model):
    tensor = constant(model, nodes_of(model, "Conv")[0].input[1])
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")


def half_precision(model):
    tensor = constant(model, nodes_of(model, "Conv")[0].input[1])
    halved = numpy_helper.to_array(tensor).astype(np.float16)
    tensor.CopyFrom(numpy_helper.from_array(halved, tensor.name))


def other_shape(model):
    tensor = constant(model, nodes_of(model, "Conv")[0].input[1])
    tensor.dims[:] = [3, 64, 3, 3]


def absurd_shape(model):
    tensor = constant(model, nodes_of(model, "Conv")[0].input[1])
    tensor.dims[:] = [1 << 40, 1 << 20, 3, 3]


def normalises_inside(model):
    first = nodes_of(model, "Conv")[0]
    model.graph.initializer.append(numpy_helper.from_array(np.array([127.5], np.float32), "grey"))
    model.graph.node.insert(0, helper.make_node("Sub", [first.input[0], "grey"], ["shifted"]))
    first.input[0] = "shifted"


def other_activation(model):
    node = nodes_of(model, "PRelu")[0]
    node.op_type = "Relu"
    del node.input[1:]


def one_block_fewer(model):
    last = nodes_of(model, "Add")[-1]
    last.op_type = "Mul"


def another_head(model):
    model.graph.node.append(helper.make_node("Relu", [model.graph.output[0].name], ["positive"]))
    model.graph.output[0].name = "positive"


def two_outputs(model):
    model.graph.output.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


def training(model):
    set_attribute(nodes_of(model, "BatchNormalization")[0], "training_mode", 1)


def own_operation(model):
    nodes_of(model, "Conv")[0].domain = "com.example"


def no_inputs(model):
    del nodes_of(model, "Conv")[0].input[:]


def empty(model):
    del model.graph.node[:]


def too_many_nodes(model):
    name = model.graph.input[0].name
    model.graph.node.extend(helper.make_node("Relu", [name], [f"r{i}"]) for i in range(5000))


SPOILT = [
    (stride, "a convolution has other strides"),
    (padding, "a convolution has other strides, padding"),
    (groups, "a convolution has other strides, padding, dilation or groups"),
    (external, "keeps its tensors in other files; save it as one file"),
    (half_precision, "stores weights as float16; convert it to float32"),
    (other_shape, r"shape \(3, 64, 3, 3\) where \(64, 3, 3, 3\) is needed"),
    (absurd_shape, r"where \(64, 3, 3, 3\) is needed"),
    (normalises_inside, "a Conv is missing after 0 recognised nodes"),
    (other_activation, "a PRelu is missing after 1 recognised nodes"),
    (one_block_fewer, "has 23 residual blocks"),
    (two_outputs, "more than one input or output"),
    (training, "exported in training mode"),
    (own_operation, "operations that are not ONNX's own"),
    (no_inputs, "a Conv is missing after 0 recognised nodes"),
    (empty, "no nodes"),
    (too_many_nodes, "many times those of an iResNet-100"),
]


@pytest.mark.parametrize(("spoil", "sentence"), SPOILT, ids=lambda value: getattr(value, "__name__", None))
def test_another_graph_is_refused_with_what_to_do(small_model, spoil, sentence):
    model = onnx.ModelProto()
    model.CopyFrom(small_model)
    spoil(model)
    with pytest.raises(WeightsRefused, match=sentence):
        read_onnx(model.SerializeToString(), file_name="model.onnx")


def test_a_tensor_with_fewer_bytes_than_its_shape_is_refused(small_model):
    model = onnx.ModelProto()
    model.CopyFrom(small_model)
    tensor = constant(model, nodes_of(model, "Conv")[0].input[1])
    tensor.raw_data = tensor.raw_data[:-4]
    with pytest.raises(WeightsRefused, match="not a complete ONNX file") as refusal:
        read_onnx(model.SerializeToString(), file_name="model.onnx")
    assert str(64 * 27 - 1) in str(refusal.value.__cause__)  # it was this tensor


def test_a_node_behind_the_embedding_is_refused(onnx_file):
    model = onnx.load_model_from_string(onnx_file("iresnet50", True))
    another_head(model)
    with pytest.raises(WeightsRefused, match="nodes that an iResNet does not have"):
        read_onnx(model.SerializeToString(), file_name="model.onnx")


def test_nan_in_an_onnx_file_is_refused(onnx_file, tmp_path):
    model = onnx.load_model_from_string(onnx_file("iresnet50", True))
    bias = constant(model, nodes_of(model, "Gemm")[0].input[2])
    bias.CopyFrom(numpy_helper.from_array(np.full(512, np.nan, np.float32), bias.name))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(WeightsRefused, match=r"NaN or infinity in neck\.fc\.bias; get an undamaged file"):
        convert_weights(path)


def test_an_iresnet50_is_not_installed_as_iresnet100(onnx_file, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_file("iresnet50", True))
    with pytest.raises(WeightsRefused, match="is an iresnet50, not an iresnet100; install it as what it is"):
        convert_weights(path, architecture="iresnet100")


def test_a_folded_head_another_eps_a_reshape_and_a_matrix_product_are_understood(onnx_file, iresnets, inputs):
    """What other exporters and simplifiers write: the walk must read it as the same network."""
    model = onnx.load_model_from_string(onnx_file("iresnet50", False))
    with torch.inference_mode():
        expected = iresnets["iresnet50"](inputs).numpy()
    for node in nodes_of(model, "BatchNormalization")[:10]:
        set_attribute(node, "epsilon", 2e-5)
        names = node.input[4]
        variance = constant(model, resolve(model, names))
        other = (numpy_helper.to_array(variance).astype(np.float64) - 1e-5).astype(np.float32)
        node.input[4] = f"{node.output[0]} variance"
        model.graph.initializer.append(numpy_helper.from_array(other, node.input[4]))
    fold_head(model)
    data = model.SerializeToString()
    assert np.abs(embedded_by_onnxruntime(data, inputs.numpy()) - expected).max() < 1e-4
    read = read_onnx(data, file_name="model.onnx")
    assert read.folded == 1
    network = type(iresnets["iresnet50"])().eval()
    network.load_state_dict(read.state, strict=False)
    with torch.inference_mode():
        assert np.abs(network(inputs).numpy() - expected).max() < 1e-4


def resolve(model, name):
    """The initialiser behind Identity nodes (the exporter stores equal constants once)."""
    sources = {node.output[0]: node.input[0] for node in nodes_of(model, "Identity")}
    while name in sources:
        name = sources[name]
    return name


def fold_head(model):
    """Flatten → Reshape, Gemm and BatchNorm → MatMul and Add with the BatchNorm's factors inside."""
    flatten, gemm = nodes_of(model, "Flatten")[0], nodes_of(model, "Gemm")[0]
    batch_norm = nodes_of(model, "BatchNormalization")[-1]
    weight, bias = (numpy_helper.to_array(constant(model, resolve(model, n))) for n in gemm.input[1:])
    gamma, beta, mean, variance = (
        numpy_helper.to_array(constant(model, resolve(model, n))) for n in batch_norm.input[1:]
    )
    scale = gamma / np.sqrt(variance + 1e-5)
    arrays = {
        "target": np.array([-1, 25088]),
        "factor": np.ascontiguousarray((weight * scale[:, None]).T),
        "offset": (bias - mean) * scale + beta,
    }
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    for node in (flatten, gemm, batch_norm):
        model.graph.node.remove(node)
    model.graph.node.extend(
        [
            helper.make_node("Reshape", [flatten.input[0], "target"], ["flat"]),
            helper.make_node("MatMul", ["flat", "factor"], ["product"]),
            helper.make_node("Add", ["offset", "product"], [batch_norm.output[0]]),
        ]
    )


def test_mutated_files_are_refused_or_harmless(small_model):
    """300 files with bytes changed and 50 cut short: WeightsRefused, and no other error.

    All are refused at the latest where the large tensors should be.
    """
    good = small_model.SerializeToString()
    assert len(good) < 1_500_000
    generator = np.random.default_rng(9)
    for _ in range(300):
        data = bytearray(good)
        for position in generator.integers(0, len(good), generator.integers(1, 30)):
            data[position] = generator.integers(0, 256)
        with pytest.raises(WeightsRefused):
            read_onnx(bytes(data), file_name="model.onnx")
    for length in np.linspace(0, len(good) - 1, 50).astype(int):
        with pytest.raises(WeightsRefused):
            read_onnx(good[:length], file_name="model.onnx")

"""The layout of arcface_torch's iResNets, written out as a table from its published state dicts."""

from __future__ import annotations

import pytest
import torch

from diagnosis.phenotype.embed.backbone import BACKBONES, build_backbone, scale_pixels
from diagnosis.phenotype.embed.install import arcface_names
from diagnosis.phenotype.errors import WeightsRefused

BLOCKS = {"iresnet50": (3, 4, 14, 3), "iresnet100": (3, 13, 30, 3)}
PARAMETERS = {"iresnet50": 43_590_848, "iresnet100": 65_156_160}
TENSORS = {"iresnet50": 6 + 24 * 15 + 4 * 5 + 10, "iresnet100": 6 + 49 * 15 + 4 * 5 + 10}  # no batch counters


def batch_norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}


def block(name: str, inputs: int, outputs: int, first: bool) -> dict[str, tuple[int, ...]]:
    table = {
        **batch_norm(f"{name}.bn1", inputs),
        f"{name}.conv1.weight": (outputs, inputs, 3, 3),
        **batch_norm(f"{name}.bn2", outputs),
        f"{name}.prelu.weight": (outputs,),
        f"{name}.conv2.weight": (outputs, outputs, 3, 3),
        **batch_norm(f"{name}.bn3", outputs),
    }
    if first:
        table[f"{name}.downsample.0.weight"] = (outputs, inputs, 1, 1)
        table |= batch_norm(f"{name}.downsample.1", outputs)
    return table


def published_layout(blocks: tuple[int, int, int, int]) -> dict[str, tuple[int, ...]]:
    table = {"conv1.weight": (64, 3, 3, 3), **batch_norm("bn1", 64), "prelu.weight": (64,)}
    inputs = 64
    for stage, (outputs, count) in enumerate(zip((64, 128, 256, 512), blocks, strict=True), start=1):
        for index in range(count):
            table |= block(f"layer{stage}.{index}", inputs if index == 0 else outputs, outputs, index == 0)
        inputs = outputs
    table |= batch_norm("bn2", 512)
    table |= {"fc.weight": (512, 25088), "fc.bias": (512,), **batch_norm("features", 512)}
    return table


@pytest.mark.parametrize("architecture", BLOCKS)
def test_names_and_shapes_are_those_of_arcface_torch(architecture):
    layout = arcface_names(architecture)
    assert layout == published_layout(BLOCKS[architecture])
    assert len(layout) == TENSORS[architecture]


@pytest.mark.parametrize("architecture", BLOCKS)
def test_parameter_counts(iresnets, architecture):
    network = iresnets[architecture]
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[architecture]
    trained = sum(p.numel() for p in network.neck.parameters() if p.requires_grad)
    assert trained == 25088 * 512 + 512 + 512  # Linear with bias, and BatchNorm's bias: its weight stays 1


@pytest.mark.parametrize("architecture", BLOCKS)
def test_every_batch_norm_has_the_published_eps(iresnets, architecture):
    eps = {m.eps for m in iresnets[architecture].modules() if hasattr(m, "running_var")}
    assert eps == {1e-5}


def test_shapes_from_face_to_embedding(iresnets, faces):
    network = iresnets["iresnet50"]
    with torch.inference_mode():
        features = network.trunk(scale_pixels(torch.from_numpy(faces[:2])))
        embedding = network.neck(features)
        whole = network(scale_pixels(torch.from_numpy(faces[:2])))
    assert features.shape == (2, 25088) and network.feature_size == 25088
    assert embedding.shape == (2, 512) and embedding.dtype == torch.float32
    assert torch.equal(embedding, whole)


def test_features_are_channel_major(iresnets, faces):
    """The neck's 25088 inputs lie as (512, 7, 7), in whatever order the memory holds the maps."""
    trunk = iresnets["iresnet50"].trunk
    x = scale_pixels(torch.from_numpy(faces[:1]))
    maps = []
    hook = trunk.bn2.register_forward_hook(lambda module, inputs, output: maps.append(output))
    with torch.inference_mode():
        plain = trunk(x)
        nhwc = trunk(x.contiguous(memory_format=torch.channels_last))
    hook.remove()
    assert torch.equal(plain, maps[0].reshape(1, 512 * 7 * 7))
    assert torch.allclose(plain, nhwc, atol=1e-5)


def test_the_scale_of_the_input():
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 1, 1, 3).expand(1, 112, 112, 3)
    scaled = scale_pixels(pixels)
    assert scaled.shape == (1, 3, 112, 112)
    assert torch.allclose(scaled[0, :, 0, 0], torch.tensor([-1.0, -0.6, 1.0]), atol=1e-6)


@pytest.mark.parametrize("architecture", sorted(BACKBONES))
def test_every_registered_network_names_itself_and_keeps_its_word(architecture):
    network = build_backbone(architecture)
    assert network.architecture == architecture
    assert not network.training
    with torch.inference_mode():
        features = network.trunk(torch.zeros(1, 3, 112, 112))
        assert features[0].numel() == network.feature_size
        assert network.neck(features).shape == (1, 512)


def test_an_unknown_network_is_refused_with_the_known_ones():
    with pytest.raises(WeightsRefused, match="choose one of: compact, iresnet100, iresnet50"):
        build_backbone("vgg")

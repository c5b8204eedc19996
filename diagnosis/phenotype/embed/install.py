"""Weights from elsewhere → the one file form of this site: what `manage.py install_weights` does, without I/O
beyond reading the source.

Known sources: InsightFace ONNX files, torch.save state dicts with the names of arcface_torch, of
GestaltMatcher-Arc or of our own, the same as safetensors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from diagnosis.phenotype.embed.backbone import BACKBONES
from diagnosis.phenotype.embed.gestaltmatcher import is_gestaltmatcher, read_gestaltmatcher
from diagnosis.phenotype.embed.iresnet import IRESNETS
from diagnosis.phenotype.embed.onnx_import import read_onnx
from diagnosis.phenotype.embed.self_test import SelfTest, run_self_test
from diagnosis.phenotype.embed.state_dict_file import looks_like_torch_file, read_state_dict
from diagnosis.phenotype.embed.weights import (
    BATCH_COUNTER,
    Layout,
    backbone_layout,
    check_sha256,
    fill_backbone,
    read_bounded,
    read_safetensors,
    serialize_weights,
)
from diagnosis.phenotype.errors import WeightsRefused

DATA_PARALLEL = "module."  # what torch's parallel wrappers put before every name
NECK_LAYERS = ("fc", "features")  # the modules of arcface_torch that are our neck


@dataclass(frozen=True)
class ConvertedWeights:
    """A safetensors file in memory and the facts that a site stores beside it."""

    data: bytes
    sha256: str
    architecture: str
    source_name: str
    source_sha256: str
    source_format: str  # "onnx", "state dict", "gestaltmatcher" or "safetensors"
    folded_batch_norms: int  # that an ONNX exporter had folded; they became BatchNorms that only add
    parameters: int
    self_test: SelfTest

    def facts(self) -> dict[str, Any]:
        """Everything but the data, as a JSON object."""
        names = ("sha256", "architecture", "source_name", "source_sha256", "source_format")
        counts = {"folded_batch_norms": self.folded_batch_norms, "parameters": self.parameters}
        return (
            {name: getattr(self, name) for name in names} | counts | {"self_test": self.self_test.to_json()}
        )


@dataclass(frozen=True)
class _Source:
    """Tensors in our names and what their file was."""

    tensors: Mapping[str, Tensor]
    architecture: str
    format: str
    folded: int = 0


def convert_weights(
    source_path: Path, *, architecture: str | None = None, expected_sha256: str | None = None
) -> ConvertedWeights:
    """Read, check and test a weights file of any known source; nothing is written and nothing in it is run.

    architecture: a key of BACKBONES, or None to take the one whose layout the file has. expected_sha256:
    that of the source file as its publisher gives it; checked before anything is parsed.

    Raises WeightsRefused, with what to do, for a wrong hash, a pickle that would run code or holds a
    whole network, an unknown layout, a wrong dtype or shape, NaN, infinity, values out of range, or a
    network whose embeddings fail the self-test.
    """
    name = source_path.name
    data = read_bounded(source_path)
    if expected_sha256 is not None:
        check_sha256(data, expected=expected_sha256, file_name=name)
    source_sha256 = hashlib.sha256(data).hexdigest()
    source = _read(data, architecture, file_name=name)
    del data  # a quarter of a gigabyte for the largest network
    backbone = fill_backbone(source.tensors, architecture=source.architecture, file_name=name)
    tested = run_self_test(backbone)
    converted = serialize_weights(backbone)
    return ConvertedWeights(
        data=converted,
        sha256=hashlib.sha256(converted).hexdigest(),
        architecture=source.architecture,
        source_name=name,
        source_sha256=source_sha256,
        source_format=source.format,
        folded_batch_norms=source.folded,
        parameters=sum(parameter.numel() for parameter in backbone.parameters()),
        self_test=tested,
    )


def _read(data: bytes, architecture: str | None, *, file_name: str) -> _Source:
    """The source by its content; the file's name only says whether it may be ONNX."""
    if architecture is not None and architecture not in BACKBONES:
        known = ", ".join(sorted(BACKBONES))
        raise WeightsRefused(f"There is no network named {architecture!r}; choose one of: {known}.")
    if looks_like_torch_file(data):
        tensors, kind = read_state_dict(data, file_name=file_name), "state dict"
    elif data[8:9] == b"{":
        tensors, kind = read_safetensors(data, file_name=file_name), "safetensors"
    elif file_name.lower().endswith(".onnx"):
        return _read_onnx(data, architecture, file_name=file_name)
    else:
        raise WeightsRefused(
            f"{file_name} is neither an .onnx file, nor a torch.save state dict, nor safetensors; give one "
            "of these."
        )
    if is_gestaltmatcher(tensors):
        return _read_gestaltmatcher(tensors, architecture, file_name=file_name)
    tensors = _own_names(tensors)
    return _Source(tensors, architecture or _guess_architecture(tensors, file_name=file_name), kind)


def _read_onnx(data: bytes, architecture: str | None, *, file_name: str) -> _Source:
    network = read_onnx(data, file_name=file_name)
    _check_architecture(network.architecture, architecture, file_name=file_name)
    return _Source(network.state, network.architecture, "onnx", network.folded)


def _read_gestaltmatcher(
    tensors: Mapping[str, Tensor], architecture: str | None, *, file_name: str
) -> _Source:
    network = read_gestaltmatcher(tensors, file_name=file_name)
    _check_architecture(network.architecture, architecture, file_name=file_name)
    return _Source(network.state, network.architecture, "gestaltmatcher", network.folded)


def _check_architecture(found: str, wanted: str | None, *, file_name: str) -> None:
    if wanted not in (None, found):
        raise WeightsRefused(f"{file_name} is an {found}, not an {wanted}; install it as what it is.")


def _own_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """arcface_torch's names → ours; names that are ours, and foreign ones, stay."""
    if all(name.startswith(DATA_PARALLEL) for name in tensors):
        tensors = {name.removeprefix(DATA_PARALLEL): tensor for name, tensor in tensors.items()}
    kept = {name: tensor for name, tensor in tensors.items() if not name.endswith(BATCH_COUNTER)}
    if any(name.startswith(("trunk.", "neck.")) for name in kept):
        return kept
    return {_own_name(name): tensor for name, tensor in kept.items()}


def _own_name(name: str) -> str:
    return f"neck.{name}" if name.split(".")[0] in NECK_LAYERS else f"trunk.{name}"


def arcface_names(architecture: str) -> Layout:
    """Name → shape in arcface_torch's own state dict of an iResNet, without its batch counters."""
    if architecture not in IRESNETS:
        raise WeightsRefused(f"arcface_torch has no {architecture} here; choose iresnet50 or iresnet100.")
    layout = backbone_layout(architecture)
    return {name.split(".", 1)[1]: shape for name, shape in layout.items()}


def _guess_architecture(tensors: Mapping[str, Tensor], *, file_name: str) -> str:
    """The architecture with exactly these names. With none, the user must say what the file should be."""
    for architecture in BACKBONES:
        if backbone_layout(architecture).keys() == tensors.keys():
            return architecture
    known = ", ".join(sorted(BACKBONES))
    raise WeightsRefused(
        f"The tensors of {file_name} have the names of no network that is known here; say which of {known} "
        "it should be to read what differs, or get another file."
    )

"""Weights on disk: safetensors only, addressed by sha256, checked before a network may use them.

The names in a file are those of `Backbone.state_dict()` (trunk.…, neck.…) without BatchNorm's batch
counters, which evaluation never reads. All tensors are float32 and stand in the order of their names,
without metadata, so that equal weights are equal bytes and the file's sha256 names the model.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from diagnosis.phenotype.embed.backbone import Backbone, build_backbone
from diagnosis.phenotype.errors import WeightsRefused

Layout = dict[str, tuple[int, ...]]

MAX_FILE_BYTES = 1 << 30  # the largest network here, iResNet-100, has 261 MB
MAX_HEADER_BYTES = 1 << 20
MAX_WEIGHT = 1e6  # trained networks stay below 1e3; beyond this float32 sums lose the embedding
MAX_VARIANCE = 1e12  # a running variance is a square
BATCH_COUNTER = "num_batches_tracked"


def read_bounded(path: Path) -> bytes:
    """The bytes of a regular file of at most MAX_FILE_BYTES. WeightsRefused otherwise."""
    try:
        if not path.is_file():
            raise WeightsRefused(f"{path.name} is not a file; give the path of one weights file.")
        with path.open("rb") as stream:
            if os.fstat(stream.fileno()).st_size > MAX_FILE_BYTES:
                raise WeightsRefused(
                    f"{path.name} is larger than {MAX_FILE_BYTES >> 20} MiB, more than any network that is "
                    "known here needs; give the weights file of one network."
                )
            return stream.read(MAX_FILE_BYTES)
    except OSError as error:
        raise WeightsRefused(f"{path.name} cannot be read; check that it exists and is readable.") from error


def check_sha256(data: bytes, *, expected: str, file_name: str) -> None:
    """WeightsRefused unless data has the expected sha256 (64 hexadecimal digits, any case)."""
    actual = hashlib.sha256(data).hexdigest()
    if actual != expected.strip().lower():
        raise WeightsRefused(
            f"{file_name} has sha256 {actual}, but {expected} was promised; get the file again from its "
            "origin, and compare the sha256 with the one its publisher gives."
        )


def persistent_tensors(backbone: Backbone) -> dict[str, Tensor]:
    """What a weights file holds: every parameter and buffer but the batch counters, in name order."""
    state = backbone.state_dict()
    return {name: state[name] for name in sorted(state) if not name.endswith(BATCH_COUNTER)}


def build_quietly(architecture: str) -> Backbone:
    """The network with random weights, without moving torch's random numbers for anybody else."""
    with torch.random.fork_rng(devices=[]):
        return build_backbone(architecture)


@functools.cache
def backbone_layout(architecture: str) -> Layout:
    """Name → shape of every tensor in a weights file of this architecture, in name order."""
    tensors = persistent_tensors(build_quietly(architecture))
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def check_layout(shapes: Mapping[str, tuple[int, ...]], layout: Layout, *, file_name: str) -> None:
    """WeightsRefused unless names and shapes are exactly those of the layout."""
    advice = "choose the architecture that this file was made for, or get the file again"
    missing = sorted(layout.keys() - shapes.keys())
    unexpected = sorted(shapes.keys() - layout.keys())
    for word, names in (("lacks", missing), ("has unexpected", unexpected)):
        if names:
            raise WeightsRefused(
                f"{file_name} {word} {len(names)} tensors, first {names[0][:80]!r}; {advice}."
            )
    for name, shape in shapes.items():
        if shape != layout[name]:
            raise WeightsRefused(
                f"{file_name} has {name} of shape {shape} where {layout[name]} is needed; {advice}."
            )


def check_values(tensors: Mapping[str, Tensor], *, file_name: str) -> None:
    """WeightsRefused unless every tensor is float32, finite and in range (variances not negative).

    The layout must have been checked: a file may name huge shapes over one stored number.
    """
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise WeightsRefused(
                f"{file_name} stores {name} as {kind}; convert it to float32 and save it again."
            )
        lowest, highest = (float(value) for value in torch.aminmax(tensor))
        if not (math.isfinite(lowest) and math.isfinite(highest)):
            raise WeightsRefused(f"{file_name} holds NaN or infinity in {name}; get an undamaged file.")
        variance = name.endswith("running_var")
        low, high = (0.0, MAX_VARIANCE) if variance else (-MAX_WEIGHT, MAX_WEIGHT)
        if lowest < low or highest > high:
            raise WeightsRefused(
                f"{file_name} holds values outside of {low:g} to {high:g} in {name}; get an undamaged file."
            )


def fill_backbone(tensors: Mapping[str, Tensor], *, architecture: str, file_name: str) -> Backbone:
    """The named network over these tensors (kept, not copied), checked, in evaluation mode.

    Raises WeightsRefused for a wrong layout, dtype, NaN, infinity or range.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    check_layout(shapes, backbone_layout(architecture), file_name=file_name)
    check_values(tensors, file_name=file_name)
    backbone = build_quietly(architecture)
    # assign keeps the checked tensors themselves; contiguous() undoes strides that a file may choose.
    backbone.load_state_dict({n: t.contiguous() for n, t in tensors.items()}, strict=False, assign=True)
    return backbone.eval()


def serialize_weights(backbone: Backbone) -> bytes:
    """The one safetensors file of these weights: float32, names sorted, no metadata."""
    tensors = {name: tensor.detach().contiguous() for name, tensor in persistent_tensors(backbone).items()}
    check_values(tensors, file_name="The network")
    return safetensors.torch.save(tensors)


def save_weights(backbone: Backbone, path: Path) -> str:
    """Write the weights file in one step (temporary file, then rename) and return its sha256."""
    data = serialize_weights(backbone)
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())  # or a power cut could leave the new name on an empty file
    temporary.replace(path)
    return hashlib.sha256(data).hexdigest()


def read_safetensors(data: bytes, *, file_name: str) -> dict[str, Tensor]:
    """Name → tensor of a safetensors file in memory. WeightsRefused if it is none; values unchecked."""
    try:
        return safetensors.torch.load(data)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise WeightsRefused(
            f"{file_name} is not a complete safetensors file with tensors that are known here; get it again."
        ) from error


def load_weights(path: Path, *, sha256: str, architecture: str) -> Backbone:
    """A network from its own safetensors file, in evaluation mode, on the CPU.

    Raises WeightsRefused, with what to do, for another sha256, a file that is not in the one canonical
    form, missing, unexpected or misshapen tensors, a dtype other than float32, NaN, infinity or range.
    """
    data = read_bounded(path)
    check_sha256(data, expected=sha256, file_name=path.name)
    tensors = read_safetensors(data, file_name=path.name)
    backbone = fill_backbone(tensors, architecture=architecture, file_name=path.name)
    _check_canonical(data, file_name=path.name)
    return backbone


def _check_canonical(data: bytes, *, file_name: str) -> None:
    """Names in order and no metadata, or one set of weights would have several hashes."""
    length = int.from_bytes(data[:8], "little")
    if length <= MAX_HEADER_BYTES:
        header = json.loads(data[8 : 8 + length])
        if "__metadata__" not in header:
            stored = sorted(header, key=lambda name: header[name]["data_offsets"])
            if stored == sorted(header):
                return
    raise WeightsRefused(
        f"{file_name} is not in the form that this site stores (sorted names, no metadata); install it "
        "with manage.py install_weights, which rewrites it."
    )


def trunk_sha256(backbone: Backbone) -> str:
    """Identity of the trunk: sha256 over architecture, names, shapes and bytes of its tensors."""
    digest = hashlib.sha256(backbone.architecture.encode())
    for name, tensor in persistent_tensors(backbone).items():
        if name.startswith("trunk."):
            digest.update(f"\0{name}\0{tuple(tensor.shape)}\0".encode())
            digest.update(tensor.detach().contiguous().numpy().data)
    return digest.hexdigest()

"""Weights files: what is refused, with which advice, and that equal weights are equal bytes."""

from __future__ import annotations

import hashlib
import json
import os

import numpy as np
import pytest
import safetensors.torch
import torch

from diagnosis.phenotype.embed import weights
from diagnosis.phenotype.embed.weights import (
    load_weights,
    persistent_tensors,
    save_weights,
    serialize_weights,
    trunk_sha256,
)
from diagnosis.phenotype.errors import WeightsRefused

ARCHITECTURE = "compact"


@pytest.fixture
def tensors(make_backbone):
    return {n: t.clone() for n, t in persistent_tensors(make_backbone(ARCHITECTURE, 5)).items()}


def write(path, tensors, metadata=None):
    """A safetensors file with these tensors, whatever they are → its sha256."""
    data = safetensors.torch.save({n: t.contiguous() for n, t in tensors.items()}, metadata)
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def test_saving_and_loading_keeps_every_bit(make_backbone, tmp_path):
    network = make_backbone(ARCHITECTURE, 5)
    folder = tmp_path / "models"
    folder.mkdir()
    path = folder / "weights.safetensors"
    sha256 = save_weights(network, path)
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    loaded = load_weights(path, sha256=sha256, architecture=ARCHITECTURE)
    assert not loaded.training
    before, after = network.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(
        p.requires_grad == q.requires_grad
        for p, q in zip(network.parameters(), loaded.parameters(), strict=True)
    )
    assert list(folder.iterdir()) == [path]  # the temporary file is gone


def test_equal_weights_are_equal_bytes_in_name_order(make_backbone):
    first, second = make_backbone(ARCHITECTURE, 5), make_backbone(ARCHITECTURE, 5)
    data = serialize_weights(first)
    assert data == serialize_weights(second)
    assert data != serialize_weights(make_backbone(ARCHITECTURE, 6))
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    stored = sorted(header, key=lambda name: header[name]["data_offsets"])
    assert stored == sorted(header) and "__metadata__" not in header
    assert not any("num_batches_tracked" in name for name in header)


def test_loading_uses_no_random_numbers(make_backbone, tmp_path):
    path = tmp_path / "w.safetensors"
    sha256 = save_weights(make_backbone(ARCHITECTURE, 5), path)
    before = torch.get_rng_state()
    load_weights(path, sha256=sha256, architecture=ARCHITECTURE)
    assert torch.equal(before, torch.get_rng_state())


def a_trunk_name(tensors, dimensions):
    return next(n for n, t in tensors.items() if n.startswith("trunk.") and t.dim() == dimensions)


def drop(tensors):
    del tensors["neck.0.bias"]


def rename(tensors):
    tensors["neck.0.offset"] = tensors.pop("neck.0.bias")


def reshape(tensors):
    tensors["neck.0.bias"] = tensors["neck.0.bias"].reshape(2, -1)


def halve(tensors):
    tensors["neck.0.weight"] = tensors["neck.0.weight"].half()


def nan(tensors):
    tensors[a_trunk_name(tensors, 4)].view(-1)[17] = float("nan")


def infinite(tensors):
    tensors[a_trunk_name(tensors, 4)].view(-1)[-1] = float("-inf")


def huge(tensors):
    tensors[a_trunk_name(tensors, 4)].view(-1)[0] = 2e6


def negative_variance(tensors):
    name = next(n for n in tensors if n.endswith("running_var"))
    tensors[name][3] = -0.5


REFUSALS = [
    (drop, r"lacks 1 tensors, first 'neck\.0\.bias'; choose the architecture"),
    (rename, r"lacks 1 tensors, first 'neck\.0\.bias'"),
    (lambda tensors: tensors.update(extra=torch.zeros(3)), r"unexpected 1 tensors, first 'extra'"),
    (reshape, r"neck\.0\.bias of shape \(2, 256\) where \(512,\) is needed"),
    (halve, r"stores neck\.0\.weight as float16; convert it to float32"),
    (nan, r"holds NaN or infinity in trunk\..*; get an undamaged file"),
    (infinite, r"holds NaN or infinity in trunk\."),
    (huge, r"values outside of -1e\+06 to 1e\+06 in trunk\."),
    (negative_variance, r"values outside of 0 to 1e\+12 in .*running_var"),
]


@pytest.mark.parametrize(("spoil", "sentence"), REFUSALS, ids=lambda value: getattr(value, "__name__", None))
def test_a_spoilt_file_is_refused_with_what_to_do(tensors, tmp_path, spoil, sentence):
    path = tmp_path / "w.safetensors"
    spoil(tensors)
    sha256 = write(path, tensors)
    with pytest.raises(WeightsRefused, match=sentence) as refusal:
        load_weights(path, sha256=sha256, architecture=ARCHITECTURE)
    assert str(refusal.value).startswith("w.safetensors") and str(refusal.value).endswith(".")
    assert str(tmp_path) not in str(refusal.value)


def test_a_wrong_hash_is_refused_before_anything_is_parsed(make_backbone, tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    sha256 = save_weights(make_backbone(ARCHITECTURE, 5), path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    monkeypatch.setattr(weights, "read_safetensors", lambda *_, **__: pytest.fail("parsed before hashed"))
    with pytest.raises(WeightsRefused, match=f"but {sha256} was promised; get the file again"):
        load_weights(path, sha256=sha256, architecture=ARCHITECTURE)


def test_the_hash_may_be_written_in_capitals(make_backbone, tmp_path):
    path = tmp_path / "w.safetensors"
    sha256 = save_weights(make_backbone(ARCHITECTURE, 5), path)
    load_weights(path, sha256=sha256.upper(), architecture=ARCHITECTURE)


def test_metadata_would_give_one_network_two_hashes(tensors, tmp_path):
    path = tmp_path / "w.safetensors"
    sha256 = write(path, tensors, {"format": "pt"})
    with pytest.raises(WeightsRefused, match="sorted names, no metadata"):
        load_weights(path, sha256=sha256, architecture=ARCHITECTURE)


def test_another_order_of_names_is_refused(tensors, tmp_path):
    """The bytes of two equally long tensors change places, and so do their offsets: a valid other file."""
    data = safetensors.torch.save(tensors)
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    sizes = {name: entry["data_offsets"][1] - entry["data_offsets"][0] for name, entry in header.items()}
    first, second = [name for name in sorted(header) if sizes[name] == 512 * 4][:2]
    body = bytearray(data[8 + length :])
    (a, b), (c, d) = header[first]["data_offsets"], header[second]["data_offsets"]
    body[a:b], body[c:d] = body[c:d], body[a:b]
    header[first]["data_offsets"], header[second]["data_offsets"] = [c, d], [a, b]
    text = json.dumps(header).encode()
    swapped = len(text).to_bytes(8, "little") + text + bytes(body)
    path = tmp_path / "w.safetensors"
    path.write_bytes(swapped)
    assert all(torch.equal(t, tensors[n]) for n, t in safetensors.torch.load(swapped).items())
    with pytest.raises(WeightsRefused, match="sorted names"):
        load_weights(path, sha256=hashlib.sha256(swapped).hexdigest(), architecture=ARCHITECTURE)


def test_files_that_are_none_are_refused(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    large = tmp_path / "large"
    large.write_bytes(b"x" * 2048)
    monkeypatch.setattr(weights, "MAX_FILE_BYTES", 1024)
    for path, sentence in [
        (tmp_path, "is not a file"),
        (tmp_path / "absent", "is not a file"),
        (tmp_path / "pipe", "is not a file"),
        (large, "is larger than"),
    ]:
        with pytest.raises(WeightsRefused, match=sentence):
            load_weights(path, sha256="0" * 64, architecture=ARCHITECTURE)


def test_mutated_files_are_refused_or_harmless(tensors, tmp_path):
    """120 files with one to eight bytes of their header changed, right hash: WeightsRefused or a network."""
    generator = np.random.default_rng(3)
    good = safetensors.torch.save(tensors)
    end = 8 + int.from_bytes(good[:8], "little")
    path = tmp_path / "w.safetensors"
    refused = 0
    for _ in range(120):
        data = bytearray(good)
        for position in generator.integers(0, end, generator.integers(1, 9)):
            data[position] = generator.integers(0, 256)
        path.write_bytes(bytes(data))
        try:
            load_weights(path, sha256=hashlib.sha256(data).hexdigest(), architecture=ARCHITECTURE)
        except WeightsRefused:
            refused += 1
    assert refused > 80


def test_a_truncated_file_is_refused(tensors, tmp_path):
    good = safetensors.torch.save(tensors)
    path = tmp_path / "w.safetensors"
    for length in (0, 1, 7, 8, 9, 1000, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:length])
        with pytest.raises(WeightsRefused, match="not a complete safetensors file"):
            load_weights(path, sha256=hashlib.sha256(good[:length]).hexdigest(), architecture=ARCHITECTURE)


def test_a_network_with_nan_is_not_saved(make_backbone, tmp_path):
    network = make_backbone(ARCHITECTURE, 5)
    with torch.no_grad():
        next(network.parameters()).view(-1)[0] = float("nan")
    with pytest.raises(WeightsRefused, match="NaN"):
        save_weights(network, tmp_path / "w.safetensors")
    assert not list(tmp_path.glob("w.*"))


def test_the_identity_of_a_trunk_ignores_the_neck_and_nothing_else(make_backbone):
    network = make_backbone(ARCHITECTURE, 5)
    identity = trunk_sha256(network)
    with torch.no_grad():
        next(network.neck.parameters()).add_(1)
    assert trunk_sha256(network) == identity
    for tensor in (next(network.trunk.parameters()), next(network.trunk.buffers())):
        with torch.no_grad():
            old = tensor.view(-1)[0].clone()
            tensor.view(-1)[0] += 0.25
        assert trunk_sha256(network) != identity
        with torch.no_grad():
            tensor.view(-1)[0] = old
    assert trunk_sha256(network) == identity


@pytest.mark.parametrize("architecture", ["compact", "iresnet50"])
def test_a_loaded_network_has_nothing_undefined(make_backbone, architecture):
    """Every tensor of a network that was built to be filled is one of the file's, or a constant."""
    network = make_backbone(architecture, 8)
    tensors = persistent_tensors(network)
    filled = weights.fill_backbone(tensors, architecture=architecture, file_name="x")
    pointers = {tensor.data_ptr() for tensor in tensors.values()}
    for name, tensor in filled.state_dict().items():
        assert tensor.data_ptr() in pointers or (name.endswith("num_batches_tracked") and tensor == 0)
    assert {name for name, _ in filled.named_buffers()} <= set(filled.state_dict())

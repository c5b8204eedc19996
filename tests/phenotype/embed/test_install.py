"""From somebody's weights file to this site's: each source gives the same network, a bad one a sentence."""

from __future__ import annotations

import hashlib
import io
import json

import pytest
import safetensors.torch
import torch
from torch import nn

from diagnosis.phenotype.embed import install
from diagnosis.phenotype.embed.install import arcface_names, convert_weights
from diagnosis.phenotype.embed.self_test import run_self_test, synthetic_faces
from diagnosis.phenotype.embed.views import View, view_batch
from diagnosis.phenotype.embed.weights import load_weights, serialize_weights
from diagnosis.phenotype.errors import WeightsRefused


def expanded_state(architecture="iresnet50", value=0.0):
    """An arcface_torch state dict of a few kilobytes: every tensor is one number with the right shape."""
    return {n: torch.full((1,), value).expand(shape) for n, shape in arcface_names(architecture).items()}


def refusal_of(path, value=None, **options):
    if value is not None:
        torch.save(value, path)
    with pytest.raises(WeightsRefused) as refusal:
        convert_weights(path, **options)
    sentence = str(refusal.value)
    assert sentence.endswith(".") and str(path.parent) not in sentence
    return sentence


@pytest.mark.parametrize("architecture", ["iresnet50", "iresnet100"])
def test_an_arcface_torch_state_dict_installs_exactly(iresnets, arcface_state, faces, tmp_path, architecture):
    network = iresnets[architecture]
    source, installed = tmp_path / "backbone.pth", tmp_path / "installed.safetensors"
    torch.save(arcface_state(network), source)
    promised = hashlib.sha256(source.read_bytes()).hexdigest()
    converted = convert_weights(source, expected_sha256=promised)
    assert converted.architecture == architecture
    assert converted.data == serialize_weights(network)
    assert converted.sha256 == hashlib.sha256(converted.data).hexdigest()
    if architecture == "iresnet100":
        return  # equal bytes; that they embed equally is shown on the smaller network
    installed.write_bytes(converted.data)
    loaded = load_weights(installed, sha256=converted.sha256, architecture=architecture)
    batch = view_batch(faces[:1], [View(flip=False, grey=False)])
    with torch.inference_mode():
        assert torch.equal(loaded(batch), network(batch))


def test_the_facts_are_json_and_say_where_the_weights_come_from(make_backbone, tmp_path):
    source = tmp_path / "small.pt"
    torch.save(make_backbone("compact", 1).state_dict(), source)
    converted = convert_weights(source, architecture="compact")
    facts = json.loads(json.dumps(converted.facts()))
    assert facts["source_name"] == "small.pt"
    assert facts["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert facts["sha256"] == converted.sha256
    assert (facts["architecture"], facts["source_format"]) == ("compact", "state dict")
    assert facts["parameters"] == sum(p.numel() for p in make_backbone("compact", 1).parameters())
    assert 0 < facts["self_test"]["smallest_norm"] <= facts["self_test"]["largest_norm"]
    assert facts["self_test"]["largest_cosine"] < 1


def test_every_form_of_the_same_weights_becomes_the_same_file(make_backbone, tmp_path):
    state = make_backbone("compact", 1).state_dict()
    floats = {n: t.contiguous() for n, t in state.items() if t.dtype == torch.float32}
    torch.save(state, tmp_path / "a.pt")
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "b.pth")
    (tmp_path / "c.safetensors").write_bytes(safetensors.torch.save(floats, {"format": "pt"}))
    torch.save(dict(reversed(state.items())), tmp_path / "d.pt")
    sources = sorted(path for path in tmp_path.iterdir() if path.is_file())
    assert len({convert_weights(path).sha256 for path in sources}) == 1


def test_a_converted_file_converts_to_itself(make_backbone, tmp_path):
    path = tmp_path / "own.safetensors"
    path.write_bytes(serialize_weights(make_backbone("compact", 1)))
    assert convert_weights(path).data == path.read_bytes()


def test_a_wrong_hash_is_refused_before_anything_is_parsed(tmp_path, monkeypatch):
    path = tmp_path / "backbone.pth"
    torch.save(expanded_state(), path)
    monkeypatch.setattr(install, "_read", lambda *_, **__: pytest.fail("parsed before hashed"))
    assert "was promised; get the file again" in refusal_of(path, expected_sha256="0" * 64)


def without(name):
    state = expanded_state()
    del state[name]
    return state


def changed(name, tensor):
    return expanded_state() | {name: tensor}


STATE_REFUSALS = [
    (without("layer3.13.conv2.weight"), r"lacks 1 tensors, first 'trunk.layer3.13.conv2.weight'"),
    (expanded_state("iresnet100"), "has unexpected"),
    (changed("fc.weight", torch.zeros(1).expand(512, 512)), r"neck.fc.weight of shape \(512, 512\)"),
    (changed("fc.weight", torch.zeros(1).expand(1 << 20, 1 << 30)), r"neck.fc.weight of shape"),
    (changed("fc.bias", torch.zeros(512).half()), "stores neck.fc.bias as float16; convert it to float32"),
    (changed("fc.bias", torch.zeros(512).double()), "stores neck.fc.bias as float64"),
    (changed("bn2.bias", torch.full((1,), float("nan")).expand(512)), "NaN or infinity in trunk.bn2.bias"),
    (changed("prelu.weight", torch.full((1,), float("inf")).expand(64)), "infinity in trunk.prelu.weight"),
    (changed("bn2.bias", torch.full((1,), 1e7).expand(512)), "values outside of"),
    (changed("bn1.running_var", torch.full((1,), -1.0).expand(64)), "values outside of 0 to"),
    (expanded_state(), "answers a face with NaN, infinity or zeros"),
]


@pytest.mark.parametrize(("state", "sentence"), STATE_REFUSALS, ids=[s for _, s in STATE_REFUSALS])
def test_a_bad_state_dict_is_refused_with_a_sentence(tmp_path, state, sentence):
    path = tmp_path / "backbone.pth"
    torch.save(state, path)
    with pytest.raises(WeightsRefused, match=sentence):
        convert_weights(path, architecture="iresnet50")
    assert path.stat().st_size < 400_000


def test_a_foreign_layout_is_refused_with_the_known_networks(tmp_path):
    said = refusal_of(tmp_path / "vgg.pth", {"features.0.weight": torch.zeros(64, 3, 3, 3)})
    assert "names of no network that is known here" in said and "iresnet100" in said


def test_an_unknown_architecture_is_refused(tmp_path):
    said = refusal_of(tmp_path / "backbone.pth", expanded_state(), architecture="vgg")
    assert "choose one of: compact, iresnet100, iresnet50" in said


def test_files_of_no_known_kind_are_refused(tmp_path):
    for content in (
        b"",
        b"\x00" * 64,
        b"<html>not found</html>",
        b"version https://git-lfs.github.com/spec/v1",
    ):
        path = tmp_path / "model.bin"
        path.write_bytes(content)
        assert "neither an .onnx file" in refusal_of(path)
    path = tmp_path / "model.onnx"
    path.write_bytes(b"<html>not found</html>")
    assert "ONNX file" in refusal_of(path)


def test_a_whole_network_of_gestaltmatcher_is_refused_with_how_to_convert(tmp_path):
    said = refusal_of(tmp_path / "s1_glint360k_r50.pth", nn.Sequential(nn.Linear(3, 2)))
    assert "whole pickled network" in said and "state_dict()" in said


class Stuck(nn.Module):
    """A network under test that ignores its input, forgets its answer, or answers in another shape."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, faces):
        return self.answer(faces)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda x: torch.ones(len(x), 512), "same embedding for different faces"),
        (lambda x: torch.zeros(len(x), 512), "NaN, infinity or zeros"),
        (lambda x: torch.full((len(x), 512), float("nan")), "NaN, infinity or zeros"),
        (lambda x: torch.randn(len(x), 512), "different embeddings for the same face"),
        (lambda x: x.flatten(1)[:, :512] + len(x), "different embeddings for the same face"),
        (lambda x: x.flatten(1)[:, :128], "does not give 512 float32 numbers"),
        (lambda x: x.flatten(1)[:, :512].double(), "does not give 512 float32 numbers"),
    ],
)
def test_the_self_test_refuses_networks_that_cannot_rank(answer, sentence):
    with pytest.raises(WeightsRefused, match=sentence):
        run_self_test(Stuck(answer))


def test_the_self_test_measures_what_it_says(make_backbone):
    network = make_backbone("compact", 1)
    measured = run_self_test(network)
    with torch.inference_mode():
        rows = network(view_batch(synthetic_faces(3), [View(flip=False, grey=False)])).double()
    norms = rows.norm(dim=1)
    cosines = (rows @ rows.T) / norms[:, None] / norms[None]
    largest = max(cosines[i, j] for i in range(3) for j in range(3) if i != j)
    assert measured.smallest_norm == pytest.approx(float(norms.min()), rel=1e-5)
    assert measured.largest_norm == pytest.approx(float(norms.max()), rel=1e-5)
    assert measured.largest_cosine == pytest.approx(float(largest), abs=1e-5)


def test_converting_prints_and_writes_nothing(make_backbone, tmp_path, capfd):
    folder = tmp_path / "in"
    folder.mkdir()
    stream = io.BytesIO()
    torch.save(make_backbone("compact", 1).state_dict(), stream)
    (folder / "a.pt").write_bytes(stream.getvalue())
    convert_weights(folder / "a.pt")
    assert [path.name for path in folder.iterdir()] == ["a.pt"]
    assert capfd.readouterr() == ("", "")

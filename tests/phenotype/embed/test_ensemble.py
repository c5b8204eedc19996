"""The fast ensemble against its slow twin: one whole forward pass of one network per row."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import nn

from diagnosis.phenotype.embed import ensemble as ensemble_module
from diagnosis.phenotype.embed.ensemble import Ensemble, Optimisations, load_ensemble
from diagnosis.phenotype.embed.folding import fold_batch_norms
from diagnosis.phenotype.embed.spec import EnsembleRow, EnsembleSpec, Member, full_ensemble
from diagnosis.phenotype.embed.views import View
from diagnosis.phenotype.embed.weights import save_weights
from diagnosis.phenotype.errors import FormatError, WeightsRefused
from diagnosis.phenotype.types import AlignedFace

SHA256 = {name: name * 64 for name in "abcdef0123"}


def twin_row(network, pixels, flip, grey):
    """(512,) unit: written from the definition, with Pillow, one photo and one view at a time."""
    image = Image.fromarray(pixels)
    if grey:
        image = image.convert("L").convert("RGB")
    if flip:
        image = ImageOps.mirror(image)
    x = torch.tensor(np.array(image), dtype=torch.float32).permute(2, 0, 1)[None]
    with torch.no_grad():
        row = network((x / 255 - 0.5) / 0.5)[0].double().numpy()
    return row / np.sqrt((row * row).sum())


def twin_rows(spec, networks, pixels):
    return np.stack([twin_row(networks[row.member], pixels, row.flip, row.grey) for row in spec.rows])


def spec_of(networks, **options):
    members = [Member(name, net.architecture, SHA256[name]) for name, net in networks.items()]
    return full_ensemble(members, **options)


@pytest.fixture(scope="module")
def networks(make_backbone):
    """Small a, b, c; b has c's trunk, as an equal copy, and its own neck."""
    a, b, c = (make_backbone("compact", seed) for seed in (1, 2, 3))
    b.trunk.load_state_dict(c.trunk.state_dict())
    return {"a": a, "b": b, "c": c}


def test_twelve_rows_of_the_real_networks_equal_one_pass_per_row(iresnets, make_backbone, faces):
    b = make_backbone("iresnet100", 9)
    b.trunk.load_state_dict(iresnets["iresnet100"].trunk.state_dict())
    networks = {"a": iresnets["iresnet50"], "b": b, "c": iresnets["iresnet100"]}
    spec = spec_of(networks)
    ensemble = Ensemble(spec, networks)
    assert ensemble.trunk_passes == 2
    rows = ensemble.embed(faces[:1])[0].rows
    assert rows.shape == (12, 512) and rows.dtype == np.float32
    twin = twin_rows(spec, networks, faces[0])
    assert np.abs(rows - twin).max() < 1e-5
    between = np.abs(twin[:, None] - twin[None]).max(axis=2)[~np.eye(12, dtype=bool)]
    assert between.min() > 1e-4  # all twelve differ, so a mixed-up row could not pass


@pytest.mark.parametrize("flags", list(itertools.product([False, True], repeat=4)))
def test_every_optimisation_leaves_every_row(networks, faces, flags):
    spec = spec_of(networks)
    ensemble = Ensemble(spec, networks, optimisations=Optimisations(*flags))
    assert ensemble.trunk_passes == (2 if flags[0] else 3)
    for face, found in zip(faces, ensemble.embed(faces), strict=True):
        assert np.abs(found.rows - twin_rows(spec, networks, face)).max() < 1e-5
        assert np.allclose(np.linalg.norm(found.rows, axis=1), 1, atol=1e-6)
        assert found.model_sha256 == spec.sha256


def test_one_changed_number_in_a_trunk_ends_the_sharing(networks, make_backbone, faces):
    other = make_backbone("compact", 2)
    other.trunk.load_state_dict(networks["c"].trunk.state_dict())
    with torch.no_grad():
        next(other.trunk.parameters()).view(-1)[0] += 0.5
    changed = {"b": other, "c": networks["c"]}
    spec = spec_of(changed)
    ensemble = Ensemble(spec, changed)
    assert ensemble.trunk_passes == 2
    assert np.abs(ensemble.embed(faces[:1])[0].rows - twin_rows(spec, changed, faces[0])).max() < 1e-5


def test_a_face_has_the_same_embedding_alone_in_company_and_again(networks, faces):
    ensemble = Ensemble(spec_of(networks), networks)
    together = ensemble.embed(faces)
    again = ensemble.embed(faces[::-1].copy())[::-1]
    for face, first, second in zip(faces, together, again, strict=True):
        alone = ensemble.embed(face[None])[0]
        assert np.array_equal(first.rows, second.rows) and np.array_equal(first.rows, alone.rows)


def test_aligned_faces_and_arrays_are_the_same_question(networks, faces):
    ensemble = Ensemble(spec_of(networks), networks)
    aligned = [AlignedFace(face, np.zeros((5, 2), np.float32)) for face in faces]
    for one, other in zip(ensemble.embed(faces), ensemble.embed(aligned), strict=True):
        assert np.array_equal(one.rows, other.rows)
    assert ensemble.embed([]) == [] and ensemble.embed(faces[:0]) == []


def test_the_rows_are_those_of_the_table_in_its_order(networks, faces):
    everything = spec_of(networks)
    rows = tuple(everything.rows[index] for index in (7, 0, 10, 5, 3))
    chosen = EnsembleSpec(everything.members, rows)
    found = Ensemble(chosen, networks).embed(faces[:1])[0].rows
    assert np.abs(found - twin_rows(chosen, networks, faces[0])).max() < 1e-5


def test_other_inputs_are_refused(networks, faces):
    ensemble = Ensemble(spec_of(networks), networks)
    for wrong in (faces.astype(np.float32), faces[:, :100], faces[0], faces.transpose(0, 3, 1, 2)):
        with pytest.raises(ValueError, match=r"\(b, 112, 112, 3\) uint8"):
            ensemble.embed(wrong)


def test_a_network_that_answers_nan_is_not_ranked_with(make_backbone, faces):
    network = make_backbone("compact", 4)
    ensemble = Ensemble(spec_of({"a": network}), {"a": network})
    with torch.no_grad():
        next(network.neck.parameters()).fill_(float("nan"))
    with pytest.raises(WeightsRefused, match="NaN"):
        ensemble.embed(faces[:1])


def test_building_and_embedding_leave_the_networks_as_they_were(networks, faces):
    before = {n: {k: v.clone() for k, v in net.state_dict().items()} for n, net in networks.items()}
    Ensemble(spec_of(networks), networks).embed(faces[:1])
    for name, network in networks.items():
        after = network.state_dict()
        assert after.keys() == before[name].keys()
        assert all(torch.equal(after[k], v) for k, v in before[name].items())
        assert all(p.is_contiguous() for p in network.parameters())


# Loading


def test_an_ensemble_loads_from_files_by_hash(networks, faces, tmp_path):
    paths, members = {}, []
    for name, network in networks.items():
        path = tmp_path / f"{name}.safetensors"
        sha256 = save_weights(network, path)
        paths[sha256] = path
        members.append(Member(name, "compact", sha256))
    spec = full_ensemble(members)
    loaded = load_ensemble(spec, paths)
    assert loaded.trunk_passes == 2  # b's and c's trunks are equal though they come from two files
    expected = Ensemble(spec, networks).embed(faces)
    for one, other in zip(loaded.embed(faces), expected, strict=True):
        assert np.array_equal(one.rows, other.rows)
    swapped = dict(zip(paths, reversed(paths.values()), strict=True))
    with pytest.raises(WeightsRefused, match="was promised"):
        load_ensemble(spec, swapped)
    with pytest.raises(WeightsRefused, match=r"weights of member c are not on this site; install them"):
        load_ensemble(spec, {sha: path for sha, path in paths.items() if sha != members[2].sha256})


# Folding


def test_folding_an_iresnet_folds_every_batch_norm_behind_a_convolution(iresnets):
    trunk = iresnets["iresnet50"].trunk
    folded, count = fold_batch_norms(trunk)
    assert count == 53
    assert sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules()) == 24 + 1
    assert sum(isinstance(module, nn.BatchNorm2d) for module in trunk.modules()) == 79 - 1
    x = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.inference_mode():
        plain, fast = trunk(x), folded(x)
    assert torch.allclose(plain, fast, atol=1e-5 * float(plain.abs().max()))


class TwoReaders(nn.Module):
    """A convolution that a BatchNorm and a sum read: folding would change the sum."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        y = self.conv(x)
        return self.bn(y) + y


class CalledTwice(nn.Module):
    """A convolution that is called twice, once before a BatchNorm."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.bn(self.conv(self.conv(x)))


class Branching(nn.Module):
    """Depends on its input, so cannot be traced."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.bn(self.conv(x)) if x.sum() > 0 else x


class Mirrored(nn.Module):
    """The BatchNorm stands before the convolution: padding would see it."""

    def __init__(self):
        super().__init__()
        self.bn, self.conv = nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return self.conv(self.bn(x))


@pytest.mark.parametrize("network_class", [TwoReaders, CalledTwice, Branching, Mirrored])
def test_what_cannot_be_folded_is_left(network_class):
    generator = torch.Generator().manual_seed(2)
    network = network_class().eval()
    network.bn.running_mean.normal_(generator=generator)
    network.bn.running_var.uniform_(0.2, 3, generator=generator)
    folded, count = fold_batch_norms(network)
    x = torch.rand(1, 3, 8, 8, generator=generator)
    assert count == 0 and folded is not network
    with torch.inference_mode():
        assert torch.equal(folded(x), network(x))


def test_folding_that_would_change_the_rows_is_not_used(networks, faces, monkeypatch):
    def spoilt(trunk):
        folded, count = fold_batch_norms(trunk)
        with torch.no_grad():
            next(folded.parameters()).mul_(1.1)
        return folded, count

    monkeypatch.setattr(ensemble_module, "fold_batch_norms", spoilt)
    spec = spec_of(networks)
    found = Ensemble(spec, networks).embed(faces[:1])[0].rows
    assert np.abs(found - twin_rows(spec, networks, faces[0])).max() < 1e-5


# Specification


def abc():
    return [Member(name, "compact", SHA256[name]) for name in "abc"]


def test_the_full_ensemble_has_twelve_rows_in_gestaltmatchers_order():
    rows = full_ensemble(abc()).rows
    assert len(rows) == 12
    assert rows == tuple(
        EnsembleRow(name, flip, grey) for name in "abc" for flip in (False, True) for grey in (False, True)
    )


def test_a_specification_survives_json():
    members = [*abc()[:2], Member("c", "compact", SHA256["c"], True, "rendered faces", "Apache-2.0")]
    spec = full_ensemble(members)
    again = EnsembleSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec and again.sha256 == spec.sha256
    assert spec.synthetic and not full_ensemble(abc()).synthetic


def test_the_hash_of_a_specification_is_that_of_its_numbers():
    spec = full_ensemble(abc())
    assert len(spec.sha256) == 64
    renamed = full_ensemble(
        [Member(f"m{i}", m.architecture, m.sha256, True, "x") for i, m in enumerate(abc())]
    )
    assert renamed.sha256 == spec.sha256
    others = [
        full_ensemble(abc()[:2]),
        full_ensemble([*abc()[:2], Member("c", "compact", SHA256["d"])]),
        full_ensemble([*abc()[:2], Member("c", "iresnet50", SHA256["c"])]),
        full_ensemble(abc(), views=[View(False, False), View(True, False)]),
        EnsembleSpec(spec.members, spec.rows[::-1]),
    ]
    assert len({spec.sha256, *(other.sha256 for other in others)}) == 6


BAD_JSON = [
    lambda data: data | {"format": "gestaltweb-ensemble/0"},
    lambda data: {"format": data["format"]},
    lambda data: data | {"members": []},
    lambda data: data | {"members": data["members"] + data["members"]},
    lambda data: data | {"rows": data["rows"][:4]},
    lambda data: data | {"rows": data["rows"] + data["rows"][:1]},
    lambda data: data | {"rows": [*data["rows"], {"member": "d", "flip": False, "grey": False}]},
    lambda data: data | {"rows": [row | {"flip": "yes"} for row in data["rows"]]},
    lambda data: data | {"members": [member | {"sha256": "A" * 64} for member in data["members"]]},
    lambda data: data | {"members": [member | {"sha256": 5} for member in data["members"]]},
    lambda data: data | {"members": [member | {"more": 1} for member in data["members"]]},
    lambda data: data | {"members": 7},
    lambda data: [data],
]


@pytest.mark.parametrize("spoil", BAD_JSON)
def test_other_json_is_refused_with_a_sentence(spoil):
    with pytest.raises(FormatError, match=r"\.$"):
        EnsembleSpec.from_json(spoil(full_ensemble(abc()).to_json()))

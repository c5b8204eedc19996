"""torch.save files of others: read as tensors, never run."""

from __future__ import annotations

import io
import os
import pickle
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from diagnosis.phenotype.embed.state_dict_file import read_state_dict
from diagnosis.phenotype.errors import WeightsRefused


class Touch:
    """Unpickling it makes a file: the proof that code ran."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


class Evaluate:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return eval, (f"__import__('os').mkdir({self.path!r})",)


def saved(value, **options):
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def state(**more):
    return {"conv1.weight": torch.arange(6.0).reshape(2, 3), **more}


def read(data):
    return read_state_dict(data, file_name="weights.pt")


def test_a_state_dict_is_read_without_its_batch_counters():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    tensors = read(saved(network.state_dict()))
    expected = {n: t for n, t in network.state_dict().items() if not n.endswith("num_batches_tracked")}
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)


def test_parameters_and_other_dtypes_are_read():
    tensors = read(
        saved({"a": nn.Parameter(torch.ones(3)), "b": torch.ones(2).half(), "c": torch.ones(1).double()})
    )
    assert not tensors["a"].requires_grad
    assert [t.dtype for t in tensors.values()] == [torch.float32, torch.float16, torch.float64]


PAYLOADS = {
    "in the zip": lambda evil: saved(state(evil=evil)),
    "behind a thousand tensors": lambda evil: saved(
        {**{str(i): torch.zeros(1) for i in range(1000)}, "evil": evil}
    ),
    "protocol 4": lambda evil: saved(state(evil=evil), pickle_protocol=4),
    "before torch 1.6": lambda evil: saved(state(evil=evil), _use_new_zipfile_serialization=False),
    "a bare pickle": lambda evil: pickle.dumps(evil, protocol=2),
    "a bare pickle, protocol 4": lambda evil: pickle.dumps({"a": evil}, protocol=4),
}


@pytest.mark.parametrize("kind", [Touch, Evaluate])
@pytest.mark.parametrize("payload", PAYLOADS)
def test_code_in_a_pickle_is_named_and_does_not_run(tmp_path, kind, payload):
    marker = tmp_path / "ran"
    data = PAYLOADS[payload](kind(marker))
    with pytest.raises(WeightsRefused, match="would run code when it is opened .* and was not opened"):
        read(data)
    assert not marker.exists()
    # The payload is live: the unsafe way does run it.
    unpickle = (
        pickle.loads
        if payload.startswith("a bare")
        else lambda d: torch.load(io.BytesIO(d), weights_only=False)
    )
    unpickle(data)
    assert marker.exists()


def test_code_is_refused_by_the_first_wall_even_where_torch_would_open_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(WeightsRefused, match="would run code"):
        read(saved(state(evil=Touch(tmp_path / "ran"))))


def test_the_second_wall_is_weights_only(monkeypatch):
    given = {}
    real = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: given.update(k) or real(*a, **k))
    read(saved(state()))
    assert given["weights_only"] is True


def test_a_whole_pickled_network_is_refused_with_how_to_convert_it():
    data = saved(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    with pytest.raises(WeightsRefused, match=r"whole pickled network.*torch\.save\(network\.state_dict\(\)"):
        read(data)


def test_the_old_file_form_is_refused_with_how_to_save_it_again():
    with pytest.raises(WeightsRefused, match="before version 1.6; load it with torch.load"):
        read(saved(state(), _use_new_zipfile_serialization=False))


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"epoch": 3, "state_dict": state()}, "perhaps a training checkpoint"),
        ([torch.zeros(2)], "holds no state dict"),
        ({}, "holds no state dict"),
        ({1: torch.zeros(2)}, "more than a state dict"),
    ],
)
def test_other_values_than_state_dicts_are_refused(value, sentence):
    with pytest.raises(WeightsRefused, match=sentence):
        read(saved(value))


def rezipped(data, compression=zipfile.ZIP_STORED, replace=None, repeat=None):
    """The same torch.save archive, zipped otherwise; replace: end of a member's name → its new bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(stream, "w", compression) as target:
        for member in source.infolist():
            content = source.read(member)
            for end, other in (replace or {}).items():
                content = other if member.filename.endswith(end) else content
            target.writestr(member.filename, content)
        if repeat:
            target.writestr(repeat, b"again")
    return stream.getvalue()


def test_a_compressed_zip_bomb_costs_no_memory():
    bomb = rezipped(saved(state()), zipfile.ZIP_DEFLATED, {"data.pkl": b"\x80\x02" + b"N0" * 100_000_000})
    assert len(bomb) < 1_000_000
    tracemalloc.start()
    with pytest.raises(WeightsRefused, match="a zip that torch.save does not write"):
        read(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zips_that_readers_may_understand_differently_are_refused():
    good = saved(state())
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
    for data in (rezipped(good, repeat=name), good + b"trailing", rezipped(good, repeat="other/data.pkl")):
        with pytest.raises(WeightsRefused):
            read(data)


def test_a_pickle_that_nests_deep_or_is_long_is_refused():
    good = saved(state())
    for inside in (b"\x80\x02" + b"]" * 3_000_000, b"\x80\x02" + b"(" * 5_000_000 + b".", b"", b"\x80\x02."):
        with pytest.raises(WeightsRefused):
            read(rezipped(good, replace={"data.pkl": inside}))


def test_mutated_files_are_refused_or_harmless():
    """600 files with bytes changed anywhere, and 100 cut short: WeightsRefused or tensors, nothing else."""
    good = saved(state(bias=torch.zeros(300)))
    generator = np.random.default_rng(5)
    refused = 0
    for _ in range(600):
        data = bytearray(good)
        for position in generator.integers(0, len(good), generator.integers(1, 9)):
            data[position] = generator.integers(0, 256)
        try:
            tensors = read(bytes(data))
            assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())
        except WeightsRefused:
            refused += 1
    for length in np.linspace(0, len(good) - 1, 100).astype(int):
        with pytest.raises(WeightsRefused):
            read(good[:length])
    assert 100 < refused < 600


def test_reading_leaves_no_file_behind(tmp_path, monkeypatch):
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    read(saved(state()))
    assert list(Path.cwd().iterdir()) == []

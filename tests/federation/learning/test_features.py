"""The cache: what a trunk would say, the same every time, refused when damaged."""

from __future__ import annotations

from dataclasses import replace

import learning_cases as cases
import numpy as np
import pytest
import torch

from diagnosis.phenotype.embed.backbone import scale_pixels
from federation.learning.errors import FeaturesRefused
from federation.learning.features import (
    ALL_VIEWS,
    FeatureSet,
    compute_features,
    join_features,
    load_features,
    save_features,
)
from federation.learning.pictures import picture
from federation.learning.split import split_by_patient
from federation.learning.statistics import patients_per_class


def crops(count: int) -> np.ndarray:
    generator = np.random.default_rng(3)
    coarse = generator.integers(0, 255, (count, 14, 14, 3))
    return np.kron(coarse, np.ones((1, 8, 8, 1))).astype(np.uint8)


@pytest.fixture(scope="module")
def found() -> FeatureSet:
    return compute_features(
        cases.tiny_net(), crops(3), keys=["p1", "p2", "p3"], labels=["a", "b", ""],
        patients=["x", "y", "y"], seed=5,
    )  # fmt: skip


def test_cached_features_are_the_trunks(found: FeatureSet) -> None:
    net = cases.tiny_net()
    original = scale_pixels(torch.from_numpy(crops(3)))
    flipped = scale_pixels(torch.from_numpy(crops(3)[:, :, ::-1].copy()))
    assert np.array_equal(found.view("original"), net.trunk(original).numpy())
    assert np.array_equal(found.view("flipped"), net.trunk(flipped).numpy())


def test_views_show_what_they_say() -> None:
    face = crops(1)[0]
    shown = {view: picture(face, view, seed=5, key="p") for view in ALL_VIEWS}
    assert np.array_equal(shown["flipped"][:, ::-1], face)
    assert np.array_equal(shown["grey"][..., 0], shown["grey"][..., 2])
    edges = lambda image: np.abs(np.diff(image.astype(int), axis=0)).max(axis=(1, 2))  # noqa: E731
    assert edges(shown["downscaled"]).max() < edges(face).max()  # softer, of the same mean colour
    assert np.abs(shown["downscaled"].mean((0, 1)) - face.mean((0, 1))).max() < 2
    assert all(image.shape == face.shape and image.dtype == np.uint8 for image in shown.values())
    changed = np.abs(shown["jittered"].astype(int) - face).mean()
    assert 2 < changed < 120


def test_jitter_depends_on_seed_and_photo_only(found: FeatureSet) -> None:
    face = crops(1)[0]
    again = compute_features(
        cases.tiny_net(), crops(3)[1:2], keys=["p2"], labels=["b"], patients=["y"], seed=5
    )
    assert np.array_equal(again.features[0], found.features[1])
    same = picture(face, "jittered", seed=5, key="p")
    assert np.array_equal(same, picture(face, "jittered", seed=5, key="p"))
    assert not np.array_equal(same, picture(face, "jittered", seed=6, key="p"))
    assert not np.array_equal(same, picture(face, "jittered", seed=5, key="q"))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_there_and_back(found: FeatureSet, dtype: type) -> None:
    stored = replace(found, features=found.features.astype(dtype))
    back = load_features(save_features(stored), trunk_sha256=found.trunk_sha256)
    assert back.features.dtype == dtype
    assert np.array_equal(back.features, stored.features)
    names = ("keys", "labels", "patients", "views", "trunk_sha256", "seed")
    assert [getattr(back, name) for name in names] == [getattr(found, name) for name in names]


def test_joined_photo_by_photo(found: FeatureSet) -> None:
    """As a site does that seals each photo's features under the photo's own key."""
    parts = [
        load_features(save_features(found.select(np.array([row]))), trunk_sha256=found.trunk_sha256)
        for row in (2, 0, 1)
    ]
    joined = join_features(parts)
    assert joined.keys == found.keys
    assert np.array_equal(joined.features, found.features)
    with pytest.raises(FeaturesRefused, match="joined"):
        join_features([found, replace(found, seed=6)])


def test_damage_is_refused(found: FeatureSet) -> None:
    data = save_features(found)
    with pytest.raises(FeaturesRefused, match="another trunk"):
        load_features(data, trunk_sha256="0" * 64)
    for bad in (b"", data[:-4], data[:20], b"\xff" * 40, data.replace(b"keys", b"kexs")):
        with pytest.raises(FeaturesRefused):
            load_features(bad, trunk_sha256=found.trunk_sha256)
    for value in (np.nan, np.inf):
        broken = found.features.copy()
        broken[1, 2, 3] = value
        at = data.index(found.features.tobytes())
        with pytest.raises(FeaturesRefused, match="NaN"):
            load_features(data[:at] + broken.tobytes(), trunk_sha256=found.trunk_sha256)


def test_float16_overflow_is_refused_not_clipped() -> None:
    net = cases.tiny_net()
    net.trunk = torch.nn.Sequential(net.trunk, _Scale(1e6))
    arguments = {"keys": ["p"], "labels": ["a"], "patients": ["x"], "seed": 5}
    compute_features(net, crops(1), dtype=np.float32, **arguments)
    with pytest.raises(FeaturesRefused, match="float32"):
        compute_features(net, crops(1), dtype=np.float16, **arguments)


class _Scale(torch.nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values * self.factor


def test_split_is_by_patient_and_never_below_k() -> None:
    everyone = cases.hospital({"a": 5, "b": 6, "c": 30, "d": 4, "f": 9}, name="h")
    training, held = split_by_patient(everyone, k=5)
    assert not set(training.patients) & set(held.patients)
    assert len(training) + len(held) == len(everyone)
    left = patients_per_class(training.labels, training.patients)
    assert left["a"] == 5
    assert left["b"] >= 5 <= left["f"]
    assert 15 <= left["c"] < 30
    assert len(set(held.patients)) >= 4


def test_k_holds_where_every_hash_is_low() -> None:
    training, held = split_by_patient(cases.hospital({"a": 9, "b": 5, "c": 3}, name="h"), k=5, share=1.0)
    assert patients_per_class(training.labels, training.patients) == {"a": 5, "b": 5}
    assert patients_per_class(held.labels, held.patients) == {"a": 4, "c": 3}


def test_a_held_out_patient_stays_held_out_when_others_join() -> None:
    before = split_by_patient(cases.hospital({"c": 30}, name="h"), k=5)
    after = split_by_patient(cases.hospital({"c": 40, "a": 9}, name="h"), k=5)
    assert set(before[1].patients) <= set(after[1].patients)
    assert set(before[0].patients) <= set(after[0].patients)

"""Cached trunk features: computed once per trunk, so that a training epoch is a few matrix products.

A round changes necks only, so the cache is named by the trunk's hash and survives rounds. Features show a
face about as well as embeddings do: the caller seals the bytes, best photo by photo under the photo's own
key, so that erasing the photo erases them, and joins what it may open.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
import torch
from safetensors import SafetensorError

from diagnosis.phenotype.embed.backbone import Backbone, scale_pixels
from diagnosis.phenotype.embed.weights import trunk_sha256
from diagnosis.phenotype.types import PixelArray
from federation.learning.config import ViewName
from federation.learning.errors import FeaturesRefused
from federation.learning.pictures import picture
from federation.learning.threads import one_thread

Features = npt.NDArray[np.float16] | npt.NDArray[np.float32]

FORMAT_VERSION = 1
MAX_HEADER_BYTES = 16 << 20
#: The cached views that an extractor also ranks with: no augmentation among them.
RANKING_VIEWS: tuple[ViewName, ...] = ("original", "flipped", "grey")
ALL_VIEWS: tuple[ViewName, ...] = ("original", "flipped", "grey", "jittered", "downscaled")


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """features (n, v, F) float16 or float32: n photos as v views; keys, labels, patients (n) in step.

    labels are syndrome identifiers ("" for none), keys and patients the site's own opaque names.
    """

    features: Features
    keys: tuple[str, ...]
    labels: tuple[str, ...]
    patients: tuple[str, ...]
    views: tuple[str, ...]
    trunk_sha256: str
    seed: int

    def __post_init__(self) -> None:
        array = self.features
        if array.ndim != 3 or array.dtype not in (np.float16, np.float32):
            raise FeaturesRefused("Features are (photos, views, F) float16 or float32. Compute them again.")
        lengths = {len(self.keys), len(self.labels), len(self.patients), len(array)}
        if lengths != {len(array)} or array.shape[1] != len(self.views) or len(set(self.keys)) != len(array):
            raise FeaturesRefused("Features do not fit their photos and views. Compute them again.")
        if not np.isfinite(array).all():
            raise FeaturesRefused("Features hold NaN or infinity. Compute them again, in float32.")

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def size(self) -> int:
        """F, the features per view."""
        return int(self.features.shape[2])

    def view(self, name: str) -> Features:
        """(n, F): all photos as one view."""
        if name not in self.views:
            raise FeaturesRefused(f"The cached features have no view {name!r}. Compute them again.")
        return self.features[:, self.views.index(name)]

    def select(self, chosen: npt.NDArray[np.generic]) -> FeatureSet:
        """The photos of a boolean mask (n,) or of indices, in that order."""
        rows = np.arange(len(self))[chosen]
        keys, labels, patients = (
            tuple(values[row] for row in rows) for values in (self.keys, self.labels, self.patients)
        )
        return FeatureSet(
            self.features[rows], keys, labels, patients, self.views, self.trunk_sha256, self.seed
        )


def compute_features(
    backbone: Backbone, crops: PixelArray, *, keys: Sequence[str], labels: Sequence[str],
    patients: Sequence[str], seed: int, views: Sequence[ViewName] = ALL_VIEWS,
    dtype: type[np.float16] | type[np.float32] = np.float32,
) -> FeatureSet:  # fmt: skip
    """crops (n, 112, 112, 3) uint8 aligned faces → their trunk features as every view.

    Photos go through the trunk one after the other, so that a photo's features do not depend on which
    others are computed with it. float16 halves the cache and is refused where a feature exceeds 65,504.
    """
    if crops.ndim != 4 or crops.dtype != np.uint8 or not len(crops) == len(keys):
        raise FeaturesRefused("Crops are (n, 112, 112, 3) uint8 with one key each.")
    rows: Features = np.empty((len(crops), len(views), backbone.feature_size), dtype=dtype)  # type: ignore[assignment]
    with one_thread(), torch.inference_mode(), np.errstate(over="ignore"):
        for index, (crop, key) in enumerate(zip(crops, keys, strict=True)):
            shown = np.stack([picture(crop, view, seed=seed, key=key) for view in views])
            found = backbone.trunk(scale_pixels(torch.from_numpy(shown)))  # (v, F...)
            rows[index] = found.reshape(len(views), -1).numpy().astype(dtype)
    return FeatureSet(
        rows, tuple(keys), tuple(labels), tuple(patients), tuple(views), trunk_sha256(backbone), seed
    )


def join_features(parts: Sequence[FeatureSet]) -> FeatureSet:
    """Photos of several sets of the same trunk, views, seed and dtype, ordered by key."""
    if not parts:
        raise FeaturesRefused("There are no features to join. Compute them first.")
    first = parts[0]
    alike = [(part.views, part.trunk_sha256, part.seed, part.features.dtype, part.size) for part in parts]
    if any(facts != alike[0] for facts in alike):
        raise FeaturesRefused("Features of different trunks, views or seeds cannot be joined.")
    joined = FeatureSet(
        np.concatenate([part.features for part in parts]), _gather(parts, "keys"),
        _gather(parts, "labels"), _gather(parts, "patients"), first.views, first.trunk_sha256, first.seed,
    )  # fmt: skip
    return joined.select(np.array(sorted(range(len(joined)), key=joined.keys.__getitem__), dtype=np.intp))


def _gather(parts: Sequence[FeatureSet], name: str) -> tuple[str, ...]:
    return tuple(item for part in parts for item in getattr(part, name))


def save_features(found: FeatureSet) -> bytes:
    """One safetensors file in memory. Secret: the caller seals it."""
    facts = {
        "v": FORMAT_VERSION, "keys": found.keys, "labels": found.labels, "patients": found.patients,
        "views": found.views, "trunk_sha256": found.trunk_sha256, "seed": found.seed,
    }  # fmt: skip
    array = np.ascontiguousarray(found.features)
    return safetensors.numpy.save({"features": array}, metadata={"facts": json.dumps(facts, sort_keys=True)})


def load_features(data: bytes, *, trunk_sha256: str) -> FeatureSet:
    """The set that `save_features` wrote. FeaturesRefused if damaged or of another trunk."""
    try:
        arrays = safetensors.numpy.load(data)
        facts = _facts(data)
        found = FeatureSet(
            features=arrays["features"], trunk_sha256=str(facts["trunk_sha256"]), seed=int(facts["seed"]),
            **{name: tuple(map(str, facts[name])) for name in ("keys", "labels", "patients", "views")},
        )  # fmt: skip
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise FeaturesRefused("Cached features are damaged. They will be computed again.") from error
    if facts["v"] != FORMAT_VERSION or found.trunk_sha256 != trunk_sha256:
        raise FeaturesRefused("Cached features belong to another trunk or version. Compute them again.")
    return found


def _facts(data: bytes) -> dict[str, Any]:
    """The JSON in the file's metadata: header length (8 bytes little-endian), then the header."""
    length = int.from_bytes(data[:8], "little")
    if length > MAX_HEADER_BYTES:
        raise ValueError("header too long")
    facts: dict[str, Any] = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["facts"])
    return facts

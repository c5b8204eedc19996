"""Synthetic photos, with the truth that only a renderer knows. Runs on the CPU; needs the extra `synthetic`.

    render_photo(person, photo, size=256) -> RenderedPhoto
    render_many(pairs, size=256, batch=16) -> iterator of RenderedPhoto, in order
    parameter_vector(person, photo) -> (len(PARAMETER_NAMES),) float32, the regression target

RenderedPhoto.pixels is (size, size, 3) uint8 RGB; landmarks (5, 2) float32 px: eye left and right in the
picture, nose tip, mouth corner left and right; parameters as parameter_vector. Pixel centres are whole
numbers, as in phenotype.face.detect. Draw people with
people.draw_person(seed, number, syndrome) and photos with photos.draw_photo(person, number, age).
Every process that renders loads the head once (load_head, cached on disk) and keeps it; fork or spawn freely.
A photo depends on nothing but (person, photo, size): not on the batch, the order or the process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from diagnosis.synthetic import camera, looks
from diagnosis.synthetic.anatomy import (
    HeadPack,
    age_coordinate,
    anchor_weights,
    eye_chin_distance,
    load_head,
    shape_heads,
)
from diagnosis.synthetic.facial_changes import ACTION_INDEX, FACIAL_CHANGES, PHOTO_ACTIONS
from diagnosis.synthetic.features import TRAITS
from diagnosis.synthetic.people import Person
from diagnosis.synthetic.photos import PhotoSpec

Array = npt.NDArray[np.float64]

PARAMETER_NAMES: tuple[str, ...] = (*FACIAL_CHANGES, *TRAITS, "age", "sex", "weight", "skin-tone")


@dataclass(frozen=True)
class RenderedPhoto:
    """pixels (size, size, 3) uint8 RGB; landmarks (5, 2) float32 px; parameters (p,) float32."""

    pixels: npt.NDArray[np.uint8]
    landmarks: npt.NDArray[np.float32]
    parameters: npt.NDArray[np.float32]


def parameter_vector(person: Person, photo: PhotoSpec) -> npt.NDArray[np.float32]:
    """Dense truth: face vector (changes, traits), age (anny's scale), sex, weight, skin tone / 10."""
    tail = [age_coordinate(photo.age), person.sex, person.weight, person.appearance.skin_tone / 10.0]
    return np.concatenate([person.face, tail]).astype(np.float32)


def render_photo(person: Person, photo: PhotoSpec, size: int = 256) -> RenderedPhoto:
    """One photo; the same bytes as from render_many."""
    return next(render_many([(person, photo)], size=size))


def render_many(
    pairs: Iterable[tuple[Person, PhotoSpec]], size: int = 256, batch: int = 16
) -> Iterator[RenderedPhoto]:
    """Photos of pairs in order; shapes are computed `batch` at a time."""
    pack = load_head()
    remaining = iter(pairs)
    while chunk := list(islice(remaining, batch)):
        vertices = _shapes(pack, chunk)
        for (person, photo), points in zip(chunk, vertices, strict=True):
            yield _render_one(pack, person, photo, points, size)


def _shapes(pack: HeadPack, chunk: list[tuple[Person, PhotoSpec]]) -> Array:
    weights = [
        anchor_weights(person.sex, age_coordinate(photo.age), person.weight, person.appearance.ancestry)
        for person, photo in chunk
    ]
    changes = [person.face[: len(FACIAL_CHANGES)] for person, _ in chunk]
    actions = np.zeros((len(chunk), len(PHOTO_ACTIONS)))
    for row, (_, photo) in enumerate(chunk):
        for name, value in photo.actions:
            actions[row, ACTION_INDEX[name]] = value
    return shape_heads(pack, np.stack(weights), np.stack(changes), actions)


def _render_one(pack: HeadPack, person: Person, photo: PhotoSpec, shape: Array, size: int) -> RenderedPhoto:
    from diagnosis.synthetic import paint

    scale = float(eye_chin_distance(pack, shape[None])[0])
    landmarks = camera.landmark_points(pack, shape)
    dressed = looks.dress(pack, shape, person, photo, scale)
    pose = camera.place(landmarks, photo, scale, size)
    posed = pose.turn(np.concatenate([dressed, landmarks]), np.concatenate([pack.canonical, pose.anchors]))
    screen = pose.project(posed)
    picture = paint.paint(
        posed[: len(dressed)],
        screen[: len(dressed)],
        looks.look_of(person, photo),
        looks.shown_materials(person, photo),
        size,
    )
    pixels = camera.develop(picture, photo)
    truth = (screen[len(dressed) :][:5, :2] - 0.5).astype(np.float32)
    return RenderedPhoto(pixels, truth, parameter_vector(person, photo))

"""Training faces: synthetic people rendered close up, cut out as the detector would have cut them.

A training photo shows the head alone at about the scale of the aligned crop, which costs a third of a whole
portrait. Its landmarks are the renderer's, displaced by an error that is measured on whole portraits with
the real detector: mean and covariance of (detected - true) in crop pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from diagnosis.phenotype.face.align import (
    align_face,
    invert_transform,
    map_points,
    similarity_to_template,
    warp_to_crop,
)
from diagnosis.phenotype.face.detect import FaceDetector
from diagnosis.phenotype.types import FloatArray, PixelArray
from diagnosis.synthetic.people import Person, draw_ages, draw_person, draw_syndrome, stream
from diagnosis.synthetic.photos import PhotoSpec, draw_photo
from diagnosis.synthetic.render import RenderedPhoto, render_many
from diagnosis.synthetic.training_data import save_shard
from diagnosis.synthetic.training_losses import NO_SYNDROME

Float64 = npt.NDArray[np.float64]

PORTRAIT_SIDE = 256
CLOSE_UP_SIDE = 160
# A close-up has the scale of a portrait of this side; the crop's own scale lies in its range.
CLOSE_UP_SCALE = 190
CLOSE_UP_DOWN = 0.06  # the crop reaches further above the eyes than below the chin
_LANDMARK_NOISE = 71
SHARD_PEOPLE = 1000


@dataclass(frozen=True)
class Population:
    """Who is rendered: `people` of population `seed`, one photo each.

    Of every `period` people the last is unaffected (0: nobody is); the others have the syndromes
    first_syndrome, first_syndrome + 1, … in turn.
    """

    seed: int
    people: int
    first_syndrome: int
    syndromes: int
    period: int = 7

    def syndrome_of(self, number: int) -> int:
        """0 … syndromes-1, or NO_SYNDROME."""
        if self.period and number % self.period == self.period - 1:
            return NO_SYNDROME
        return number % self.syndromes

    def draw(self, number: int) -> tuple[Person, PhotoSpec]:
        """Person `number` and their one photo."""
        index = self.syndrome_of(number)
        syndrome = None if index == NO_SYNDROME else draw_syndrome(self.first_syndrome + index)
        person = draw_person(self.seed, number, syndrome)
        return person, draw_photo(person, 1, draw_ages(self.seed, number, 1)[0])


@dataclass(frozen=True)
class LandmarkError:
    """Of the detector in crop pixels: mean (10,), covariance (10, 10) float64; x, y of five landmarks."""

    mean: Float64
    covariance: Float64
    portraits: int
    detected: int


def close_up(photo: PhotoSpec) -> PhotoSpec:
    """The same photo, taken from as near as the crop needs, for a picture of CLOSE_UP_SIDE px."""
    nearer = CLOSE_UP_SCALE / CLOSE_UP_SIDE
    return dataclasses.replace(
        photo,
        eye_chin=photo.eye_chin * nearer,
        shift=(photo.shift[0] / 2, photo.shift[1] / 2 + CLOSE_UP_DOWN),
        blur=photo.blur * CLOSE_UP_SCALE / PORTRAIT_SIDE,
    )


def measure_landmark_error(population: Population) -> LandmarkError:
    """Renders the population's portraits, detects, and compares with the truth."""
    detector = FaceDetector()
    errors = []
    pairs = [population.draw(number) for number in range(population.people)]
    for portrait in render_many(pairs, size=PORTRAIT_SIDE):
        faces = detector.detect(portrait.pixels)
        if faces:
            to_crop = similarity_to_template(portrait.landmarks)
            difference = map_points(to_crop, faces[0].landmarks) - map_points(to_crop, portrait.landmarks)
            errors.append(difference.reshape(10))
    return _robust_error(np.array(errors), population.people)


def _robust_error(errors: Float64, portraits: int) -> LandmarkError:
    """Without the hundredth part of the largest errors: a face found elsewhere is no landmark error."""
    size = np.abs(errors).max(axis=1)
    kept = errors[size <= np.quantile(size, 0.99)]
    return LandmarkError(kept.mean(axis=0), np.cov(kept.T), portraits, len(errors))


def cut_out(photo: RenderedPhoto, error: LandmarkError, random: np.random.Generator) -> PixelArray:
    """(112, 112, 3) uint8: the crop that displaced landmarks give."""
    to_crop = similarity_to_template(photo.landmarks)
    displaced = map_points(to_crop, photo.landmarks) + _draw_error(error, random)
    landmarks = map_points(invert_transform(to_crop), displaced)
    return warp_to_crop(photo.pixels, similarity_to_template(landmarks))


def _draw_error(error: LandmarkError, random: np.random.Generator) -> Float64:
    drawn = random.multivariate_normal(error.mean, error.covariance, method="cholesky")
    return np.asarray(drawn.reshape(5, 2))


def render_faces(
    population: Population, numbers: Sequence[int], error: LandmarkError
) -> dict[str, npt.NDArray[np.generic]]:
    """Close-ups of these people: pixels, parameters, syndromes, patients (see FaceSet), in order."""
    pairs = [population.draw(number) for number in numbers]
    pixels: list[PixelArray] = []
    parameters: list[FloatArray] = []
    taken = render_many([(person, close_up(photo)) for person, photo in pairs], size=CLOSE_UP_SIDE)
    for number, photo in zip(numbers, taken, strict=True):
        pixels.append(cut_out(photo, error, stream(_LANDMARK_NOISE, population.seed, number)))
        parameters.append(photo.parameters)
    return _arrays(population, numbers, pixels, parameters)


def photograph_faces(population: Population) -> dict[str, npt.NDArray[np.generic]]:
    """Whole portraits through the real detector, as at a hospital; who is not found is left out."""
    detector = FaceDetector()
    numbers, pixels, parameters = [], [], []
    everybody = range(population.people)
    portraits = render_many([population.draw(number) for number in everybody], size=PORTRAIT_SIDE)
    for number, portrait in zip(everybody, portraits, strict=True):
        faces = detector.detect(portrait.pixels)
        if faces:
            numbers.append(number)
            pixels.append(align_face(portrait.pixels, faces[0].landmarks).pixels)
            parameters.append(portrait.parameters)
    return _arrays(population, numbers, pixels, parameters)


def _arrays(
    population: Population, numbers: Sequence[int], pixels: list[PixelArray], parameters: list[FloatArray]
) -> dict[str, npt.NDArray[np.generic]]:
    return {
        "pixels": np.stack(pixels),
        "parameters": np.stack(parameters),
        "syndromes": np.array([population.syndrome_of(number) for number in numbers], dtype=np.int64),
        "patients": np.array(numbers, dtype=np.int64),
    }


@dataclass(frozen=True)
class ShardJob:
    """Some people of a population, to be rendered into one file."""

    population: Population
    numbers: range
    error: LandmarkError
    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / f"faces-{self.population.seed}-{self.numbers.start:07d}.npz"


def shard_jobs(population: Population, error: LandmarkError, folder: Path) -> list[ShardJob]:
    """The population cut into files of SHARD_PEOPLE people."""
    starts = range(0, population.people, SHARD_PEOPLE)
    ends = [min(start + SHARD_PEOPLE, population.people) for start in starts]
    return [
        ShardJob(population, range(start, end), error, folder)
        for start, end in zip(starts, ends, strict=True)
    ]


def write_shard(job: ShardJob) -> Path:
    """Renders the job's people unless their file exists, so a stopped run goes on where it was."""
    if not job.path.exists():
        save_shard(job.path, **render_faces(job.population, job.numbers, job.error))
    return job.path

"""Trunk features of synthetic patients whom no extractor and no recipe knows, cached in a folder.

Faces are close-ups with the renderer's landmarks, displaced by the detector's measured error, as in the
extractor's training. Nobody shown exists, so the cache lies in the open; a hospital's is sealed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from diagnosis.phenotype.embed.backbone import Backbone
from diagnosis.phenotype.embed.weights import trunk_sha256
from diagnosis.phenotype.types import PixelArray
from diagnosis.synthetic.people import Draw, Person, draw_ages, stream
from diagnosis.synthetic.photos import PhotoSpec, draw_photo
from diagnosis.synthetic.training_render import (
    CLOSE_UP_SIDE,
    LandmarkError,
    Population,
    close_up,
    cut_out,
    measure_landmark_error,
)
from federation.learning.features import (
    FeatureSet,
    compute_features,
    join_features,
    load_features,
    save_features,
)

#: Disjoint from demo, evaluation and calibration (below 3000) and from everything trainable (from 5000).
EXPERIMENT_SYNDROMES = range(3000, 5000)
EXPERIMENT_SEEDS = range(100, 140)
SYNDROMES_PER_COHORT = len(EXPERIMENT_SYNDROMES) // len(EXPERIMENT_SEEDS)
#: The population whose portraits tell the detector's error, as in the extractor's training.
PORTRAITS = Population(1003, 240, 80_000, 60)
SHARD_PATIENTS = 200
_LANDMARK_NOISE = 72

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Cohort:
    """Cohort `number` from 0: `patients` of `syndromes` syndromes in turn, each with 1 to 3 photos.

    Two cohorts share neither a person nor a syndrome.
    """

    number: int
    patients: int
    syndromes: int
    photo_shares: tuple[float, float, float] = (0.7, 0.2, 0.1)

    def __post_init__(self) -> None:
        if not (0 <= self.number < len(EXPERIMENT_SEEDS) and 2 <= self.syndromes <= SYNDROMES_PER_COHORT):
            raise ValueError(
                f"There are {len(EXPERIMENT_SEEDS)} cohorts of 2 to {SYNDROMES_PER_COHORT} syndromes."
            )

    @property
    def population(self) -> Population:
        """Everybody of the cohort: all affected."""
        first = EXPERIMENT_SYNDROMES[self.number * SYNDROMES_PER_COHORT]
        return Population(EXPERIMENT_SEEDS[self.number], self.patients, first, self.syndromes, period=0)

    def photos_of(self, number: int) -> tuple[Person, tuple[PhotoSpec, ...]]:
        """Patient `number` from 0 and all their photos, the first as in `Population.draw`."""
        population = self.population
        person, _ = population.draw(number)
        shares = stream(Draw.PHOTO_COUNT, population.seed, number)
        ages = draw_ages(population.seed, number, 1 + int(shares.choice(3, p=self.photo_shares)))
        return person, tuple(draw_photo(person, index, age) for index, age in enumerate(ages, start=1))

    def shards(self) -> list[range]:
        """Patient numbers, file by file."""
        starts = range(0, self.patients, SHARD_PATIENTS)
        return [range(start, min(start + SHARD_PATIENTS, self.patients)) for start in starts]


def cohort_features(
    cohort: Cohort, backbone: Backbone, folder: Path, progress: Progress | None = None
) -> FeatureSet:
    """All photos' features, rendered unless their files lie in `folder`. progress(done, total) in patients.

    A stopped run goes on where it was. Needs the extra `synthetic` only for what has to be rendered.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts, error = [], None
    for numbers in cohort.shards():
        path = folder / shard_name(cohort, backbone, numbers)
        if not path.exists():
            error = error or measure_landmark_error(PORTRAITS)
            write_whole(path, save_features(render_features(cohort, numbers, backbone, error)))
        parts.append(load_features(path.read_bytes(), trunk_sha256=trunk_sha256(backbone)))
        if progress is not None:
            progress(numbers.stop, cohort.patients)
    return join_features(parts)


def shard_name(cohort: Cohort, backbone: Backbone, numbers: range) -> str:
    """Says what the file depends on, so that another cohort or trunk never reads it."""
    facts = json.dumps({**asdict(cohort), "patients": None, "trunk": trunk_sha256(backbone)}, sort_keys=True)
    digest = hashlib.sha256(facts.encode()).hexdigest()[:12]
    return f"features-{cohort.number:02d}-{digest}-{numbers.start:05d}-{numbers.stop:05d}.safetensors"


def write_whole(path: Path, data: bytes) -> None:
    """The file has all bytes or does not exist, so a stopped run leaves no half file."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(data)
    temporary.replace(path)


def render_features(
    cohort: Cohort, numbers: Sequence[int], backbone: Backbone, error: LandmarkError
) -> FeatureSet:
    """Features of these patients' photos."""
    people = [cohort.photos_of(number) for number in numbers]
    pairs = [(person, photo) for person, photos in people for photo in photos]
    return compute_features(
        backbone,
        render_crops(pairs, error),
        keys=[f"{person.key}/{photo.seed[-1]}" for person, photo in pairs],
        labels=[str(person.syndrome) for person, _ in pairs],
        patients=[person.key for person, _ in pairs],
        seed=cohort.population.seed,
    )


def render_crops(pairs: Sequence[tuple[Person, PhotoSpec]], error: LandmarkError) -> PixelArray:
    """(n, 112, 112, 3) uint8, one crop per photo."""
    # Here, not above: whoever reads a cache that is complete needs no renderer.
    from diagnosis.synthetic.render import render_many

    taken = render_many([(person, close_up(photo)) for person, photo in pairs], size=CLOSE_UP_SIDE)
    noises = [stream(_LANDMARK_NOISE, *photo.seed) for _, photo in pairs]
    return np.stack([cut_out(photo, error, noise) for photo, noise in zip(taken, noises, strict=True)])

"""The faces of each epoch: first few people, then more, rendered by other processes while training goes on.

Which people an epoch sees is fixed by the configuration; training waits for them. So the result does not
depend on how fast anything was rendered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt

from diagnosis.phenotype.types import CROP_SIDE, FloatArray
from diagnosis.synthetic.facial_changes import SHIFTS
from diagnosis.synthetic.features import ALL_FEATURES, ASYMMETRY, FACE_SIZE
from diagnosis.synthetic.render import PARAMETER_NAMES
from diagnosis.synthetic.training_data import (
    FaceSet,
    Mirror,
    Standardisation,
    fit_standardisation,
    mirror_of,
    read_shards,
)
from diagnosis.synthetic.training_render import LandmarkError, Population, ShardJob, shard_jobs, write_shard

# What the embedding must tell: every number of the renderer, and how strongly each HPO term shows.
TARGET_NAMES: tuple[str, ...] = (*PARAMETER_NAMES, *(feature.term for feature in ALL_FEATURES))
Arrays = Mapping[str, npt.NDArray[np.generic]]


def target_mirror() -> Mirror:
    """What a flip does to TARGET_NAMES."""
    return mirror_of(TARGET_NAMES, (*SHIFTS, ASYMMETRY.term))


def raw_targets(parameters: FloatArray) -> FloatArray:
    """(n, p) parameters → (n, p + terms) float32: with each term's severity as features.feature_scores."""
    directions = np.stack([feature.direction() for feature in ALL_FEATURES])
    scores = parameters[:, :FACE_SIZE] @ (directions / np.sum(directions**2, axis=1, keepdims=True)).T
    return np.concatenate([parameters, scores], axis=1).astype(np.float32)


def face_set(arrays: Arrays, standard: Standardisation, syndromes: int) -> FaceSet:
    """Rendered arrays as a set of faces with standardised targets."""
    return FaceSet(
        pixels=np.asarray(arrays["pixels"], dtype=np.uint8),
        parameters=standard.apply(raw_targets(np.asarray(arrays["parameters"], dtype=np.float32))),
        mirror=target_mirror(),
        syndromes=np.asarray(arrays["syndromes"], dtype=np.int64),
        patients=np.asarray(arrays["patients"], dtype=np.int64),
        syndrome_count=syndromes,
    )


class FaceSource:
    """The first n people of a population, as soon as their shards exist. Standardised by the first call."""

    def __init__(self, population: Population, shards: Sequence[tuple[ShardJob, Future[Path]]]) -> None:
        self._population = population
        self._shards = list(shards)
        self._pixels = np.empty((population.people, CROP_SIDE, CROP_SIDE, 3), dtype=np.uint8)
        self._truth: list[dict[str, npt.NDArray[np.generic]]] = []
        self._read = 0
        self.standard: Standardisation | None = None

    def faces(self, count: int) -> FaceSet:
        """The first `count` people. Waits for their shards; the first call fixes the standardisation."""
        while self._read < count:
            self._read_next()
        names = self._truth[0]
        truth = {name: np.concatenate([part[name] for part in self._truth])[:count] for name in names}
        if self.standard is None:
            raw = raw_targets(np.asarray(truth["parameters"], dtype=np.float32))
            self.standard = fit_standardisation(raw, target_mirror())
        pixels = self._pixels[:count]
        return face_set({**truth, "pixels": pixels}, self.standard, self._population.syndromes)

    def _read_next(self) -> None:
        if not self._shards:
            raise ValueError(f"The population has {self._population.people} people; an epoch asks for more.")
        job, path = self._shards.pop(0)
        shard = read_shards([path.result()])
        self._pixels[job.numbers.start : job.numbers.stop] = shard.pop("pixels")
        self._truth.append(shard)
        self._read = job.numbers.stop


@contextmanager
def rendered_in_background(
    population: Population, error: LandmarkError, folder: Path, workers: int
) -> Iterator[FaceSource]:
    """A source whose shards `workers` processes render, in order. Shards already in `folder` are kept."""
    jobs = shard_jobs(population, error, folder)
    # spawn: a fork would copy warp's and torch's threads in whatever state they are.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        yield FaceSource(population, [(job, pool.submit(write_shard, job)) for job in jobs])
    finally:
        pool.shutdown(cancel_futures=True)

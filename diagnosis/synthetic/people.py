"""Synthetic people: syndromes, patients, unaffected people and their photos, drawn from explicit seeds.

Every draw comes from its own stream, seeded by (purpose, population seed, number …), so a person or photo
is the same whoever else is drawn, and in whatever order. Nobody here exists; every syndrome and gene is
invented.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from diagnosis.synthetic.facial_changes import FACIAL_CHANGES, ONE_SIDED, SHIFTS
from diagnosis.synthetic.features import (
    ALL_FEATURES,
    ASYMMETRY,
    FACE_SIZE,
    FEATURE_BY_TERM,
    TRAITS,
    assess_terms,
)

Array = npt.NDArray[np.float64]

IDENTITY_SPREAD = 0.25
# MakeHuman's shapes differ in size; these would make every second stranger look ill at the common spread.
IDENTITY_SHARE = dict.fromkeys(SHIFTS, 0.25) | {
    "forehead-nubian-incr": 0.35, "chin-height-incr": 0.6, "forehead-scale-vert-incr": 0.6,
}  # fmt: skip
PAIR_ASYMMETRY = 0.06
ASYMMETRY_SHARE = 0.08
PENETRANCE = 0.85
EXPRESSIVITY = (0.6, 1.2)
SEVERITY = (0.5, 1.0)
FEATURES_PER_SYNDROME = (4, 7)
ANCESTRY_SHARES = (0.24, 0.22, 0.54)
CHECKED_SHARE = 0.75  # of the terms, a clinician writes down a finding for these


class Draw(IntEnum):
    """What a stream is drawn for: the first number of every seed, so that no two purposes share a stream."""

    SYNDROME = 1
    IDENTITY = 2
    PHOTO = 3
    FINDINGS = 4
    AGES = 5
    LOOK = 6
    SENSOR = 7
    PHOTO_COUNT = 8
    SPLIT = 9


# Disjoint numbers: nothing that is evaluated is ever trained on.
DEMO_SYNDROMES = range(1, 1000)
EVALUATION_SYNDROMES = range(1000, 2000)
TRAINING_SYNDROMES = range(5000, 100_000)
CALIBRATION_SYNDROMES = range(2000, 3000)
DEMO_SEED, EVALUATION_SEED, CALIBRATION_SEED = 1, 2, 3
FIRST_TRAINING_SEED = 1000  # population seeds from here on are for training


@dataclass(frozen=True)
class SyndromeFeature:
    """A term of a syndrome: frequency in [0, 1] of patients that show it, severity in [0.5, 1]."""

    term: str
    frequency: float
    severity: float


@dataclass(frozen=True)
class Syndrome:
    """An invented syndrome. number makes identifier "SYN:0007", name and gene; nothing of it is real."""

    number: int
    features: tuple[SyndromeFeature, ...]

    @property
    def identifier(self) -> str:
        return f"SYN:{self.number:04d}"

    @property
    def name(self) -> str:
        return f"Synthetic syndrome {self.number:04d}"

    @property
    def gene(self) -> str:
        return f"SYNG{self.number:04d}"


@dataclass(frozen=True)
class Appearance:
    """Colours and hair of a person. skin_tone on the Monk scale 1 (light) … 10 (dark), continuous."""

    skin_tone: float
    ancestry: tuple[float, float, float]
    hair_shade: float
    hair_red: float
    hair_length: str
    hair_volume: float
    eye_shade: float
    freckles: float
    flush: float
    stubble: float
    fringe: float


@dataclass(frozen=True)
class Person:
    """face (FACE_SIZE,) float64: local changes, then traits. sex 0 male, 1 female; weight in [0, 1]."""

    seed: int
    number: int
    sex: float
    weight: float
    face: Array
    appearance: Appearance
    syndrome: str | None
    findings: dict[str, str]

    @property
    def key(self) -> str:
        return f"S{self.seed}-{self.number:05d}"


def stream(purpose: int, *seeds: int) -> np.random.Generator:
    """The generator of one draw (purpose: see Draw); equal seeds give equal draws in every process."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((int(purpose), *seeds))))


def draw_syndrome(number: int) -> Syndrome:
    """Four to seven facial terms of different groups, severity 0.5–1, frequency around 0.85."""
    rng = stream(Draw.SYNDROME, number)
    wanted = int(rng.integers(FEATURES_PER_SYNDROME[0], FEATURES_PER_SYNDROME[1] + 1))
    chosen: dict[str, SyndromeFeature] = {}
    for index in rng.permutation(len(ALL_FEATURES)):
        feature = ALL_FEATURES[int(index)]
        if len(chosen) < wanted and feature.group not in chosen:
            severity = round(float(rng.uniform(*SEVERITY)), 2)
            frequency = round(float(np.clip(rng.normal(PENETRANCE, 0.05), 0.7, 0.98)), 2)
            chosen[feature.group] = SyndromeFeature(feature.term, frequency, severity)
    return Syndrome(number, tuple(chosen.values()))


def draw_person(
    seed: int,
    number: int,
    syndrome: Syndrome | None = None,
    ancestries: tuple[float, float, float] = ANCESTRY_SHARES,
) -> Person:
    """Person `number` of population `seed`; the same identity whatever syndrome is laid over it.

    ancestries are the shares of people of mainly African, Asian and European-like ancestry, summing to 1.
    """
    rng = stream(Draw.IDENTITY, seed, number)
    sex = float(rng.integers(0, 2))
    weight = float(np.clip(rng.normal(0.5, 0.16), 0.05, 0.95))
    appearance = _draw_appearance(rng, sex, ancestries)
    face = _draw_identity(rng)
    if syndrome is not None:
        face = face + _draw_signs(rng, syndrome)
    face = _limit(face)
    findings = _draw_findings(stream(Draw.FINDINGS, seed, number), face)
    identifier = syndrome.identifier if syndrome is not None else None
    return Person(seed, number, sex, weight, face, appearance, identifier, findings)


def _draw_identity(rng: np.random.Generator) -> Array:
    face = np.zeros(FACE_SIZE)
    for index, name in enumerate(FACIAL_CHANGES):
        value = float(np.clip(rng.normal(0.0, IDENTITY_SPREAD), -0.75, 0.75))
        if name.startswith("r-"):  # the left side of a pair stands just before it
            face[index] = face[index - 1] + float(rng.normal(0.0, PAIR_ASYMMETRY))
        elif name in ONE_SIDED:
            face[index] = max(value, 0.0)
        else:
            face[index] = value * IDENTITY_SHARE.get(name, 1.0)
    face[len(FACIAL_CHANGES) :] = np.clip(rng.normal(0.0, IDENTITY_SPREAD, len(TRAITS)), -0.6, 0.6)
    return face


def _draw_signs(rng: np.random.Generator, syndrome: Syndrome) -> Array:
    expressivity = float(rng.uniform(*EXPRESSIVITY))
    face = np.zeros(FACE_SIZE)
    for feature in syndrome.features:
        shows = rng.uniform() < feature.frequency
        own = float(rng.uniform(0.85, 1.15))
        mirrored = -1.0 if feature.term == ASYMMETRY.term and rng.uniform() < 0.5 else 1.0
        if shows:
            strength = mirrored * own * expressivity * feature.severity
            face += strength * FEATURE_BY_TERM[feature.term].direction()
    return face


def _limit(face: Array) -> Array:
    limited = np.clip(face, -1.6, 1.6)
    one_sided = [index for index, name in enumerate(FACIAL_CHANGES) if name in ONE_SIDED]
    limited[one_sided] = np.maximum(limited[one_sided], 0.0)
    return limited


def _draw_findings(rng: np.random.Generator, face: Array) -> dict[str, str]:
    """HPO term → present, absent, not assessed: read off the rendered face, where somebody looked."""
    terms = [feature.term for feature in ALL_FEATURES]
    seen = assess_terms(face, terms)
    looked = rng.uniform(size=len(terms)) < CHECKED_SHARE
    return {
        term: finding if ok and finding != "unclear" else "not assessed"
        for (term, finding), ok in zip(seen.items(), looked, strict=True)
    }


def _draw_appearance(
    rng: np.random.Generator, sex: float, ancestries: tuple[float, float, float]
) -> Appearance:
    main = int(rng.choice(3, p=ancestries))
    ancestry = rng.dirichlet([0.35, 0.35, 0.35]) * 0.35
    ancestry[main] += 0.65
    tone = float(np.clip(ancestry @ np.array([7.8, 4.3, 2.7]) + rng.normal(0.0, 0.9), 1.0, 10.0))
    fair = float(np.clip(1.0 - (tone - 1.0) / 4.0, 0.0, 1.0)) * ancestry[2]
    lengths = ("short", "medium", "long") if sex > 0.5 else ("cropped", "short", "medium")
    return Appearance(
        skin_tone=tone,
        ancestry=(float(ancestry[0]), float(ancestry[1]), float(ancestry[2])),
        hair_shade=float(np.clip(rng.beta(1.2, 5.0) + fair * rng.uniform(0.0, 0.85), 0.0, 1.0)),
        hair_red=float(rng.uniform(0.6, 1.0) * fair if rng.uniform() < 0.12 else rng.uniform(0.0, 0.25)),
        hair_length=str(rng.choice(lengths, p=[0.2, 0.35, 0.45] if sex > 0.5 else [0.3, 0.6, 0.1])),
        hair_volume=float(rng.uniform(0.5, 1.3)),
        eye_shade=float(np.clip(fair * rng.uniform(-0.2, 1.4), 0.0, 1.0)),
        freckles=float(rng.uniform(0.2, 1.0) * fair if rng.uniform() < 0.3 else 0.0),
        flush=float(rng.uniform(0.2, 1.0)),
        stubble=float(max(0.0, rng.normal(0.25, 0.3)) if sex < 0.5 else 0.0),
        fringe=float(rng.uniform(0.5, 1.0) if rng.uniform() < 0.25 else 0.0),
    )


def draw_ages(seed: int, number: int, photos: int) -> Sequence[float]:
    """Ages in years at `photos` photos, ascending: mostly children, as in a genetics clinic."""
    rng = stream(Draw.AGES, seed, number)
    first = float(
        rng.choice(
            [rng.uniform(0.3, 3.0), rng.uniform(3.0, 14.0), rng.uniform(14.0, 65.0)], p=[0.25, 0.45, 0.30]
        )
    )
    steps = rng.uniform(0.5, 5.0, size=max(photos - 1, 0))
    return [first, *(first + np.cumsum(steps)).tolist()]

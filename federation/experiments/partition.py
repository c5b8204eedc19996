"""How patients are spread over silos: always whole patients, never single photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from federation.learning.features import FeatureSet

Kind = Literal["near-uniform", "dirichlet", "disjoint"]
Places = dict[str, int]  # patient → index of the site


@dataclass(frozen=True)
class Spread:
    """near-uniform: each syndrome dealt out evenly. dirichlet: each syndrome's shares of the sites drawn from
    Dirichlet(alpha, …, alpha) (Yurochkin et al., ICML 2019); the smaller alpha, the fewer sites hold most
    of a syndrome. disjoint: each syndrome at one site only.
    """

    kind: Kind
    alpha: float = 0.0

    def __post_init__(self) -> None:
        if (self.kind == "dirichlet") != (self.alpha > 0.0):
            raise ValueError("An alpha above 0 belongs to dirichlet, and dirichlet needs one.")

    @property
    def name(self) -> str:
        """For tables: dirichlet-0.5."""
        return f"dirichlet-{self.alpha:g}" if self.kind == "dirichlet" else self.kind


def spread_features(
    found: FeatureSet, sites: Sequence[str], spread: Spread, seed: int
) -> dict[str, FeatureSet]:
    """A cohort's photos, divided among sites; every photo goes with its patient. A site may get nobody."""
    places = place_patients(people_of(found), len(sites), spread, seed)
    where = np.array([places[patient] for patient in found.patients], dtype=np.int64)
    return {site: found.select(where == index) for index, site in enumerate(sites)}


def people_of(found: FeatureSet) -> dict[str, str]:
    """Patient → syndrome. ValueError for a patient with two syndromes, who could not be placed."""
    people: dict[str, str] = {}
    for patient, label in zip(found.patients, found.labels, strict=True):
        if people.setdefault(patient, label) != label:
            raise ValueError("A patient has two syndromes. Give each patient one.")
    return people


def place_patients(people: Mapping[str, str], sites: int, spread: Spread, seed: int) -> Places:
    """Patient → syndrome becomes patient → site index; the same for the same seed, in whatever order."""
    generator = np.random.default_rng(seed)
    by_label = {
        label: [patient for patient in sorted(people) if people[patient] == label]
        for label in sorted(set(people.values()))
    }
    counts = _counts({label: len(own) for label, own in by_label.items()}, sites, spread, generator)
    places: Places = {}
    for label, own in by_label.items():
        order = generator.permutation(len(own))
        homes = np.repeat(np.arange(sites), counts[label])
        places.update({own[index]: int(home) for index, home in zip(order, homes, strict=True)})
    return places


def _counts(
    sizes: Mapping[str, int], sites: int, spread: Spread, generator: np.random.Generator
) -> dict[str, npt.NDArray[np.int64]]:
    """Syndrome → (sites,) patients of it at each site."""
    if spread.kind == "disjoint":
        return _disjoint_counts(sizes, sites, generator)
    counts = {}
    for turn, (label, size) in enumerate(sizes.items()):
        if spread.kind == "dirichlet":
            counts[label] = share_out(size, generator.dirichlet([spread.alpha] * sites))
        else:
            # The odd patients go to another site each time, so that sites stay of one size.
            counts[label] = np.roll(share_out(size, np.full(sites, 1.0 / sites)), turn)
    return counts


def share_out(size: int, shares: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Whole numbers that add up to `size`, by largest remainder."""
    exact = shares * size
    counts = np.floor(exact).astype(np.int64)
    order = np.argsort(-(exact - counts), kind="stable")
    counts[order[: size - int(counts.sum())]] += 1
    return counts


def _disjoint_counts(
    sizes: Mapping[str, int], sites: int, generator: np.random.Generator
) -> dict[str, npt.NDArray[np.int64]]:
    """Each syndrome, in random order, to the site that has fewest patients so far."""
    labels = list(sizes)
    filled = np.zeros(sites, dtype=np.int64)
    counts = {label: np.zeros(sites, dtype=np.int64) for label in labels}
    for index in generator.permutation(len(labels)):
        label, home = labels[index], int(np.argmin(filled))
        counts[label][home] = sizes[label]
        filled[home] += sizes[label]
    return counts

"""What may be said about a distance: the release policy of one kernel session, signed as part of its plan.

An answer names at most `candidates` classes, each with a band, or nothing. A class behind which fewer than
`crowd` patients stand is as good as a patient (docs/adr/0008): such a candidate, like a look-alike
without a diagnosis, is shown to its owner first and to the asker only after the owner agrees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from federation.kernel.errors import ConfigRefused

Float64 = npt.NDArray[np.float64]

#: Answers that a row may stand behind in its whole life: for one asking hospital, and over all of them.
ANSWERS_PER_HOSPITAL = 4
ANSWERS_IN_ALL = 12
CANDIDATES = 3


@dataclass(frozen=True)
class Policy:
    """bands: (name, largest mean cosine distance), nearest first; beyond the last nothing is said.

    same_person: rows at or below this distance are removed before scoring. near_identical: two photos of one
    hospital below this distance are one photo asked twice. Both distances belong to the extractor
    (`person_distances`). crowd: patients of a class from whom on it is answered without its owner; 1 answers
    every class. queries_per_day: of one hospital.
    """

    bands: tuple[tuple[str, float], ...]
    same_person: float
    near_identical: float
    crowd: int
    queries_per_day: int
    answers_per_hospital: int = ANSWERS_PER_HOSPITAL
    answers_in_all: int = ANSWERS_IN_ALL
    candidates: int = CANDIDATES

    def __post_init__(self) -> None:
        cuts = [cut for _, cut in self.bands]
        names = [name for name, _ in self.bands]
        rising = all(near < far for near, far in zip(cuts, cuts[1:], strict=False))
        if not cuts or not rising or len(set(names)) != len(names) or not all(names):
            raise ConfigRefused("Bands are named differently and their cut-offs rise. Correct the policy.")
        if not 0.0 <= self.near_identical <= self.same_person < cuts[0] <= cuts[-1] <= 2.0:
            raise ConfigRefused(
                "Distances rise from near-identical to same person to the first band. Measure them again."
            )
        counts = (self.crowd, self.queries_per_day, self.answers_per_hospital, self.candidates)
        if any(type(count) is not int or count < 1 for count in counts):
            raise ConfigRefused("Crowd, budgets and candidates are whole numbers from 1. Correct the policy.")
        if self.candidates > CANDIDATES or not self.answers_per_hospital <= self.answers_in_all:
            raise ConfigRefused(
                "An answer has three candidates at most, and budgets rise. Correct the policy."
            )

    def band(self, distance: float) -> str | None:
        """Name of the first band that the distance lies in; None, of which nothing is said."""
        return next((name for name, cut in self.bands if distance <= cut), None)

    def place(self, band: str) -> int:
        """0 for the nearest band."""
        return [name for name, _ in self.bands].index(band)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "bands": [[name, cut] for name, cut in self.bands],
            "same_person": self.same_person,
            "near_identical": self.near_identical,
            "crowd": self.crowd,
            "queries_per_day": self.queries_per_day,
            "answers_per_hospital": self.answers_per_hospital,
            "answers_in_all": self.answers_in_all,
            "candidates": self.candidates,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Policy:
        """The reverse of `as_json`; ConfigRefused for anything else."""
        try:
            fields = dict(found)
            bands = tuple((str(name), float(cut)) for name, cut in fields.pop("bands"))
            policy = cls(bands=bands, **fields)
        except (TypeError, ValueError, KeyError):
            raise ConfigRefused(
                "The kernel policy is not in its form. Ask its proposer to send it again."
            ) from None
        if policy.as_json() != dict(found):
            raise ConfigRefused("The kernel policy is not in its canonical form. Ask for it again.")
        return policy


def person_distances(same_person: Float64) -> tuple[float, float]:
    """(P,) distances between two photos of one person → (near_identical, same_person).

    Their 1 % and 99 % quantiles: second photos of a patient are rarely taken for a repetition, and one in a
    hundred of them is not recognised as the same person. The audit says what that one gives away.
    """
    if len(same_person) < 100 or not np.isfinite(same_person).all():
        raise ConfigRefused("Same-person distances need 100 pairs of photos at least. Add people.")
    low, high = np.quantile(same_person, [0.01, 0.99])
    return float(low), float(high)

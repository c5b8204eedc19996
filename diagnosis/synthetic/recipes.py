"""Recipes of cohorts: who is in them, how many photos, which splits. Everything else follows from the seeds.

The evaluation recipe was committed before any extractor of this project, and is not softened afterwards: a
change needs a new name. It was corrected once, 23 minutes later, when training runs may already have begun
but no result had been committed: in the table of features some signs had the wrong direction or name
(epicanthus, slant of the fissures, smooth and deep philtrum, what was called proptosis). The sizes of the
displacements were kept (to a tenth), so as to make the task neither easier nor harder; that was not measured.
Syndromes, identities and seeds of the three recipes are disjoint, and disjoint from everything trainable
(people.TRAINING_SYNDROMES, people.FIRST_TRAINING_SEED).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from diagnosis.synthetic.people import (
    ANCESTRY_SHARES,
    CALIBRATION_SEED,
    CALIBRATION_SYNDROMES,
    DEMO_SEED,
    DEMO_SYNDROMES,
    EVALUATION_SEED,
    EVALUATION_SYNDROMES,
)

FREQUENT_FROM = 7  # patients, as in GMDB: frequent syndromes have at least seven, rare ones two to six
RARE_SPLITS = 10


@dataclass(frozen=True)
class Site:
    """One hospital: solved patients by syndrome number, unsolved patients by their (hidden) syndrome."""

    name: str
    solved: tuple[tuple[int, int], ...]
    unsolved: tuple[int, ...] = ()
    unaffected: int = 0
    ancestries: tuple[float, float, float] = ANCESTRY_SHARES


@dataclass(frozen=True)
class CohortRecipe:
    """photo_shares are the shares of people with 1, 2, 3 photos. size px, jpeg_quality as Pillow counts."""

    name: str
    seed: int
    sites: tuple[Site, ...]
    photo_shares: tuple[float, float, float]
    size: int = 256
    jpeg_quality: int = 85
    splits: bool = False

    def syndrome_numbers(self) -> tuple[int, ...]:
        """All syndromes that a patient of the cohort has, ascending."""
        solved = {number for site in self.sites for number, _ in site.solved}
        return tuple(sorted(solved | {number for site in self.sites for number in site.unsolved}))


def _demo_sites() -> tuple[Site, ...]:
    """Eight shared syndromes with six or more patients (k is 5); long tails that overlap in part."""
    first = DEMO_SYNDROMES.start
    frequent = [first + i for i in range(8)]
    tail = [first + 8 + i for i in range(34)]
    counts = (9, 8, 8, 7, 7, 6, 6, 6)
    a = list(zip(frequent, counts, strict=True)) + [(n, 1 + (i % 3 == 0)) for i, n in enumerate(tail[:26])]
    b = [(n, 6) for n in frequent[:7]] + [(n, 1 + (i % 4 == 0)) for i, n in enumerate(tail[10:28])]
    c = [(n, 6) for n in (*frequent[:5], frequent[7])]
    c += [(n, 1 + (i % 4 == 1)) for i, n in enumerate(tail[18:32])]
    d = [(n, 6) for n in frequent[1:7]] + [(n, 1 + (i % 5 == 0)) for i, n in enumerate(tail[24:34])]
    return (
        # Two of A's unsolved patients have what only C or D has seen; one has what nobody has seen.
        Site("A", tuple(a), (first, first + 3, tail[4], tail[12], tail[30], tail[33], tail[33] + 1), 6),
        Site("B", tuple(b), (first + 1, tail[14], tail[27], tail[2], tail[33] + 1), 6, (0.30, 0.12, 0.58)),
        Site("C", tuple(c), (first + 2, tail[20], tail[31], tail[8]), 6, (0.12, 0.42, 0.46)),
        Site("D", tuple(d), (first + 4, tail[32], tail[29]), 5, (0.40, 0.20, 0.40)),
    )


def _long_tail(first: int, frequent: int, most: int, rare: int) -> tuple[tuple[int, int], ...]:
    """(syndrome, patients): a geometric fall from `most` to FREQUENT_FROM, then rare ones from 6 to 2."""
    fall = [round(most * (FREQUENT_FROM / most) ** (i / (frequent - 1))) for i in range(frequent)]
    few = [6 - (5 * i) // rare for i in range(rare)]
    return tuple((first + i, count) for i, count in enumerate([*fall, *few]))


DEMO = CohortRecipe("demo", DEMO_SEED, _demo_sites(), (0.62, 0.26, 0.12), size=320, jpeg_quality=88)
EVALUATION = CohortRecipe(
    "evaluation",
    EVALUATION_SEED,
    (Site("", _long_tail(EVALUATION_SYNDROMES.start, 30, 60, 30), (), 200),),
    (0.55, 0.28, 0.17),
    splits=True,
)
CALIBRATION = CohortRecipe(
    "calibration",
    CALIBRATION_SEED,
    (Site("", _long_tail(CALIBRATION_SYNDROMES.start, 24, 30, 24), (), 150),),
    (0.70, 0.20, 0.10),
    splits=True,
)
RECIPES: Mapping[str, CohortRecipe] = {recipe.name: recipe for recipe in (DEMO, EVALUATION, CALIBRATION)}


def recipe_named(name: str) -> CohortRecipe:
    """The recipe of that name. Raises ValueError with the names that exist."""
    if name not in RECIPES:
        raise ValueError(f"There is no recipe {name!r}. Choose one of: {', '.join(sorted(RECIPES))}.")
    return RECIPES[name]

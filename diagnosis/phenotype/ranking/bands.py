"""Similarity bands: High, Medium and Low, cut where held-out patients say, with what each cut-off measured.

The rule. Take held-out patients (none of them in the gallery), rank each, and keep the rows a clinician is
shown. Fit the share of correct rows as a non-increasing function of distance (isotonic regression, Ayer et
al. 1955). High ends where that share falls below 1/2: a row like this is at least as often right as wrong.
Medium ends where it falls below 1/10: about the share at which one row of a first screen of ten is right,
so worth a look. A cut-off must rest on at least 20 rows, else its band is not awarded at all.

The figures shown beside a band come from cross-fitting: patients are dealt into five folds, each fold is
banded with cut-offs fitted on the other four, and what that gave is counted together. If the bands so
measured are not in order (High at least as precise as Medium, Medium as Low), the wrong one is withdrawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from diagnosis.phenotype.errors import CalibrationError
from diagnosis.phenotype.ranking.grouping import Indices
from diagnosis.phenotype.ranking.intervals import Bools, Estimate, Float64, wilson
from diagnosis.phenotype.types import Ranking

Band = Literal["High", "Medium", "Low"]

TARGETS: Mapping[Band, float] = {"High": 0.5, "Medium": 0.1}
#: Rows of a list that a clinician is shown, at least.
SHOWN = 30
#: Rows a cut-off must rest on.
SUPPORT = 20
FOLDS = 5
#: A cut-off that no distance meets: the band is not awarded.
NOT_AWARDED = -1.0
#: No cosine distance is larger.
FARTHEST = 2.0


@dataclass(frozen=True)
class ShownRows:
    """Rows that R held-out lists showed. distances (R,) float64; correct (R,) bool; query (R,) intp.

    query numbers the `queries` held-out people from 0; one whose syndrome was not shown has no correct row.
    """

    distances: Float64
    correct: Bools
    query: Indices
    queries: int


@dataclass(frozen=True)
class BandFigures:
    """One cut-off, as measured on people it was not fitted on, with Wilson's 95 % intervals.

    sensitivity: people whose true syndrome stands at or below the cut-off; precision: rows at or below the
    cut-off that are correct; within: rows of this band alone that are correct.
    """

    band: Band
    cutoff: float
    sensitivity: Estimate
    precision: Estimate
    within: Estimate


@dataclass(frozen=True)
class Bands:
    """Cut-offs on the distance, nearest first, with their figures."""

    figures: tuple[BandFigures, ...]

    def band(self, distance: float) -> Band:
        """The first band whose cut-off the distance does not pass; Low beyond all."""
        for figures in self.figures:
            if distance <= figures.cutoff:
                return figures.band
        return "Low"

    def as_dict(self) -> list[dict[str, Any]]:
        """Plain JSON."""
        return [
            {
                "band": one.band,
                "cutoff": one.cutoff,
                "sensitivity": one.sensitivity.as_dict(),
                "precision": one.precision.as_dict(),
                "within": one.within.as_dict(),
            }
            for one in self.figures
        ]

    @classmethod
    def from_dict(cls, entries: Iterable[Mapping[str, Any]]) -> Bands:
        """The reverse of `as_dict`; CalibrationError if bands are not High, Medium, Low in order."""
        figures = tuple(
            BandFigures(
                band=entry["band"],
                cutoff=float(entry["cutoff"]),
                sensitivity=Estimate.from_dict(entry["sensitivity"]),
                precision=Estimate.from_dict(entry["precision"]),
                within=Estimate.from_dict(entry["within"]),
            )
            for entry in entries
        )
        if [one.band for one in figures] != ["High", "Medium", "Low"]:
            raise CalibrationError("A calibration needs the bands High, Medium and Low. Calibrate again.")
        return cls(figures)


def shown_rows(lists: Iterable[tuple[Ranking, str]], *, shown: int = SHOWN) -> ShownRows:
    """(ranking, true syndrome) of each held-out person → their first `shown` syndrome rows."""
    distances, correct, query, queries = [], [], [], 0
    for ranking, truth in lists:
        for item in ranking.syndromes[:shown]:
            distances.append(item.distance)
            correct.append(item.key == truth)
            query.append(queries)
        queries += 1
    return ShownRows(
        np.array(distances, dtype=np.float64),
        np.array(correct, dtype=np.bool_),
        np.array(query, dtype=np.intp),
        queries,
    )


def fit_bands(rows: ShownRows, *, seed: int = 0) -> Bands:
    """Cut-offs by the module's rule on all people, figures by five-fold cross-fitting over people.

    Raises CalibrationError with fewer than five held-out people or no row.
    """
    if rows.queries < FOLDS or not len(rows.distances):
        raise CalibrationError(f"Bands need at least {FOLDS} held-out people with a ranking. Hold out more.")
    fold = np.random.default_rng(seed).permutation(rows.queries) % FOLDS
    fold_of_row = fold[rows.query]
    withdrawn: set[Band] = set()
    while True:
        high, medium = _cutoffs(rows.distances, rows.correct, withdrawn)
        bands = np.full(len(rows.distances), 2, dtype=np.intp)
        for held_out in range(FOLDS):
            inside = fold_of_row == held_out
            cuts = _cutoffs(rows.distances[~inside], rows.correct[~inside], withdrawn)
            bands[inside] = _banded(rows.distances[inside], cuts)
        named: tuple[tuple[Band, float], ...] = (("High", high), ("Medium", medium), ("Low", FARTHEST))
        figures = tuple(
            _figures(rows, bands, place, name, cutoff) for place, (name, cutoff) in enumerate(named)
        )
        wrong = _out_of_order(figures)
        if wrong is None or wrong in withdrawn:
            return Bands(figures)
        withdrawn.add(wrong)


def isotonic_precision(distances: Float64, correct: Bools) -> tuple[Float64, Float64]:
    """Pool-adjacent-violators: ends (K,) of the steps, ascending, and the share correct on each, falling."""
    ends, inverse = np.unique(distances, return_inverse=True)
    hits = np.bincount(inverse, weights=correct).tolist()
    sizes = np.bincount(inverse).tolist()
    blocks: list[list[float]] = []  # [hits, rows, end]
    for hit, size, end in zip(hits, sizes, ends.tolist(), strict=True):
        blocks.append([hit, size, end])
        while len(blocks) > 1 and blocks[-2][0] * blocks[-1][1] <= blocks[-1][0] * blocks[-2][1]:
            hit, size, end = blocks.pop()
            blocks[-1] = [blocks[-1][0] + hit, blocks[-1][1] + size, end]
    table = np.array(blocks)
    return table[:, 2], table[:, 0] / table[:, 1]


def reliability(rows: ShownRows, *, bins: int = 10) -> list[tuple[float, Estimate]]:
    """Share correct by tenths of the rows, nearest first: (largest distance, share). For the report."""
    order = np.argsort(rows.distances, kind="stable")
    return [
        (float(rows.distances[part[-1]]), wilson(int(rows.correct[part].sum()), len(part)))
        for part in np.array_split(order, bins)
        if len(part)
    ]


def _cutoffs(distances: Float64, correct: Bools, withdrawn: set[Band]) -> tuple[float, float]:
    """Largest distances at which the fitted share still meets the targets; Medium never before High."""
    ends, share = isotonic_precision(distances, correct)
    cuts = []
    for band, target in TARGETS.items():
        good = ends[share >= target]
        cutoff = float(good[-1]) if len(good) else NOT_AWARDED
        supported = int(np.count_nonzero(distances <= cutoff)) >= SUPPORT
        cuts.append(cutoff if supported and band not in withdrawn else NOT_AWARDED)
    return cuts[0], max(cuts)


def _banded(distances: Float64, cuts: tuple[float, float]) -> npt.NDArray[np.intp]:
    """0 High, 1 Medium, 2 Low."""
    return np.asarray(np.searchsorted(np.array(cuts), distances, side="left"), dtype=np.intp)


def _figures(
    rows: ShownRows, bands: npt.NDArray[np.intp], place: int, name: Band, cutoff: float
) -> BandFigures:
    reached, inside = bands <= place, bands == place
    hits = int(np.sum(rows.correct & reached))
    return BandFigures(
        band=name,
        cutoff=cutoff,
        sensitivity=wilson(hits, rows.queries),  # a list has at most one correct row
        precision=wilson(hits, int(reached.sum())),
        within=wilson(int(np.sum(rows.correct & inside)), int(inside.sum())),
    )


def _out_of_order(figures: tuple[BandFigures, ...]) -> Band | None:
    """The first awarded band that is less precise than the next awarded one."""
    awarded = [one for one in figures if one.within.n]
    for nearer, farther in zip(awarded, awarded[1:], strict=False):
        if nearer.within.value < farther.within.value:
            return nearer.band
    return None

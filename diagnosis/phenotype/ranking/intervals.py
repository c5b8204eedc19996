"""Intervals for the figures that are shown: Wilson for shares, DeLong for AUROC, bootstrap for the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Estimate:
    """A measured value with its 95 % interval (unless another level was asked for) and what it rests on."""

    value: float
    low: float
    high: float
    n: int

    def as_dict(self) -> dict[str, float | int | None]:
        """For JSON, which has no NaN: a figure that could not be measured is None."""
        figures = {"value": self.value, "low": self.low, "high": self.high}
        known = {name: None if math.isnan(figure) else figure for name, figure in figures.items()}
        return {**known, "n": self.n}

    @classmethod
    def from_dict(cls, figures: Mapping[str, float | int | None]) -> Estimate:
        """The reverse of `as_dict`."""
        known = [figures[name] for name in ("value", "low", "high")]
        value, low, high = (math.nan if figure is None else float(figure) for figure in known)
        return cls(value, low, high, int(figures["n"] or 0))


def wilson(successes: int, trials: int, *, level: float = 0.95) -> Estimate:
    """Share with its score interval (Wilson 1927), honest for small n and shares near 0 or 1.

    No trials give no knowledge: value NaN, interval [0, 1].
    """
    if trials == 0:
        return Estimate(math.nan, 0.0, 1.0, 0)
    z = NormalDist().inv_cdf(0.5 + level / 2.0)
    share = successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    # At 0 and n successes the bound is the share itself; rounding must not push it past.
    return Estimate(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)), trials)


def bootstrap(
    statistic: Callable[[npt.NDArray[np.intp]], float],
    groups: npt.NDArray[np.generic],
    *,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """Percentile bootstrap that draws whole groups with replacement (Efron & Tibshirani 1993, chapter 13).

    groups (n,): the patient of each query, so that photos of one patient stay together. statistic gets the
    drawn query indices, repeats included. n of the estimate is the number of groups.
    """
    _, group = np.unique(groups, return_inverse=True)
    members = [np.flatnonzero(group == index) for index in range(int(group.max(initial=-1)) + 1)]
    if not members:
        return Estimate(math.nan, math.nan, math.nan, 0)
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        drawn = generator.integers(0, len(members), len(members))
        values.append(statistic(np.concatenate([members[index] for index in drawn])))
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return Estimate(statistic(np.arange(len(groups))), float(low), float(high), len(members))


def auroc(scores: npt.ArrayLike, positive: npt.ArrayLike, *, level: float = 0.95) -> Estimate:
    """Area under the ROC curve, ties counted half, with DeLong's interval on the logit scale.

    scores (n,) higher = more positive; positive (n,) bool. Variance: DeLong et al. 1988 by mid-ranks
    (Sun & Xu 2014). The logit keeps the interval within [0, 1]; at an AUROC of exactly 0 or 1 the variance
    is zero and says nothing, so the interval then comes from Wilson on the smaller class.
    """
    values, labels = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=np.bool_)
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if positives == 0 or negatives == 0:
        return Estimate(math.nan, 0.0, 1.0, len(values))
    area, variance = delong(values, labels)
    if not 0.0 < area < 1.0:
        smaller = min(positives, negatives)
        bound = wilson(round(area * smaller), smaller, level=level)
        return Estimate(area, bound.low, bound.high, len(values))
    z = NormalDist().inv_cdf(0.5 + level / 2.0)
    half = z * math.sqrt(variance) / (area * (1.0 - area))
    centre = math.log(area / (1.0 - area))
    return Estimate(area, _sigmoid(centre - half), _sigmoid(centre + half), len(values))


def delong(scores: Float64, positive: Bools) -> tuple[float, float]:
    """AUROC and its DeLong variance. Both classes must be present; one member of a class has no variance."""
    above, below = scores[positive], scores[~positive]
    cases, controls = len(above), len(below)
    pooled = mid_ranks(np.concatenate([above, below]))
    area = (pooled[:cases].sum() - cases * (cases + 1) / 2) / (cases * controls)
    per_case = (pooled[:cases] - mid_ranks(above)) / controls  # share of controls below each case
    per_control = 1.0 - (pooled[cases:] - mid_ranks(below)) / cases  # share of cases above each control
    spread = sum(float(np.var(part, ddof=1)) / len(part) for part in (per_case, per_control) if len(part) > 1)
    return float(area), spread


def mid_ranks(values: Float64) -> Float64:
    """Ranks from 1, equal values sharing the mean of their ranks. (n,) → (n,)."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2.0)[inverse], dtype=np.float64)


def _sigmoid(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-value)) if value >= 0 else math.exp(value) / (1.0 + math.exp(value))

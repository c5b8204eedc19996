"""Student's interval of a mean of few independent values (Student 1908)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from diagnosis.phenotype.ranking.intervals import Estimate

_STEPS = 4000
_FAR = 1e4  # beyond any quantile that is asked for


def student_interval(values: Sequence[float], level: float = 0.95) -> Estimate:
    """Mean ± t · s / √n for n ≥ 2 independent values; n of the estimate is how many there are."""
    mean, count = float(np.mean(values)), len(values)
    half = t_quantile(0.5 + level / 2.0, count - 1) * float(np.std(values, ddof=1)) / math.sqrt(count)
    return Estimate(mean, mean - half, mean + half, count)


def t_quantile(share: float, freedom: int) -> float:
    """The t with P(T ≤ t) = share in [0.5, 1), by bisection."""
    low, high = 0.0, _FAR
    for _ in range(80):
        middle = (low + high) / 2.0
        low, high = (middle, high) if t_share(middle, freedom) < share else (low, middle)
    return (low + high) / 2.0


def t_share(t: float, freedom: int) -> float:
    """P(T ≤ t) for t ≥ 0: with t = √f · tan a the density is proportional to cos^(f−1) a (Simpson's rule)."""
    angle = math.atan(t / math.sqrt(freedom))
    points = np.linspace(0.0, angle, _STEPS + 1)
    heights = np.cos(points) ** (freedom - 1)
    weights = np.ones(_STEPS + 1)
    weights[1:-1:2], weights[2:-1:2] = 4.0, 2.0
    area = float(heights @ weights) * angle / _STEPS / 3.0
    scale = math.exp(math.lgamma((freedom + 1) / 2.0) - math.lgamma(freedom / 2.0)) / math.sqrt(math.pi)
    return 0.5 + scale * area

"""Real numbers as words of a ring, so that sums of words are sums of numbers.

Updates: x in [−r, r], weight p_i, Σ p_i ≤ 1 → q = round(p_i · x · S / r) mod 2^32 with S = 2^31 − 1 − n,
round to nearest. The sum of n sites stays within ±(S + n/2) < 2^31, so it never wraps, and its error is at
most n/2 steps of r/S: 20 sites, 4.7e-9 · r (2.4e-9 of the range 2r).
Statistics: fixed point in 2^64 at 2^−40, without weights, each at most (2^23 − 1)/n.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from federation.secagg.errors import OutOfRange

Float64 = npt.NDArray[np.float64]

BLOCK_VALUES = 32 * 1024  # as float64 they stay in the second-level cache over all passes


@dataclass(frozen=True)
class UpdateQuantiser:
    """One tensor's public rule: range r (> 0) and the number of sites n of the plan (3 to 2^16)."""

    limit: float
    sites: int

    def __post_init__(self) -> None:
        if not (np.isfinite(self.limit) and self.limit > 0):
            raise ValueError("the range of a tensor is a positive number")
        if not 1 <= self.sites <= 1 << 16:
            raise ValueError("a plan has 1 to 65,536 sites")

    @property
    def scale(self) -> float:
        """Words per unit."""
        return ((1 << 31) - 1 - self.sites) / self.limit

    def encode(self, update: npt.NDArray[np.floating], weight: float) -> npt.NDArray[np.uint32]:
        """(k,) floats → (k,) uint32. OutOfRange for NaN, infinity, |x| > r, or a weight outside [0, 1]."""
        if not 0.0 <= weight <= 1.0:
            raise OutOfRange("A weight must lie between 0 and 1.")
        words = np.empty(len(update), dtype=np.uint32)
        scratch = np.empty(min(len(update), BLOCK_VALUES), dtype=np.float64)
        for start in range(0, len(update), BLOCK_VALUES):
            part = update[start : start + BLOCK_VALUES]
            self._require_range(part)
            scaled = scratch[: len(part)]
            np.copyto(scaled, part)  # then a product in place: quicker than one that converts on the way
            np.multiply(scaled, weight * self.scale, out=scaled)
            np.rint(scaled, out=scaled)  # at most S < 2^31 now, so int32 holds it
            np.copyto(words[start : start + len(part)].view(np.int32), scaled, casting="unsafe")
        return words

    def _require_range(self, part: npt.NDArray[np.floating]) -> None:
        """Highest and lowest, so that no array of magnitudes is made; NaN fails both comparisons.

        As Python floats: numpy would round the range to float32 first, and let a value beyond it through.
        """
        if not (float(part.max()) <= self.limit and float(part.min()) >= -self.limit):
            raise OutOfRange(
                "An update holds a value that is not finite or lies outside the plan's range. Nothing was "
                "sent. Lower the learning rate or propose a plan with a wider range."
            )

    def decode(self, total: npt.NDArray[np.uint32]) -> Float64:
        """(k,) uint32 sum → (k,) float64 weighted sum."""
        return total.view(np.int32).astype(np.float64) / self.scale


@dataclass(frozen=True)
class StatisticsQuantiser:
    """Fixed point at 2^−40 in 64 bits for n sites (1 to 2^16): the sum stays below 2^23 and never wraps."""

    sites: int
    fraction_bits: int = 40

    def __post_init__(self) -> None:
        if not 1 <= self.sites <= 1 << 16:
            raise ValueError("a plan has 1 to 65,536 sites")

    @property
    def limit(self) -> float:
        """The largest |x| of one site. The missing 1 of 2^23 is room for n roundings."""
        return float((1 << 23) - 1) / self.sites

    def encode(self, values: npt.NDArray[np.floating]) -> npt.NDArray[np.uint64]:
        """(k,) floats → (k,) uint64. OutOfRange for NaN, infinity or |x| > limit."""
        exact = np.asarray(values, dtype=np.float64)
        if not float(np.max(np.abs(exact), initial=0.0)) <= self.limit:
            raise OutOfRange("A statistic is not finite or too large for the secure sum. Nothing was sent.")
        return np.rint(np.ldexp(exact, self.fraction_bits)).astype(np.int64).view(np.uint64)

    def decode(self, total: npt.NDArray[np.uint64]) -> Float64:
        """(k,) uint64 sum → (k,) float64."""
        return np.ldexp(total.view(np.int64).astype(np.float64), -self.fraction_bits)

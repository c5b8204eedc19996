"""Joint matrices leave only as mean distances between groups of at least k patients.

Groups of one session are equal or disjoint: with overlapping groups, sums and differences of their means come
down to single patients (the same counting as docs/adr/0005). Only means leave. A spread would be a second
moment, which for few patients is a membership oracle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from federation.kernel.errors import GroupRefused
from federation.kernel.gallery import Gallery
from federation.kernel.gram import distance_blocks

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Groups:
    """All groups that a statistic was ever given of. Immutable; `admit` gives the next."""

    known: frozenset[frozenset[str]] = frozenset()

    def admit(self, groups: Iterable[frozenset[str]], k: int) -> Groups:
        """GroupRefused unless each has k patients and is equal to or disjoint from every other, ever."""
        known = set(self.known)
        for group in groups:
            if len(group) < k:
                raise GroupRefused(f"A group has fewer than {k} patients. Choose a larger one.")
            if any(group & other and group != other for other in known):
                raise GroupRefused("A group shares some patients with an earlier one. Use that one again.")
            known.add(group)
        return Groups(frozenset(known))


def group_means(
    gallery: Gallery, named: Mapping[str, frozenset[str]], before: Groups, *, k: int
) -> tuple[Float64, Groups]:
    """{name: patients} → (g, g) float64 mean distances in the order of `named`, and what is known after.

    Within a group: over its pairs of different patients. No matrix over patients is kept.
    """
    if k < 2:
        raise GroupRefused("A group statistic needs k of two at least.")
    after = before.admit(named.values(), k)
    if not all(patient in gallery.positions for group in named.values() for patient in group):
        raise GroupRefused("A group names a patient who is not here any more. Choose it again.")
    places = [sorted(gallery.positions[patient] for patient in group) for group in named.values()]
    means = np.empty((len(places), len(places)))
    for first, left in enumerate(places):
        for second, right in enumerate(places[: first + 1]):
            total = sum(
                float(block.sum(dtype=np.float64))
                for block in distance_blocks(gallery.masked[left], (gallery.masked[[row]] for row in right))
            )
            pairs = len(left) * (len(right) - 1) if left == right else len(left) * len(right)
            means[first, second] = means[second, first] = total / pairs
    return means, after

"""What a site puts into one secure sum, in plain: kept in the key folder until it is masked, nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint32] | npt.NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class PreparedInput:
    """words (k,) uint32 or uint64; patients: syndrome → primary keys; photos: primary keys used."""

    words: Words
    patients: dict[str, list[int]]
    photos: list[int]


def prepared(words: Words, chosen: Mapping[str, frozenset[int]], photos: Iterable[int]) -> PreparedInput:
    """The input with its evidence in one order."""
    patients = {name: sorted(chosen[name]) for name in sorted(chosen)}
    return PreparedInput(words, patients, sorted(photos))

"""The coordinator's gallery under one model: who owns which masked row, with which class tag.

Immutable: rows that come, go or are replaced make a new gallery. A patient has one row (their photos fused by
the owner before masking), named by `commitments.patient_name` for life.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from federation.kernel.errors import RowsRefused

Float32 = npt.NDArray[np.float32]
#: Lengths of unit rows after masking in float32; longer or shorter rows would scale every distance.
UNIT_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Row:
    """patient: opaque name; owner: site; tag: opaque class tag, "" for an unsolved patient."""

    patient: str
    owner: str
    tag: str


@dataclass(frozen=True, eq=False)
class Gallery:
    """rows: who; masked (N, m, k') float32 unit rows in step, an array or a memory map. C-contiguous."""

    rows: tuple[Row, ...]
    masked: Float32

    def __post_init__(self) -> None:
        require_unit(self.masked)
        if len(self.rows) != len(self.masked) or len(self.positions) != len(self.rows):
            raise RowsRefused("A gallery has one row per patient, and a name for each. Send it again.")

    @cached_property
    def positions(self) -> dict[str, int]:
        """Patient → place."""
        return {row.patient: place for place, row in enumerate(self.rows)}

    @cached_property
    def owners(self) -> npt.NDArray[np.str_]:
        """(N,) owner of each row."""
        return np.array([row.owner for row in self.rows], dtype=np.str_)

    def blocks(self, rows: int = 256) -> Iterator[Float32]:
        """Slices of at most `rows` rows, in order."""
        for start in range(0, len(self.masked), rows):
            yield self.masked[start : start + rows]

    def without(self, patients: Iterable[str]) -> Gallery:
        """The gallery after these patients left."""
        gone = frozenset(patients)
        kept = [place for place, row in enumerate(self.rows) if row.patient not in gone]
        return Gallery(tuple(self.rows[place] for place in kept), self.masked[kept])

    def with_rows(self, rows: Sequence[Row], masked: Float32) -> Gallery:
        """The gallery after these patients came or sent new rows; a name belongs to one owner for good."""
        for row in rows:
            place = self.positions.get(row.patient)
            if place is not None and self.rows[place].owner != row.owner:
                raise RowsRefused("A row belongs to another hospital. Name own patients only.")
        rest = self.without(row.patient for row in rows)
        return Gallery((*rest.rows, *rows), np.concatenate([rest.masked, masked]))


def require_unit(masked: Float32) -> None:
    """RowsRefused unless (n, m, k') float32, finite, and every row of length 1 within `UNIT_TOLERANCE`."""
    if masked.ndim != 3 or masked.dtype != np.float32:
        raise RowsRefused("Masked rows are (n, m, k') float32. Mask these patients again.")
    for start in range(0, len(masked), 256):
        block = masked[start : start + 256]
        lengths = np.sqrt(np.einsum("nmk,nmk->nm", block, block, dtype=np.float64))
        if not (np.abs(lengths - 1.0) <= UNIT_TOLERANCE).all():  # a NaN is not within anything either
            raise RowsRefused("A masked row is not of unit length. Normalise embeddings before masking.")

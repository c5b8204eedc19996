"""One question from arrays to answer: checks, distances, release. What the coordinator's service calls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from federation.kernel.commitments import Opening, vector_sha256
from federation.kernel.errors import AuditFailed, QueryRefused
from federation.kernel.gallery import Gallery, require_unit
from federation.kernel.gram import distances
from federation.kernel.policy import Policy
from federation.kernel.release import Query, Step, ask
from federation.kernel.state import State

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Earlier:
    """What one hospital asked before under the model: photos (q,), masked (q, m, k') float32."""

    photos: tuple[str, ...]
    masked: Float32

    def nearest_other(self, photo: str, rows: Float32) -> float | None:
        """Distance from rows (m, k') to the nearest earlier question about another photo."""
        others = [place for place, name in enumerate(self.photos) if name != photo]
        if not others:
            return None
        return float(distances(rows[None], [self.masked[others]]).min())


def answer_query(
    state: State, policy: Policy, query: Query, rows: Float32, gallery: Gallery, earlier: Earlier
) -> Step:
    """rows (m, k') float32 masked unit rows of the query. QueryRefused or RowsRefused change nothing."""
    require_unit(rows[None])
    if vector_sha256(rows) != query.vector_sha256:
        raise QueryRefused("The question's numbers are not those that it names. Send it again.")
    found = distances(rows[None], gallery.blocks())[0]
    nearest = earlier.nearest_other(query.photo, rows)
    return ask(state, policy, query, gallery, found, nearest_earlier=nearest)


def audit_query(query: Query, asked: Float32, opening: Opening, again: Float32) -> None:
    """For an auditor at the asking hospital: was this question about the photo that is shown for it?

    asked (m, k'): the rows that were sent; again (m, k'): that photo embedded and masked once more.
    AuditFailed unless the commitment opens to the photo, and the rows are the committed ones and its own
    but for rounding.
    """
    opening.check(query.photo, query.commitment, query.model_sha256)
    if vector_sha256(asked) != query.vector_sha256:
        raise AuditFailed("The rows that were shown are not those that were asked with.")
    if not np.allclose(asked, again, rtol=0.0, atol=1e-3):
        raise AuditFailed("The question was asked with numbers that are not this photo's.")

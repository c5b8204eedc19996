"""What a round's opened sums say, read from their blobs: the same at the coordinator and at every site."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from diagnosis.models import Syndrome
from federation.errors import InvalidMessage
from federation.learning.config import TrainingPlan
from federation.learning.errors import StatisticsRefused
from federation.learning.statistics import open_classes, read_counts
from federation.models import Round, SecureSum
from federation.plans import RoundPlan, parse_plan, training_plan
from federation.storage import blob_bytes

Words64 = npt.NDArray[np.uint64]


def vocabulary() -> list[str]:
    """The catalogue's identifiers, ascending: the words of a presence sum."""
    return sorted(Syndrome.objects.values_list("identifier", flat=True))


def opened_sum(round_: Round, purpose: str, member: str = "") -> SecureSum | None:
    """The opened sum of this purpose, or None."""
    return round_.sums.filter(purpose=purpose, member=member, state="opened").first()


def words_of(total: SecureSum) -> npt.NDArray[np.uint32] | Words64:
    """(k,) words of an opened sum. InvalidMessage unless the blob has the plan's length and named hash."""
    data = blob_bytes(total.result)
    if len(data) * 8 != total.words * total.bits or hashlib.sha256(data).hexdigest() != total.result:
        raise InvalidMessage("An opened sum is not the file that the transcript names.")
    return np.frombuffer(data, dtype=f"<u{total.bits // 8}").astype(f"u{total.bits // 8}")


def open_identifiers(round_: Round) -> tuple[str, ...]:
    """Open classes after the presence sum, ascending; () before."""
    total = opened_sum(round_, "presence")
    if total is None:
        return ()
    try:
        return open_classes(words_of(total).astype(np.uint64), vocabulary())
    except StatisticsRefused as error:
        raise InvalidMessage(str(error)) from None


def open_counts(round_: Round) -> dict[str, int]:
    """Patients of each open class after the counts sum; {} before."""
    total = opened_sum(round_, "counts")
    if total is None:
        return {}
    k = parse_plan(round_.plan).k
    try:
        return read_counts(words_of(total).astype(np.uint64), open_identifiers(round_), k)
    except StatisticsRefused as error:
        raise InvalidMessage(str(error)) from None


def training_plan_of(round_: Round, sites: list[str]) -> TrainingPlan:
    """The training plan of these participants, from what everybody can compute alike."""
    rows = round_.participations.filter(peer__name__in=sites).values_list("peer__name", "samples")
    return training_plan(parse_plan(round_.plan), samples=dict(rows), counts=open_counts(round_))


def ensemble_rows(plan: RoundPlan) -> int:
    """m, the embedding rows of one photo: every member on every view."""
    return len(plan.members) * plan.rows_per_member

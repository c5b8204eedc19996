"""Between vectors of real numbers and the words that secure aggregation sums.

Neck tensors carry the public weight p_i. Classifier rows carry the site's share of the class, n_ic / N_c
(row_weighting "class"), or p_i ("site"); either way the weights of all sites add up to at most 1, so the
ring never wraps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from federation.learning.config import MemberPlan, TrainingPlan
from federation.learning.errors import AggregateRefused, PlanRefused
from federation.learning.heads import BIAS, WEIGHT, TensorSlice
from federation.secagg.quantize import UpdateQuantiser

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Words32 = npt.NDArray[np.uint32]

#: A sum may pass its range by the rounding of every site, which is at most 2^16 steps of range / 2^31.
RANGE_SLACK = 1.0 + 2.0**-15


def check_limits(member: MemberPlan, layout: Sequence[TensorSlice]) -> None:
    """PlanRefused unless the plan states a range for exactly the tensors that are sent."""
    stated, sent = [entry.name for entry in member.limits], [part.name for part in layout]
    if stated != sent:
        raise PlanRefused("The plan's ranges are not those of the tensors that are sent. Ask for a new plan.")


def encode_update(
    plan: TrainingPlan, member: MemberPlan, layout: Sequence[TensorSlice], update: Float32, *,
    site: str, class_patients: Mapping[str, int],
) -> Words32:  # fmt: skip
    """update (k,) float32 → (k,) uint32 words, ready to be masked.

    class_patients: the numbers that this site put into the round's count. secagg's OutOfRange for NaN,
    infinity or a value outside the plan's range; PlanRefused for a count above the class's public sum.
    """
    check_limits(member, layout)
    if update.shape != (layout[-1].stop,):
        raise PlanRefused("The update does not fit the plan's tensors. Train again under this plan.")
    rows = row_weights(plan, site, class_patients)
    words = np.empty(len(update), dtype=np.uint32)
    for part, weight in _weighted_parts(plan, layout, plan.weight_of(site), rows):
        rule = UpdateQuantiser(member.limit_of(part.name), len(plan.participants))
        words[part.start : part.stop] = rule.encode(update[part.start : part.stop], weight)
    return words


def row_weights(plan: TrainingPlan, site: str, class_patients: Mapping[str, int]) -> list[float]:
    """This site's weight of each classifier row; 0 for a class it has fewer than k patients of."""
    weights = []
    for entry in plan.classes:
        own = class_patients.get(entry.identifier, 0)
        if own > entry.patients:
            raise PlanRefused("This site has more patients of a class than were counted. Count again.")
        share = own / entry.patients if plan.row_weighting == "class" else plan.weight_of(site)
        weights.append(share if own >= plan.k else 0.0)
    return weights


def _weighted_parts(
    plan: TrainingPlan, layout: Sequence[TensorSlice], weight: float, rows: Sequence[float]
) -> Iterator[tuple[TensorSlice, float]]:
    """The vector in pieces of one range and one weight: whole neck tensors, single classifier rows."""
    for part in layout:
        if part.name not in (WEIGHT, BIAS):
            yield part, weight
            continue
        width = (part.stop - part.start) // len(plan.classes)
        for index, row_weight in enumerate(rows):
            start = part.start + index * width
            yield TensorSlice(part.name, (width,), start, start + width), row_weight


def decode_sum(
    plan: TrainingPlan, member: MemberPlan, layout: Sequence[TensorSlice], total: Words32, *,
    survivors: Iterable[str],
) -> Float64:  # fmt: skip
    """The opened sum (k,) uint32 → (k,) float64 mean update over the survivors.

    What carries p_i is divided by the survivors' sum of p_i. Rows that carry n_ic / N_c are not: their
    survivors' share is not public, and a row whose sites partly dropped takes a smaller step instead.
    AggregateRefused for values that no honest sites can add up to.
    """
    check_limits(member, layout)
    if total.shape != (layout[-1].stop,) or total.dtype != np.uint32:
        raise AggregateRefused("The opened sum has another length or type than the plan's. Abort the round.")
    remaining = sum(plan.weight_of(site) for site in sorted(set(survivors)))
    mean = np.empty(len(total), dtype=np.float64)
    for part in layout:
        limit = member.limit_of(part.name)
        weighted = UpdateQuantiser(limit, len(plan.participants)).decode(total[part.start : part.stop])
        own_weight = plan.row_weighting == "class" and part.name in (WEIGHT, BIAS)
        mean[part.start : part.stop] = weighted if own_weight else weighted / remaining
        _check_range(mean[part.start : part.stop], limit)
    return mean


def _check_range(mean: Float64, limit: float) -> None:
    if float(np.max(np.abs(mean), initial=0.0)) > limit * RANGE_SLACK:
        raise AggregateRefused("The opened mean lies outside the plan's range. Abort the round.")

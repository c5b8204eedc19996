"""Whether second moments may be opened: they are a membership oracle unless enough patients remain."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from federation.learning.config import TrainingPlan
from federation.learning.errors import StatisticsRefused
from federation.secagg.rules import colluders

MomentKind = Literal["full", "diagonal"]


def patients_left(plan: TrainingPlan, survivors: Iterable[str]) -> int:
    """A lower bound for the patients in the sum once the dropped and any c of the survivors are subtracted.

    Patients of open classes are public only as a total. A site has no more patients than photos, and no
    more photos than its sample count, which is rounded up: subtracting sample counts errs on the safe side.
    """
    names = set(survivors)
    total = sum(entry.patients for entry in plan.classes)
    dropped = sum(site.samples for site in plan.participants if site.site not in names)
    largest = sorted((site.samples for site in plan.participants if site.site in names), reverse=True)
    return total - dropped - sum(largest[: colluders(len(plan.participants))])


def choose_moments(plan: TrainingPlan) -> MomentKind:
    """What the plan's sites send: from public numbers alone, so that every site decides alike.

    StatisticsRefused, with what would help, where neither kind may be opened.
    """
    left = patients_left(plan, [site.site for site in plan.participants])
    options = plan.analytic
    if left >= options.minimum_patients:
        return "full"
    if options.below_minimum == "diagonal" and options.classifier == "centroids":
        if left >= options.diagonal_minimum_patients:
            return "diagonal"
        needed = options.diagonal_minimum_patients
    else:
        needed = options.minimum_patients
    raise StatisticsRefused(
        f"Without any {colluders(len(plan.participants))} hospitals {max(left, 0):,} patients are certain to "
        f"remain in the second moments, and {needed:,} are needed: fewer could be recognised in them. Choose "
        "another strategy, or wait until more patients consent."
    )


def require_openable(plan: TrainingPlan, survivors: Iterable[str], kind: MomentKind) -> None:
    """The same question before a site answers for a survivor set. StatisticsRefused if too few remain."""
    options = plan.analytic
    needed = options.minimum_patients if kind == "full" else options.diagonal_minimum_patients
    if patients_left(plan, survivors) < needed:
        raise StatisticsRefused("Too few patients remain for second moments after sites dropped. Abort.")

"""What learning refuses. Every message is a sentence that an admin may read; none names a patient."""

from __future__ import annotations


class LearningError(Exception):
    """Anything this package refuses."""


class PlanRefused(LearningError):
    """A training plan that is incomplete, contradictory, out of bounds or not in its canonical form."""


class FeaturesRefused(LearningError):
    """Cached features that are damaged, of another trunk, or do not fit the plan."""


class StatisticsRefused(LearningError):
    """A statistic that may not be opened, or an opened one that no honest sites can have added up to."""


class AggregateRefused(LearningError):
    """An opened sum or a server state that does not fit the plan."""

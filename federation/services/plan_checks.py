"""Why this site cannot take part in a plan, in a sentence; "" when it can."""

from __future__ import annotations

from federation.plans import RoundPlan


def plan_refusal(plan: RoundPlan) -> str:
    """ "" when this site could take part, or the sentence (at most 300 characters) that says why not."""
    raise NotImplementedError

"""Proposing a round: a plan suggested from what is here, checked like everybody else's, and said."""

from __future__ import annotations

from collections.abc import Sequence

from diagnosis.models import User
from federation.learning.config import Strategy
from federation.models import Outgoing
from federation.plans import RoundPlan
from federation.services.plan_checks import plan_refusal

__all__ = ["plan_refusal", "plan_suggest", "round_propose"]


def plan_suggest(
    *,
    user: User | None,
    strategy: Strategy = "fedavg",
    sites: Sequence[str] | None = None,
    minimum_participants: int = 3,
    epochs: int = 5,
    batch_photos: int = 64,
    neck_learning_rate: float = 5e-4,
    classifier_learning_rate: float = 1e-3,
    proximal_mu: float = 0.01,
    server_learning_rate: float = 1.0,
    k: int = 5,
    answer_hours: float = 72.0,
    step_minutes: float = 60.0,
    training_minutes: float = 240.0,
    vote_minutes: float = 240.0,
    largest_loss: float = 0.02,
    minimum_patients: int = 10,
    quorum: int = 0,
    seed: int | None = None,
) -> RoundPlan:
    """A plan for the next round. InvalidInput, NotReady with a sentence when there can be none.

    sites: names to invite, this one among them; all confirmed members if None. quorum 0: more than half
    of minimum_participants. proximal_mu: used with fedprox only.
    """
    raise NotImplementedError


def round_propose(*, user: User | None, plan: RoundPlan) -> Outgoing:
    """Say a plan to the federation. Its hash (`plan.sha256`) names the round once it is accepted."""
    raise NotImplementedError

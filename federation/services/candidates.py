"""The candidate that follows from a round's opened sums: computed at every site alike, and judged here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from diagnosis.errors import NotReady
from federation.kinds import MadeMember
from federation.models import Round, SecureSum
from federation.plans import RoundPlan, parse_plan
from federation.services import results
from federation.services.in_words import refused_in_words
from federation.services.networks import base_network
from federation.services.starting import start_state, start_vector
from federation.services.validation import candidate_validate
from federation.storage import blob_add

__all__ = ["candidate_make", "candidate_validate"]

if TYPE_CHECKING:
    from federation.learning.aggregate import Candidate


def candidate_make(round_: Round) -> tuple[MadeMember, ...]:
    """Every member's candidate from its opened sum, in the plan's order; weights, rows and state as blobs.

    The same bytes at every site, for the elementwise strategies. NotReady before all sums are open or
    without the base model; FederationError for a sum that no honest sites can have added up to.
    """
    plan = parse_plan(round_.plan)
    return tuple(_kept(member.name, _candidate(round_, plan, member.name)) for member in plan.members)


def _candidate(round_: Round, plan: RoundPlan, name: str) -> Candidate:
    from federation.learning.aggregate import make_candidate

    total = results.opened_sum(round_, "update", name)
    if total is None:
        raise NotReady("A sum of this round is not open yet.")
    training = results.training_plan_of(round_, total.sites)
    base = base_network(plan.member(name))
    with refused_in_words():
        return make_candidate(
            training, training.member(name), base, start_vector(plan, training, name, base), _words(total),
            survivors=total.survivors, state=start_state(plan, training, name, base),
        )  # fmt: skip


def _words(total: SecureSum) -> npt.NDArray[np.uint32]:
    return results.words_of(total).astype(np.uint32)


def _kept(name: str, made: Candidate) -> MadeMember:
    from federation.learning.strategies import save_state

    state = blob_add(save_state(made.state)) if len(made.state.first) else ""
    return MadeMember(name, blob_add(made.weights), blob_add(made.classifier), state)

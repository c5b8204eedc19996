"""`move` for the federation's workflows: the clinic's one function, with our tables added to it."""

from __future__ import annotations

from diagnosis.services.transitions import move, workflows_add
from federation import states
from federation.models import OwnSum, Participation, Peer, Round, SecureSum

__all__ = ["move"]

workflows_add(
    {Round: "round", Participation: "participation", SecureSum: "sum", OwnSum: "own_sum", Peer: "peer"},
    states.TABLES,
)

"""This hospital's answers to rounds: evidence and a signed entry in one transaction, once."""

from __future__ import annotations

from diagnosis.models import User
from federation.models import Approval, Outgoing, Round
from federation.services.approval_facts import ApprovalFacts, InvitedSite, approval_facts
from federation.services.standing import rule_create, rule_end, rules_apply

__all__ = [
    "ApprovalFacts", "InvitedSite", "approval_facts", "round_approve", "round_decline", "round_stop",
    "round_withdraw", "rule_create", "rule_end", "rules_apply",
]  # fmt: skip


def round_approve(*, user: User, round_: Round, plan_sha256: str) -> Approval:
    """Say yes to exactly the plan with this hash (the one the page showed)."""
    raise NotImplementedError


def round_decline(*, user: User, round_: Round, reason: str) -> Approval:
    """Say no. The reason is read by every member."""
    raise NotImplementedError


def round_withdraw(*, user: User, round_: Round, reason: str) -> Outgoing:
    """Take a yes back before the masked update was made."""
    raise NotImplementedError


def round_stop(*, user: User, round_: Round, reason: str) -> Outgoing:
    """End a round that this site proposed."""
    raise NotImplementedError

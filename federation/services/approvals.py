"""This hospital's answers to rounds: evidence and a signed entry in one transaction, once.

The page shows facts and a plan's hash; the answer names that hash, and is refused if the plan is another.
"""

from __future__ import annotations

from typing import Final

from django.db import transaction

from diagnosis.errors import InvalidInput, NotReady
from diagnosis.models import User
from diagnosis.services.audit import audit
from federation import kinds
from federation.errors import Conflict
from federation.models import Approval, Outgoing, OwnSum, Round
from federation.permissions import require, require_hospital
from federation.services.answering import answer_no, answer_yes
from federation.services.approval_facts import ApprovalFacts, InvitedSite, approval_facts, taken_back
from federation.services.own import membership_locked
from federation.services.projection_rounds import UNFINISHED
from federation.services.speaking import entry_say
from federation.services.standing import rule_create, rule_end, rules_apply
from federation.services.texts import require_reason
from federation.services.withdrawing import sums_leave

__all__ = [
    "ApprovalFacts", "InvitedSite", "approval_facts", "round_approve", "round_decline", "round_stop",
    "round_withdraw", "rule_create", "rule_end", "rules_apply",
    "takes_part",
]  # fmt: skip

_MASKED: Final = ("masked", "signed", "answered")


def round_approve(*, user: User, round_: Round, plan_sha256: str) -> Approval:
    """Say yes to exactly the plan with this hash, the one that the page showed.

    The door has asked for a fresh code of the second factor. Said again it changes nothing. Conflict for
    another hash, NotReady with a sentence when this site cannot take part or the time is over.
    """
    require_hospital()
    require(user, "round.answer")
    if plan_sha256 != round_.sha256:
        raise Conflict(
            "The page showed another plan than this round's. Reload it, read it again, then answer."
        )
    return answer_yes(round_=round_, user=user, rule=None)


def round_decline(*, user: User, round_: Round, reason: str) -> Approval:
    """Say no. The reason, which may be empty, is read by every member. Said again it changes nothing."""
    require_hospital()
    require(user, "round.answer")
    return answer_no(round_=round_, user=user, reason=require_reason(reason) if reason.strip() else "")


# --- afterwards ---


def round_withdraw(*, user: User, round_: Round, reason: str) -> Outgoing:
    """Take a yes back before the masked update was made; this site's side of the sums ends at once.

    NotReady afterwards: what was added to a sum under masks cannot be taken out of it.
    """
    require_hospital()
    require(user, "round.answer")
    reason = require_reason(reason)
    with transaction.atomic():
        membership_locked()
        round_ = Round.objects.select_for_update().get(pk=round_.pk)
        said = Outgoing.objects.filter(key=f"drop/{round_.sha256}").first()
        if said is not None:
            return said
        _require_withdrawable(round_)
        sums_leave(round_, "This hospital took its yes back.")
        audit(actor=user, action="round.withdraw", subject=f"round:{round_.pk}", plan=round_.sha256)
        return entry_say(kinds.Drop(round_.sha256, reason), key=f"drop/{round_.sha256}")


def _require_withdrawable(round_: Round) -> None:
    if not Approval.objects.filter(round=round_, answer="approve").exists():
        raise InvalidInput("This hospital has not said yes to this round.")
    if round_.state not in UNFINISHED:
        raise NotReady("This round has ended.")
    updates = OwnSum.objects.filter(sum__round=round_, sum__purpose="update", state__in=_MASKED)
    if updates.exists():
        raise NotReady(
            "The masked update has been made and handed over. It cannot be taken back; this hospital can "
            "still vote on the result."
        )


def round_stop(*, user: User, round_: Round, reason: str) -> Outgoing:
    """End a round that this site proposed. What was opened by then stays open."""
    require_hospital()
    require(user, "round.propose")
    reason = require_reason(reason)
    with transaction.atomic():
        membership = membership_locked()
        round_ = Round.objects.select_for_update().get(pk=round_.pk)
        said = Outgoing.objects.filter(key=f"stop/{round_.sha256}").first()
        if said is not None:
            return said
        if round_.proposer.name != membership.name:
            raise InvalidInput(f"Only its proposer, {round_.proposer.title}, can stop this round.")
        if round_.state not in UNFINISHED:
            raise NotReady("This round has ended.")
        audit(actor=user, action="round.stop", subject=f"round:{round_.pk}", plan=round_.sha256)
        return entry_say(kinds.StopRound(round_.sha256, reason), key=f"stop/{round_.sha256}")


def takes_part(round_: Round) -> bool:
    """Whether this hospital said yes and has not taken it back, whatever the others know by now."""
    return Approval.objects.filter(round=round_, answer="approve").exists() and not taken_back(round_)

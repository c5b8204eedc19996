"""The one place where this hospital's answer to a round is written: evidence, audit and entry, once."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from diagnosis.errors import NotReady
from diagnosis.models import User
from diagnosis.services.audit import audit
from federation import kinds
from federation.errors import Conflict
from federation.models import Approval, Round, StandingRule
from federation.plans import parse_plan
from federation.services.approval_facts import answer_closed, approval_facts
from federation.services.own import membership_locked
from federation.services.plan_checks import plan_refusal
from federation.services.speaking import entry_say


def answer_yes(*, round_: Round, user: User | None, rule: StandingRule | None) -> Approval:
    """The yes of a person or of a standing rule, whose permission the caller has checked.

    What the page showed is computed again first, as its dry run takes a while; what may have changed until
    the rows are locked is then read once more.
    """
    given = _given(round_, "approve")
    if given is not None:
        return given
    facts = approval_facts(round_)
    if facts.samples <= 0 and not (facts.closed or facts.refusal):
        raise NotReady("No photo here may be used for training yet, so this hospital cannot take part.")
    with transaction.atomic():
        membership_locked()
        round_ = Round.objects.select_for_update().get(pk=round_.pk)
        given = _given(round_, "approve")
        if given is not None:
            return given
        plan = parse_plan(round_.plan)
        problem = answer_closed(round_, plan) or facts.refusal or plan_refusal(plan)
        if problem:
            raise NotReady(problem)
        body = kinds.Answer(round_.sha256, "approve", facts.samples, "")
        return _answer(round_, body, user=user, rule=rule, shown=facts.as_json())


def answer_no(*, round_: Round, user: User, reason: str) -> Approval:
    """The no of a person whose permission the caller has checked."""
    with transaction.atomic():
        membership_locked()
        round_ = Round.objects.select_for_update().get(pk=round_.pk)
        given = _given(round_, "decline")
        if given is not None:
            return given
        closed = answer_closed(round_, parse_plan(round_.plan))
        if closed:
            raise NotReady(closed)
        body = kinds.Answer(round_.sha256, "decline", 0, reason)
        return _answer(round_, body, user=user, rule=None, shown={})


def _given(round_: Round, answer: str) -> Approval | None:
    """This hospital's answer if it is the same; Conflict if it was another."""
    given = Approval.objects.filter(round=round_).first()
    if given is not None and given.answer != answer:
        hint = " Take the yes back instead." if given.answer == "approve" else ""
        raise Conflict(f"This hospital has answered already, otherwise.{hint}")
    return given


def _answer(
    round_: Round, body: kinds.Answer, *, user: User | None, rule: StandingRule | None, shown: dict[str, Any]
) -> Approval:
    """Evidence, audit and entry, in the caller's transaction."""
    said = entry_say(body, key=f"answer/{round_.sha256}")
    audit(actor=user, action=f"round.{body.answer}", subject=f"round:{round_.pk}", plan=round_.sha256,
          samples=body.samples, rule=rule.pk if rule else None)  # fmt: skip
    return Approval.objects.create(
        round=round_, answer=body.answer, reason=body.reason, plan_sha256=round_.sha256,
        samples=body.samples, shown=shown, user=user, rule=rule, entry_key=said.key,
    )  # fmt: skip

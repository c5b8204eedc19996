"""Standing rules: a yes in advance, within limits that a person set. Ended, never edited.

A rule counts only while the person who made it may still answer rounds; everything else that a person would
be refused for (an unconfirmed key, another base model, the time that is over) refuses a rule too.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Final

from django.db import transaction
from django.utils import timezone

from diagnosis.errors import InvalidInput
from diagnosis.models import Role, User
from diagnosis.services.audit import audit
from federation.learning.config import MINIMUM_SITES
from federation.models import Approval, Round, StandingRule
from federation.peer_selectors import keys_confirmed, own_name
from federation.permissions import require, require_hospital
from federation.plans import DATA_USE, RoundPlan, parse_plan
from federation.services.answering import answer_yes
from federation.services.approval_facts import answer_closed
from federation.services.plan_checks import plan_refusal
from federation.services.proposals import LIVE_STRATEGIES

LONGEST: Final = dt.timedelta(days=366)
MOST_EPOCHS: Final = 1000


def rule_create(
    *, user: User, strategies: Sequence[str], sites: Sequence[str], maximum_epochs: int,
    minimum_participants: int, expires_at: dt.datetime,
) -> StandingRule:  # fmt: skip
    """A rule that answers yes by itself to rounds within all of its limits, for at most a year.

    sites: names of members whose keys are confirmed here (this one need not be named); a round that invites
    anybody else is asked. InvalidInput for limits that are none.
    """
    require_hospital()
    require(user, "round.answer")
    chosen, known = sorted(set(sites) | {own_name()}), keys_confirmed()
    unknown = [site for site in chosen if site not in known]
    if unknown:
        raise InvalidInput(
            f"The key of {unknown[0]} is not confirmed here. Confirm it first, or leave it out."
        )
    if not strategies or not set(strategies) <= set(LIVE_STRATEGIES):
        raise InvalidInput(f"Choose among the strategies {', '.join(LIVE_STRATEGIES)}.")
    if not MINIMUM_SITES <= minimum_participants <= len(chosen):
        raise InvalidInput(f"At least {MINIMUM_SITES} hospitals take part, and no more than the rule names.")
    if not 1 <= maximum_epochs <= MOST_EPOCHS:
        raise InvalidInput(f"A rule allows 1 to {MOST_EPOCHS:,} local epochs.")
    if not timezone.now() < expires_at <= timezone.now() + LONGEST:
        raise InvalidInput("A rule ends in the future, within a year. Make a new one then.")
    with transaction.atomic():
        rule = StandingRule.objects.create(
            strategies=sorted(set(strategies)), sites=chosen, maximum_epochs=maximum_epochs,
            minimum_participants=minimum_participants, expires_at=expires_at, created_by=user,
        )  # fmt: skip
        audit(actor=user, action="rule.created", subject=f"rule:{rule.pk}", strategies=rule.strategies,
              sites=chosen, maximum_epochs=maximum_epochs, minimum_participants=minimum_participants,
              expires_at=expires_at.isoformat())  # fmt: skip
    return rule


def rule_end(*, user: User, rule: StandingRule) -> None:
    """End a rule now; answers that it gave stay. Ended already, it changes nothing."""
    require_hospital()
    require(user, "round.answer")
    with transaction.atomic():
        if StandingRule.objects.filter(pk=rule.pk, ended_at=None).update(ended_at=timezone.now()):
            audit(actor=user, action="rule.ended", subject=f"rule:{rule.pk}")
    rule.refresh_from_db()


def rules_apply(round_: Round) -> bool:
    """Answer by the first rule that fits; False when a person has to answer, or has already.

    NotReady when a rule fits and this site cannot take part, as for a person.
    """
    if Approval.objects.filter(round=round_).exists():
        return False
    plan = parse_plan(round_.plan)
    rule = next((rule for rule in rules_now() if fits(rule, plan)), None)
    if rule is None:
        return False
    if answer_closed(round_, plan) or plan_refusal(plan):
        return False
    return answer_yes(round_=round_, user=None, rule=rule).rule_id == rule.pk


def rules_now() -> list[StandingRule]:
    """Rules that count at this moment, oldest first."""
    rules = StandingRule.objects.filter(
        ended_at=None, expires_at__gt=timezone.now(), created_by__is_active=True,
        created_by__grants__role=Role.SITE_ADMIN,
    )  # fmt: skip
    return list(rules.order_by("pk").distinct())


def fits(rule: StandingRule, plan: RoundPlan) -> bool:
    """Whether a plan lies within all limits of a rule, and uses the data for what is always asked."""
    return (
        plan.strategy in rule.strategies
        and set(plan.keys) <= set(rule.sites)
        and all(member.local.epochs <= rule.maximum_epochs for member in plan.members)
        and plan.minimum_participants >= rule.minimum_participants
        and plan.data_use == DATA_USE
    )

"""A standing rule answers inside all of its limits and nowhere else."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest
import time_machine
from console_story import with_member
from django.utils import timezone

from diagnosis.errors import InvalidInput, NotAllowed
from federation.models import Approval, Outgoing, StandingRule
from federation.services import approvals


def limits(**changes):
    found = {
        "strategies": ["fedavg", "fedprox"], "sites": ["b", "c", "d"], "maximum_epochs": 5,
        "minimum_participants": 3, "expires_at": timezone.now() + dt.timedelta(days=30),
    }  # fmt: skip
    return found | changes


@pytest.fixture
def rule(story, admin):
    return approvals.rule_create(user=admin, **limits())


def test_a_round_within_all_limits_is_answered_once(story, round_, rule, admin) -> None:
    assert approvals.rules_apply(round_) is True
    approval = Approval.objects.get()
    assert (approval.rule, approval.user, approval.answer, approval.samples) == (rule, None, "approve", 130)
    assert approval.shown["plan_sha256"] == round_.sha256
    assert approvals.rules_apply(round_) is False
    assert Outgoing.objects.filter(kind="Answer").count() == 1


OUTSIDE = {
    "another strategy": lambda plan: replace(plan, strategy="fedadam"),
    "more epochs": lambda plan: with_member(plan, local=replace(plan.members[0].local, epochs=6)),
    "another use": lambda plan: replace(plan, data_use="To find out who has which disease."),
    "a base of its own": lambda plan: with_member(plan, base_sha256="99" * 32),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_round_outside_of_a_limit_is_left_to_a_person(story, make_plan, rule, name) -> None:
    round_ = story.open_round(OUTSIDE[name](make_plan(sites="abcd")))
    assert approvals.rules_apply(round_) is False
    assert not Approval.objects.exists() and not Outgoing.objects.exists()


def test_a_round_that_invites_anybody_else_is_asked(story, make_plan, admin) -> None:
    approvals.rule_create(user=admin, **limits(sites=["b", "c"]))
    assert approvals.rules_apply(story.open_round(make_plan(sites="abcd"))) is False


def test_fewer_participants_than_the_rule_wants_is_asked(story, make_plan, admin) -> None:
    approvals.rule_create(user=admin, **limits(minimum_participants=4))
    assert approvals.rules_apply(story.open_round(make_plan(sites="abcd"))) is False


def test_a_rule_ends_by_hand_by_time_and_with_the_role_of_who_made_it(story, round_, rule, admin) -> None:
    with time_machine.travel(timezone.now() + dt.timedelta(days=31)):
        assert approvals.rules_apply(round_) is False
    grant = admin.grants.get()
    grant.delete()
    assert approvals.rules_apply(round_) is False
    with pytest.raises(NotAllowed):
        approvals.rule_end(user=type(admin).objects.get(pk=admin.pk), rule=rule)
    admin.grants.create(role="site_admin")
    type(admin).objects.filter(pk=admin.pk).update(is_active=False)
    assert approvals.rules_apply(round_) is False
    type(admin).objects.filter(pk=admin.pk).update(is_active=True)
    admin = type(admin).objects.get(pk=admin.pk)
    approvals.rule_end(user=admin, rule=rule)
    ended = StandingRule.objects.get().ended_at
    approvals.rule_end(user=admin, rule=rule)
    assert StandingRule.objects.get().ended_at == ended
    assert approvals.rules_apply(round_) is False
    assert not Approval.objects.exists()


def test_after_the_deadline_a_rule_answers_nothing(story, round_, rule) -> None:
    with time_machine.travel(approvals.approval_facts(round_).answer_by + dt.timedelta(seconds=1)):
        assert approvals.rules_apply(round_) is False


@pytest.mark.parametrize(
    "changes",
    [
        {"strategies": []}, {"strategies": ["analytic"]}, {"sites": ["b", "e"]}, {"sites": ["b", "nobody"]},
        {"maximum_epochs": 0}, {"maximum_epochs": 1001}, {"minimum_participants": 2}, {"minimum_participants": 5},
        {"expires_at": dt.datetime(2020, 1, 1, tzinfo=dt.UTC)}, {"expires_at": dt.datetime(2199, 1, 1, tzinfo=dt.UTC)},
    ],
)  # fmt: skip
def test_limits_that_are_none_are_refused(story, admin, changes) -> None:
    with pytest.raises(InvalidInput):
        approvals.rule_create(user=admin, **limits(**changes))
    assert not StandingRule.objects.exists()

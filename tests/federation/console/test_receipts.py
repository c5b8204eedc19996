"""A receipt says what was asked, who answered what and when, and what left afterwards."""

from __future__ import annotations

import pytest
from console_story import with_member
from test_document import text_of

from federation import kinds
from federation.models import GlobalModel, Outgoing, OwnSum, SecureSum, SiteValidation
from federation.plans import parse_plan
from federation.services import approvals, receipts


def words_of(approval) -> str:
    """The text of the receipt without spaces: long hashes are broken over lines."""
    return text_of(receipts.receipt_pdf(user=None, approval=approval)).replace(" ", "")


def said(text: str) -> str:
    return text.replace(" ", "")


@pytest.fixture
def approval(story, round_, admin):
    return approvals.round_approve(user=admin, round_=round_, plan_sha256=round_.sha256)


def test_a_receipt_names_the_hash_the_person_and_what_was_shown(approval, admin) -> None:
    text = words_of(approval)
    assert approval.plan_sha256 in text
    assert admin.username in text
    for sentence in (
        *approval.shown["leaves"],
        *approval.shown["never_leaves"],
        *approval.shown["could_learn"],
    ):
        assert said(sentence) in text
    assert said("The round is not over") in text


def test_the_same_rows_give_the_same_bytes(approval) -> None:
    first = receipts.receipt_pdf(user=None, approval=approval)
    assert receipts.receipt_pdf(user=None, approval=approval) == first


def test_a_no_has_a_receipt_with_its_reason(story, round_, admin) -> None:
    approval = approvals.round_decline(user=admin, round_=round_, reason="Our ethics board meets in May.")
    text = words_of(approval)
    assert approval.plan_sha256 in text and said("Our ethics board meets in May.") in text
    story.say(kinds.COORDINATOR, kinds.Aborted(round_.sha256, "Too few hospitals."))
    text = words_of(type(approval).objects.get())
    assert said("No masked input of this hospital left.") in text and said("Too few hospitals.") in text


def test_a_rules_answer_names_the_rule_and_who_made_it(story, round_, admin) -> None:
    import datetime as dt

    from django.utils import timezone

    from federation.models import Approval

    rule = approvals.rule_create(
        user=admin, strategies=["fedavg"], sites=["b", "c", "d"], maximum_epochs=5, minimum_participants=3,
        expires_at=timezone.now() + dt.timedelta(days=1),
    )  # fmt: skip
    assert approvals.rules_apply(round_)
    assert said(f"standing rule {rule.pk} of {admin.username}") in words_of(Approval.objects.get())


def test_after_the_round_it_says_what_left_and_what_came_of_it(story, round_, approval) -> None:
    plan = parse_plan(round_.plan)
    story.accept()
    for state in ("update", "counts"):
        total = SecureSum.objects.create(
            name=f"{round_.sha256[:16]}.{state}.1", round=round_, purpose=state, attempt=1, sites=list("abcd"),
            member="compact" if state == "update" else "", words=1000, bits=32, state="opened",
            survivors=["a", "b", "c"], result="12" * 32,
        )  # fmt: skip
        OwnSum.objects.create(sum=total, state="answered", masked="34" * 32, checked="agrees")
    sent = SecureSum.objects.get(purpose="update")
    Outgoing.objects.create(key=f"masked/{sent.name}", kind="Masked", text="", sent=True)
    type(round_).objects.filter(pk=round_.pk).update(state="published")
    made = [{"name": "compact", "weights": "56" * 32, "classifier": "", "state": ""}]
    GlobalModel.objects.create(number=1, round=round_, members=made, published_at=1)
    figures = {
        "before": {"macro": {"1": 0.5, "5": 0.7}}, "after": {"macro": {"1": 0.625, "5": 0.75}}, "alone": None,
        "patients": 40, "change": [0.01, 0.125, 0.2],
    }  # fmt: skip
    SiteValidation.objects.create(
        round=round_, ballot="accept", reason="Better.", figures=figures, members=[]
    )
    text = words_of(type(approval).objects.get())
    for sentence in (
        "Sent, masked", "Masked, not sent", "4,000 bytes", "12" * 32, "34" * 32, "56" * 32,
        "Hospital A, Hospital B, Hospital C", "agrees with the published result", "50.0%", "62.5%",
        "+12.5% (95 % interval +1.0% to +20.0%)", "the federation's model 1", plan.sha256,
    ):  # fmt: skip
        assert said(sentence) in text, sentence
    assert said("trained here alone") not in text  # it was not measured


def test_a_crafted_title_cannot_write_into_the_receipt(story, make_plan, admin) -> None:
    plan = with_member(make_plan(sites="abcd"), name="<b>x</b> & y")
    round_ = story.open_round(plan)
    approval = approvals.round_decline(user=admin, round_=round_, reason="<para>no</para>")
    assert said("<b>x</b> & y") in words_of(approval) and said("<para>no</para>") in words_of(approval)

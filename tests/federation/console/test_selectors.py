"""What the pages read: who is asked, who is waited for, and what happens without them."""

from __future__ import annotations

import datetime as dt

import pytest
import time_machine
from console_story import OWN
from django.utils import timezone

from federation import kinds, round_next, selectors
from federation.models import Curve, Outgoing, Participation, Peer, SecureSum, SiteValidation, SumMessage
from federation.models import TranscriptLink as Row
from federation.moments import at
from federation.plans import parse_plan
from federation.round_selectors import PART_WORDS, PURPOSE_WORDS, STATE_WORDS, SUM_WORDS
from federation.services import advancing, approvals, projection_rounds
from federation.services.projection_sums import PURPOSES
from federation.states import TABLES, states_of


def test_every_state_has_words() -> None:
    assert STATE_WORDS.keys() == set(states_of(TABLES["round"]))
    assert PART_WORDS.keys() == set(states_of(TABLES["participation"]))
    assert SUM_WORDS.keys() == set(states_of(TABLES["sum"]))
    assert PURPOSE_WORDS.keys() == set(PURPOSES)
    assert round_next.GONE == projection_rounds.GONE


def test_a_site_without_a_federation_is_told_what_to_do(db) -> None:
    found = selectors.federation_overview()
    assert found.membership is None and "Join" in found.next_step


def test_the_overview_leads_to_the_next_thing_to_do(member, admin, make_user) -> None:
    assert selectors.federation_overview().next_step == ""
    member.join("b")
    found = selectors.federation_overview()
    assert "Hospital B" in found.next_step and [row.peer.name for row in found.to_confirm] == ["b"]
    member.confirm("b")
    assert selectors.federation_overview().next_step == ""
    type(found.membership).objects.update(alarm="It forks the list.")
    assert "stopped following" in selectors.federation_overview().next_step


def test_a_round_waits_for_this_hospital_until_it_answers(story, round_, admin) -> None:
    assert selectors.waiting_for_answer() == (round_,)
    assert f"Round {round_.number}" in selectors.federation_overview().next_step
    assert selectors.federation_overview().current == round_
    approvals.round_approve(user=admin, round_=round_, plan_sha256=round_.sha256)
    assert selectors.waiting_for_answer() == ()
    assert selectors.federation_overview().unsent == 1


def test_what_the_coordinator_refused_is_shown(story, admin) -> None:
    Outgoing.objects.create(
        key="x", kind="Propose", text="", sent=True, refusal="Another round is under way."
    )
    assert selectors.federation_overview().refused == ("Propose: Another round is under way.",)


def test_who_confirmed_whom(story) -> None:
    story.say("c", kinds.Confirm("b", Peer.objects.get(name="b").public_key))
    rows = {row.peer.name: row for row in selectors.peers_with_confirmations()}
    assert rows["b"].confirmed_by == ("Hospital A", "Hospital C")
    assert rows["b"].confirmed_here and not rows["e"].confirmed_here
    assert rows[OWN].is_own and rows[OWN].confirmed_here
    story.say("c", kinds.Unconfirm("b", Peer.objects.get(name="b").public_key, ""))
    assert {row.peer.name: row for row in selectors.peers_with_confirmations()}["b"].confirmed_by == (
        "Hospital A",
    )


def test_a_silent_site_is_said_to_be_and_one_in_touch_is_not(story) -> None:
    now = timezone.now()
    Peer.objects.filter(name="b").update(last_seen_at=now)
    Peer.objects.filter(name="c").update(last_seen_at=now - dt.timedelta(hours=3))
    rows = {row.peer.name: row for row in selectors.peers_with_confirmations()}
    assert rows["b"].healthy and "In touch" in rows["b"].health
    assert not rows["c"].healthy and "Not heard of since" in rows["c"].health
    assert not rows["d"].healthy and rows["d"].health == "Not heard of yet."


def test_the_timeline_says_who_has_not_answered_and_what_follows(story, round_) -> None:
    found = selectors.round_timeline(round_)
    assert [moment.state for moment in found.moments if moment.reached] == ["proposed", "approving"]
    assert [moment.state for moment in found.moments if moment.is_current] == ["approving"]
    assert found.moments[-1].state == "published" and found.moments[-1].at is None
    text = " ".join(found.next)
    assert "0 of 4 hospitals have approved; 3 are needed" in text
    assert "Waiting for Hospital A, Hospital B, Hospital C and Hospital D" in text
    assert "the round ends and nothing is opened" in text
    for site in "abc":
        story.answer(site, parse_plan(round_.plan))
    text = " ".join(selectors.round_timeline(round_).next)
    assert "3 of 4 hospitals have approved" in text and "Waiting for Hospital D until" in text
    assert "Hospital D: Not heard of yet. Without it the round goes on with 3 hospitals at" in text


@pytest.fixture
def summing(story, round_):
    """The presence sum waits for adverts of c and d; c was heard of a moment ago, d was not."""
    plan = parse_plan(round_.plan)
    for site in "abcd":
        story.answer(site, plan)
    story.say(kinds.COORDINATOR, kinds.Answered(round_.sha256, tuple("abcd")))
    name = f"{round_.sha256[:16]}.presence.1"
    body = kinds.SumBegun(name, round_.sha256, "presence", "", 1, tuple("abcd"), 3, 64)
    story.say(kinds.COORDINATOR, body)
    Row.objects.create(
        seq=1, sha256="1" * 64, previous="0" * 64, at=story.at, author="coordinator", kind="SumBegun",
        key=f"begun/{name}", text="",
    )  # fmt: skip
    total = SecureSum.objects.get(name=name)
    for site in "ab":
        SumMessage.objects.create(sum=total, kind="advert", site=site, text=site)
    Peer.objects.update(last_seen_at=timezone.now())
    Peer.objects.filter(name="d").update(last_seen_at=timezone.now() - dt.timedelta(hours=3))
    round_.refresh_from_db()
    return round_


def test_a_sum_says_whom_it_waits_for_and_that_it_goes_on_without_one(summing) -> None:
    found = selectors.round_timeline(summing)
    text = " ".join(found.next)
    assert "Waiting for keys from Hospital C and Hospital D, until" in text
    assert "Hospital D: Not heard of since" in text and "Hospital C: " not in text
    assert "Without it the round goes on with 3 hospitals at" in text
    (total,) = found.sums
    assert (total.label, total.state_label, total.bytes_each) == (
        "Which syndromes are open",
        "waiting for keys",
        24,
    )
    assert total.due == at(advancing.due(SecureSum.objects.get()))  # the coordinator's own rule
    assert total.due is not None and (total.due - timezone.now()) < dt.timedelta(hours=1)
    assert [site.name for site in found.sites if site.silent] == ["d"]


def test_a_sum_of_three_ends_without_one(summing) -> None:
    row = Participation.objects.get(peer__name="c")
    Participation.objects.filter(pk=row.pk).update(state="dropped")
    text = " ".join(selectors.round_timeline(summing).next)
    assert "Waiting for keys from Hospital D, until" in text
    assert "Without it the round ends at" in text and "3 hospitals are needed" in text


def test_an_ended_round_says_why_and_what_was_opened(story, round_) -> None:
    story.say(kinds.COORDINATOR, kinds.Aborted(round_.sha256, "2 hospitals take part; the plan needs 3."))
    round_.refresh_from_db()
    found = selectors.round_timeline(round_)
    assert found.ended and [moment.state for moment in found.moments] == ["proposed", "approving", "aborted"]
    assert "2 hospitals take part" in found.next[0] and found.next[1] == "Nothing was opened."


def test_votes_that_are_missing_are_named(story, round_) -> None:
    type(round_).objects.filter(pk=round_.pk).update(
        state="validating", moments=round_.moments | {"validating": story.at}
    )
    Participation.objects.update(state="confirmed")
    Participation.objects.exclude(peer__name="c").update(ballot="accept")
    round_.refresh_from_db()
    text = " ".join(selectors.round_timeline(round_).next)
    assert "Waiting for Hospital C." in text and "2 must accept" in text


def test_own_curves_and_figures(story, round_) -> None:
    for epoch, loss in ((1, 2.0), (2, 1.5)):
        Curve.objects.create(round=round_, member="compact", attempt=1, epoch=epoch, loss=loss, top_1=None)
    (line,) = selectors.curves(round_)
    assert line.points == ((1, 2.0, None), (2, 1.5, None))
    assert selectors.validation(round_) is None
    figures = {"before": {"macro": {"1": 0.5, "5": 0.7}}, "after": None, "patients": 3, "change": None}
    SiteValidation.objects.create(round=round_, ballot="abstain", reason="Few.", figures=figures, members=[])
    found = selectors.validation(round_)
    assert (found.before, found.before_5, found.after, found.change, found.patients) == (
        0.5,
        0.7,
        None,
        None,
        3,
    )


def test_times_on_the_timeline_are_the_coordinators(story, make_plan) -> None:
    with time_machine.travel(dt.datetime(2031, 5, 1, 12, tzinfo=dt.UTC), tick=False):
        round_ = story.open_round(make_plan(sites="abcd"))
    at = selectors.round_timeline(round_).moments[0].at
    assert at is not None and at.year == 2031

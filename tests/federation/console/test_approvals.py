"""The approval page's facts and this hospital's answers: evidence, a signed entry, once, in time."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace

import pytest
import time_machine
from console_story import OWN

from diagnosis.errors import InvalidInput, NotReady
from diagnosis.models import AuditEvent
from federation import identity, kinds, secrets_store
from federation.errors import Conflict
from federation.models import Approval, Outgoing, OwnSum, Participation, Peer, SecureSum
from federation.plans import parse_plan, update_words
from federation.secagg import rules
from federation.services import approvals, dry_run
from federation.transcript import decode_entry


def body_of(approval: Approval) -> dict:
    return decode_entry(Outgoing.objects.get(key=approval.entry_key).text.encode()).body


def nothing_said() -> bool:
    return not (Approval.objects.exists() or Outgoing.objects.filter(kind="Answer").exists())


# --- facts ---


def test_the_facts_follow_from_the_plan(story, round_) -> None:
    facts = approvals.approval_facts(round_)
    plan = parse_plan(round_.plan)
    assert facts.plan_sha256 == round_.sha256 == plan.sha256
    assert "Hospital B asks" in facts.asked[0] and plan.data_use in facts.asked[-1]
    assert facts.proposer.name == "b" and [site.name for site in facts.sites] == list("abcd")
    assert {site.name: site.fingerprint for site in facts.sites} == {
        site: identity.fingerprint(key) for site, key in plan.keys.items()
    }
    assert facts.colluders == (rules.colluders(4), rules.colluders(3)) == (1, 1)
    assert facts.update_bytes == (4 * update_words(plan.members[0], 2), 4 * update_words(plan.members[0], 3))
    assert (facts.samples, facts.dry_run.photos) == (130, 123)
    assert facts.may_answer and facts.may_approve and facts.refusal == facts.closed == ""


def test_what_leaves_is_said_to_the_letter(story, round_) -> None:
    facts = approvals.approval_facts(round_)
    least, most = facts.update_bytes
    leaves = " ".join(facts.leaves)
    for said in (
        f"{least:,} to {most:,} bytes", "cannot be told from uniform noise", "rounded up to tens: 130",
        "at least 5 own patients", "its vote".capitalize(), "Signed messages",
        "The sum over at least 3 hospitals is opened and published",
    ):  # fmt: skip
        assert said in leaves
    learn = " ".join(facts.could_learn)
    assert "If all 4 invited hospitals take part: the coordinator together with 1 other hospital learns the sum " \
        "over the remaining 3" in learn  # fmt: skip
    assert (
        "If only 3 take part: the coordinator together with 1 other hospital learns the sum over the remaining 2"
        in learn
    )
    assert "Photos" in facts.never_leaves[0] and "Without an answer by" in facts.without_answer[0]


@pytest.mark.parametrize("invited, least", [(3, 3), (5, 3), (10, 7), (20, 20)])
def test_colluders_and_remaining_follow_the_protocol(story, make_plan, invited, least) -> None:
    from federation.plans import Invited
    from federation.services import approval_words

    plan = make_plan(sites="abcd")
    names = sorted(f"s{number:02d}" for number in range(invited))
    plan = replace(
        plan, proposer=names[0], minimum_participants=least,
        invited=tuple(Invited(name, "aa" * 32) for name in names),
    )  # fmt: skip
    said = " ".join(approval_words.could_learn(plan))
    for sites in {invited, least}:
        assert f"the sum over the remaining {sites - rules.colluders(sites)}" in said
    assert approval_words.remaining(plan) == max(3, 2 * least // 3 + 1)


def test_what_is_kept_with_a_yes_is_what_was_shown_and_names_nobody(story, round_, admin) -> None:
    facts = approvals.approval_facts(round_)
    approval = approvals.round_approve(user=admin, round_=round_, plan_sha256=facts.plan_sha256)
    assert approval.shown == json.loads(json.dumps(facts.as_json()))
    assert approval.shown["leaves"] == list(facts.leaves)
    assert admin.username not in json.dumps(approval.shown)


# --- answers ---


def test_a_yes_is_evidence_and_a_signed_entry_once(story, round_, admin) -> None:
    first = approvals.round_approve(user=admin, round_=round_, plan_sha256=round_.sha256)
    again = approvals.round_approve(user=admin, round_=round_, plan_sha256=round_.sha256)
    assert first.pk == again.pk and Outgoing.objects.filter(kind="Answer").count() == 1
    assert (first.answer, first.samples, first.user, first.rule) == ("approve", 130, admin, None)
    assert first.entry_key == f"answer/{round_.sha256}"
    assert body_of(first) == {"round": round_.sha256, "answer": "approve", "samples": 130, "reason": ""}
    assert admin.username not in Outgoing.objects.get().text
    assert AuditEvent.objects.filter(action="round.approve").count() == 1
    assert story.accept() == ["Answer"]
    assert Participation.objects.get(peer__name=OWN).state == "approved"
    with pytest.raises(Conflict):
        approvals.round_decline(user=admin, round_=round_, reason="Changed our mind.")


def test_another_hash_than_the_pages_is_refused_and_changes_nothing(story, round_, admin) -> None:
    for shown in ("", "00" * 32, round_.sha256.upper()):
        with pytest.raises(Conflict, match="another plan"):
            approvals.round_approve(user=admin, round_=round_, plan_sha256=shown)
    assert nothing_said()


def test_an_unconfirmed_or_swapped_key_blocks_the_yes_and_not_the_no(story, make_plan, admin) -> None:
    plan = make_plan(sites="abce")
    round_ = story.open_round(plan)
    facts = approvals.approval_facts(round_)
    assert [site.name for site in facts.unconfirmed] == ["e"]
    assert facts.may_answer and not facts.may_approve and "Hospital E" in facts.refusal
    with pytest.raises(NotReady, match="Hospital E"):
        approvals.round_approve(user=admin, round_=round_, plan_sha256=plan.sha256)
    assert nothing_said()
    declined = approvals.round_decline(user=admin, round_=round_, reason=" Who is\n E? ")
    assert body_of(declined) == {
        "round": plan.sha256, "answer": "decline", "samples": 0, "reason": "Who is E?",
    }  # fmt: skip
    assert approvals.round_decline(user=admin, round_=round_, reason="").pk == declined.pk
    with pytest.raises(Conflict):
        approvals.round_approve(user=admin, round_=round_, plan_sha256=plan.sha256)


def test_a_confirmation_taken_back_between_page_and_answer_blocks_the_yes(story, round_, admin) -> None:
    from federation.services.membership import peer_unconfirm

    assert approvals.approval_facts(round_).may_approve
    Outgoing.objects.create(
        key=f"confirm/c/{Peer.objects.get(name='c').public_key[:16]}/0", kind="Confirm", text="", sent=True
    )
    peer_unconfirm(user=admin, peer=Peer.objects.get(name="c"), reason="Doubt.")
    with pytest.raises(NotReady, match="Hospital C"):
        approvals.round_approve(user=admin, round_=round_, plan_sha256=round_.sha256)
    assert nothing_said()


def test_a_crafted_base_model_blocks_the_yes(story, make_plan, admin) -> None:
    from console_story import with_member

    round_ = story.open_round(with_member(make_plan(sites="abcd"), base_sha256="99" * 32))
    with pytest.raises(NotReady, match="other networks"):
        approvals.round_approve(user=admin, round_=round_, plan_sha256=round_.sha256)
    assert nothing_said()


def test_after_the_deadline_nobody_answers(story, round_, admin) -> None:
    late = approvals.approval_facts(round_).answer_by + dt.timedelta(seconds=1)
    with time_machine.travel(late, tick=True):
        assert not approvals.approval_facts(round_).may_answer
        with pytest.raises(NotReady, match="possible until"):
            approvals.round_approve(user=admin, round_=round_, plan_sha256=round_.sha256)
        with pytest.raises(NotReady, match="possible until"):
            approvals.round_decline(user=admin, round_=round_, reason="Too late.")
    assert nothing_said()


def test_before_the_coordinator_asks_nobody_answers(story, make_plan, admin) -> None:
    from federation.models import Round
    from federation.plans import encode_plan

    plan = make_plan(sites="abcd")
    story.say("b", kinds.Propose(encode_plan(plan)))
    with pytest.raises(NotReady, match="not opened"):
        approvals.round_approve(user=admin, round_=Round.objects.get(), plan_sha256=plan.sha256)
    assert nothing_said()


def test_a_hospital_without_a_photo_cannot_say_yes(story, round_, admin, monkeypatch) -> None:
    monkeypatch.setattr(dry_run, "samples_now", lambda k: 0)
    assert not approvals.approval_facts(round_).may_approve
    with pytest.raises(NotReady, match="No photo"):
        approvals.round_approve(user=admin, round_=round_, plan_sha256=round_.sha256)
    assert nothing_said()


def test_a_dry_run_that_fails_is_a_reason_and_not_an_error_page(story, round_, admin, monkeypatch) -> None:
    def missing(plan: object) -> None:
        raise NotReady("The base model is not on this site.")

    monkeypatch.setattr(dry_run, "dry_run", missing)
    facts = approvals.approval_facts(round_)
    assert (
        facts.dry_run is None
        and facts.dry_run_problem == facts.refusal == "The base model is not on this site."
    )
    with pytest.raises(NotReady, match="base model"):
        approvals.round_approve(user=admin, round_=round_, plan_sha256=round_.sha256)


# --- afterwards ---


@pytest.fixture
def approved(story, round_, admin):
    approvals.round_approve(user=admin, round_=round_, plan_sha256=round_.sha256)
    story.accept()
    for site in "bcd":
        story.answer(site, parse_plan(round_.plan))
    story.say(kinds.COORDINATOR, kinds.Answered(round_.sha256, ("a", "b", "c", "d")))
    round_.refresh_from_db()
    return round_


def own_sum(round_, purpose: str, state: str) -> OwnSum:
    total = SecureSum.objects.create(
        name=f"{round_.sha256[:16]}.{purpose}.1", round=round_, purpose=purpose, attempt=1, sites=list("abcd"),
        words=3, bits=64,
    )  # fmt: skip
    return OwnSum.objects.create(sum=total, state=state)


def test_a_yes_taken_back_ends_this_sites_part_and_forgets_its_input(
    approved, admin, django_capture_on_commit_callbacks
) -> None:
    counted = own_sum(approved, "presence", "answered")
    update = own_sum(approved, "update", "prepared")
    secrets_store.write(update.sum.name, "input", b"plain")
    with django_capture_on_commit_callbacks(execute=True):
        said = approvals.round_withdraw(user=admin, round_=approved, reason="The consent form changed.")
    assert approvals.round_withdraw(user=admin, round_=approved, reason="Again.").pk == said.pk
    assert said.key == f"drop/{approved.sha256}"  # the engine's own key: one site drops once
    assert secrets_store.read(update.sum.name, "input") is None
    update.refresh_from_db()
    counted.refresh_from_db()
    assert (update.state, counted.state) == ("left", "answered")
    assert not approvals.takes_part(approved)
    assert approvals.approval_facts(approved).own_answer == "withdrawn"


@pytest.mark.parametrize("state", ["masked", "signed", "answered"])
def test_a_masked_update_cannot_be_taken_back(approved, admin, state) -> None:
    update = own_sum(approved, "update", state)
    with pytest.raises(NotReady, match="cannot be taken back"):
        approvals.round_withdraw(user=admin, round_=approved, reason="Too late.")
    update.refresh_from_db()
    assert update.state == state and not Outgoing.objects.filter(kind="Drop").exists()


def test_only_a_yes_is_taken_back_and_only_while_the_round_runs(story, round_, admin) -> None:
    with pytest.raises(InvalidInput, match="not said yes"):
        approvals.round_withdraw(user=admin, round_=round_, reason="Why not.")
    approvals.round_approve(user=admin, round_=round_, plan_sha256=round_.sha256)
    with pytest.raises(InvalidInput, match="reason"):
        approvals.round_withdraw(user=admin, round_=round_, reason="  ")
    story.accept()
    story.say(kinds.COORDINATOR, kinds.Aborted(round_.sha256, "No time."))
    with pytest.raises(NotReady, match="ended"):
        approvals.round_withdraw(user=admin, round_=round_, reason="Why not.")


def test_only_the_proposer_stops_a_round(story, make_plan, round_, admin) -> None:
    with pytest.raises(InvalidInput, match="Hospital B"):
        approvals.round_stop(user=admin, round_=round_, reason="Enough.")
    story.say(kinds.COORDINATOR, kinds.Aborted(round_.sha256, "No time."))
    own = story.open_round(replace(make_plan(proposer="a", sites="abcd"), seed=8))
    first = approvals.round_stop(user=admin, round_=own, reason="Enough.")
    assert approvals.round_stop(user=admin, round_=own, reason="Enough.").pk == first.pk
    assert first.key == f"stop/{own.sha256}"  # the coordinator looks for exactly this key

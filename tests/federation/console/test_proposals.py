"""Suggested plans, and every reason for which this site takes no part in one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from console_story import OWN, VOCABULARY, WEIGHTS, with_member

from diagnosis.errors import InvalidInput, NotReady
from federation.learning.errors import PlanRefused
from federation.models import GlobalModel, Outgoing, Peer, Round
from federation.plans import Invited, TrainedTensor, encode_plan, parse_plan, vocabulary_of
from federation.services.plan_checks import plan_refusal
from federation.services.proposals import plan_suggest, round_propose


def test_a_suggested_plan_starts_from_what_is_here(story, hospital, admin) -> None:
    plan = plan_suggest(user=admin)
    (network,) = plan.members
    assert (network.name, network.architecture, network.base_sha256) == ("compact", "compact", WEIGHTS)
    assert [tensor.name for tensor in network.neck] == [
        "neck.0.bias", "neck.0.weight", "neck.1.bias", "neck.1.weight",
    ]  # fmt: skip
    assert plan.vocabulary_sha256 == vocabulary_of(VOCABULARY) and plan.vocabulary_size == 3
    assert (plan.number, plan.previous_round, plan.proposer, plan.rows_per_member) == (1, "", OWN, 4)
    assert parse_plan(encode_plan(plan)) == plan
    assert plan_refusal(plan) == ""


def test_an_unconfirmed_sybil_is_not_invited_and_cannot_be(story, admin) -> None:
    assert list(plan_suggest(user=admin).keys) == ["a", "b", "c", "d"]  # not e
    with pytest.raises(InvalidInput, match="HOSPITAL E|Hospital E"):
        plan_suggest(user=admin, sites=["a", "b", "e"])


def test_a_sybil_does_not_make_up_the_three(member, admin) -> None:
    """Two real hospitals and any number of keys that nobody compared are two."""
    for name in "bcde":
        member.join(name)
    member.confirm("b")
    with pytest.raises(NotReady, match="2 are"):
        plan_suggest(user=admin)
    crafted = crafted_plan(member, "abcde")
    assert "Hospital C is not confirmed" in plan_refusal(crafted)
    member.confirm("c", "d")
    assert "Hospital E is not confirmed" in plan_refusal(crafted)
    member.confirm("e")
    assert plan_refusal(crafted) == ""


def crafted_plan(story, sites):
    """What somebody else might propose, whatever this site has confirmed."""
    story.join("x"), story.join("y")
    story.confirm("x", "y")
    plan = plan_suggest(user=None, sites=["a", "x", "y"])
    invited = tuple(Invited(name, Peer.objects.get(name=name).public_key) for name in sites)
    return replace(plan, proposer=sites[0], invited=invited)


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox", "fedadam", "fedavgm"])
def test_every_live_strategy_has_a_plan_that_holds(story, admin, strategy) -> None:
    plan = plan_suggest(user=admin, strategy=strategy)
    assert plan_refusal(plan) == ""
    assert (plan.members[0].local.proximal_mu > 0) == (strategy == "fedprox")


def test_choices_out_of_range_are_refused_in_words(story, admin) -> None:
    for choices in ({"k": 4}, {"epochs": 0}, {"minimum_participants": 2}, {"minimum_participants": 9}):
        with pytest.raises(InvalidInput):
            plan_suggest(user=admin, **choices)
    for name in ("answer_hours", "step_minutes", "training_minutes", "vote_minutes"):
        for span in (0.0, -1.0, 1e9, float("inf"), float("nan")):
            with pytest.raises(InvalidInput):
                plan_suggest(user=admin, **{name: span})


# --- what this site refuses ---


def changed_key(plan, site):
    invited = [Invited(one.site, "ee" * 32 if one.site == site else one.public_key) for one in plan.invited]
    return replace(plan, invited=tuple(invited))


CRAFTED = {
    "another federation": (lambda plan: replace(plan, federation="00" * 32), "another federation"),
    "analytic": (lambda plan: replace(plan, strategy="analytic"), "N0"),
    "own key swapped": (lambda plan: changed_key(plan, "a"), "a key that it does not use"),
    "other key swapped": (lambda plan: changed_key(plan, "c"), "another key than the one confirmed here"),
    "not invited": (
        lambda plan: replace(plan, invited=tuple(one for one in plan.invited if one.site != "a")),
        "not invited",
    ),
    "base crafted": (lambda plan: with_member(plan, base_sha256="99" * 32), "other networks"),
    "architecture": (lambda plan: with_member(plan, architecture="iresnet50"), "other networks"),
    "another member": (lambda plan: replace(plan, members=plan.members + (
        replace(plan.members[0], name="second"),)), "other networks"),
    "neck crafted": (
        lambda plan: with_member(plan, neck=(*plan.members[0].neck, TrainedTensor("trunk.0", 9))),
        "other tensors",
    ),
    "neck size": (
        lambda plan: with_member(plan, neck=(replace(plan.members[0].neck[0], size=99999),
                                             *plan.members[0].neck[1:])), "other tensors"),
    "other catalogue": (lambda plan: replace(plan, vocabulary_sha256="11" * 32), "catalogue"),
    "catalogue size": (lambda plan: replace(plan, vocabulary_size=4), "catalogue"),
    "previous round": (lambda plan: replace(plan, previous_round="22" * 32), "another round"),
    "views": (lambda plan: replace(plan, rows_per_member=1), "views"),
    "fedprox without a pull": (lambda plan: replace(plan, strategy="fedprox"), "fedprox"),
}  # fmt: skip


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_plan_is_refused_with_the_reason(story, make_plan, name) -> None:
    change, fragment = CRAFTED[name]
    plan = make_plan(sites="abcd")
    assert plan_refusal(plan) == ""
    refusal = plan_refusal(change(plan))
    assert fragment in refusal
    assert len(refusal) <= 300


def test_an_unconfirmed_key_blocks_and_the_sentence_says_what_to_do(story, make_plan) -> None:
    refusal = plan_refusal(make_plan(sites="abce"))
    assert "Hospital E is not confirmed here" in refusal and "Telephone" in refusal
    story.confirm("e")
    assert plan_refusal(make_plan(sites="abce")) == ""


def test_k_below_five_is_no_plan_at_all(story, make_plan) -> None:
    text = encode_plan(make_plan()).replace('"k":5', '"k":4')
    with pytest.raises(PlanRefused, match="k is at least 5"):
        parse_plan(text)


def test_after_a_publication_only_its_model_is_a_base(story, make_plan, admin) -> None:
    plan = make_plan()
    published = Round.objects.create(
        sha256=plan.sha256, number=1, plan=encode_plan(plan), proposer=Peer.objects.get(name="b"),
        state="published",
    )  # fmt: skip
    made = [{"name": "compact", "weights": "77" * 32, "classifier": "", "state": ""}]
    GlobalModel.objects.create(number=1, round=published, members=made, published_at=1)
    assert "follows on another round" in plan_refusal(plan)
    following = plan_suggest(user=admin)
    assert (following.number, following.previous_round) == (2, published.sha256)
    assert following.members[0].base_sha256 == "77" * 32
    assert plan_refusal(following) == ""
    assert "last model" in plan_refusal(with_member(following, base_sha256=WEIGHTS))


# --- proposing ---


def test_proposing_says_the_plan_once(story, admin) -> None:
    plan = plan_suggest(user=admin)
    first = round_propose(user=admin, plan=plan)
    assert round_propose(user=admin, plan=plan).pk == first.pk
    with pytest.raises(NotReady, match="on its way"):
        round_propose(user=admin, plan=plan_suggest(user=admin))
    assert story.accept() == ["Propose"]
    assert Round.objects.get().sha256 == plan.sha256
    with pytest.raises(NotReady, match="under way"):
        round_propose(user=admin, plan=plan_suggest(user=admin))


def test_a_plan_that_would_be_refused_here_is_not_proposed(story, make_plan, admin) -> None:
    own = make_plan(proposer="a", sites="abcd")
    for plan, fragment in (
        (make_plan(proposer="b", sites="abcd"), "own name"),
        (with_member(own, base_sha256="99" * 32), "other networks"),
        (replace(own, schedule=replace(own.schedule, answer_by=1)), "over already"),
    ):
        with pytest.raises(InvalidInput, match=fragment):
            round_propose(user=admin, plan=plan)
    assert not Outgoing.objects.exists()


def test_a_site_that_is_not_admitted_yet_suggests_nothing(member, admin) -> None:
    member.join("b")
    Peer.objects.filter(name=OWN).delete()
    with pytest.raises(NotReady, match="not admitted"):
        plan_suggest(user=admin)

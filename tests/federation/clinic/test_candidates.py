"""The candidate follows from opened sums alone, and is judged on held-out patients of this hospital."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from diagnosis.errors import NotReady
from diagnosis.models.base import EvidenceChanged

MIX = {"SYN:0001": 12, "SYN:0002": 12}


@pytest.fixture
def trained(hospital, story):
    """A round whose update sum is open, over this hospital alone."""
    hospital.admit_all(MIX)
    made = story.begin(strategy="fedavgm")
    story.count(made)
    story.train(made)
    return made


def candidate_of(round_):
    """(plan, training plan, the member's made files) of a round."""
    from federation.plans import parse_plan
    from federation.services.candidates import candidate_make
    from federation.services.results import opened_sum, training_plan_of

    total = opened_sum(round_, "update", "tiny")
    return parse_plan(round_.plan), training_plan_of(round_, total.sites), candidate_make(round_)[0]


def test_the_candidate_is_the_base_plus_the_mean_update(hospital, trained) -> None:
    """The slow twin: weights read from the file, words turned back by hand."""
    import safetensors.numpy

    from federation.learning.aggregate import load_rows
    from federation.learning.heads import build_head, initial_vector, layout_of, slice_of
    from federation.services.results import opened_sum, words_of
    from federation.storage import blob_bytes

    plan, training, made = candidate_of(trained)
    words = words_of(opened_sum(trained, "update", "tiny")).view(np.int32).astype(np.float64)
    layout = layout_of(build_head(hospital.network(), 2))
    start = initial_vector(hospital.network(), training.identifiers, plan.seed)
    weights = safetensors.numpy.load(blob_bytes(made.weights))
    for name in ("neck.0.weight", "neck.1.bias"):
        part = slice_of(layout, name)
        step = words[part] * training.members[0].limit_of(name) / (2**31 - 1 - 3)
        np.testing.assert_allclose(weights[name].reshape(-1), start[part] + step, rtol=1e-6, atol=1e-7)
        assert np.abs(step).max() > 1e-5
    for name in ("trunk.0.weight", "neck.1.running_mean"):
        if name in weights:
            base = dict(hospital.network().state_dict())[name].numpy()
            np.testing.assert_array_equal(weights[name], base)
    assert sorted(load_rows(blob_bytes(made.classifier))) == list(training.identifiers)


def test_the_candidate_is_the_same_every_time(trained) -> None:
    from federation.models import Blob
    from federation.services.candidates import candidate_make

    first = candidate_make(trained)
    count = Blob.objects.count()
    assert candidate_make(trained) == first and Blob.objects.count() == count
    assert all(len(name) == 64 for name in dataclasses.astuple(first[0])[1:])


def test_before_all_sums_are_open_there_is_no_candidate(hospital, story) -> None:
    from federation.services.candidates import candidate_make

    hospital.admit_all(MIX)
    round_ = story.begin()
    story.count(round_)
    with pytest.raises(NotReady, match="not open yet"):
        candidate_make(round_)


def test_the_next_round_starts_from_published_rows_and_state(hospital, story, trained) -> None:
    """A syndrome that opens later starts fresh; one that closed is forgotten; the neck goes on."""
    from federation.learning import heads
    from federation.learning.aggregate import load_rows
    from federation.learning.strategies import load_state
    from federation.plans import training_plan
    from federation.services.adoption import model_adopt
    from federation.services.networks import base_network
    from federation.services.starting import start_state, start_vector
    from federation.storage import blob_bytes

    _, _, made = candidate_of(trained)
    model_adopt(story.publish(trained, [made]))
    asked = dataclasses.replace(hospital.member(), base_sha256=made.weights)
    from federation.plans import parse_plan

    again = story.begin(strategy="fedavgm", members=(asked,), previous_round=trained.sha256)
    plan = parse_plan(again.plan)
    now = training_plan(plan, samples=dict.fromkeys("abc", 100), counts={"SYN:0002": 5, "SYN:0003": 5})
    base = base_network(asked)
    vector = start_vector(plan, now, "tiny", base)
    layout = heads.layout_of(heads.build_head(base, 2))
    rows, old = heads.take_rows(vector, layout, now.identifiers), load_rows(blob_bytes(made.classifier))
    np.testing.assert_array_equal(rows["SYN:0002"], old["SYN:0002"])
    np.testing.assert_array_equal(rows["SYN:0003"], heads.fresh_row("SYN:0003", plan.seed))
    before = load_state(blob_bytes(made.state), size=len(vector))  # two classes then and now
    state = start_state(plan, now, "tiny", base)
    neck = slice(2 + 2 * 512, None)
    np.testing.assert_array_equal(state.first[neck], before.first[neck])
    assert before.first[neck].any()
    moved = heads.take_rows(state.first, layout, now.identifiers)
    then = heads.take_rows(before.first, layout, ("SYN:0001", "SYN:0002"))
    np.testing.assert_array_equal(moved["SYN:0002"], then["SYN:0002"])
    assert then["SYN:0002"].any() and not moved["SYN:0003"].any()


@pytest.mark.parametrize("change", ["strategy", "base"])
def test_another_strategy_or_base_starts_fresh(hospital, story, trained, change) -> None:
    from federation.plans import parse_plan, training_plan
    from federation.services.networks import base_network
    from federation.services.starting import start_rows, start_state

    _, _, made = candidate_of(trained)
    story.publish(trained, [made])
    if change == "base":  # the first network again, as after a roll-back of the federation
        again = story.begin(strategy="fedavgm", previous_round=trained.sha256)
    else:
        from federation.models import GlobalModel
        from federation.services.adoption import model_adopt

        model_adopt(GlobalModel.objects.get())
        asked = dataclasses.replace(hospital.member(), base_sha256=made.weights)
        again = story.begin(strategy="fedadam", members=(asked,), previous_round=trained.sha256)
    plan = parse_plan(again.plan)
    now = training_plan(plan, samples=dict.fromkeys("abc", 100), counts={"SYN:0001": 5, "SYN:0002": 5})
    state = start_state(plan, now, "tiny", base_network(plan.members[0]))
    assert not state.first.any()
    assert bool(start_rows(plan, "tiny")) == (change == "strategy")


# --- validation ----------------------------------------------------------------------------------------


def test_validation_is_judged_once_on_held_out_patients(hospital, story, trained) -> None:
    from federation.models import SiteValidation
    from federation.services.candidates import candidate_make, candidate_validate
    from federation.services.population import split_now

    members = candidate_make(trained)
    found = candidate_validate(trained, members)
    held_out = {entrant.patient for entrant in split_now(5).held_out}
    assert found.figures["patients"] == len(held_out) > 0 and found.ballot == "accept"
    assert found.members == [dataclasses.asdict(members[0])]
    for name in ("before", "after", "alone"):
        assert 0.0 <= found.figures[name]["macro"]["1"] <= found.figures[name]["macro"]["5"] <= 1.0
    low, value, high = found.figures["change"]
    assert low <= value <= high
    assert value == pytest.approx(
        found.figures["after"]["macro"]["1"] - found.figures["before"]["macro"]["1"]
    )
    assert candidate_validate(trained, members).pk == found.pk and SiteValidation.objects.count() == 1
    found.ballot = "reject"
    with pytest.raises(EvidenceChanged):
        found.save()


def test_alone_is_what_this_site_trained_without_the_others(hospital, story, trained, monkeypatch) -> None:
    """Here the opened sum holds this hospital's update only, so both judge nearly the same network."""
    import federation.learning.validate as learning
    from federation.services.candidates import candidate_make, candidate_validate

    judged = []
    original = learning.validate_ensemble

    def spy(members, **kwargs):
        judged.append(members[0])
        return original(members, **kwargs)

    monkeypatch.setattr(learning, "validate_ensemble", spy)
    candidate_validate(trained, candidate_make(trained))
    together, alone = judged
    assert together.held_out.keys == alone.held_out.keys and together.now is alone.now
    moved = [
        getattr(alone.candidate, "0").weight - getattr(alone.now, "0").weight,
        getattr(together.candidate, "0").weight - getattr(together.now, "0").weight,
    ]
    # fedavgm's first step is the mean update: a third of this site's own, by weights p_i = 1/3 of each.
    np.testing.assert_allclose(moved[1].detach().numpy(), moved[0].detach().numpy() / 3, rtol=1e-3, atol=1e-6)


def test_only_gallery_patients_stand_in_the_gallery(hospital, story, trained, monkeypatch) -> None:
    import federation.learning.validate as learning
    from federation.services.candidates import candidate_make, candidate_validate
    from federation.services.population import split_now

    patient = split_now(5).training[0].patient
    from diagnosis.models import Patient

    hospital.sign(Patient.objects.get(pk=patient), ("analysis", "training"))
    judged = []
    original = learning.validate_ensemble
    monkeypatch.setattr(
        learning,
        "validate_ensemble",
        lambda members, **k: judged.append(members[0]) or original(members, **k),
    )
    candidate_validate(trained, candidate_make(trained))
    split = split_now(5)
    assert set(judged[0].held_out.patients) == {str(entrant.patient) for entrant in split.held_out}
    others = {str(entrant.patient) for entrant in split.training} - {str(patient)}
    assert set(judged[0].gallery.patients) == others


def test_nobody_to_judge_on_is_an_abstention(hospital, story) -> None:
    from federation.services.candidates import candidate_make, candidate_validate

    hospital.admit_all({"SYN:0001": 5, "SYN:0002": 5})
    round_ = story.begin()
    story.count(round_)
    story.train(round_)
    found = candidate_validate(round_, candidate_make(round_))
    assert found.ballot == "abstain" and "Hold out more patients" in found.reason


def test_too_few_patients_abstain_and_still_have_figures(hospital, story) -> None:
    from federation import plans
    from federation.services.candidates import candidate_make, candidate_validate

    hospital.admit_all(MIX)
    round_ = story.begin(vote=plans.VoteTerms(0.02, 1000, 2))
    story.count(round_)
    story.train(round_)
    found = candidate_validate(round_, candidate_make(round_))
    assert found.ballot == "abstain" and "1000 are needed" in found.reason and found.figures["after"]

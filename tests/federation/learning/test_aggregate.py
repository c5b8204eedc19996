"""Hospitals train, words are masked and summed for real, and the candidate is what plain arithmetic gives."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from types import SimpleNamespace

import learning_cases as cases
import numpy as np
import pytest
import safetensors.torch
import secagg_story as story
import torch

from diagnosis.phenotype.embed.backbone import build_backbone
from diagnosis.phenotype.embed.weights import backbone_layout, fill_backbone, serialize_weights, trunk_sha256
from federation.learning import heads
from federation.learning.aggregate import load_rows, make_candidate, save_rows, with_neck
from federation.learning.config import TensorLimit
from federation.learning.errors import AggregateRefused, PlanRefused
from federation.learning.loop import train_local
from federation.learning.strategies import initial_state
from federation.learning.words import decode_sum, encode_update, row_weights
from federation.secagg.errors import OutOfRange


def four_hospitals() -> dict[str, cases.FeatureSet]:
    more = cases.hospital({"a": 7, "b": 4, "d": 5}, name="h3")
    return cases.three_hospitals() | {"site03": more}


def play(absent: frozenset[str] = frozenset(), **changes: object) -> SimpleNamespace:
    net, sites = cases.tiny_net(), four_hospitals()
    plan = cases.plan_for(sites, net, **changes)
    member, layout = plan.members[0], heads.layout_of(heads.build_head(net, len(plan.classes)))
    start = heads.initial_vector(net, plan.identifiers, plan.seed)
    results = {
        name: train_local(plan, member, net, start, found, site_seed=index)
        for index, (name, found) in enumerate(sites.items())
    }
    words = {
        name: encode_update(
            plan, member, layout, result.update, site=name, class_patients=result.class_patients
        )
        for name, result in results.items()
    }
    total, world = story.play(4, words, dropped=absent)
    return SimpleNamespace(
        net=net, plan=plan, member=member, layout=layout, start=start, results=results, words=words,
        total=total, survivors=world.server.survivors,
    )  # fmt: skip


@pytest.fixture(scope="module")
def world() -> SimpleNamespace:
    return play()


@pytest.fixture(scope="module")
def dropped() -> SimpleNamespace:
    return play(frozenset({"site01"}))


def plain_mean(world: SimpleNamespace) -> np.ndarray:
    """The definition, in float64: p_i over survivors for the neck, n_ic / N_c for rows, k rule included."""
    mean = np.zeros(len(world.start))
    remaining = sum(world.plan.weight_of(name) for name in world.survivors)
    for name in world.survivors:
        update = world.results[name].update.astype(np.float64)
        weights = np.full(len(update), world.plan.weight_of(name) / remaining)
        for index, entry in enumerate(world.plan.classes):
            own = world.results[name].class_patients.get(entry.identifier, 0)
            share = own / entry.patients if own >= 5 else 0.0
            bias = heads.slice_of(world.layout, heads.BIAS).start + index
            row = heads.slice_of(world.layout, heads.WEIGHT).start + 512 * index
            weights[bias], weights[row : row + 512] = share, share
        mean += weights * update
    return mean


@pytest.mark.parametrize("which", ["world", "dropped"])
def test_the_opened_mean_is_the_plain_one(which: str, request: pytest.FixtureRequest) -> None:
    world = request.getfixturevalue(which)
    mean = decode_sum(world.plan, world.member, world.layout, world.total, survivors=world.survivors)
    expected = plain_mean(world)
    assert len(world.survivors) == (4 if which == "world" else 3)
    for part in world.layout:
        limit = world.member.limit_of(part.name)
        error = np.abs(mean - expected)[part.start : part.stop].max()
        assert error <= 1e-6 * 2 * limit
        assert error <= 1e-8 * limit  # 4 roundings of half a step of limit / 2^31, divided by at least 2/3


def test_a_row_is_the_mean_over_its_own_hospitals(world: SimpleNamespace) -> None:
    """d: 6 patients at site02 and 5 at site03, none elsewhere: (6 u₂ + 5 u₃) / 11, not a quarter of it."""
    mean = decode_sum(world.plan, world.member, world.layout, world.total, survivors=world.survivors)
    rows = {
        name: heads.take_rows(result.update, world.layout, world.plan.identifiers)["d"].astype(float)
        for name, result in world.results.items()
    }
    found = heads.take_rows(mean, world.layout, world.plan.identifiers)["d"]
    assert np.abs(found - (6 * rows["site02"] + 5 * rows["site03"]) / 11).max() < 1e-8
    assert np.abs(found).max() > 1e-4


def test_weights_of_all_sites_never_pass_one(world: SimpleNamespace) -> None:
    counts = {name: result.class_patients for name, result in world.results.items()}
    for plan in (world.plan, replace(world.plan, row_weighting="site")):
        totals = np.sum([row_weights(plan, name, counts[name]) for name in counts], axis=0)
        assert (totals <= 1 + 1e-12).all()
    assert np.allclose(np.sum([row_weights(world.plan, n, counts[n]) for n in counts], axis=0), 1.0)
    assert row_weights(world.plan, "site03", {"a": 4}) == [0, 0, 0, 0]
    with pytest.raises(PlanRefused, match="Count again"):
        row_weights(world.plan, "site00", {"a": 99})


def test_words_of_a_class_below_k_are_exact_zeros(world: SimpleNamespace) -> None:
    """site03 has 4 patients of b. Even an update that is not zero there would be sent as zero."""
    changed = world.results["site03"].update.copy()
    row = heads.slice_of(world.layout, heads.WEIGHT).start + 512 * world.plan.identifiers.index("b")
    changed[row : row + 512] = 0.001
    words = encode_update(
        world.plan, world.member, world.layout, changed, site="site03",
        class_patients=world.results["site03"].class_patients,
    )  # fmt: skip
    assert not words[row : row + 512].any()
    assert words[row - 512 : row].any()


def candidate(world: SimpleNamespace, **changes: object) -> object:
    state = initial_state(len(world.start), world.plan.strategy, world.plan.server)
    arguments = {"survivors": world.survivors, "state": state} | changes
    return make_candidate(world.plan, world.member, world.net, world.start, world.total, **arguments)


def test_the_candidate_is_the_base_plus_the_mean(world: SimpleNamespace) -> None:
    made = candidate(world)
    tensors = safetensors.torch.load(made.weights)
    base = world.net.state_dict()
    mean = plain_mean(world)
    for part in world.layout:
        if part.name.startswith("neck."):
            expected = base[part.name].numpy().reshape(-1) + mean[part.start : part.stop]
            assert np.abs(tensors[part.name].numpy().reshape(-1) - expected).max() < 1e-6
    for name in ("neck.1.running_mean", "neck.1.running_var"):
        assert torch.equal(tensors[name], base[name])
    assert made.sha256 == hashlib.sha256(made.weights).hexdigest() != world.member.base_sha256
    rows = load_rows(made.classifier)
    weight, bias = heads.classifier_rows(made.vector, world.layout)
    assert np.array_equal(rows["c"], np.append(weight[2], bias[2]))


def test_the_same_sum_gives_the_same_bytes(world: SimpleNamespace) -> None:
    """From the same survivors in any order, also when everything is trained and masked again."""
    one = candidate(world)
    assert candidate(world, survivors=list(reversed(world.survivors))).sha256 == one.sha256
    again = candidate(play())
    assert (again.weights, again.classifier) == (one.weights, one.classifier)
    assert np.array_equal(again.vector, one.vector)


def test_refusals(world: SimpleNamespace) -> None:
    other = replace(world.member, base_sha256="0" * 64)
    with pytest.raises(AggregateRefused, match="base model"):
        make_candidate(world.plan, other, world.net, world.start, world.total, survivors=[], state=None)
    arguments = (world.plan, world.member, world.layout)
    for bad in (world.total[:-1], world.total.astype(np.uint64)):
        with pytest.raises(AggregateRefused, match="length or type"):
            decode_sum(*arguments, bad, survivors=world.survivors)
    with pytest.raises(
        AggregateRefused, match="range"
    ):  # what a site sends that lies, or a mask that is left
        decode_sum(*arguments, world.total + np.uint32(1 << 31), survivors=["site00"])
    short = replace(world.member, limits=world.member.limits[1:])
    tight = replace(world.member, limits=tuple(TensorLimit(x.name, 1e-9) for x in world.member.limits))
    update = world.results["site00"].update
    with pytest.raises(PlanRefused, match="ranges"):
        encode_update(world.plan, short, world.layout, update, site="site00", class_patients={})
    with pytest.raises(OutOfRange):
        encode_update(world.plan, tight, world.layout, update, site="site00", class_patients={})
    broken = update.copy()
    broken[5000] = np.nan
    with pytest.raises(OutOfRange):
        encode_update(world.plan, world.member, world.layout, broken, site="site00", class_patients={})


def test_rows_there_and_back() -> None:
    rows = {"b": np.arange(513, dtype=np.float32), "a": np.ones(513, np.float32)}
    assert {n: r.tolist() for n, r in load_rows(save_rows(rows)).items()} == {
        n: r.tolist() for n, r in rows.items()
    }
    for bad in (
        b"x",
        save_rows({"a": np.full(513, np.nan, np.float32)}),
        save_rows({"a": np.ones(5, np.float32)}),
    ):
        with pytest.raises(AggregateRefused):
            load_rows(bad)


def test_a_candidate_of_a_real_network_loads_as_weights() -> None:
    """The shipped architecture: the file has its layout, its trunk is untouched, only the neck differs."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        base = build_backbone("compact")
    head = heads.build_head(base, 3)
    vector = heads.flatten(head) + np.float32(0.01)
    heads.unflatten(head, vector)
    made = with_neck(base, head)
    tensors = safetensors.torch.load(serialize_weights(made))
    assert {n: tuple(t.shape) for n, t in tensors.items()} == backbone_layout("compact")
    loaded = fill_backbone(tensors, architecture="compact", file_name="candidate")
    assert trunk_sha256(loaded) == trunk_sha256(base)
    assert torch.equal(loaded.neck[0].weight, base.neck[0].weight + 0.01)

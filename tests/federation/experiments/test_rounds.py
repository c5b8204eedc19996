"""Rounds in memory are the library's rounds: same bits as by hand in the plain, and equal to pooled moments."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from learning_cases import counted, hospital, three_hospitals, tiny_net

from federation.experiments import plans, rounds
from federation.experiments.alone import own_classes, solve_alone, train_alone, twin_options
from federation.experiments.plans import MEMBER, RoundOptions, count_classes, weights_sha256
from federation.experiments.rounds import run_rounds
from federation.experiments.secure import MemoryFederation
from federation.learning import heads
from federation.learning.config import AnalyticOptions, LocalTraining, ServerStep
from federation.learning.errors import StatisticsRefused
from federation.learning.features import join_features
from federation.learning.loop import train_local
from federation.learning.words import decode_sum, encode_update

LOCAL = LocalTraining(epochs=2, batch_photos=16, neck_learning_rate=1e-3, classifier_learning_rate=1e-3)
LOWERED = AnalyticOptions(minimum_patients=1, diagonal_minimum_patients=1)


def options(strategy="fedavg", **changes):
    local = replace(LOCAL, proximal_mu=0.1) if strategy == "fedprox" else LOCAL
    return RoundOptions(strategy, rounds=2, local=local, analytic=LOWERED, **changes)


def single_photos():
    """One photo a patient: the gate subtracts photos, so hospitals this small would pass no minimum at all."""
    mixes = ({"a": 8, "b": 6, "c": 5, "e": 3}, {"a": 5, "b": 9, "e": 3}, {"a": 6, "b": 5, "c": 7, "d": 6})
    return {f"site{i:02d}": hospital(mix, name=f"h{i}", photos=1) for i, mix in enumerate(mixes)}


def test_secure_counting_finds_the_open_classes_and_their_counts() -> None:
    sites, net = three_hospitals(), tiny_net()
    found = count_classes(sites, MemoryFederation.of(list(sites)), k=5, base_sha256=weights_sha256(net))
    assert found == counted(sites)
    assert "e" not in {entry.identifier for entry in found}


def test_one_round_is_the_plain_weighted_mean_of_the_sites_updates() -> None:
    sites, net = three_hospitals(), tiny_net()
    one = replace(options(), rounds=1)
    trained = run_rounds(one, net, sites, MemoryFederation.of(list(sites)), seed=5)
    plan = trained.plan
    member = plan.member(MEMBER)
    start = heads.initial_vector(net, plan.identifiers, plan.seed, {})
    layout = heads.layout_of(heads.build_head(net, len(plan.classes)))
    total = np.zeros(len(start), dtype=np.uint32)
    for name, own in sites.items():
        result = train_local(plan, member, net, start, own, site_seed=plans.derived_seed(5, name, 1))
        total += encode_update(
            plan, member, layout, result.update, site=name, class_patients=result.class_patients
        )
    mean = decode_sum(plan, member, layout, total, survivors=sites)
    expected = heads.build_head(net, len(plan.classes))
    heads.unflatten(expected, (start.astype(np.float64) + mean).astype(np.float32))
    for made, wanted in zip(
        trained.model.backbone.neck.parameters(), expected.neck.parameters(), strict=True
    ):
        np.testing.assert_array_equal(made.detach().numpy(), wanted.detach().numpy())


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox", "fedavgm", "fedadam", "analytic"])
def test_the_masks_leave_no_trace_in_the_result(strategy) -> None:
    sites, net = single_photos(), tiny_net()
    hashes = {
        weights_sha256(
            run_rounds(options(strategy), net, sites, MemoryFederation.of(list(sites)), seed=5).model.backbone
        )
        for _ in range(2)
    }
    assert len(hashes) == 1
    assert hashes != {weights_sha256(net)}


def test_the_state_of_the_server_survives_rounds(monkeypatch) -> None:
    seen = []
    honest = rounds.make_candidate

    def watched(*args, state, **rest):
        seen.append(float(np.abs(state.first).sum()))
        return honest(*args, state=state, **rest)

    monkeypatch.setattr(rounds, "make_candidate", watched)
    sites = three_hospitals()
    step = ServerStep(momentum=0.5)
    run_rounds(options("fedavgm", server=step), tiny_net(), sites, MemoryFederation.of(list(sites)), seed=5)
    assert seen[0] == 0.0 < seen[1]


def test_analytic_equals_the_pooled_solution_where_k_hides_nobody() -> None:
    sites, net = single_photos(), tiny_net()
    keep = {name: own.select(np.array([label != "e" for label in own.labels])) for name, own in sites.items()}
    federated = run_rounds(options("analytic"), net, keep, MemoryFederation.of(list(keep)), seed=5)
    pooled = solve_alone(options("analytic"), net, join_features(list(keep.values())))
    faces = join_features(list(keep.values()))
    np.testing.assert_allclose(
        heads.neck_outputs(federated.model.backbone.neck, faces, "original"),
        heads.neck_outputs(pooled.neck, faces, "original"), atol=2e-3,
    )  # fmt: skip


def test_analytic_is_refused_under_the_shipped_minima() -> None:
    sites = three_hospitals()
    shipped = replace(options("analytic"), analytic=AnalyticOptions())
    with pytest.raises(StatisticsRefused, match="5,000"):
        run_rounds(shipped, tiny_net(), sites, MemoryFederation.of(list(sites)), seed=5)


def test_a_twin_uses_all_its_own_classes_and_no_strategy() -> None:
    own = three_hospitals()["site00"]
    assert [(entry.identifier, entry.patients) for entry in own_classes(own, 5)] == [
        ("a", 8), ("b", 6), ("c", 5), ("e", 5),
    ]  # fmt: skip
    assert twin_options(options("fedprox")) == options("fedavg")
    trained = train_alone(options("fedprox"), tiny_net(), own, seed=1)
    assert [entry.round for entry in trained.curves] == [1, 2]
    assert trained.curves[-1].loss < trained.curves[0].loss
    assert trained.model.kept["own"].keys() == {"e"}


def test_a_twin_is_the_same_again_and_another_with_another_seed() -> None:
    own, net = three_hospitals()["site01"], tiny_net()
    hashes = [weights_sha256(train_alone(options(), net, own, seed=s).model.backbone) for s in (1, 1, 2)]
    assert hashes[0] == hashes[1] != hashes[2]

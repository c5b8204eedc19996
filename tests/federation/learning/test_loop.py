"""Training: the loop against a slow twin and a whole network, the k rule on rows, the same bits again."""

from __future__ import annotations

from dataclasses import replace

import learning_cases as cases
import numpy as np
import pytest
import torch
from torch.nn import functional

from diagnosis.phenotype.embed.backbone import scale_pixels
from federation.learning import heads
from federation.learning.config import LocalTraining
from federation.learning.errors import AggregateRefused, FeaturesRefused
from federation.learning.features import compute_features
from federation.learning.loop import LocalResult, Stepper, batch_loss, train_local
from federation.learning.split import split_by_patient


def run(
    site: str = "site00", *, net: cases.TinyNet | None = None, changes: dict | None = None, **more
) -> LocalResult:
    net = net or cases.tiny_net()
    sites = cases.three_hospitals()
    plan = cases.plan_for(sites, net, **(changes or {}))
    start = heads.initial_vector(net, plan.identifiers, plan.seed)
    return train_local(plan, plan.members[0], net, start, sites[site], site_seed=4, **more)


def test_vector_there_and_back() -> None:
    head = cases.random_head(cases.tiny_net(), 4)
    layout = heads.layout_of(head)
    names = [part.name for part in layout]
    assert names == sorted(names) == [
        "classifier.bias", "classifier.weight", "neck.0.bias", "neck.0.weight", "neck.1.bias",
        "neck.1.weight",
    ]  # fmt: skip
    vector = np.random.default_rng(0).normal(size=layout[-1].stop).astype(np.float32)
    assert len(vector) == sum(p.numel() for p in head.parameters())
    heads.unflatten(head, vector)
    assert np.array_equal(heads.flatten(head), vector)
    where = heads.slice_of(layout, "neck.0.weight")
    assert np.array_equal(head.neck[0].weight.detach().numpy().reshape(-1), vector[where])
    for bad in (vector[:-1], vector.astype(np.float64), np.where(vector == vector[3], np.nan, vector)):
        with pytest.raises(AggregateRefused):
            heads.unflatten(head, bad)


def test_loss_on_the_cache_equals_the_whole_networks() -> None:
    """Slow twin: every batch through trunk, neck and classifier, pixels in."""
    net = cases.tiny_net()
    pixels = np.random.default_rng(1).integers(0, 255, (9, 112, 112, 3)).astype(np.uint8)
    labels = ["a", "b", "c"] * 3
    found = compute_features(
        net, pixels, keys=[f"p{i}" for i in range(9)], labels=labels, patients=labels, seed=0
    )
    head = cases.random_head(net, 3)
    weights = heads.class_weights([10, 20, 40])
    truth = torch.tensor([0, 1, 2] * 3)
    with torch.no_grad():
        whole = net(scale_pixels(torch.from_numpy(pixels))) @ head.classifier.weight.T + head.classifier.bias
        logs = functional.log_softmax(whole.double(), dim=1)[torch.arange(9), truth]
    by_hand = -(logs * weights[truth]).sum() / weights[truth].sum()
    cached = batch_loss(head, torch.from_numpy(found.view("original")), truth, weights)
    assert abs(float(cached.detach()) - float(by_hand)) < 1e-5  # required: 1e-4
    assert weights.tolist() == [1.0, 0.75, 0.625]  # 0.5 + 0.5 · 10 / n


def test_the_step_is_adam_by_the_book() -> None:
    """Three steps against Kingma & Ba's algorithm 1 in numpy float64, with L2 decay and FedProx's term."""
    local = LocalTraining(
        neck_learning_rate=0.01, classifier_learning_rate=0.02, neck_weight_decay=0.1,
        classifier_weight_decay=0.2, proximal_mu=0.3,
    )  # fmt: skip
    head = cases.random_head(cases.tiny_net(), 3)
    twin = cases.random_head(cases.tiny_net(), 3).double()
    twin.load_state_dict({name: value.double() for name, value in head.state_dict().items()})
    weights = heads.class_weights([10, 20, 40])
    step = Stepper(head, local, weights, torch.zeros(3, dtype=torch.bool))
    tensors = heads.trained_tensors(twin)
    start = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    first, second = ({name: torch.zeros_like(tensor) for name, tensor in start.items()} for _ in range(2))
    generator = torch.Generator().manual_seed(0)
    for t in range(1, 4):
        features = torch.randn(6, cases.SIZE, generator=generator)
        classes = torch.tensor([0, 1, 2, 0, 1, 2])
        loss = functional.cross_entropy(twin(features.double()), classes, weight=weights.double())
        gradients = dict(zip(tensors, torch.autograd.grad(loss, list(tensors.values())), strict=True))
        assert step(features, classes, None) == pytest.approx(float(loss.detach()), abs=1e-5)
        for name, tensor in tensors.items():
            rate, decay = (0.02, 0.2) if name.startswith("classifier") else (0.01, 0.1)
            with torch.no_grad():
                g = gradients[name] + decay * tensor + 0.3 * (tensor - start[name])
                first[name] = 0.9 * first[name] + 0.1 * g
                second[name] = 0.999 * second[name] + 0.001 * g * g
                tensor -= (
                    rate * (first[name] / (1 - 0.9**t)) / ((second[name] / (1 - 0.999**t)).sqrt() + 1e-8)
                )
    difference = np.abs(heads.flatten(head) - heads.flatten(twin))
    # Adam divides by the gradient's size, so an element with a gradient near 0 may differ by float32's noise.
    assert np.mean(difference < 1e-5) > 0.999
    assert difference.max() < 2e-3


def test_learning_happens_and_generalises() -> None:
    sites = {
        f"site0{i}": cases.hospital({"a": 20, "b": 20, "c": 20, "d": 20}, name=f"h{i}") for i in range(3)
    }
    net = cases.tiny_net()
    plan = cases.plan_for(sites, net, local={"neck_learning_rate": 0.01, "classifier_learning_rate": 0.01})
    start = heads.initial_vector(net, plan.identifiers, plan.seed)
    training, held = split_by_patient(sites["site00"], k=5)
    heard = []
    result = train_local(
        plan, plan.members[0], net, start, training, site_seed=1, held_out=held, progress=heard.append
    )
    losses = [curve.loss for curve in result.curves]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > 2 * losses[-1]
    assert result.curves[-1].held_out_top_1 > 0.9  # chance 0.25
    assert tuple(heard) == result.curves
    assert result.samples == len(training)


def test_same_seed_same_bits_other_seed_other_bits() -> None:
    before = torch.get_num_threads()
    one, two = run(), run()
    assert np.array_equal(one.update, two.update)
    assert one.curves == two.curves
    assert torch.get_num_threads() == before
    sites, net = cases.three_hospitals(), cases.tiny_net()
    plan = cases.plan_for(sites, net)
    start = heads.initial_vector(net, plan.identifiers, plan.seed)
    other = train_local(plan, plan.members[0], net, start, sites["site00"], site_seed=5)
    assert not np.array_equal(one.update, other.update)


def test_global_random_numbers_are_left_alone_and_do_not_matter() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    one = run(changes={"local": {"dropout": 0.3}})
    assert torch.equal(torch.rand(3), expected)
    assert np.array_equal(one.update, run(changes={"local": {"dropout": 0.3}}).update)
    assert not np.array_equal(one.update, run().update)


def rows_of(result: LocalResult, net: cases.TinyNet) -> dict[str, np.ndarray]:
    plan = cases.plan_for(cases.three_hospitals(), net)
    layout = heads.layout_of(heads.build_head(net, len(plan.classes)))
    return heads.take_rows(result.update, layout, plan.identifiers)


def test_a_class_below_k_contributes_exact_zeros() -> None:
    """site01: a 5, b 9, c 4, d 0 patients. c is trained but kept at home, d stands still."""
    net = cases.tiny_net()
    result = run("site01", net=net)
    rows = rows_of(result, net)
    assert np.count_nonzero(rows["a"]) > 500 < np.count_nonzero(rows["b"])
    assert not rows["c"].any()
    assert not rows["d"].any()
    assert set(result.local_rows) == {"c"}
    assert np.abs(result.local_rows["c"] - heads.fresh_row("c", 11)).max() > 1e-3
    assert result.class_patients == {"a": 5, "b": 9, "c": 4, "e": 3}


def test_kept_rows_are_taken_up_again() -> None:
    """A class below k continues from its own row; rows of others cannot be slipped in this way."""
    net = cases.tiny_net()
    strange = {name: np.full(513, 0.7, np.float32) for name in ("a", "c", "d")}
    plain, kept = run("site01", net=net), run("site01", net=net, kept_rows=strange)
    assert np.abs(kept.local_rows["c"] - 0.7).max() < 0.2
    assert np.abs(plain.local_rows["c"]).max() < 0.3
    assert not rows_of(kept, net)["c"].any()
    a = rows_of(kept, net)["a"]
    assert np.abs(a).max() < 0.2  # started from the global row, not from 0.7


def test_absent_rows_stand_still_despite_weight_decay() -> None:
    head = cases.random_head(cases.tiny_net(), 3)
    before = head.classifier.weight.detach().clone()
    step = Stepper(head, LocalTraining(classifier_weight_decay=0.5), heads.class_weights([5, 5, 5]),
                   torch.tensor([False, True, False]))  # fmt: skip
    step(torch.randn(4, cases.SIZE), torch.tensor([0, 2, 0, 2]), None)
    moved = (head.classifier.weight.detach() - before).abs().amax(dim=1)
    assert moved[1] == 0
    assert moved[0] > 1e-4 < moved[2]


def test_batch_norm_statistics_and_the_base_never_move() -> None:
    net = cases.tiny_net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    head = cases.random_head(net, 3)
    head.train()
    head(torch.randn(8, cases.SIZE))
    assert torch.equal(head.neck[1].running_mean, before["neck.1.running_mean"])
    assert int(head.neck[1].num_batches_tracked) == 0
    run(net=net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_fedprox_stays_nearer() -> None:
    free = run()
    sites, net = cases.three_hospitals(), cases.tiny_net()
    plan = cases.plan_for(sites, net)
    member = replace(plan.members[0], local=replace(plan.members[0].local, proximal_mu=100.0))
    plan = replace(plan, strategy="fedprox", members=(member,))
    start = heads.initial_vector(net, plan.identifiers, plan.seed)
    near = train_local(plan, member, net, start, sites["site00"], site_seed=4)
    assert np.linalg.norm(near.update) < 0.8 * np.linalg.norm(free.update)


def test_refusals() -> None:
    net, sites = cases.tiny_net(), cases.three_hospitals()
    plan = cases.plan_for(sites, net)
    start = heads.initial_vector(net, plan.identifiers, plan.seed)
    stranger = cases.hospital({"e": 9}, name="x")
    with pytest.raises(FeaturesRefused, match="no consented photo"):
        train_local(plan, plan.members[0], net, start, stranger, site_seed=0)
    found = sites["site00"]
    poor = replace(found, features=found.features[:, :1], views=("original",))
    with pytest.raises(FeaturesRefused, match="flipped"):
        train_local(plan, plan.members[0], net, start, poor, site_seed=0)


def test_a_fresh_row_depends_on_its_class_only() -> None:
    net = cases.tiny_net()
    layout = lambda n: heads.layout_of(heads.build_head(net, n))  # noqa: E731
    two = heads.take_rows(heads.initial_vector(net, ["a", "b"], 3), layout(2), ["a", "b"])
    three = heads.take_rows(heads.initial_vector(net, ["a", "aa", "b"], 3), layout(3), ["a", "aa", "b"])
    assert np.array_equal(two["b"], three["b"])
    assert not np.array_equal(two["a"], two["b"])
    known = {"a": np.arange(513, dtype=np.float32)}
    again = heads.take_rows(heads.initial_vector(net, ["a", "b"], 3, known), layout(2), ["a", "b"])
    assert np.array_equal(again["a"], known["a"])
    assert np.array_equal(again["b"], two["b"])

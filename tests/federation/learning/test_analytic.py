"""Closed-form heads: the pooled solution however patients are spread, and when moments stay closed."""

from __future__ import annotations

from dataclasses import replace

import learning_cases as cases
import numpy as np
import pytest
import secagg_story as story
import torch

from diagnosis.phenotype.embed.backbone import Backbone
from federation.learning import analytic as an
from federation.learning.closed_form import site_words, solve_candidate
from federation.learning.config import AnalyticOptions, OpenClass, Participant
from federation.learning.errors import AggregateRefused, StatisticsRefused
from federation.learning.folding import fold_head
from federation.learning.moments import choose_moments, patients_left, require_openable
from federation.secagg.errors import OutOfRange
from federation.secagg.quantize import StatisticsQuantiser

CLASSES = ("a", "b", "c", "d")
D = 10


def pool(seed: int = 0) -> tuple[np.ndarray, list[str], list[str]]:
    """96 patients of four classes, one to three photos as two views: rows (n, 2, 10), labels, patients."""
    generator = np.random.default_rng(seed)
    centres, shape = generator.normal(0, 2, (4, D)), generator.normal(0, 1, (D, D))
    rows, labels, patients = [], [], []
    for index in range(96):
        person = centres[index % 4] + generator.normal(0, 1, D) @ shape
        for _ in range(1 + index % 3):
            rows.append(person + generator.normal(0, 0.3, (2, D)))
            labels.append(CLASSES[index % 4])
            patients.append(f"p{index}")
    return np.array(rows), labels, patients


def partition(kind: str, seed: int) -> list[list[int]]:
    """Patients 0..95 to hospitals so that each has none or at least five of each class."""
    order = np.random.default_rng(seed).permutation(96).tolist()
    of_class = {c: [p for p in order if p % 4 == c] for c in range(4)}  # 24 each
    if kind == "even":
        return [[p for c in range(4) for p in of_class[c][site::4]] for site in range(4)]
    if kind == "disjoint":
        return [of_class[c] for c in range(4)]
    return [
        of_class[0][:19] + of_class[1][:5], of_class[0][19:] + of_class[1][5:] + of_class[2],
        of_class[3],
    ]  # fmt: skip


def moments_of(chosen: list[int], kind: str = "full") -> an.ClassMoments:
    rows, labels, patients = pool()
    take = [i for i, name in enumerate(patients) if int(name[1:]) in set(chosen)]
    return an.site_moments(
        rows[take], [labels[i] for i in take], [patients[i] for i in take], CLASSES, k=5, kind=kind
    )


def added(parts: list[an.ClassMoments]) -> an.ClassMoments:
    return an.ClassMoments(*(sum(getattr(p, name) for p in parts) for name in ("counts", "sums", "second")))


def centralised(options: AnalyticOptions) -> an.AnalyticHead:
    """The slow twin: pooled photos, residuals one by one, no moments anywhere."""
    rows, labels, patients = pool()
    people = sorted(set(patients))
    mine = {p: [i for i, name in enumerate(patients) if name == p] for p in people}
    of = {p: labels[mine[p][0]] for p in people}
    x = {p: rows[mine[p]].reshape(-1, D) for p in people}  # all photos and views of a patient
    mean = np.mean([x[p].mean(axis=0) for p in people], axis=0)
    centre = {c: np.mean([x[p].mean(axis=0) for p in people if of[p] == c], axis=0) for c in CLASSES}
    scatter = np.zeros((D, D))
    for p in people:
        for row in x[p]:
            scatter += np.outer(row - centre[of[p]], row - centre[of[p]]) / len(x[p])
    covariance = scatter / (len(people) - 4)
    shrunk = (1 - options.shrinkage) * covariance + options.shrinkage * np.trace(covariance) / D * np.eye(D)
    values, vectors = np.linalg.eigh(shrunk)
    matrix = vectors @ np.diag(values**-0.5) @ vectors.T
    if options.between_exponent:
        means = np.array([matrix @ (centre[c] - mean) for c in CLASSES])
        between = np.cov(means.T) - matrix @ covariance @ matrix / 24
        values, vectors = np.linalg.eigh(between)
        share = np.maximum(values, 0) / (np.maximum(values, 0) + 1)
        matrix = vectors @ np.diag(share**options.between_exponent) @ vectors.T @ matrix
    y = np.array([matrix @ (row - mean) for p in people for row in x[p]])
    w = np.array([1 / len(x[p]) for p in people for _ in x[p]])
    target = np.array([[of[p] == c for c in CLASSES] for p in people for _ in x[p]], dtype=float)
    if options.classifier == "ridge":
        extended = np.hstack([y, np.ones((len(y), 1))])
        penalty = options.ridge * len(people) * np.diag([1.0] * D + [0.0])
        solved = np.linalg.solve(
            extended.T @ (w[:, None] * extended) + penalty, extended.T @ (w[:, None] * target)
        )
        return an.AnalyticHead(mean, matrix, solved[:D].T, solved[D], (0, 1, 2, 3))
    weight = np.array([matrix @ (centre[c] - mean) for c in CLASSES])
    weight /= np.linalg.norm(weight, axis=1, keepdims=True)
    return an.AnalyticHead(mean, matrix, weight, np.zeros(4), (0, 1, 2, 3))


OPTIONS = [
    AnalyticOptions(shrinkage=0.05), AnalyticOptions(shrinkage=0.3, classifier="ridge", ridge=0.2),
    AnalyticOptions(shrinkage=0.05, between_exponent=1.0),
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=["centroids", "ridge", "between"])
@pytest.mark.parametrize("kind", ["even", "disjoint", "skewed"])
def test_any_partition_gives_the_pooled_head(options: AnalyticOptions, kind: str) -> None:
    expected = centralised(options)
    for seed in range(3):
        head = an.solve_head(added([moments_of(part) for part in partition(kind, seed)]), options)
        tolerance = 1e-6 if options.classifier == "centroids" else 1e-9  # centroid rows pass through float32
        for name in ("mean", "matrix", "bias"):
            assert np.abs(getattr(head, name) - getattr(expected, name)).max() < 1e-9
        assert np.abs(head.weight - expected.weight).max() < tolerance


def test_a_class_below_k_at_a_site_is_in_no_sum() -> None:
    """Four patients of class a at a site: counts, sums and second moments as if they were not there."""
    ours = [0, 4, 8, 12] + [p for p in range(96) if p % 4 == 1]
    without = [p for p in range(96) if p % 4 == 1]
    one, two = moments_of(ours), moments_of(without)
    assert one.counts.tolist() == [0, 24, 0, 0]
    assert not one.sums[0].any()
    for name in ("counts", "sums", "second"):
        assert np.array_equal(getattr(one, name), getattr(two, name))


@pytest.mark.parametrize("kind", ["full", "diagonal"])
def test_through_the_secure_sum(kind: str) -> None:
    parts = [moments_of(part, kind) for part in partition("even", 0)]
    words = {f"site{index:02d}": an.encode_moments(part, sites=4) for index, part in enumerate(parts)}
    total, _ = story.play(4, words)
    opened = an.decode_moments(total, sites=4, classes=4, size=D, kind=kind, k=5)
    plain = added(parts)
    assert np.array_equal(opened.counts, plain.counts)
    assert np.abs(opened.second - plain.second).max() <= 4 * 2.0**-41 + 1e-12 * np.abs(plain.second).max()
    one, two = an.solve_head(opened, OPTIONS[0]), an.solve_head(plain, OPTIONS[0])
    assert np.abs(one.matrix - two.matrix).max() < 1e-9
    assert one.matrix.shape == (D, D)
    if kind == "diagonal":
        assert np.count_nonzero(one.matrix - np.diag(np.diag(one.matrix))) == 0


def test_impossible_statistics_are_refused() -> None:
    good = moments_of(partition("even", 0)[0])
    vector = an.pack(good)
    for value in (4.0, 5.5, -1.0):
        bad = StatisticsQuantiser(4).encode(np.concatenate([[value], vector[1:]]))
        with pytest.raises(StatisticsRefused, match="count"):
            an.decode_moments(bad, sites=4, classes=4, size=D, kind="full", k=5)
    with pytest.raises(StatisticsRefused, match="length"):
        an.decode_moments(an.encode_moments(good, sites=4), sites=4, classes=4, size=D, kind="diagonal", k=5)
    with pytest.raises(StatisticsRefused, match="two classes"):
        an.solve_head(moments_of([p for p in range(96) if p % 4 == 1]), OPTIONS[0])
    with pytest.raises(StatisticsRefused, match="ridge"):
        an.solve_head(moments_of(list(range(96)), "diagonal"), OPTIONS[1])
    with pytest.raises(OutOfRange):
        an.encode_moments(replace(good, sums=good.sums * 1e9), sites=4)


# --- the gate on second moments --------------------------------------------------------------------------------


def gated(samples: list[int], patients: int, **analytic: object) -> object:
    plan = cases.plan_for(cases.three_hospitals(), cases.tiny_net())
    sites = tuple(Participant(f"s{index:02d}", count) for index, count in enumerate(samples))
    classes = (OpenClass("a", patients - 5), OpenClass("b", 5))
    return replace(plan, participants=sites, classes=classes, analytic=AnalyticOptions(**analytic))


def test_patients_left_worked_by_hand() -> None:
    """n = 5 → c = 2: 10,000 − 4,000 − 3,000; with s03 dropped: 10,000 − 1,000 − 7,000."""
    plan = gated([2000, 4000, 3000, 1000, 500], 10_000)
    names = [site.site for site in plan.participants]
    assert patients_left(plan, names) == 3000
    assert patients_left(plan, [name for name in names if name != "s03"]) == 2000


def test_second_moments_open_only_if_enough_remain() -> None:
    even = [4000, 4000, 4000]  # c = 1
    assert choose_moments(gated(even, 9000)) == "full"
    for patients in (8999, 6500):
        with pytest.raises(StatisticsRefused, match="5,000 are needed"):
            choose_moments(gated(even, patients))
    assert choose_moments(gated(even, 8999, below_minimum="diagonal")) == "diagonal"
    assert choose_moments(gated(even, 6500, below_minimum="diagonal")) == "diagonal"
    with pytest.raises(StatisticsRefused, match="2,500 are needed"):
        choose_moments(gated(even, 6499, below_minimum="diagonal"))
    with pytest.raises(StatisticsRefused, match="5,000"):
        choose_moments(gated(even, 8999, below_minimum="diagonal", classifier="ridge"))


def test_the_question_is_asked_again_after_dropouts() -> None:
    plan = gated([2000] * 5, 10_000, minimum_patients=5000)  # c = 2: 6,000 left; one dropped: 4,000
    names = [site.site for site in plan.participants]
    require_openable(plan, names, "full")
    with pytest.raises(StatisticsRefused, match="dropped"):
        require_openable(plan, names[:4], "full")


def test_moments_of_few_are_a_membership_oracle_and_more_patients_or_a_diagonal_blunt_it() -> None:
    """Why there is a gate. The attacker knows the spread of the population and asks: is x in the sum?"""
    few, many = membership_auc(30, "full"), membership_auc(6000, "full")
    assert few > 0.97
    assert many < few - 0.2
    assert membership_auc(30, "diagonal") < few - 0.1
    assert membership_auc(6000, "diagonal") < 0.6


def membership_auc(patients: int, kind: str, size: int = 32) -> float:
    """xᵀ (M / N − Σ) x (or its diagonal part) over members and strangers, AUC."""
    generator = np.random.default_rng(0)
    members, strangers = generator.normal(size=(patients, size)), generator.normal(size=(4000, size))
    difference = members.T @ members / patients - np.eye(size)
    if kind == "diagonal":
        difference = np.diag(np.diag(difference))
    score = lambda rows: np.einsum("ni,ij,nj->n", rows, difference, rows)  # noqa: E731
    inside, outside = score(members), np.sort(score(strangers))
    return float(np.mean(np.searchsorted(outside, inside)) / len(outside))


# --- folding and the whole strategy -------------------------------------------------------------------------


def test_folding_answers_what_the_map_would() -> None:
    """Only the Linear changes; BatchNorm with its statistics stays, and the whole network is new."""
    net = cases.tiny_net(4)
    generator = np.random.default_rng(0)
    head = an.AnalyticHead(
        generator.normal(size=512),
        np.eye(512) + 0.1 * generator.normal(size=(512, 512)),
        np.eye(2),
        np.zeros(2),
        (),
    )
    faces = torch.randn(5, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before, after = net(faces).double().numpy(), fold_head(net, head)(faces).double().numpy()
    expected = (before - head.mean) @ head.matrix.T
    assert np.abs(after - expected).max() < 2e-5 * np.abs(expected).max()
    made = fold_head(net, head)
    for name, value in net.state_dict().items():
        same = torch.equal(value, made.state_dict()[name])
        assert same == (name not in ("neck.0.weight", "neck.0.bias"))
    with torch.no_grad():
        net.neck[1].weight[3] = 0.0
    with pytest.raises(AggregateRefused, match="hides"):
        fold_head(net, head)


def hospitals(net: Backbone) -> dict[str, cases.FeatureSet]:
    mix = {"a": 12, "b": 12, "c": 12}
    return {f"site0{i}": cases.hospital(mix, name=f"h{i}", noise=1.5, net=net) for i in range(3)}


def test_from_features_to_a_candidate_and_back() -> None:
    """The strategy through masks; the candidate spreads patients of one syndrome equally in all directions."""
    net = cases.tiny_net()
    sites = hospitals(net)
    plan = cases.plan_for(sites, net, strategy="analytic")
    words = {name: site_words(plan, net, found) for name, found in sites.items()}
    total, world = story.play(3, words)
    arguments = (plan, plan.members[0], net, total)
    made = solve_candidate(*arguments, survivors=world.server.survivors)
    assert solve_candidate(*arguments, survivors=world.server.survivors).sha256 == made.sha256
    assert made.sha256 != plan.members[0].base_sha256
    assert len(made.classifier) > 3 * 513 * 4
    strict = replace(plan, analytic=AnalyticOptions())
    with pytest.raises(StatisticsRefused, match="needed"):
        site_words(strict, net, sites["site00"])

"""Accuracy, intervals and the small regression, against definitions, scikit-learn and known tables."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from diagnosis.phenotype.errors import CalibrationError
from diagnosis.phenotype.ranking import intervals, logistic, metrics
from diagnosis.phenotype.ranking.grouping import Grouping


def test_macro_and_micro_by_hand() -> None:
    # A: ranks 1, 2, 6, 1 -> top-1 2/4, top-5 3/4; B: rank 40 -> 0, 0; C: rank 5 -> 0, 1.
    ranks = np.array([1, 2, 6, 1, 40, 5])
    truth = ["A", "A", "A", "A", "B", "C"]
    found = metrics.accuracy(ranks, truth)
    assert found.macro[1] == pytest.approx((1 / 2 + 0 + 0) / 3)
    assert found.micro[1] == pytest.approx(2 / 6)
    assert found.macro[5] == pytest.approx((3 / 4 + 0 + 1) / 3)
    assert found.micro[5] == pytest.approx(4 / 6)
    assert (found.macro[30], found.micro[30]) == (pytest.approx(2 / 3), pytest.approx(5 / 6))
    assert (found.queries, found.syndromes) == (6, 3)
    assert math.isnan(metrics.accuracy(np.array([], dtype=np.int64), []).macro[1])


def test_true_ranks_equal_sorting_with_ties_and_forbidden_images() -> None:
    rng = np.random.default_rng(0)
    labels = [f"S{rng.integers(8)}" for _ in range(40)]
    distances = rng.integers(0, 6, (30, 40)).astype(np.float64)  # six values: almost everything is tied
    distances[rng.random((30, 40)) < 0.3] = np.inf
    truth = [f"S{rng.integers(10)}" for _ in range(30)]  # S8 and S9 are in no gallery
    found = metrics.true_ranks(distances, Grouping.from_keys([(one,) for one in labels]), truth)
    for query, key in enumerate(truth):
        nearest: dict[str, float] = {}
        for label, distance in zip(labels, distances[query].tolist(), strict=True):
            if distance < math.inf:
                nearest[label] = min(distance, nearest.get(label, math.inf))
        listed = sorted(nearest, key=lambda one: (nearest[one], one))
        assert found[query] == (listed.index(key) + 1 if key in listed else metrics.NEVER)


def test_wilson_equals_published_values() -> None:
    # Newcombe 1998 (Statistics in Medicine 17:857), table I, method 3.
    for successes, trials, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        found = intervals.wilson(successes, trials)
        assert (round(found.low, 4), round(found.high, 4)) == (low, high)
        assert found.value == successes / trials
    assert intervals.wilson(20, 20).high == 1.0
    assert intervals.wilson(0, 0).as_dict() == {"value": None, "low": 0.0, "high": 1.0, "n": 0}
    again = intervals.Estimate.from_dict(intervals.wilson(0, 0).as_dict())
    assert math.isnan(again.value)
    assert again.high == 1.0


def test_auroc_equals_scikit_learn_and_variance_its_definition() -> None:
    rng = np.random.default_rng(1)
    for decimals in (9, 0):  # nought decimals: heavy ties
        scores = np.round(np.concatenate([rng.normal(0.8, 1, 60), rng.normal(0, 1, 90)]), decimals)
        positive = np.arange(150) < 60
        area, variance = intervals.delong(scores, positive)
        assert area == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)
        # DeLong et al. 1988, structural components from all pairs.
        wins = (scores[:60, None] > scores[None, 60:]) + 0.5 * (scores[:60, None] == scores[None, 60:])
        slow = wins.mean(axis=1).var(ddof=1) / 60 + wins.mean(axis=0).var(ddof=1) / 90
        assert variance == pytest.approx(slow, rel=1e-12)
        found = intervals.auroc(scores, positive)
        assert 0.0 < found.low < found.value < found.high < 1.0
        flipped = intervals.auroc(-scores, positive)
        assert (flipped.low, flipped.high) == (pytest.approx(1 - found.high), pytest.approx(1 - found.low))


def test_auroc_interval_covers_the_truth_about_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(2)
    truth = 0.5 * (1 + math.erf(1.0 / 2.0))  # two unit normals one apart: Phi(1/sqrt 2)
    covered = 0
    for _ in range(400):
        scores = np.concatenate([rng.normal(1, 1, 40), rng.normal(0, 1, 40)])
        found = intervals.auroc(scores, np.arange(80) < 40)
        covered += found.low <= truth <= found.high
    assert 0.92 <= covered / 400 <= 0.98


def test_auroc_at_its_ends_keeps_an_honest_interval() -> None:
    perfect = intervals.auroc([1.0, 2.0, 3.0, 4.0], [False, False, True, True])
    assert perfect.value == perfect.high == 1.0
    assert perfect.low < 0.5
    assert intervals.auroc([1.0, 1.0, 1.0], [True, False, True]).value == 0.5
    assert math.isnan(intervals.auroc([1.0], [True]).value)


def test_bootstrap_draws_whole_patients() -> None:
    groups = np.array(["a", "a", "b", "c", "c", "c"])
    seen: list[tuple[int, ...]] = []

    def statistic(drawn: np.ndarray) -> float:
        seen.append(tuple(sorted(drawn.tolist())))
        return float(len(drawn))

    found = intervals.bootstrap(statistic, groups, draws=50, seed=3)
    assert (found.value, found.n) == (6.0, 3)
    assert 3 <= found.low < found.high <= 9
    for drawn in seen:
        counts = np.bincount(drawn, minlength=6)
        assert counts[0] == counts[1]
        assert counts[3] == counts[4] == counts[5]


def test_macro_interval_of_independent_people_is_near_the_binomial_one() -> None:
    rng = np.random.default_rng(4)
    ranks = np.where(rng.random(300) < 0.7, 1, 9)
    found = metrics.macro_interval(ranks, ["A"] * 300, [f"p{i}" for i in range(300)], 1, draws=800)
    binomial = intervals.wilson(int((ranks == 1).sum()), 300)
    assert found.value == binomial.value
    assert abs(found.low - binomial.low) < 0.02
    assert abs(found.high - binomial.high) < 0.02


def test_threshold_figures_by_hand() -> None:
    found = metrics.at_threshold([0.9, 0.5, 0.4, 0.5, 0.1], [True, True, True, False, False], 0.5)
    assert (found.sensitivity.value, found.sensitivity.n) == (pytest.approx(2 / 3), 3)
    assert (found.specificity.value, found.specificity.n) == (0.5, 2)
    assert (found.precision.value, found.precision.n) == (pytest.approx(2 / 3), 3)


def test_regression_equals_scikit_learn() -> None:
    rng = np.random.default_rng(5)
    features = rng.normal(size=(240, 4)) * [1, 10, 0.01, 3] + [0, 5, 1, -2]
    positive = features[:, 0] + features[:, 1] / 10 + rng.normal(size=240) > 1.2
    found = logistic.fit_logistic(features, positive, ridge=2.0)
    standard = (features - features.mean(axis=0)) / features.std(axis=0)
    twin = LogisticRegression(C=0.5, class_weight="balanced", tol=1e-12, max_iter=10_000).fit(
        standard, positive
    )
    np.testing.assert_allclose(found.weights, twin.coef_[0], atol=1e-5)
    assert found.intercept == pytest.approx(twin.intercept_[0], abs=1e-5)
    np.testing.assert_allclose(found.score(features), twin.predict_proba(standard)[:, 1], atol=1e-6)


def test_regression_survives_separable_and_constant_features() -> None:
    positive = np.arange(40) < 13
    features = np.column_stack([positive * 1e6, np.full(40, 7.0)])
    found = logistic.fit_logistic(features, positive)
    scores = found.score(features)
    assert np.all(np.isfinite(scores))
    assert scores[positive].min() > 0.9 > 0.1 > scores[~positive].max()
    assert found.weights[1] == pytest.approx(0.0)


def test_regression_refuses_one_class_and_not_a_number() -> None:
    with pytest.raises(CalibrationError, match="both affected and unaffected"):
        logistic.fit_logistic(np.ones((4, 1)), np.ones(4, dtype=bool))
    with pytest.raises(CalibrationError, match="not finite"):
        logistic.fit_logistic(np.array([[1.0], [np.nan]]), np.array([True, False]))


def test_sigmoid_neither_overflows_nor_warns() -> None:
    with np.errstate(all="raise"):
        assert logistic.sigmoid(np.array([-700.0, 0.0, 700.0])).tolist() == pytest.approx([0.0, 0.5, 1.0])

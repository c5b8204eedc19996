"""Cohort figures against loops over the definition."""

from __future__ import annotations

import importlib.util
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from diagnosis.phenotype.errors import GalleryError
from diagnosis.phenotype.ranking import cohort

_spec = importlib.util.spec_from_file_location("ranking_cases", Path(__file__).with_name("ranking_cases.py"))
assert _spec and _spec.loader
cases = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cases)


def alike(rng: np.random.Generator, count: int, pull: float, size: int = 32) -> np.ndarray:
    rows = cases.random_rows(rng, count, 2, size) + pull * cases.random_rows(rng, 1, 2, size)
    return (rows / np.linalg.norm(rows, axis=2, keepdims=True)).astype(np.float32)


def test_mean_distance_equals_all_pairs() -> None:
    photos = alike(np.random.default_rng(0), 7, 0.5)
    pairs = [cases.slow_distance(photos[i], photos[j]) for i, j in combinations(range(7), 2)]
    assert cohort.mean_pairwise_distance(photos) == pytest.approx(np.mean(pairs), abs=1e-6)
    with pytest.raises(GalleryError, match="at least two"):
        cohort.mean_pairwise_distance(photos[:1])


def test_rank_matrix_counts_nearer_gallery_images() -> None:
    rng = np.random.default_rng(1)
    photos, gallery = alike(rng, 5, 0.6), alike(rng, 30, 0.2)
    found = cohort.rank_matrix(photos, gallery)
    for i in range(5):
        others = [cases.slow_distance(photos[i], image) for image in gallery]
        for j in range(5):
            own = cases.slow_distance(photos[i], photos[j])
            assert found[i, j] == (0 if i == j else 1 + sum(other < own for other in others))
    assert not np.array_equal(found, found.T)
    assert np.all(cohort.rank_matrix(photos, gallery[:0]) == 1 - np.eye(5))


def test_percentile_tells_a_syndrome_from_a_random_cohort() -> None:
    rng = np.random.default_rng(2)
    pool = alike(rng, 60, 0.0)
    close = cohort.percentile_among_random(alike(rng, 6, 1.0), pool, draws=400)
    assert close.percentile == 0.0
    random = [
        cohort.percentile_among_random(alike(rng, 6, 0.0), pool, draws=200).percentile for _ in range(30)
    ]
    assert 30 < np.mean(random) < 70
    with pytest.raises(GalleryError, match="Widen the pool"):
        cohort.percentile_among_random(pool, pool[:5])


def test_threshold_is_youdens() -> None:
    rng = np.random.default_rng(3)
    same, different = rng.normal(0.7, 0.1, 80), rng.normal(0.9, 0.1, 120)
    found = cohort.fit_same_or_different(same, different)
    fpr, tpr, _ = roc_curve(np.repeat([0, 1], [80, 120]), np.concatenate([same, different]))
    assert found.sensitivity + found.specificity - 1 == pytest.approx(np.max(tpr - fpr))
    assert found.sensitivity == np.mean(different > found.threshold)
    expected = found.sensitivity * 0.2 / (found.sensitivity * 0.2 + (1 - found.specificity) * 0.8)
    assert found.positive_predictive_value(0.2) == pytest.approx(expected)
    with pytest.raises(GalleryError, match="same and of different"):
        cohort.fit_same_or_different(same, different[:0])


def test_cohorts_of_one_face_are_the_same_and_of_two_are_different() -> None:
    rng = np.random.default_rng(4)
    one, other = alike(rng, 20, 1.5), alike(rng, 12, 1.5)
    assert not cohort.compare_cohorts(one[:10], one[10:], threshold=0.7).different
    found = cohort.compare_cohorts(one, other, threshold=0.7)
    assert found.different
    assert found.exceeding == np.mean(found.distances > 0.7)
    assert np.array_equal(found.distances, cohort.compare_cohorts(one, other, threshold=0.7).distances)


def test_sub_samples_are_means_of_all_distances_between_them() -> None:
    rng = np.random.default_rng(5)
    one, other = alike(rng, 2, 0.3), alike(rng, 3, 0.3)  # halves of one photo each: single distances
    possible = [cases.slow_distance(a, b) for a in one for b in other]
    for distance in cohort.compare_cohorts(one, other, threshold=1.0, samples=20).distances:
        assert min(abs(distance - each) for each in possible) < 1e-6
    four, six = alike(rng, 4, 0.3), alike(rng, 6, 0.3)  # halves of two photos each
    halves = [
        np.mean([cases.slow_distance(four[i], six[j]) for i in left for j in right])
        for left in combinations(range(4), 2)
        for right in combinations(range(6), 2)
    ]
    for distance in cohort.compare_cohorts(four, six, threshold=1.0, samples=20).distances:
        assert min(abs(distance - each) for each in halves) < 1e-6
    with pytest.raises(GalleryError, match="Both cohorts"):
        cohort.compare_cohorts(one, other[:0], threshold=1.0)

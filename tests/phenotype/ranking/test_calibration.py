"""Bands and match score: the rule, honest figures on noise, storage, and refusals."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from diagnosis.phenotype.errors import CalibrationError
from diagnosis.phenotype.ranking import bands, match
from diagnosis.phenotype.ranking.calibration import Calibration
from diagnosis.phenotype.types import RankedItem, Ranking

_spec = importlib.util.spec_from_file_location("ranking_cases", Path(__file__).with_name("ranking_cases.py"))
assert _spec and _spec.loader
cases = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cases)


def listed(distances: list[float], keys: list[str] | None = None) -> Ranking:
    names = keys or [f"S{index}" for index in range(len(distances))]
    items = [
        RankedItem(i + 1, key, d, (), 1) for i, (key, d) in enumerate(zip(names, distances, strict=True))
    ]
    return Ranking(tuple(items), (), (), {"model_sha256": cases.MODEL})


def held_out_rows(seed: int, queries: int, signal: float) -> bands.ShownRows:
    """Thirty rows per person; the correct one is nearer by `signal` standard deviations."""
    rng = np.random.default_rng(seed)
    distances = rng.normal(0.8, 0.08, (queries, 30))
    distances[:, 0] -= 0.08 * signal
    correct = np.zeros((queries, 30), dtype=bool)
    correct[:, 0] = True
    query = np.repeat(np.arange(queries), 30)
    return bands.ShownRows(distances.ravel(), correct.ravel(), query, queries)


@pytest.mark.parametrize("decimals", [9, 2])
def test_isotonic_share_equals_scikit_learn(decimals: int) -> None:
    rows = held_out_rows(0, 40, 2.0)
    distances = np.round(rows.distances, decimals)
    ends, share = bands.isotonic_precision(distances, rows.correct)
    twin = IsotonicRegression(increasing=False).fit(distances, rows.correct.astype(float))
    mine = share[np.searchsorted(ends, distances)]
    np.testing.assert_allclose(mine, twin.predict(distances), atol=1e-9)
    assert np.all(np.diff(share) < 0)


def test_cutoffs_are_where_the_rule_puts_them() -> None:
    # 40 rows at 0.2 (30 correct = 0.75), 50 at 0.4 (10 = 0.2), 100 at 0.6 (5 = 0.05), one per person.
    shares = [(0.2, 40, 30), (0.4, 50, 10), (0.6, 100, 5)]
    distances = np.concatenate([np.full(size, at) for at, size, _ in shares])
    correct = np.concatenate([np.arange(size) < hits for _, size, hits in shares])
    found = bands.fit_bands(bands.ShownRows(distances, correct, np.arange(190), 190))
    assert [one.cutoff for one in found.figures] == [0.2, 0.4, 2.0]
    assert [found.band(d) for d in (0.0, 0.2, 0.2001, 0.4, 0.41, 2.0)] == [
        "High",
        "High",
        "Medium",
        "Medium",
        "Low",
        "Low",
    ]
    high, medium, low = found.figures
    assert (high.precision.value, high.precision.n) == (0.75, 40)
    assert (high.sensitivity.value, high.sensitivity.n) == (30 / 190, 190)
    assert (medium.precision.value, medium.within.value) == (40 / 90, 10 / 50)
    assert (low.sensitivity.value, low.within.value) == (45 / 190, 5 / 100)


def test_figures_hold_on_people_nobody_fitted_on() -> None:
    found = bands.fit_bands(held_out_rows(1, 300, 4.0))
    fresh = held_out_rows(2, 20_000, 4.0)
    for one in found.figures[:2]:
        near = fresh.distances <= one.cutoff
        precision, sensitivity = fresh.correct[near].mean(), (fresh.correct & near).sum() / fresh.queries
        margin = 0.03  # the cut-offs of the folds differ a little from the final one
        assert one.precision.low - margin <= precision <= one.precision.high + margin
        assert one.sensitivity.low - margin <= sensitivity <= one.sensitivity.high + margin
    within = [one.within.value for one in found.figures]
    assert within == sorted(within, reverse=True)
    assert within[0] > 0.5


def test_noise_earns_no_band() -> None:
    for seed in range(5):
        found = bands.fit_bands(held_out_rows(seed, 60, 0.0))
        assert found.figures[0].cutoff == bands.NOT_AWARDED
        assert found.band(0.0) != "High"


def test_reliability_is_counted_by_tenths() -> None:
    rows = held_out_rows(3, 50, 3.0)
    curve = bands.reliability(rows)
    assert sum(share.n for _, share in curve) == 1500
    assert [end for end, _ in curve] == sorted(end for end, _ in curve)
    nearest = np.sort(rows.distances)[:150]
    assert curve[0][1].value == rows.correct[rows.distances <= nearest[-1]].mean()


def test_shown_rows_come_from_rankings() -> None:
    rows = bands.shown_rows([(listed([0.1, 0.2]), "S1"), (listed([0.3]), "S9"), (listed([]), "S0")])
    assert rows.distances.tolist() == [0.1, 0.2, 0.3]
    assert rows.correct.tolist() == [False, True, False]
    assert (rows.query.tolist(), rows.queries) == ([0, 0, 1], 3)
    assert len(bands.shown_rows([(listed([0.1] * 40), "S1")]).distances) == bands.SHOWN
    with pytest.raises(CalibrationError, match="at least 5 held-out"):
        bands.fit_bands(rows)


def match_reference(
    seed: int, people: int, shift: float, *, gap: float = 0.0, size: int = 16
) -> match.MatchReference:
    """Two photos per person, m = 2. Affected people lie off the unaffected ones along one axis by `shift`."""
    rng = np.random.default_rng(seed)
    affected = np.repeat(np.arange(2 * people) < people, 2)
    base = np.repeat(rng.normal(size=(2 * people, 2, size)), 2, axis=0)
    rows = 4 * np.eye(size)[0] + base + 0.3 * rng.normal(size=base.shape)
    rows[affected, :, 1] += shift
    rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    distances = rng.normal(0.7, 0.05, (4 * people, 10))
    distances[affected, 0] -= gap
    lists = np.array([match.list_features(listed(sorted(line)).syndromes) for line in distances.tolist()])
    names = tuple(f"p{index // 2}" for index in range(4 * people))
    return match.MatchReference(rows.astype(np.float32), lists, affected, names)


def test_noise_scores_near_one_half_even_with_more_numbers_than_people() -> None:
    # 64 numbers per row and 50 photos: a discriminant judged on its own people would separate them.
    areas = [match.fit_matcher(match_reference(seed, 26, 0.0, size=64), seed=seed).area for seed in range(4)]
    assert abs(np.mean([area.value for area in areas]) - 0.5) < 0.12
    assert all(area.low < 0.65 for area in areas)


def test_shift_and_gap_are_found_and_figures_hold_on_new_people() -> None:
    found = match.fit_matcher(match_reference(0, 60, 2.0, gap=0.1))
    assert found.area.value > 0.85
    assert found.figures.specificity.value >= match.SPECIFICITY
    fresh = match_reference(99, 1500, 2.0, gap=0.1)
    features = np.column_stack([fresh.lists, found.contrast.features(fresh.rows)])
    called = found.logistic.score(features) >= found.threshold
    assert found.figures.sensitivity.low - 0.08 <= called[fresh.affected].mean()
    assert called[fresh.affected].mean() <= found.figures.sensitivity.high + 0.08
    assert called[~fresh.affected].mean() < 0.17


def test_embedding_finds_what_the_list_does_not_hold() -> None:
    # The lists of both kinds are drawn alike, as with plain nearest distances in the field.
    found = match.fit_matcher(match_reference(3, 60, 2.5))
    assert found.area.value > 0.8
    assert abs(found.logistic.weights[3]) > 3 * np.abs(found.logistic.weights[:3]).max()


def test_contrast_features_equal_their_definition() -> None:
    reference = match_reference(5, 30, 1.0)
    contrast = match.fit_contrast(reference.rows, reference.affected)
    found = contrast.features(reference.rows[:7])
    for photo in range(7):
        linear, squared = [], []
        for row in range(2):
            x = reference.rows[photo, row].astype(np.float64)
            linear.append(float(contrast.direction[row] @ x - contrast.offset[row]))
            away = x - contrast.mean[row]
            squared.append(float(away @ contrast.precision[row] @ away) / 16)
        np.testing.assert_allclose(found[photo], [np.mean(linear), np.mean(squared)], rtol=1e-4, atol=1e-4)


def test_folds_keep_people_together_and_kinds_even() -> None:
    reference = match_reference(1, 30, 0.0)
    fold = match.person_folds(reference.people, reference.affected, seed=0)
    assert np.array_equal(fold[::2], fold[1::2])
    for kind in (True, False):
        assert np.bincount(fold[reference.affected == kind], minlength=5).tolist() == [12] * 5


def test_threshold_lets_at_most_a_tenth_of_the_unaffected_pass() -> None:
    for count in (30, 25, 10):
        scores = np.random.default_rng(count).random(count)
        threshold = match._threshold(scores, 0.9)
        assert np.sum(scores >= threshold) == count // 10
    assert np.sum(np.full(20, 0.4) >= match._threshold(np.full(20, 0.4), 0.9)) == 0


def test_too_few_people_or_loose_ends_are_refused() -> None:
    whole = match_reference(0, 30, 1.0)
    with pytest.raises(CalibrationError, match="Only 20 affected people"):
        match.fit_matcher(whole.part(np.arange(120) >= 20))
    with pytest.raises(CalibrationError, match="do not match"):
        match.fit_matcher(match.MatchReference(whole.rows, whole.lists[1:], whole.affected, whole.people))
    with pytest.raises(CalibrationError, match="bool"):
        match.fit_matcher(
            match.MatchReference(whole.rows, whole.lists, whole.affected.astype(int), whole.people)  # type: ignore[arg-type]
        )
    with pytest.raises(CalibrationError, match="empty list"):
        match.list_features(())


def test_list_features_by_hand() -> None:
    assert match.list_features(listed([0.5]).syndromes).tolist() == [0.5, 0.0, 0.5]
    found = match.list_features(listed([0.2, 0.4, 0.6, 0.6, 0.8, 0.9]).syndromes)
    np.testing.assert_allclose(found, [0.2, 3.3 / 5 - 0.2, 2.6 / 5])


@cache
def calibration() -> Calibration:
    matcher = match.fit_matcher(match_reference(0, 30, 2.0, size=512))
    return Calibration(cases.MODEL, bands.fit_bands(held_out_rows(1, 100, 4.0)), matcher, {"seed": 7})


def test_calibration_survives_storage_and_speaks_the_same() -> None:
    arrays, facts = calibration().to_arrays()
    text = json.dumps(facts, allow_nan=False)
    again = Calibration.from_arrays(arrays, json.loads(text), model_sha256=cases.MODEL)
    photos = [cases.photo(rows) for rows in cases.random_rows(np.random.default_rng(3), 2, 2)]
    ranking = listed([0.5, 0.7, 0.8])
    first, second = calibration().match(photos, ranking), again.match(photos, ranking)
    assert first == second
    assert set(first.features) == set(match.FEATURES)
    assert first.confident == (first.score >= first.threshold)
    assert 0.0 <= first.score <= 1.0
    for distance in np.linspace(0, 2, 50).tolist():
        assert calibration().band(distance) == again.band(distance)
    assert (again.bands, again.matcher.area, again.matcher.figures) == (
        calibration().bands,
        calibration().matcher.area,
        calibration().matcher.figures,
    )
    assert again.about == {"seed": 7}


def test_an_empty_list_is_never_a_confident_match() -> None:
    photo = cases.photo(cases.random_rows(np.random.default_rng(3), 1, 2)[0])
    found = calibration().match(photo, listed([]))
    assert (found.score, found.confident) == (0.0, False)


def test_a_calibration_speaks_for_its_own_model_only() -> None:
    rows = cases.random_rows(np.random.default_rng(3), 1, 3)[0]
    other = Ranking(listed([0.5]).syndromes, (), (), {"model_sha256": "b" * 64})
    with pytest.raises(CalibrationError, match="another model"):
        calibration().match(cases.photo(rows[:2]), other)
    with pytest.raises(CalibrationError, match="3 rows, the calibration 2"):
        calibration().match(cases.photo(rows), listed([0.5]))
    arrays, facts = calibration().to_arrays()
    with pytest.raises(CalibrationError, match="another model"):
        Calibration.from_arrays(arrays, facts, model_sha256="b" * 64)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("contrast.precision", lambda a: a[:, :5]),
        ("contrast.mean", lambda a: a.astype(np.float64)),
        ("contrast.offset", lambda a: a * np.nan),
        ("logistic.weights", lambda a: a[:-1]),
        ("logistic.scale", lambda a: None),
    ],
)
def test_damaged_arrays_are_refused(name: str, damage: object) -> None:
    arrays, facts = calibration().to_arrays()
    changed = damage(arrays.pop(name))  # type: ignore[operator]
    if changed is not None:
        arrays[name] = changed
    with pytest.raises(CalibrationError, match="damaged|incomplete"):
        Calibration.from_arrays(arrays, facts, model_sha256=cases.MODEL)


@pytest.mark.parametrize(
    "change", [{"format": "other"}, {"features": []}, {"threshold": None}, {"bands": []}, {"area": {}}]
)
def test_damaged_facts_are_refused(change: dict) -> None:
    arrays, facts = calibration().to_arrays()
    with pytest.raises(CalibrationError):
        Calibration.from_arrays(arrays, facts | change, model_sha256=cases.MODEL)


def test_regression_does_not_trust_a_discriminant_that_only_knows_its_own_people() -> None:
    for seed in range(3):
        reference = match_reference(seed, 26, 0.0, size=64)
        # On the people it was fitted on, the discriminant separates noise; on others it does not.
        own = match.fit_contrast(reference.rows, reference.affected).features(reference.rows)[:, 0]
        assert own[reference.affected].mean() - own[~reference.affected].mean() > 2 * own.std() * 0.5
        assert abs(match.fit_matcher(reference, seed=seed).logistic.weights[3]) < 1.0


def test_figures_are_not_those_of_the_people_the_cutoffs_were_fitted_on() -> None:
    apart = 0
    for seed in range(6):
        rows = held_out_rows(seed, 60, 3.0)
        high = bands.fit_bands(rows, seed=seed).figures[0]
        if high.cutoff != bands.NOT_AWARDED:
            own = rows.correct[rows.distances <= high.cutoff].mean()
            assert own >= 0.5  # the rule, on the people it was applied to
            apart += high.precision.value != own
    assert apart >= 3

"""People nobody knows, rendered once, the same again, and on after a stop."""

from __future__ import annotations

import numpy as np
import pytest

from diagnosis.synthetic import people
from diagnosis.synthetic.calibrate import REFERENCE
from diagnosis.synthetic.recipes import RECIPES
from diagnosis.synthetic.training import TrainConfig
from diagnosis.synthetic.training_render import LandmarkError
from federation.experiments import cohort_features as room
from federation.experiments.cohort_features import (
    EXPERIMENT_SEEDS,
    EXPERIMENT_SYNDROMES,
    PORTRAITS,
    SYNDROMES_PER_COHORT,
    Cohort,
    cohort_features,
)
from federation.experiments.gain_run import default_base

NO_ERROR = LandmarkError(np.zeros(10), np.eye(10), 0, 0)


def test_cohorts_share_neither_people_nor_syndromes_with_anything_else_or_each_other() -> None:
    config = TrainConfig()
    trained = [config.training, config.validation, config.portraits, REFERENCE, PORTRAITS]
    syndromes = {number for recipe in RECIPES.values() for number in recipe.syndrome_numbers()}
    syndromes |= {p.first_syndrome + index for p in trained for index in range(p.syndromes)}
    seeds = {recipe.seed for recipe in RECIPES.values()} | {p.seed for p in trained}
    assert not syndromes & set(EXPERIMENT_SYNDROMES) and not seeds & set(EXPERIMENT_SEEDS)
    for taken in (people.DEMO_SYNDROMES, people.EVALUATION_SYNDROMES, people.CALIBRATION_SYNDROMES):
        assert not set(taken) & set(EXPERIMENT_SYNDROMES)
    cohorts = [Cohort(n, 10, SYNDROMES_PER_COHORT).population for n in range(len(EXPERIMENT_SEEDS))]
    used = [cohort.first_syndrome + index for cohort in cohorts for index in range(cohort.syndromes)]
    assert len(set(used)) == len(used) and set(used) <= set(EXPERIMENT_SYNDROMES)
    assert len({cohort.seed for cohort in cohorts}) == len(cohorts)


def test_a_cohort_outside_of_the_ranges_is_refused() -> None:
    for number, syndromes in ((len(EXPERIMENT_SEEDS), 5), (-1, 5), (0, SYNDROMES_PER_COHORT + 1)):
        with pytest.raises(ValueError, match="cohorts"):
            Cohort(number, 10, syndromes)


def test_patients_have_one_to_three_photos_at_rising_ages() -> None:
    cohort = Cohort(39, 60, 3)
    photos = [cohort.photos_of(number)[1] for number in range(60)]
    assert {len(own) for own in photos} == {1, 2, 3}
    for own in photos:
        ages = [photo.age for photo in own]
        assert ages == sorted(ages)
    assert {cohort.photos_of(number)[0].syndrome for number in range(6)} == {
        f"SYN:{cohort.population.first_syndrome + index:04d}" for index in range(3)
    }


def test_rendering_goes_on_after_a_stop_and_gives_the_same_again(tmp_path, monkeypatch) -> None:
    pytest.importorskip("anny")  # the extra `synthetic`, as in the tests of the renderer
    monkeypatch.setattr(room, "measure_landmark_error", lambda population: NO_ERROR)
    monkeypatch.setattr(room, "SHARD_PATIENTS", 2)
    cohort, base, told = Cohort(39, 4, 2), default_base(), []

    def stop(done: int, total: int) -> None:
        told.append((done, total))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cohort_features(cohort, base, tmp_path / "features", stop)
    assert told == [(2, 4)]
    rendered = []
    honest = room.render_features

    def watched(of, numbers, *rest):
        rendered.append(numbers)
        return honest(of, numbers, *rest)

    monkeypatch.setattr(room, "render_features", watched)
    found = cohort_features(cohort, base, tmp_path / "features")
    assert rendered == [range(2, 4)]
    again = cohort_features(cohort, base, tmp_path / "elsewhere")
    np.testing.assert_array_equal(found.features, again.features)
    assert found.keys == again.keys and len(set(found.patients)) == 4
    assert set(found.labels) == {"SYN:4950", "SYN:4951"}
    assert not list((tmp_path / "features").glob("*.part"))

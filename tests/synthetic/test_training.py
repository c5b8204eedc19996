"""The whole training in small: render, train, whiten, write; the weights load and are what the card says."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("anny", reason="rendering needs the extra 'synthetic'")

from diagnosis.phenotype.embed.default import extractor_at, shipped_extractor
from diagnosis.phenotype.embed.weights import load_weights
from diagnosis.synthetic import people
from diagnosis.synthetic.calibrate import REFERENCE
from diagnosis.synthetic.features import ALL_FEATURES, feature_scores
from diagnosis.synthetic.recipes import RECIPES
from diagnosis.synthetic.render import PARAMETER_NAMES
from diagnosis.synthetic.training import NOTICE, Result, TrainConfig, quick_config, self_test, train
from diagnosis.synthetic.training_render import Population
from diagnosis.synthetic.training_source import TARGET_NAMES, raw_targets


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faces")


@pytest.fixture(scope="module")
def trained(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    return train(quick_config(), work=work, out=tmp_path_factory.mktemp("weights"), say=lambda line: None)


def test_weights_load_by_hash_and_answer_as_the_card_says(trained: Result) -> None:
    card = json.loads(trained.card.read_text())
    network = load_weights(trained.weights, sha256=card["sha256"], architecture=card["architecture"])
    np.testing.assert_allclose(self_test(network), card["self_test"], atol=1e-5)
    assert trained.sha256[:12] in trained.weights.name
    assert card["notice"] == NOTICE and card["synthetic"] is True
    assert [row["faces"] for row in card["curves"]] == [60, 120, 120]
    assert [row["epoch"] for row in card["curves"]] == [1, 2, 3]


def test_same_configuration_gives_the_same_bytes(trained: Result, work: Path, tmp_path: Path) -> None:
    again = train(quick_config(), work=work, out=tmp_path, say=lambda line: None)
    assert again.sha256 == trained.sha256


def test_ensemble_of_a_card_has_four_rows(trained: Result) -> None:
    spec = extractor_at(trained.weights).spec
    assert [(row.flip, row.grey) for row in spec.rows] == [
        (False, False), (False, True), (True, False), (True, True)
    ]  # fmt: skip
    assert spec.synthetic


def test_nobody_who_is_trained_on_is_evaluated() -> None:
    config = TrainConfig()
    populations = (config.training, config.validation, config.portraits, REFERENCE)
    seeds = [population.seed for population in populations] + [recipe.seed for recipe in RECIPES.values()]
    assert len(set(seeds)) == len(seeds)
    numbers = [syndromes_of(population) for population in populations]
    numbers += [set(recipe.syndrome_numbers()) for recipe in RECIPES.values()]
    assert sum(map(len, numbers)) == len(set().union(*numbers))
    for population in populations:
        assert population.seed >= people.FIRST_TRAINING_SEED
        assert syndromes_of(population) <= set(people.TRAINING_SYNDROMES)


def test_shipped_weights_are_those_of_the_committed_configuration() -> None:
    written = json.loads(json.dumps(dataclasses.asdict(TrainConfig())))
    assert shipped_extractor().card["config"] == written


def syndromes_of(population: Population) -> set[int]:
    return {population.first_syndrome + index for index in range(population.syndromes)}


def test_targets_hold_each_terms_severity() -> None:
    syndrome = people.draw_syndrome(5000)
    person = people.draw_person(1000, 3, syndrome)
    parameters = np.zeros((1, len(PARAMETER_NAMES)), dtype=np.float32)
    parameters[0, : len(person.face)] = person.face
    found = dict(zip(TARGET_NAMES, raw_targets(parameters)[0], strict=True))
    wanted = feature_scores(person.face)
    for feature in ALL_FEATURES:
        assert found[feature.term] == pytest.approx(wanted[feature.term], abs=1e-5)

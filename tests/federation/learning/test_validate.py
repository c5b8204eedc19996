"""Validation equals first hits found one by one; the vote follows from what is sure."""

from __future__ import annotations

import copy

import learning_cases as cases
import numpy as np
import pytest
import torch

from diagnosis.phenotype.ranking.intervals import Estimate
from diagnosis.phenotype.ranking.metrics import Accuracy
from federation.learning.errors import FeaturesRefused
from federation.learning.features import RANKING_VIEWS
from federation.learning.split import split_by_patient
from federation.learning.validate import Validation, VoteRule, validate, vote


@pytest.fixture(scope="module")
def parts() -> tuple[cases.FeatureSet, cases.FeatureSet]:
    everyone = cases.hospital(dict.fromkeys("abcdef", 14), name="h", noise=0.9)
    return split_by_patient(everyone, k=5, share=0.4)


def slow_macro(neck: torch.nn.Module, held: cases.FeatureSet, gallery: cases.FeatureSet, k: int) -> float:
    def rows(found: cases.FeatureSet) -> np.ndarray:
        with torch.no_grad():
            out = [neck(torch.from_numpy(found.view(v))).double().numpy() for v in RANKING_VIEWS]
        return np.stack([o / np.linalg.norm(o, axis=1, keepdims=True) for o in out], axis=1)

    hits: dict[str, list[bool]] = {}
    q, g = rows(held), rows(gallery)
    for i, label in enumerate(held.labels):
        best: dict[str, float] = {}
        for j, other in enumerate(gallery.labels):
            distance = float(np.mean([1 - q[i, m] @ g[j, m] for m in range(len(RANKING_VIEWS))]))
            best[other] = min(best.get(other, 9.0), distance)
        hits.setdefault(label, []).append(label in sorted(best, key=best.__getitem__)[:k])
    return float(np.mean([np.mean(h) for h in hits.values()]))


def test_macro_accuracy_equals_the_slow_twin(parts: tuple[cases.FeatureSet, cases.FeatureSet]) -> None:
    gallery, held = parts
    now, candidate = cases.tiny_net(0).neck, cases.tiny_net(1).neck
    found = validate(now, candidate, held_out=held, gallery=gallery)
    for k in (1, 5):
        assert found.before.macro[k] == pytest.approx(slow_macro(now, held, gallery, k))
        assert found.after.macro[k] == pytest.approx(slow_macro(candidate, held, gallery, k))
    assert found.change.value == pytest.approx(found.after.macro[1] - found.before.macro[1])
    assert found.patients == len(set(held.patients))
    assert 0.3 < found.before.macro[1] < 1.0  # the case says something


def test_the_same_model_is_accepted_a_blind_one_rejected(
    parts: tuple[cases.FeatureSet, cases.FeatureSet],
) -> None:
    gallery, held = parts
    now = cases.tiny_net(0).neck
    same = validate(now, copy.deepcopy(now), held_out=held, gallery=gallery)
    assert (same.change.value, same.change.low, same.change.high) == (0.0, 0.0, 0.0)
    assert vote(same).ballot == "accept"
    blind = copy.deepcopy(now)
    with torch.no_grad():
        blind[0].weight.mul_(1e-4)  # every face nearly the same
        blind[0].weight[:, 0] = 0.5
    worse = validate(now, blind, held_out=held, gallery=gallery)
    assert worse.after.macro[1] < worse.before.macro[1] - 0.2
    assert vote(worse).ballot == "reject"


def test_unusable_candidates_are_rejected(parts: tuple[cases.FeatureSet, cases.FeatureSet]) -> None:
    gallery, held = parts
    now = cases.tiny_net(0).neck
    for value in (0.0, float("nan")):
        broken = copy.deepcopy(now)
        with torch.no_grad():
            for parameter in broken.parameters():
                parameter.fill_(value)
        found = validate(now, broken, held_out=held, gallery=gallery)
        assert not found.usable
        assert vote(found).ballot == "reject"


def figures(high: float, patients: int) -> Validation:
    accuracy = Accuracy({1: 0.5, 5: 0.9}, {1: 0.5, 5: 0.9}, patients, 4)
    return Validation(accuracy, accuracy, Estimate(high - 0.1, high - 0.2, high, patients), patients, True)


def test_the_rule_at_its_edges() -> None:
    rule = VoteRule(largest_loss=0.02, minimum_patients=10)
    assert vote(figures(-0.0201, 10), rule).ballot == "reject"
    assert vote(figures(-0.02, 10), rule).ballot == "accept"
    assert vote(figures(-0.5, 9), rule).ballot == "abstain"
    assert "50.0%" in vote(figures(0.1, 10), rule).reason


def test_refusals(parts: tuple[cases.FeatureSet, cases.FeatureSet]) -> None:
    gallery, held = parts
    neck = cases.tiny_net(0).neck
    with pytest.raises(FeaturesRefused, match="Split by patient"):
        validate(neck, neck, held_out=gallery, gallery=gallery)
    with pytest.raises(FeaturesRefused, match="syndrome of the gallery"):
        validate(neck, neck, held_out=cases.hospital({"z": 5}, name="x"), gallery=gallery)

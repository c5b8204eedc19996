"""Presence, counts and class sums: what is opened, and that the k rule leaves exact zeros."""

from __future__ import annotations

import learning_cases as cases
import numpy as np
import pytest
import secagg_story as story

from diagnosis.phenotype.ranking.centroids import gallery_centroids
from diagnosis.phenotype.ranking.gallery import Gallery, GalleryImage
from federation.learning import statistics as s
from federation.learning.errors import StatisticsRefused
from federation.secagg.quantize import StatisticsQuantiser

VOCABULARY = tuple("abcdefgh")
COUNTS = {
    "site00": {"a": 5, "b": 9, "c": 4}, "site01": {"a": 7, "c": 4, "d": 4}, "site02": {"c": 4, "e": 6},
}  # fmt: skip


def test_patients_are_counted_not_photos() -> None:
    assert s.patients_per_class(["a", "a", "b", "", "a"], ["x", "x", "x", "y", "z"]) == {"a": 2, "b": 1}


def test_presence_through_a_secure_sum_opens_what_somebody_holds_k_of() -> None:
    """c has twelve patients in all, but nowhere five: closed."""
    words = {name: s.presence_words(counts, VOCABULARY, 5) for name, counts in COUNTS.items()}
    total, _ = story.play(3, words)
    assert s.open_classes(total, VOCABULARY) == ("a", "b", "e")
    again, _ = story.play(3, {name: s.presence_words(c, VOCABULARY, 5) for name, c in COUNTS.items()})
    assert not np.array_equal(total, again)  # random words: a total says nothing but "somebody"


def test_presence_words_are_uniform_and_zero_below_k() -> None:
    drawn = np.concatenate([s.presence_words({"a": 5, "b": 4}, ("a", "b"), 5)[None] for _ in range(2000)])
    assert not drawn[:, 1].any()
    bits = (drawn[:, :1] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.06  # 5 sd of a fair coin's mean over 2,000


def test_counts_add_up_over_sites_that_hold_k() -> None:
    classes = ("a", "b", "e")
    total, _ = story.play(3, {name: s.count_words(c, classes, 5) for name, c in COUNTS.items()})
    assert s.read_counts(total, classes, 5) == {"a": 12, "b": 9, "e": 6}
    assert s.count_words({"a": 4, "b": 5}, classes, 5).tolist() == [0, 5, 0]
    assert s.read_counts(np.array([5, 0, 9], np.uint64), classes, 5) == {"a": 5, "e": 9}
    for bad in (np.array([4, 5, 5], np.uint64), np.array([1 << 40, 5, 5], np.uint64), np.zeros(2, np.uint64),
                np.zeros(3, np.uint32)):  # fmt: skip
        with pytest.raises(StatisticsRefused):
            s.read_counts(bad, classes, 5)


def embedded(found: cases.FeatureSet) -> np.ndarray:
    """(n, 2, 512) unit rows."""
    spread = np.random.default_rng(1).normal(size=(2, cases.SIZE, 512))
    rows = np.einsum("nf,mfd->nmd", found.view("original").astype(np.float64), spread)
    return (rows / np.linalg.norm(rows, axis=2, keepdims=True)).astype(np.float32)


def test_centroids_from_a_secure_sum_are_the_pooled_gallerys() -> None:
    """Twin: ranking.centroids over one pooled gallery of the contributing patients; photos unevenly many."""
    sites = cases.three_hospitals()
    sites["site00"] = sites["site00"].select(np.arange(len(sites["site00"])) != 3)
    classes = [entry.identifier for entry in cases.counted(sites)]
    rule, words, images = StatisticsQuantiser(3), {}, []
    for name, found in sites.items():
        rows = embedded(found)
        sums = s.class_sums(rows, found.labels, found.patients, classes, 5)
        words[name] = rule.encode(sums.reshape(-1))
        for photo in np.flatnonzero(s.contributing_photos(found.labels, found.patients, classes, 5)):
            images.append(
                GalleryImage(found.keys[photo], found.patients[photo], found.labels[photo], rows[photo])
            )
    total, _ = story.play(3, words)
    counts = {entry.identifier: entry.patients for entry in cases.counted(sites)}
    made = s.centroids_from_sums(
        rule.decode(total).reshape(len(classes), 2, 512), counts, classes, model_sha256="m"
    )
    pooled = gallery_centroids(Gallery.from_images(images, model_sha256="m"))
    assert made.keys == pooled.keys == ("a", "b", "c", "d")
    assert made.patients.tolist() == pooled.patients.tolist()
    assert np.abs(made.rows - pooled.rows).max() < 1e-6


def test_class_sums_below_k_are_exact_zeros() -> None:
    found = cases.three_hospitals()["site01"]  # c: 4 patients
    sums = s.class_sums(embedded(found), found.labels, found.patients, ["a", "b", "c", "d"], 5)
    assert sums[:2].any()
    assert not sums[2:].any()


def group(*numbers: int) -> frozenset[str]:
    return frozenset(str(number) for number in numbers)


def test_a_contribution_changes_by_k_or_not_at_all() -> None:
    first = group(*range(10))
    assert s.change_allowed([first], first, 5)
    assert s.change_allowed([], first, 5)
    assert s.change_allowed([first], first | group(*range(10, 15)), 5)
    assert not s.change_allowed([first], first | group(10), 5)
    assert not s.change_allowed([first], first - group(0), 5)
    assert not s.change_allowed([first], first - group(0) | group(*range(10, 15)), 5)
    assert s.change_allowed([first], first - group(*range(5)), 5)
    # Not only against the latest sum: the one before it can be subtracted as well.
    second = first | group(*range(10, 15))
    assert not s.change_allowed([first, second], first | group(*range(10, 14)), 5)


def test_who_is_contributed_when_a_change_is_too_small() -> None:
    first = group(*range(10))
    assert s.choose_patients([], first, 5) == first
    assert s.choose_patients([], group(1, 2, 3, 4), 5) == frozenset()
    assert s.choose_patients([first], first | group(10), 5) == first  # the newcomer waits
    assert s.choose_patients([first], first - group(0), 5) == frozenset()  # nobody is used without consent
    assert s.choose_patients([first], first - group(*range(5)), 5) == group(*range(5, 10))

"""Shrinkage against scikit-learn, what whitening does to a gallery, and centroids against loops."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf as sklearn_ledoit_wolf

from diagnosis.phenotype.errors import CalibrationError, GalleryError
from diagnosis.phenotype.ranking import centroids, whitening
from diagnosis.phenotype.ranking.gallery import Gallery
from diagnosis.phenotype.ranking.rank import fuse_photos

_spec = importlib.util.spec_from_file_location("ranking_cases", Path(__file__).with_name("ranking_cases.py"))
assert _spec and _spec.loader
cases = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cases)


@pytest.mark.parametrize(("count", "size"), [(12, 40), (300, 20), (2, 3)])
def test_shrinkage_equals_scikit_learn(count: int, size: int) -> None:
    rng = np.random.default_rng(count)
    samples = rng.normal(size=(count, size)) * rng.uniform(0.1, 3, size)
    expected, shrinkage = sklearn_ledoit_wolf(samples, assume_centered=True)
    found, used = whitening.ledoit_wolf(samples)
    assert used == pytest.approx(shrinkage, rel=1e-9)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def faces(
    rng: np.random.Generator, syndromes: int, photos: int, size: int = 24
) -> tuple[np.ndarray, list[str]]:
    """Syndromes differ in weak directions, patients of one syndrome differ most in strong ones."""
    spread = np.concatenate([np.full(size // 2, 3.0), np.full(size - size // 2, 0.3)])
    centres = rng.normal(size=(syndromes, size)) * 0.5
    labels = np.repeat(np.arange(syndromes), photos)
    return centres[labels] + rng.normal(size=(len(labels), size)) * spread, [f"S{label}" for label in labels]


def test_within_class_spread_becomes_the_identity() -> None:
    embeddings, labels = faces(np.random.default_rng(0), 30, 60)
    fitted = whitening.fit_whitening(embeddings, labels, shrinkage=0.0)
    mapped = (embeddings - fitted.mean) @ fitted.matrix
    groups = np.array(labels)
    residuals = np.concatenate(
        [mapped[groups == one] - mapped[groups == one].mean(axis=0) for one in set(labels)]
    )
    spread = residuals.T @ residuals / (len(residuals) - 30)
    np.testing.assert_allclose(spread, np.eye(24), atol=1e-9)
    np.testing.assert_allclose(fitted.matrix, fitted.matrix.T, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(fitted.apply(embeddings), axis=1), 1.0, atol=1e-6)


def test_whitening_finds_syndromes_that_the_raw_cosine_misses() -> None:
    rng = np.random.default_rng(1)
    embeddings, labels = faces(rng, 12, 40)
    known = np.arange(len(labels)) % 4 != 0

    def nearest_is_right(vectors: np.ndarray) -> float:
        similarity = vectors[~known] @ vectors[known].T
        guesses = np.array(labels)[known][similarity.argmax(axis=1)]
        return float(np.mean(guesses == np.array(labels)[~known]))

    raw = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    own = [label for label, kept in zip(labels, known, strict=True) if kept]
    fitted = whitening.fit_whitening(embeddings[known], own)
    assert nearest_is_right(fitted.apply(embeddings)) > 2 * nearest_is_right(raw)


def test_rows_of_one_space_are_pooled_and_singletons_do_not_count() -> None:
    embeddings, labels = faces(np.random.default_rng(2), 5, 6)
    stacked = np.stack([embeddings, embeddings], axis=1)
    one, two = (whitening.fit_whitening(each, labels, shrinkage=0.1) for each in (embeddings, stacked))
    np.testing.assert_allclose(one.matrix, two.matrix, atol=1e-9)
    more = np.concatenate([embeddings, np.full((1, 24), 50.0)])
    lonely = whitening.fit_whitening(more, [*labels, "alone"], shrinkage=0.1)
    np.testing.assert_allclose(one.matrix, lonely.matrix, atol=1e-9)
    with pytest.raises(CalibrationError, match="two photos"):
        whitening.fit_whitening(embeddings, [f"{i}" for i in range(30)])
    with pytest.raises(CalibrationError, match="29 labels"):
        whitening.fit_whitening(embeddings, labels[1:])
    with pytest.raises(CalibrationError, match="same embedding"):
        whitening.fit_whitening(np.ones((4, 3)), ["a"] * 4)


def test_moments_give_the_same_map_as_the_photos() -> None:
    embeddings, labels = faces(np.random.default_rng(3), 6, 10)
    fitted = whitening.fit_whitening(embeddings, labels, shrinkage=0.2)
    # What secure sums give: per class count and sum, and the sum of outer products.
    scatter = embeddings.T @ embeddings
    for label in sorted(set(labels)):
        own = embeddings[np.array(labels) == label]
        scatter -= np.outer(own.sum(axis=0), own.sum(axis=0)) / len(own)
    summed = whitening.whitening_from_moments(embeddings.mean(axis=0), scatter / (60 - 6), shrinkage=0.2)
    np.testing.assert_allclose(summed.matrix, fitted.matrix, atol=1e-9)


def slow_centroid(gallery: Gallery, syndrome: str, allowed: list[bool]) -> np.ndarray:
    people: dict[str, list[np.ndarray]] = {}
    for index, usable in enumerate(allowed):
        if usable and gallery.syndromes[index] == syndrome:
            people.setdefault(gallery.patients[index], []).append(
                gallery.embeddings[index].astype(np.float64)
            )
    mean = np.mean([np.mean(photos, axis=0) for photos in people.values()], axis=0)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def test_centroids_count_each_patient_once() -> None:
    gallery = cases.random_gallery(3, 40, patients=15)
    allowed = [index % 3 != 0 for index in range(40)]
    found = centroids.gallery_centroids(gallery, allowed=np.array(allowed))
    left = gallery.subset(np.array(allowed))
    assert list(found.keys) == sorted(set(left.syndromes) - {""})
    for index, key in enumerate(found.keys):
        np.testing.assert_allclose(found.rows[index], slow_centroid(gallery, key, allowed), atol=1e-6)
        people = {p for p, s in zip(left.patients, left.syndromes, strict=True) if s == key}
        assert found.patients[index] == len(people)


def test_centroid_ranking_equals_loops() -> None:
    gallery = cases.random_gallery(3, 40, patients=15)
    found = centroids.gallery_centroids(gallery)
    rows = cases.random_rows(np.random.default_rng(9), 1, 3)[0]
    query = fuse_photos([cases.photo(rows)], gallery)
    listed = centroids.rank_centroids(query, found)
    slow = sorted((cases.slow_distance(rows, found.rows[i]), key) for i, key in enumerate(found.keys))
    assert [item.key for item in listed] == [key for _, key in slow]
    np.testing.assert_allclose([item.distance for item in listed], [d for d, _ in slow], atol=1e-6)
    assert all(item.images == () for item in listed)
    assert centroids.rank_centroids(query, found, limit=2) == listed[:2]
    with pytest.raises(GalleryError, match="do not fit"):
        centroids.centroid_distances(query[None, :-1], found)


def test_an_empty_gallery_has_no_centroids() -> None:
    empty = Gallery.from_images([], model_sha256=cases.MODEL, rows=2)
    found = centroids.gallery_centroids(empty)
    assert found.keys == ()
    assert centroids.rank_centroids(np.zeros(1024, np.float32), found) == ()

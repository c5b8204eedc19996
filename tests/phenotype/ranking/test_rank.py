"""The ranking against a slow twin written from the definition, ties included."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnosis.phenotype.errors import GalleryError
from diagnosis.phenotype.ranking.gallery import Gallery, GalleryImage
from diagnosis.phenotype.ranking.rank import fuse_gallery, fuse_photos, rank, rank_batch
from diagnosis.phenotype.types import EmbeddingSet, RankedItem, Ranking

_spec = importlib.util.spec_from_file_location("ranking_cases", Path(__file__).with_name("ranking_cases.py"))
assert _spec and _spec.loader
cases = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cases)

KINDS = ("syndromes", "genes", "patients")


def assert_rows(items: tuple[RankedItem, ...], expected: list, limit: int | None = None) -> None:
    expected = expected[:limit]
    assert [(item.key, item.images, item.patients) for item in items] == [
        (k, i, p) for k, _, i, p in expected
    ]
    assert [item.rank for item in items] == list(range(1, len(expected) + 1))
    np.testing.assert_allclose([i.distance for i in items], [d for _, d, _, _ in expected], atol=1e-6, rtol=0)


def assert_twin(ranking: Ranking, photos: list, gallery: Gallery, allowed: list[bool]) -> None:
    for kind in KINDS:
        assert_rows(getattr(ranking, kind), cases.slow_rows(photos, gallery, allowed, kind))


@st.composite
def tied_galleries(draw: st.DrawFn) -> tuple[Gallery, np.ndarray, list[bool]]:
    """Up to 14 images drawn from at most four faces, so that most distances are tied bit for bit."""
    seed = draw(st.integers(0, 10_000))
    m = draw(st.integers(1, 3))
    faces = cases.random_rows(np.random.default_rng(seed), 4, m)
    face_of = draw(st.lists(st.integers(0, 3), min_size=1, max_size=14))
    keys = draw(st.permutations([f"img{index:02d}" for index in range(len(face_of))]))
    images = [
        GalleryImage(
            key=key,
            patient=draw(st.sampled_from(["P1", "P2", "P10", "P3"])),
            syndrome=draw(st.sampled_from(["SYN:0", "SYN:1", "SYN:2", "SYN:3", ""])),
            rows=faces[face],
            genes=draw(st.sampled_from([(), (), ("OWN9",), ("GB2", "OWN9")])),
        )
        for key, face in zip(keys, face_of, strict=True)
    ]
    gallery = Gallery.from_images(images, model_sha256=cases.MODEL, syndrome_genes=cases.GENES)
    query = (
        faces[draw(st.integers(0, 3))]
        if draw(st.booleans())
        else cases.random_rows(np.random.default_rng(seed + 1), 1, m)[0]
    )
    return gallery, query, draw(st.lists(st.booleans(), min_size=len(images), max_size=len(images)))


@settings(derandomize=True, deadline=None, max_examples=60)
@given(tied_galleries())
def test_ranking_equals_the_slow_twin_with_ties_and_masks(case: tuple) -> None:
    gallery, query, allowed = case
    everyone = [True] * len(gallery)
    assert_twin(rank(cases.photo(query), gallery, limit=None), [query], gallery, everyone)
    masked = rank(cases.photo(query), gallery, allowed=np.array(allowed), limit=None)
    assert_twin(masked, [query], gallery, allowed)
    others = [patient != "P1" for patient in gallery.patients]
    assert_twin(rank(cases.photo(query), gallery, exclude_patient="P1", limit=None), [query], gallery, others)


def test_several_photos_are_the_mean_of_their_distances() -> None:
    gallery = cases.random_gallery(5, 25)
    photos = list(cases.random_rows(np.random.default_rng(6), 3, 3))
    ranking = rank([cases.photo(one) for one in photos], gallery, limit=None)
    assert_twin(ranking, photos, gallery, [True] * 25)
    assert ranking.extra["photos"] == 3
    backwards = rank([cases.photo(one) for one in photos[::-1]], gallery, limit=None)
    assert [i.key for i in backwards.syndromes] == [i.key for i in ranking.syndromes]


def test_mean_embedding_fusion_is_the_cosine_of_the_mean() -> None:
    gallery = cases.random_gallery(5, 25)
    photos = cases.random_rows(np.random.default_rng(6), 3, 3)
    ranking = rank([cases.photo(one) for one in photos], gallery, limit=None, fusion="mean_embedding")
    mean = photos.astype(np.float64).mean(axis=0)
    assert_twin(ranking, [(mean / np.linalg.norm(mean, axis=1, keepdims=True))], gallery, [True] * 25)


def test_batch_gives_what_single_queries_give_across_blocks() -> None:
    gallery = cases.random_gallery(7, 40, m=2, patients=9)
    queries = [cases.photo(rows) for rows in cases.random_rows(np.random.default_rng(8), 70, 2)]
    excluded = [None if index % 2 else f"P{index % 9}" for index in range(70)]
    allowed = np.arange(40) % 5 != 0
    batch = list(rank_batch(queries, gallery, exclude_patients=excluded, allowed=allowed))
    assert len(batch) == 70
    for query, patient, found in zip(queries, excluded, batch, strict=True):
        single = rank(query, gallery, exclude_patient=patient, allowed=allowed)
        for kind in KINDS:
            one, other = getattr(single, kind), getattr(found, kind)
            assert [(i.key, i.images, i.patients) for i in one] == [
                (i.key, i.images, i.patients) for i in other
            ]
            np.testing.assert_allclose([i.distance for i in one], [i.distance for i in other], atol=1e-6)
        assert single.extra == found.extra


def test_limit_cuts_each_list_and_leaves_the_head_unchanged() -> None:
    gallery = cases.random_gallery(9, 40, syndromes=12, patients=20)
    query = cases.photo(cases.random_rows(np.random.default_rng(1), 1, 3)[0])
    full, short = rank(query, gallery, limit=None), rank(query, gallery, limit=3)
    for kind in KINDS:
        assert getattr(short, kind) == getattr(full, kind)[:3]


def test_an_empty_gallery_and_an_all_false_mask_rank_nothing() -> None:
    query = cases.photo(cases.random_rows(np.random.default_rng(1), 1, 3)[0])
    empty = Gallery.from_images([], model_sha256=cases.MODEL, rows=3)
    nobody = np.zeros(10, dtype=bool)
    for ranking in (rank(query, empty), rank(query, cases.random_gallery(2, 10), allowed=nobody)):
        assert (ranking.syndromes, ranking.genes, ranking.patients) == ((), (), ())
        assert ranking.extra["gallery_patients"] == ranking.extra["gallery_images"] == 0
    assert list(rank_batch([], empty)) == []
    assert next(rank_batch([query], empty)).syndromes == ()


def test_provenance_names_what_was_searched() -> None:
    gallery = cases.random_gallery(4, 30)
    query = cases.photo(cases.random_rows(np.random.default_rng(1), 1, 3)[0])
    allowed = np.arange(30) < 12
    extra = rank(query, gallery, allowed=allowed).extra
    left = gallery.subset(allowed)
    assert extra["gallery_version"] == left.version != gallery.version
    assert extra["gallery_images"] == 12
    assert extra["gallery_patients"] == len(set(left.patients))
    assert extra["gallery_syndromes"] == len(set(left.syndromes) - {""})
    assert extra["model_sha256"] == cases.MODEL


def test_queries_that_do_not_fit_are_refused() -> None:
    gallery = cases.random_gallery(4, 5)
    rows = cases.random_rows(np.random.default_rng(1), 1, 3)[0]
    with pytest.raises(GalleryError, match="different models"):
        rank(EmbeddingSet(rows, "b" * 64), gallery)
    with pytest.raises(GalleryError, match="2 rows, the gallery 3"):
        rank(cases.photo(rows[:2]), gallery)
    with pytest.raises(GalleryError, match="unit length"):
        rank(cases.photo(rows * 2), gallery)
    with pytest.raises(GalleryError, match="unit length"):
        rank(cases.photo(rows * np.nan), gallery)
    with pytest.raises(GalleryError, match="at least one photo"):
        rank([], gallery)
    with pytest.raises(GalleryError, match=r"\(5,\) bool"):
        rank(cases.photo(rows), gallery, allowed=np.ones(4, dtype=bool))
    with pytest.raises(GalleryError, match="for each query"):
        list(rank_batch([cases.photo(rows)], gallery, exclude_patients=[]))


def test_fused_gallery_is_the_unit_mean_per_patient_and_syndrome() -> None:
    gallery = cases.random_gallery(11, 30)
    fused = fuse_gallery(gallery)
    people = sorted(set(zip(gallery.patients, gallery.syndromes, strict=True)))
    assert sorted(zip(fused.patients, fused.syndromes, strict=True)) == people
    for index in range(len(fused)):
        who = (fused.patients[index], fused.syndromes[index])
        own = [i for i in range(30) if (gallery.patients[i], gallery.syndromes[i]) == who]
        mean = gallery.embeddings[own].astype(np.float64).mean(axis=0)
        expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        np.testing.assert_allclose(fused.embeddings[index], expected, atol=1e-6)
        assert fused.image_keys[index] == min(gallery.image_keys[i] for i in own)
    assert len(fuse_gallery(gallery, allowed=np.zeros(30, dtype=bool))) == 0


def test_one_photo_is_not_changed_by_fusion() -> None:
    gallery = cases.random_gallery(3, 4)
    rows = gallery.embeddings[2]
    np.testing.assert_array_equal(fuse_photos([cases.photo(rows)], gallery), rows.reshape(-1))


def test_ties_hold_wherever_images_stand_in_a_large_gallery() -> None:
    # BLAS treats the last rows of a matrix, and single queries and batches, in different ways.
    rng = np.random.default_rng(12)
    faces = cases.random_rows(rng, 10, 12)
    face_of = rng.integers(0, 10, 203)
    keys = [f"img{number:03d}" for number in rng.permutation(203)]
    images = [
        GalleryImage(key, f"P{index}", f"SYN:{index}", faces[face])
        for index, (key, face) in enumerate(zip(keys, face_of.tolist(), strict=True))
    ]
    gallery = Gallery.from_images(images, model_sha256=cases.MODEL)
    queries = cases.random_rows(rng, 67, 12)
    batch = list(rank_batch([cases.photo(rows) for rows in queries], gallery, limit=None))
    for rows, found in zip(queries, batch, strict=True):
        single = rank(cases.photo(rows), gallery, limit=None)
        distance = [cases_distance(rows, face) for face in faces]
        people = sorted(range(203), key=lambda index: (distance[face_of[index]], f"P{index}"))
        for ranking in (single, found):
            assert [item.key for item in ranking.patients] == [f"P{index}" for index in people]


def cases_distance(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.mean(1.0 - np.sum(first.astype(np.float64) * second, axis=1)))

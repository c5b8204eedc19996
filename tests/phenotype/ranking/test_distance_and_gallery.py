"""Distances two ways, groups, and what a gallery refuses and promises."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_distances

from diagnosis.phenotype.errors import GalleryError
from diagnosis.phenotype.ranking import distance
from diagnosis.phenotype.ranking.gallery import Gallery, GalleryImage
from diagnosis.phenotype.ranking.grouping import Grouping

_spec = importlib.util.spec_from_file_location("ranking_cases", Path(__file__).with_name("ranking_cases.py"))
assert _spec and _spec.loader
cases = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cases)


def test_all_ways_to_a_distance_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    m = 4
    queries, gallery = cases.random_rows(rng, 70, m, 32), cases.random_rows(rng, 37, m, 32)
    expected = np.mean([cosine_distances(queries[:, r], gallery[:, r]) for r in range(m)], axis=0)
    flat_queries, flat = queries.reshape(70, -1), gallery.reshape(37, -1)
    batch = np.concatenate(list(distance.batch_distances(flat_queries, flat, m)))
    np.testing.assert_allclose(batch, expected, atol=1e-6)
    np.testing.assert_allclose(distance.gallery_distances(flat_queries[3], flat, m), expected[3], atol=1e-6)
    assert abs(distance.mean_cosine_distance(queries[3], gallery[5]) - expected[3, 5]) < 1e-7
    assert abs(cases.slow_distance(queries[3], gallery[5]) - expected[3, 5]) < 1e-7


def test_gram_distances_equal_vector_distances_whatever_the_lengths() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((3, 9, 20)) * rng.uniform(0.1, 10, (3, 9, 1))
    expected = np.mean([cosine_distances(each) for each in vectors], axis=0)
    np.testing.assert_allclose(
        distance.gram_distances(vectors @ vectors.transpose(0, 2, 1)), expected, atol=1e-12
    )
    others = rng.standard_normal((3, 4, 20))
    oblong = distance.product_distances(
        others @ vectors.transpose(0, 2, 1), np.sum(others**2, axis=2), np.sum(vectors**2, axis=2)
    )
    np.testing.assert_allclose(
        oblong, np.mean([cosine_distances(a, b) for a, b in zip(others, vectors, strict=True)], axis=0)
    )
    unit = distance.unit_rows(vectors.transpose(1, 0, 2))
    np.testing.assert_allclose(distance.pairwise_distances(unit), expected, atol=1e-6)


def test_distances_refuse_what_has_no_direction_or_does_not_fit() -> None:
    with pytest.raises(GalleryError, match="zero or not finite"):
        distance.unit_rows(np.zeros((2, 3)))
    with pytest.raises(GalleryError, match="zero or not finite"):
        distance.unit_rows(np.array([[np.inf, 1.0]]))
    with pytest.raises(GalleryError, match="diagonal"):
        distance.gram_distances(np.array([[[1.0, 0.0], [0.0, 0.0]]]))
    with pytest.raises(GalleryError, match="one square per row"):
        distance.gram_distances(np.eye(3))
    with pytest.raises(GalleryError, match="squared lengths"):
        distance.product_distances(np.ones((2, 3, 4)), np.ones((2, 3)), np.ones((2, 3)))
    with pytest.raises(GalleryError, match="cannot be compared"):
        distance.mean_cosine_distance(np.ones((2, 3)), np.ones((3, 3)))


def test_identical_rows_share_their_first() -> None:
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    assert distance.first_identical(rows) is None
    first = distance.first_identical(rows[[0, 1, 0, 2, 1]])
    assert first is not None
    assert first.tolist() == [0, 1, 0, 3, 1]


def test_groups_are_sorted_and_minimum_is_per_group() -> None:
    groups = Grouping.from_keys([("b",), ("a", "b"), (), ("c", "c")])
    assert groups.keys == ("a", "b", "c")
    assert [groups.members_of(k).tolist() for k in range(3)] == [[1], [0, 1], [3]]
    values = np.array([[3.0, 1.0, 0.0, 7.0], [1.0, 2.0, 0.0, 4.0]])
    assert groups.minimum(values).tolist() == [[1.0, 1.0, 7.0], [2.0, 1.0, 4.0]]
    members, row = groups.members_of_many(np.array([2, 1]))
    assert (members.tolist(), row.tolist()) == ([3, 0, 1], [0, 1, 1])
    assert Grouping.from_keys([(), ()]).minimum(values[:, :2]).shape == (2, 0)


def rebuilt(gallery: Gallery, order: list[int], **changes: object) -> Gallery:
    images = [
        GalleryImage(
            gallery.image_keys[i],
            gallery.patients[i],
            gallery.syndromes[i],
            gallery.embeddings[i],
            gallery.image_genes[i],
        )
        for i in order
    ]
    settings = {"model_sha256": gallery.model_sha256, "syndrome_genes": gallery.syndrome_genes, **changes}
    return Gallery.from_images(images, **settings)  # type: ignore[arg-type]


def test_version_ignores_order_and_notices_every_change() -> None:
    gallery = cases.random_gallery(0, 12)
    order = np.random.default_rng(3).permutation(12).tolist()
    assert rebuilt(gallery, order).version == gallery.version
    different = {
        rebuilt(gallery, order[:-1]).version,
        rebuilt(gallery, order, model_sha256="c" * 64).version,
        rebuilt(gallery, order, syndrome_genes={}).version,
    }
    nudged = gallery.embeddings.copy()
    nudged[3, 0, 0] = np.nextafter(nudged[3, 0, 0], np.float32(1))
    base = {name: getattr(gallery, name) for name in ("image_keys", "patients", "syndromes", "model_sha256")}
    base |= {"image_genes": gallery.image_genes, "syndrome_genes": gallery.syndrome_genes}
    different.add(Gallery(nudged, **base).version)
    renamed = base | {"syndromes": ("SYN:other", *gallery.syndromes[1:])}
    different.add(Gallery(gallery.embeddings.copy(), **renamed).version)
    assert len(different | {gallery.version}) == 6


def test_words_of_an_image_cannot_run_together() -> None:
    rows = cases.random_rows(np.random.default_rng(0), 1, 1)
    first = Gallery(rows, ("ab",), ("c",), ("d",), cases.MODEL)
    second = Gallery(rows, ("a",), ("bc",), ("d",), cases.MODEL)
    assert first.version != second.version


def test_subset_and_without_patients_leave_no_row_behind() -> None:
    gallery = cases.random_gallery(1, 20)
    left = gallery.without_patients("P1", "P2", "nobody")
    assert set(left.patients) == set(gallery.patients) - {"P1", "P2"}
    for key, rows in zip(left.image_keys, left.embeddings, strict=True):
        np.testing.assert_array_equal(rows, gallery.embeddings[gallery.image_keys.index(key)])
    mask = np.array([patient not in ("P1", "P2") for patient in gallery.patients])
    assert gallery.version_of(mask) == left.version
    assert len(gallery.subset(np.zeros(20, dtype=bool))) == 0


def test_genes_are_the_patients_own_before_the_syndromes() -> None:
    rows = cases.random_rows(np.random.default_rng(0), 3, 1)
    images = [
        GalleryImage("i1", "P1", "SYN:1", rows[0], ("OWN9",)),
        GalleryImage("i2", "P2", "SYN:1", rows[1]),
        GalleryImage("i3", "P3", "SYN:7", rows[2]),
    ]
    gallery = Gallery.from_images(images, model_sha256=cases.MODEL, syndrome_genes=cases.GENES)
    assert gallery.genes == (("OWN9",), ("GA1", "GB2"), ())
    assert gallery.by_gene.keys == ("GA1", "GB2", "OWN9")


def test_a_gallery_cannot_be_written_to() -> None:
    gallery = cases.random_gallery(1, 3)
    with pytest.raises(ValueError, match="read-only"):
        gallery.embeddings[0, 0, 0] = 0
    with pytest.raises(AttributeError):
        gallery.model_sha256 = "x"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"embeddings": np.zeros((2, 512), np.float32)}, "float32, not"),
        ({"embeddings": np.zeros((2, 1, 128), np.float32)}, "float32, not"),
        ({"embeddings": np.ones((2, 1, 512), np.float64)}, "float32, not"),
        ({"embeddings": np.asfortranarray(np.ones((2, 3, 512), np.float32))}, "C-contiguous"),
        ({"embeddings": np.full((2, 1, 512), 1.0001 / np.sqrt(512), np.float32)}, "unit length"),
        ({"embeddings": np.full((2, 1, 512), np.nan, np.float32)}, "unit length"),
        ({"patients": ("P1",)}, "2 embeddings but 1 patients"),
        ({"syndromes": ("S1",)}, "2 embeddings but 1 syndromes"),
        ({"image_genes": (("G",),)}, "2 embeddings but 1 image_genes"),
        ({"image_keys": ("i1", "i1")}, "same key"),
        ({"image_keys": ("i1", "")}, "empty key"),
        ({"patients": ("P1", "")}, "no patient"),
        ({"model_sha256": ""}, "name its model"),
    ],
)
def test_a_gallery_that_does_not_fit_is_refused(changes: dict, sentence: str) -> None:
    rows = cases.random_rows(np.random.default_rng(0), 2, 1)
    parts = {
        "embeddings": rows,
        "image_keys": ("i1", "i2"),
        "patients": ("P1", "P2"),
        "syndromes": ("S1", ""),
        "model_sha256": cases.MODEL,
    }
    Gallery(**parts)
    with pytest.raises(GalleryError, match=sentence):
        Gallery(**(parts | changes))


def test_images_with_other_row_counts_are_refused() -> None:
    rng = np.random.default_rng(0)
    images = [GalleryImage(f"i{m}", "P", "S", cases.random_rows(rng, 1, m)[0]) for m in (2, 3)]
    with pytest.raises(GalleryError, match="has 3 rows, others 2"):
        Gallery.from_images(images, model_sha256=cases.MODEL)

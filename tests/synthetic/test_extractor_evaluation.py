"""Ways to compare, against definitions written out; targets; the calibrated score on made-up people."""

from __future__ import annotations

import numpy as np
import pytest

from diagnosis.phenotype.ranking.match import fit_contrast
from diagnosis.phenotype.types import RankedItem, Ranking
from diagnosis.synthetic.calibrate import HeldOut, fit_score, specific_threshold
from diagnosis.synthetic.cohort_faces import CohortFaces
from diagnosis.synthetic.evaluation import (
    Photos,
    macro_top_k,
    nearest_centroid,
    nearest_image,
    unit,
    whitened,
)
from diagnosis.synthetic.extractor_evaluation import (
    EVERYBODY,
    CohortPhotos,
    accuracy_table,
    best_method,
    cohort_splits,
    judge_targets,
    settings_of,
)
from diagnosis.synthetic.manifest import Cohort, load_shipped


def some_photos(count: int, seed: int) -> Photos:
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 5
    centres = np.random.default_rng(99).normal(size=(5, 3, 8))
    return Photos(centres[labels] + random.normal(size=(count, 3, 8)), labels * 7, np.arange(count))


def cosine_distance(first: np.ndarray, second: np.ndarray) -> float:
    rows = [1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(first, second, strict=True)]
    return float(np.mean(rows))


def test_nearest_image_is_the_definition() -> None:
    gallery, queries = some_photos(20, 1), some_photos(6, 2)
    fast = nearest_image(gallery, queries)
    for q, query in enumerate(queries.embeddings):
        for s, name in enumerate(np.unique(gallery.syndromes)):
            own = gallery.embeddings[gallery.syndromes == name]
            assert fast[q, s] == pytest.approx(min(cosine_distance(query, image) for image in own), abs=1e-12)


def test_centroid_is_the_mean_of_unit_rows() -> None:
    gallery, queries = some_photos(20, 1), some_photos(6, 2)
    fast = nearest_centroid(gallery, queries)
    for q, query in enumerate(queries.embeddings):
        for s, name in enumerate(np.unique(gallery.syndromes)):
            own = unit(gallery.embeddings[gallery.syndromes == name]).mean(axis=0)
            assert fast[q, s] == pytest.approx(cosine_distance(query, own), abs=1e-12)


def test_whitening_sees_the_gallery_only_and_helps_where_one_direction_is_noise() -> None:
    def noisy(count: int, seed: int) -> Photos:
        photos = some_photos(count, seed)
        loud = np.random.default_rng(seed + 50).normal(size=(count, 3, 1)) * 40
        return Photos(np.concatenate([photos.embeddings, loud], axis=2), photos.syndromes, photos.patients)

    gallery, queries = noisy(100, 3), noisy(100, 4)
    plain = macro_top_k(nearest_image(gallery, queries), gallery, queries)
    better = macro_top_k(whitened(nearest_image)(gallery, queries), gallery, queries)
    assert better["top1"] > plain["top1"] + 20
    first = whitened(nearest_image)(gallery, queries.part(np.arange(1)))
    np.testing.assert_allclose(first, whitened(nearest_image)(gallery, queries)[:1], atol=1e-6)


def test_targets_say_missed_when_missed() -> None:
    generic = {"nearest image": {"top1": 10.0, "top5": 40.0, "top10": 50.0}}
    default = {
        "nearest image": {"top1": 19.0, "top5": 60.0, "top10": 70.0},
        "centroids": {"top1": 50.0, "top5": 60.0, "top10": 60.0},
    }
    judged = judge_targets(default, generic)
    assert judged[0]["measured"] == pytest.approx(1.9) and not judged[0]["met"]
    assert best_method(default) == "centroids"
    shares = [(one["measured"], one["met"]) for one in judged[1:4]]
    assert shares == [
        (pytest.approx(50 / 90), True),
        (pytest.approx(40 / 60), True),
        (pytest.approx(40 / 50), False),
    ]


def test_threshold_lets_at_most_a_tenth_of_the_unaffected_pass() -> None:
    scores = np.random.default_rng(0).uniform(size=57)
    threshold = specific_threshold(scores, 0.9)
    assert np.mean(scores >= threshold) <= 0.1
    lower = np.nextafter(threshold, 0.0)
    assert np.mean(scores >= lower) > 0.1 or lower < scores.max()


def made_up_people(apart: float) -> tuple[HeldOut, np.ndarray, np.ndarray]:
    random = np.random.default_rng(7)
    affected = np.arange(160) % 2 == 0
    shift = np.zeros(512)
    shift[:20] = apart
    rows = unit(random.normal(size=(160, 2, 512)) + affected[:, None, None] * shift).astype(np.float32)
    items = tuple(RankedItem(place, f"SYN:{place}", 0.5 + place / 100, (), 3) for place in range(1, 12))
    ranking = Ranking(items, (), (), {"model_sha256": "0" * 64})
    names = tuple("SYN:1" if own else "" for own in affected)
    held_out = HeldOut(rows[:80], (ranking,) * 80, tuple(map(str, range(80))), names[:80])
    return held_out, rows[80:], affected[80:]


def test_score_tells_apart_what_can_be_told_apart() -> None:
    held_out, reference, affected = made_up_people(apart=2.0)
    clear = fit_score(held_out, fit_contrast(reference, affected))
    held_out, reference, affected = made_up_people(apart=0.0)
    nothing = fit_score(held_out, fit_contrast(reference, affected))
    assert clear.area.value > 0.95 and clear.area.low > 0.85
    assert 0.3 < nothing.area.value < 0.7
    assert clear.figures.specificity.value >= 0.9


def demo_photos() -> tuple[Cohort, CohortPhotos]:
    """The shipped cohort as if every photo had been found; pixels do not matter here."""
    cohort = load_shipped()
    ids = [photo.image_id for person in cohort.people for photo in person.photos]
    faces = CohortFaces(np.zeros((len(ids), 112, 112, 3), np.uint8), np.array(ids), len(ids), {})
    return cohort, CohortPhotos(cohort, faces)


def test_no_patient_is_looked_for_in_their_own_photos() -> None:
    cohort, photos = demo_photos()
    splits = cohort_splits(cohort, photos)
    assert set(settings_of(splits)) == {"F/F", "R/R", "F/(F+R)", "R/(F+R)", EVERYBODY}
    for split in splits:
        known = set(photos.patients[split.gallery])
        for test in split.tests.values():
            assert len(test) and not known & set(photos.patients[test])
            assert set(photos.syndromes[test]) <= set(photos.syndromes[split.gallery])


def test_table_equals_each_setting_compared_alone() -> None:
    cohort, photos = demo_photos()
    random = np.random.default_rng(5)
    hint = np.eye(60)[photos.syndromes % 60][:, None, :]
    embedded = photos.with_embeddings(hint + random.normal(size=(len(photos.syndromes), 2, 60)) * 0.4)
    splits = cohort_splits(cohort, photos)[:5]
    table = accuracy_table(embedded, splits)
    for setting in ("R/R", EVERYBODY):
        alone = [
            macro_top_k(nearest_image(gallery, queries), gallery, queries)["top5"]
            for split in splits
            if setting in split.tests
            for gallery, queries in [(embedded.part(split.gallery), embedded.part(split.tests[setting]))]
        ]
        assert table[setting]["nearest image"]["top5"] == pytest.approx(np.mean(alone))

"""Bands and "no confident match" of an extractor, fitted on people it was neither trained nor evaluated on.

The bands' and the score's people come from the calibration cohort, whose held-out patients and unaffected
people are ranked in its own gallery. The discriminant between affected and unaffected needs more people than
a gallery has, so it is fitted on a third population, which is never ranked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diagnosis.phenotype.ranking.bands import fit_bands, shown_rows
from diagnosis.phenotype.ranking.calibration import Calibration
from diagnosis.phenotype.ranking.gallery import Gallery
from diagnosis.phenotype.ranking.intervals import Bools, Float64, auroc
from diagnosis.phenotype.ranking.logistic import fit_logistic
from diagnosis.phenotype.ranking.match import (
    FOLDS,
    SPECIFICITY,
    Contrast,
    Matcher,
    fit_contrast,
    list_features,
    person_folds,
)
from diagnosis.phenotype.ranking.metrics import at_threshold
from diagnosis.phenotype.ranking.rank import rank_batch
from diagnosis.phenotype.types import EmbeddingSet, FloatArray, Ranking
from diagnosis.synthetic.cohort_faces import CohortFaces
from diagnosis.synthetic.extractor_evaluation import CohortPhotos
from diagnosis.synthetic.manifest import Cohort, CohortPerson
from diagnosis.synthetic.splits import frequent_split, rare_split
from diagnosis.synthetic.training_render import Population

# Who the discriminant is fitted on: every second person is unaffected.
REFERENCE = Population(1004, 6000, 70_000, 300, period=2)
RARE_SPLIT = 0


@dataclass(frozen=True)
class HeldOut:
    """One photo (the first that was found) of each held-out person, ranked. syndromes "" if unaffected."""

    rows: FloatArray
    rankings: tuple[Ranking, ...]
    people: tuple[str, ...]
    syndromes: tuple[str, ...]

    @property
    def affected(self) -> Bools:
        """(n,) bool."""
        return np.array([bool(name) for name in self.syndromes])

    def lists(self) -> Float64:
        """(n, 3) float64: what the score reads off each ranking."""
        return np.stack([list_features(ranking.syndromes) for ranking in self.rankings])


def rank_held_out(cohort: Cohort, faces: CohortFaces, rows: FloatArray, model_sha256: str) -> HeldOut:
    """Frequent and rare test patients and all unaffected people against the cohort's gallery, split 0.

    rows (n, m, 512) float32 unit rows of `faces`, in their order.
    """
    photos = CohortPhotos(cohort, faces)
    (gallery_f, test_f), (gallery_r, test_r) = frequent_split(cohort), rare_split(cohort, RARE_SPLIT)
    unaffected = [person for person in cohort.people if person.status == "unaffected"]
    gallery = _gallery([*gallery_f, *gallery_r], photos, rows, model_sha256)
    asked = [person for person in [*test_f, *test_r, *unaffected] if photos.rows_of[person.number]]
    chosen = np.stack([rows[photos.rows_of[person.number][0]] for person in asked])
    queries = [EmbeddingSet(one, model_sha256) for one in chosen]
    return HeldOut(
        rows=chosen,
        rankings=tuple(rank_batch(queries, gallery, limit=None)),
        people=tuple(person.key for person in asked),
        syndromes=tuple(person.syndrome or "" for person in asked),
    )


def _gallery(
    people: Sequence[CohortPerson], photos: CohortPhotos, rows: FloatArray, model_sha256: str
) -> Gallery:
    owners = [(person, row) for person in people for row in photos.rows_of[person.number]]
    return Gallery(
        embeddings=np.ascontiguousarray(rows[[row for _, row in owners]]),
        image_keys=tuple(f"{person.key}/{row}" for person, row in owners),
        patients=tuple(person.key for person, _ in owners),
        syndromes=tuple(str(person.syndrome) for person, _ in owners),
        model_sha256=model_sha256,
    )


def calibrate(
    held_out: HeldOut,
    reference: FloatArray,
    reference_affected: Bools,
    *,
    model_sha256: str,
    about: dict[str, Any],
) -> Calibration:
    """Bands from held-out patients, score from held-out patients and unaffected people.

    reference (n, m, 512) unit rows and reference_affected (n,) of the reference population.
    """
    answered = zip(held_out.rankings, held_out.syndromes, strict=True)
    bands = fit_bands(shown_rows((ranking, truth) for ranking, truth in answered if truth))
    matcher = fit_score(held_out, fit_contrast(reference, reference_affected))
    return Calibration(model_sha256, bands, matcher, about)


def fit_score(held_out: HeldOut, contrast: Contrast) -> Matcher:
    """Logistic regression on the five features; figures and threshold from five folds over people."""
    features = np.column_stack([held_out.lists(), contrast.features(held_out.rows)])
    affected = held_out.affected
    scores = _cross_fitted(features, affected, held_out.people)
    threshold = specific_threshold(scores[~affected], SPECIFICITY)
    return Matcher(
        contrast=contrast,
        logistic=fit_logistic(features, affected),
        threshold=threshold,
        area=auroc(scores, affected),
        figures=at_threshold(scores, affected, threshold),
    )


def _cross_fitted(features: Float64, affected: Bools, people: Sequence[str]) -> Float64:
    """(n,) scores, each from a regression that did not see that person."""
    fold = person_folds(people, affected, seed=0)
    scores = np.empty(len(features))
    for held_out in range(FOLDS):
        inside = fold == held_out
        scores[inside] = fit_logistic(features[~inside], affected[~inside]).score(features[inside])
    return scores


def specific_threshold(unaffected: Float64, specificity: float) -> float:
    """The lowest score that at most (1 - specificity) of the unaffected (n,) reach."""
    allowed = int(np.floor((1 - specificity) * len(unaffected) + 1e-9))
    return float(np.nextafter(np.sort(unaffected)[::-1][allowed], 2.0))


def match_scores(calibration: Calibration, held_out: HeldOut) -> Float64:
    """(n,) scores of other people, e.g. of the evaluation cohort, in [0, 1]."""
    return np.array(
        [
            calibration.match(EmbeddingSet(rows, calibration.model_sha256), ranking).score
            for rows, ranking in zip(held_out.rows, held_out.rankings, strict=True)
        ]
    )


def evaluate_match(calibration: Calibration, held_out: HeldOut) -> dict[str, Any]:
    """Unaffected against affected on people of another cohort: AUROC and what the threshold finds there."""
    scores, affected = match_scores(calibration, held_out), held_out.affected
    figures = at_threshold(scores, affected, calibration.matcher.threshold)
    nearest = np.array([ranking.syndromes[0].distance for ranking in held_out.rankings])
    return {
        "affected": int(affected.sum()),
        "unaffected": int((~affected).sum()),
        "auroc": auroc(scores, affected).as_dict(),
        "auroc_of_nearest_distance_alone": auroc(-nearest, affected).as_dict(),
        "threshold": calibration.matcher.threshold,
        "sensitivity": figures.sensitivity.as_dict(),
        "specificity": figures.specificity.as_dict(),
        "precision": figures.precision.as_dict(),
    }

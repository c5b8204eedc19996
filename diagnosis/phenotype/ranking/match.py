"""Is there a match at all? A score against unaffected faces, for "no confident match".

The distance to the nearest gallery image does not tell an affected from an unaffected face (AUROC 0.55 in
the literature): every face is near someone. The score therefore weighs five features by a small logistic
regression: from the list, the nearest distance, the gap to the syndromes behind it and the mean of the
first five; from the embedding, its place on the discriminant between unaffected and affected people, and
its Mahalanobis distance from unaffected people. It works on any extractor that reference photos of both
kinds have been embedded with.

Discriminant and covariances are always fitted on other people than those they score: inside each of five
outer folds they are cross-fitted again before the regression sees them, and the figures are the outer
folds'. The score is balanced to equal shares of both kinds and is not the chance of a disorder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from diagnosis.phenotype.errors import CalibrationError
from diagnosis.phenotype.ranking.distance import Float32
from diagnosis.phenotype.ranking.intervals import Bools, Estimate, Float64, auroc
from diagnosis.phenotype.ranking.logistic import Logistic, fit_logistic
from diagnosis.phenotype.ranking.metrics import ThresholdFigures, at_threshold
from diagnosis.phenotype.ranking.whitening import ledoit_wolf
from diagnosis.phenotype.types import EmbeddingSet, RankedItem, Ranking

FEATURES = ("nearest", "margin", "mean_of_five", "discriminant", "mahalanobis")
FOLDS = 5
#: At most one unaffected face in ten is called a confident match.
SPECIFICITY = 0.90
#: Below this, folds would hold a handful of people and the figures would be noise.
FEWEST = 25


@dataclass(frozen=True)
class MatchReference:
    """n photos of people who are not in the gallery. rows (n, m, d) float32 unit rows.

    lists (n, 3) float64: `list_features` of each photo's ranking. affected (n,) bool. people: one key per
    photo; folds keep a person's photos together.
    """

    rows: Float32
    lists: Float64
    affected: Bools
    people: tuple[str, ...]

    def part(self, chosen: Bools) -> MatchReference:
        """The chosen photos."""
        people = tuple(key for key, kept in zip(self.people, chosen.tolist(), strict=True) if kept)
        return MatchReference(self.rows[chosen], self.lists[chosen], self.affected[chosen], people)


@dataclass(frozen=True, eq=False)
class Contrast:
    """Per row index: direction (m, d) and offset (m,) of the discriminant; unaffected mean (m, d) and
    precision matrix (m, d, d). float32."""

    direction: Float32
    offset: Float32
    mean: Float32
    precision: Float32

    def features(self, rows: Float32) -> Float64:
        """(n, m, d) → (n, 2) float64: discriminant and Mahalanobis distance², each the mean over m rows."""
        linear = np.einsum("nmd,md->nm", rows, self.direction, dtype=np.float64) - self.offset
        centred = np.asarray(rows, dtype=np.float64) - self.mean
        # One product per row index: an einsum over all three axes would not use BLAS.
        squares = [
            np.sum((centred[:, row] @ self.precision[row]) * centred[:, row], axis=1)
            for row in range(rows.shape[1])
        ]
        return np.column_stack([linear.mean(axis=1), np.mean(squares, axis=0) / rows.shape[2]])


@dataclass(frozen=True)
class MatchScore:
    """score in [0, 1]; confident if at or above the threshold; the features behind it by name."""

    score: float
    confident: bool
    threshold: float
    features: dict[str, float]


@dataclass(frozen=True, eq=False)
class Matcher:
    """The fitted score. figures: sensitivity, specificity and precision at the threshold; area: AUROC."""

    contrast: Contrast
    logistic: Logistic
    threshold: float
    area: Estimate
    figures: ThresholdFigures

    @cached_property
    def rows(self) -> int:
        """m of the model."""
        return int(self.contrast.direction.shape[0])

    def score(self, photos: Sequence[EmbeddingSet], ranking: Ranking) -> MatchScore:
        """Photos of one person and their (fused) ranking. An empty list is never a confident match."""
        stacked = np.stack([photo.rows for photo in photos])
        if stacked.shape[1] != self.rows:
            raise CalibrationError(f"The photo has {stacked.shape[1]} rows, the calibration {self.rows}.")
        if not ranking.syndromes:
            return MatchScore(0.0, False, self.threshold, {})
        embedded = self.contrast.features(stacked).mean(axis=0)
        features = np.concatenate([list_features(ranking.syndromes), embedded])
        score = float(self.logistic.score(features[None, :])[0])
        named = dict(zip(FEATURES, features.tolist(), strict=True))
        return MatchScore(score, score >= self.threshold, self.threshold, named)


def list_features(syndromes: Sequence[RankedItem]) -> Float64:
    """(3,) float64: nearest distance, mean of rows 2 to 10 minus it, mean of the first five rows.

    Shorter lists use what they have; a gap to nothing is 0. Raises CalibrationError for an empty list.
    """
    if not syndromes:
        raise CalibrationError("An empty list has no features. Calibrate against a gallery with patients.")
    distances = np.array([item.distance for item in syndromes[:10]])
    margin = float(distances[1:].mean() - distances[0]) if len(distances) > 1 else 0.0
    return np.array([distances[0], margin, distances[:5].mean()])


def fit_matcher(reference: MatchReference, *, seed: int = 0, specificity: float = SPECIFICITY) -> Matcher:
    """Fit on all, figures and threshold from people that each score had not seen.

    The threshold is the lowest at which at least `specificity` of the unaffected photos stay below it.
    Raises CalibrationError with fewer than 25 affected or unaffected people.
    """
    _check(reference)
    scores = cross_fitted_scores(reference, seed=seed)
    threshold = _threshold(scores[~reference.affected], specificity)
    return Matcher(
        contrast=fit_contrast(reference.rows, reference.affected),
        logistic=_fit_regression(reference, seed=seed),
        threshold=threshold,
        area=auroc(scores, reference.affected),
        figures=at_threshold(scores, reference.affected, threshold),
    )


def cross_fitted_scores(reference: MatchReference, *, seed: int = 0) -> Float64:
    """(n,) scores in [0, 1], each from a model none of whose parts saw that person."""
    fold = person_folds(reference.people, reference.affected, seed=seed)
    scores = np.empty(len(fold))
    for held_out in range(FOLDS):
        inside = fold == held_out
        others = reference.part(~inside)
        regression = _fit_regression(others, seed=seed + 1)
        contrast = fit_contrast(others.rows, others.affected)
        features = np.column_stack([reference.lists[inside], contrast.features(reference.rows[inside])])
        scores[inside] = regression.score(features)
    return scores


def fit_contrast(rows: Float32, affected: Bools) -> Contrast:
    """rows (n, m, d), affected (n,). Fisher's discriminant with a pooled covariance, and the unaffected
    covariance for the Mahalanobis distance, both shrunk by Ledoit and Wolf's optimum."""
    parts = [_fit_row(rows[:, row].astype(np.float64), affected) for row in range(rows.shape[1])]
    direction, offset, mean, precision = (np.stack(column) for column in zip(*parts, strict=True))
    return Contrast(
        direction.astype(np.float32),
        offset.astype(np.float32),
        mean.astype(np.float32),
        precision.astype(np.float32),
    )


def person_folds(people: Sequence[str], affected: Bools, *, seed: int) -> npt.NDArray[np.intp]:
    """(n,) fold of each photo: people are shuffled and dealt within each kind, photos follow their person."""
    generator = np.random.default_rng(seed)
    fold_of: dict[str, int] = {}
    for kind in (False, True):
        chosen = [key for key, own in zip(people, affected.tolist(), strict=True) if own is kind]
        keys = [key for key in sorted(set(chosen)) if key not in fold_of]
        for place, index in enumerate(generator.permutation(len(keys)).tolist()):
            fold_of[keys[index]] = place % FOLDS
    return np.array([fold_of[key] for key in people], dtype=np.intp)


def _fit_regression(reference: MatchReference, *, seed: int) -> Logistic:
    """The regression on features that were cross-fitted, so that it trusts them as far as they hold."""
    fold = person_folds(reference.people, reference.affected, seed=seed)
    embedded = np.empty((len(fold), 2))
    for held_out in range(FOLDS):
        inside = fold == held_out
        contrast = fit_contrast(reference.rows[~inside], reference.affected[~inside])
        embedded[inside] = contrast.features(reference.rows[inside])
    return fit_logistic(np.column_stack([reference.lists, embedded]), reference.affected)


def _fit_row(vectors: Float64, affected: Bools) -> tuple[Float64, Float64, Float64, Float64]:
    """One row index, (n, d): direction (d,), offset (), unaffected mean (d,), unaffected precision (d, d)."""
    case: Float64 = vectors[affected].mean(axis=0)
    control: Float64 = vectors[~affected].mean(axis=0)
    residuals = np.concatenate([vectors[affected] - case, vectors[~affected] - control])
    pooled, _ = ledoit_wolf(residuals)
    direction = np.asarray(np.linalg.solve(pooled, case - control), dtype=np.float64)
    unaffected, _ = ledoit_wolf(vectors[~affected] - control)
    offset: Float64 = np.asarray(direction @ (case + control) / 2.0)
    precision = np.asarray(np.linalg.inv(unaffected), dtype=np.float64)
    return direction, offset, control, precision


def _threshold(unaffected: Float64, specificity: float) -> float:
    """The lowest score that at most (1 − specificity) of the unaffected reach."""
    allowed = int(np.floor((1.0 - specificity) * len(unaffected) + 1e-9))
    highest_first = np.sort(unaffected)[::-1]
    return float(np.nextafter(highest_first[allowed], 2.0))


def _check(reference: MatchReference) -> None:
    photos = len(reference.rows)
    if reference.lists.shape != (photos, 3) or len(reference.people) != photos:
        raise CalibrationError("Reference photos, lists and people do not match. Give one of each per photo.")
    if reference.affected.shape != (photos,) or reference.affected.dtype != np.bool_:
        raise CalibrationError("Say for each reference photo whether the person is affected (n,) bool.")
    for kind, word in ((False, "unaffected"), (True, "affected")):
        kinds = zip(reference.people, reference.affected.tolist(), strict=True)
        found = len({key for key, own in kinds if own is kind})
        if found < FEWEST:
            raise CalibrationError(f"Only {found} {word} people. Calibration needs at least {FEWEST}.")

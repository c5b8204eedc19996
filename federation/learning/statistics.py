"""Counting under the k rule: which classes are open, how many patients each has, their class sums.

The k rule stands here and nowhere else: a site contributes to a class only with at least k of its own
patients, and exact zeros otherwise.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from diagnosis.phenotype.ranking.centroids import Centroids
from diagnosis.phenotype.ranking.distance import unit_rows
from federation.learning.errors import StatisticsRefused

Float64 = npt.NDArray[np.float64]
Words64 = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]

WORD_BYTES = 8


# --- the k rule ---------------------------------------------------------------------------------------------


def patients_per_class(labels: Sequence[str], patients: Sequence[str]) -> dict[str, int]:
    """Photos' labels and patients, in step → distinct patients of each class; "" is no class."""
    pairs = {pair for pair in zip(labels, patients, strict=True) if pair[0]}
    counts: dict[str, int] = {}
    for label, _ in pairs:
        counts[label] = counts.get(label, 0) + 1
    return counts


def contributed(counts: Mapping[str, int], classes: Sequence[str], k: int) -> Bools:
    """(C,) bool: to which classes a site with these patients contributes at all."""
    return np.array([counts.get(name, 0) >= k for name in classes], dtype=np.bool_)


def contributing_photos(
    labels: Sequence[str], patients: Sequence[str], classes: Sequence[str], k: int
) -> Bools:
    """(n,) bool: the photos that enter this site's sums. Their patients stay out of the kernel session."""
    counts = patients_per_class(labels, patients)
    ours = {name for name, yes in zip(classes, contributed(counts, classes, k), strict=True) if yes}
    return np.array([label in ours for label in labels], dtype=np.bool_)


def change_allowed(earlier: Iterable[frozenset[str]], now: frozenset[str], k: int) -> bool:
    """Whether a class may be contributed with these patients, after those of all earlier opened sums.

    Against each earlier set nobody or at least k joined, and nobody or at least k left: a smaller
    difference of two sums would show the few in it.
    """
    return all(
        part == 0 or part >= k for before in earlier for part in (len(now - before), len(before - now))
    )


def choose_patients(earlier: Sequence[frozenset[str]], available: frozenset[str], k: int) -> frozenset[str]:
    """The patients of one class to contribute: all if allowed, else the latest allowed earlier set, or none.

    available: those whose consent holds now. An earlier set is used only if all of it is still available.
    """
    for candidate in (available, *reversed(earlier)):
        if candidate <= available and len(candidate) >= k and change_allowed(earlier, candidate, k):
            return candidate
    return frozenset()


# --- presence and counts: words, no fixed point -------------------------------------------------------------


def presence_words(
    counts: Mapping[str, int], vocabulary: Sequence[str], k: int,
    draw: Callable[[int], bytes] = secrets.token_bytes,
) -> Words64:  # fmt: skip
    """(V,) uint64: a uniform random word where this site holds k patients or more, 0 elsewhere.

    A sum of uniform words is uniform, so it says "somebody" and not how many. It is 0 by chance once in 2^64.
    """
    words = np.frombuffer(draw(WORD_BYTES * len(vocabulary)), dtype="<u8").astype(np.uint64)
    words[~contributed(counts, vocabulary, k)] = 0
    return words


def open_classes(total: Words64, vocabulary: Sequence[str]) -> tuple[str, ...]:
    """The opened presence sum (V,) → the identifiers with a non-zero total, ascending."""
    _check_words(total, len(vocabulary))
    return tuple(sorted(name for name, word in zip(vocabulary, total, strict=True) if word))


def count_words(counts: Mapping[str, int], classes: Sequence[str], k: int) -> Words64:
    """(C,) uint64: this site's patients of each open class, 0 below k."""
    words = np.array([counts.get(name, 0) for name in classes], dtype=np.uint64)
    words[~contributed(counts, classes, k)] = 0
    return words


def read_counts(total: Words64, classes: Sequence[str], k: int) -> dict[str, int]:
    """The opened counts (C,) → patients per class. A class whose sites have all dropped since is left out.

    StatisticsRefused for a total between 1 and k − 1, which no honest sites add up to.
    """
    _check_words(total, len(classes))
    counts = {name: int(word) for name, word in zip(classes, total, strict=True) if word}
    if any(not k <= count < 1 << 32 for count in counts.values()):
        raise StatisticsRefused("An opened count is impossible under the k rule. Abort the round.")
    return counts


def _check_words(total: Words64, size: int) -> None:
    if total.shape != (size,) or total.dtype != np.uint64:
        raise StatisticsRefused("An opened sum has another length or type than the plan's. Abort the round.")


# --- class sums and centroids -------------------------------------------------------------------------------


def patient_weights(labels: Sequence[str], patients: Sequence[str]) -> Float64:
    """(n,) float64: 1 / photos of that patient with that label, so that each patient counts once."""
    pairs = list(zip(labels, patients, strict=True))
    photos: dict[tuple[str, str], int] = {}
    for pair in pairs:
        photos[pair] = photos.get(pair, 0) + 1
    return np.array([1.0 / photos[pair] for pair in pairs], dtype=np.float64)


def class_sums(
    rows: npt.NDArray[np.floating], labels: Sequence[str], patients: Sequence[str],
    classes: Sequence[str], k: int,
) -> Float64:  # fmt: skip
    """rows (n, m, d) of n photos → (C, m, d) float64: patients' means, summed per class; zeros below k."""
    exact = np.asarray(rows, dtype=np.float64)
    place = {name: index for index, name in enumerate(classes)}
    chosen = contributing_photos(labels, patients, classes, k)
    weights = patient_weights(labels, patients)
    sums = np.zeros((len(classes), *exact.shape[1:]))
    for photo in np.flatnonzero(chosen).tolist():
        sums[place[labels[photo]]] += weights[photo] * exact[photo]
    return sums


def centroids_from_sums(
    sums: Float64, counts: Mapping[str, int], classes: Sequence[str], *, model_sha256: str
) -> Centroids:
    """Opened class sums (C, m, d) → unit centroids of the classes that have counts, keys ascending."""
    kept = [index for index, name in enumerate(classes) if counts.get(name, 0) > 0]
    names = tuple(classes[index] for index in kept)
    if sums.shape[:1] != (len(classes),) or list(names) != sorted(set(names)):
        raise StatisticsRefused("Class sums and classes do not fit each other. Abort the round.")
    patients = np.array([counts[name] for name in names], dtype=np.intp)
    return Centroids(names, unit_rows(sums[kept]), patients, model_sha256)

"""Top-k accuracy, macro and micro, and what a threshold finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from diagnosis.phenotype.ranking.grouping import Grouping
from diagnosis.phenotype.ranking.intervals import Bools, Estimate, bootstrap, wilson

Ranks = npt.NDArray[np.int64]

#: The k of GestaltMatcher's tables.
TOP_K = (1, 5, 10, 30)
#: The rank of a syndrome that the gallery does not hold: beyond any k.
NEVER = np.iinfo(np.int64).max


def true_ranks(distances: npt.NDArray[np.floating], syndromes: Grouping, truth: Sequence[str]) -> Ranks:
    """distances (Q, N) to gallery images, each query's true syndrome → (Q,) rank from 1 of its first hit.

    inf marks an image that may not be used. Ties go by syndrome key, as in `rank`. NEVER where no usable
    gallery image has the true syndrome.
    """
    return ranks_among(syndromes.minimum(distances), syndromes.keys, truth)


def ranks_among(distances: npt.NDArray[np.floating], keys: Sequence[str], truth: Sequence[str]) -> Ranks:
    """distances (Q, S) per syndrome, keys ascending → (Q,) rank from 1 of the true one, ties by key."""
    place = {key: index for index, key in enumerate(keys)}
    ranks = np.full(len(truth), NEVER, dtype=np.int64)
    for query, key in enumerate(truth):
        own = place.get(key)
        if own is None or not np.isfinite(distances[query, own]):
            continue
        nearer = np.count_nonzero(distances[query] < distances[query, own])
        tied_before = np.count_nonzero(distances[query, :own] == distances[query, own])
        ranks[query] = nearer + tied_before + 1
    return ranks


def micro_top_k(ranks: Ranks, k: int) -> float:
    """Share of queries whose true syndrome is among the first k. NaN without queries."""
    return float(np.mean(ranks <= k)) if len(ranks) else float("nan")


def macro_top_k(ranks: Ranks, truth: npt.NDArray[np.generic], k: int) -> float:
    """Share within each true syndrome, then the mean over syndromes: a rare one weighs like any other."""
    if not len(ranks):
        return float("nan")
    _, syndrome = np.unique(truth, return_inverse=True)
    hits = np.bincount(syndrome, weights=ranks <= k)
    return float(np.mean(hits / np.bincount(syndrome)))


@dataclass(frozen=True)
class Accuracy:
    """Shares in [0, 1] by k; queries and syndromes behind them."""

    macro: dict[int, float]
    micro: dict[int, float]
    queries: int
    syndromes: int


def accuracy(ranks: Ranks, truth: Sequence[str], *, top_k: Sequence[int] = TOP_K) -> Accuracy:
    """Macro and micro top-k of one set of queries."""
    labels = np.asarray(truth, dtype=np.str_)
    return Accuracy(
        macro={k: macro_top_k(ranks, labels, k) for k in top_k},
        micro={k: micro_top_k(ranks, k) for k in top_k},
        queries=len(ranks),
        syndromes=len(set(truth)),
    )


def macro_interval(
    ranks: Ranks, truth: Sequence[str], patients: Sequence[str], k: int, *, draws: int = 1000, seed: int = 0
) -> Estimate:
    """Macro top-k with a bootstrap interval over patients (a draw averages over the syndromes it holds)."""
    labels = np.asarray(truth, dtype=np.str_)
    statistic = partial(_macro_of, ranks, labels, k)
    return bootstrap(statistic, np.asarray(patients, dtype=np.str_), draws=draws, seed=seed)


def _macro_of(ranks: Ranks, labels: npt.NDArray[np.str_], k: int, drawn: npt.NDArray[np.intp]) -> float:
    return macro_top_k(ranks[drawn], labels[drawn], k)


@dataclass(frozen=True)
class ThresholdFigures:
    """What "score at or above the threshold" finds, each with Wilson's interval."""

    threshold: float
    sensitivity: Estimate
    specificity: Estimate
    precision: Estimate


def at_threshold(scores: npt.ArrayLike, positive: npt.ArrayLike, threshold: float) -> ThresholdFigures:
    """scores (n,) higher = more positive, positive (n,) bool."""
    called: Bools = np.asarray(scores, dtype=np.float64) >= threshold
    labels: Bools = np.asarray(positive, dtype=np.bool_)
    hits = int(np.sum(called & labels))
    return ThresholdFigures(
        threshold=threshold,
        sensitivity=wilson(hits, int(labels.sum())),
        specificity=wilson(int(np.sum(~called & ~labels)), int((~labels).sum())),
        precision=wilson(hits, int(called.sum())),
    )

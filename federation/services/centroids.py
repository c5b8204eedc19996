"""Centroids of open syndromes: class sums under the accepted candidate, added up securely, published."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError

from diagnosis.errors import NotReady
from diagnosis.phenotype.ranking.centroids import Centroids
from diagnosis.phenotype.types import EMBEDDING_SIZE
from federation.errors import InvalidMessage
from federation.learning.errors import StatisticsRefused
from federation.learning.statistics import centroids_from_sums, class_sums, read_counts
from federation.models import GlobalModel, SecureSum
from federation.plans import RoundPlan, parse_plan
from federation.secagg.quantize import StatisticsQuantiser
from federation.services import results
from federation.services.candidate_rows import candidate_ensemble, candidate_spec, rows_of
from federation.services.population import (
    Entrant,
    Sets,
    counted,
    entrants_of,
    patients_of,
    split_now,
    unchanged,
)
from federation.services.prepared import PreparedInput, prepared
from federation.services.projection_rounds import accepted
from federation.storage import blob_add, blob_bytes

Rows = Mapping[int, npt.NDArray[np.float32]]


def class_sum_words(total: SecureSum) -> PreparedInput:
    """C counts, then C·m·512 class sums at 2^-40, over the patients that this round counted here."""
    plan = parse_plan(total.round.plan)
    members = members_accepted(total)
    classes = open_order(members)
    split = split_now(plan.k)
    chosen = {name: one for name, one in unchanged(counted(total.round), split).items() if name in classes}
    ensemble = candidate_ensemble(plan, members)
    rows = rows_of((e.photo for e in entrants_of(split.training, chosen)), ensemble)
    entrants = _whole([e for e in entrants_of(split.training, chosen) if e.photo in rows], chosen)
    chosen = patients_of(entrants)
    sums = _sums(entrants, rows, classes, plan)
    numbers = [float(len(chosen.get(name, ()))) for name in classes]
    words = StatisticsQuantiser(len(total.sites)).encode(np.concatenate([numbers, sums.reshape(-1)]))
    return prepared(words, chosen, (entrant.photo for entrant in entrants))


def open_order(members: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    """The round's open syndromes, ascending: the order of every centroid sum.

    Read from the published classifier, which also a hospital has that was not there when they were counted.
    """
    return tuple(sorted(safetensors.numpy.load(blob_bytes(members[0]["classifier"]))))


def members_accepted(total: SecureSum) -> list[dict[str, str]]:
    """The candidate that the votes named. NotReady before."""
    members, _ = accepted(total.round)
    if members is None:
        raise NotReady("No candidate of this round is accepted yet.")
    return members


def _whole(entrants: Sequence[Entrant], chosen: Sets) -> list[Entrant]:
    """Without syndromes of which a chosen patient has no readable photo left."""
    present = patients_of(entrants)
    return [entrant for entrant in entrants if present[entrant.syndrome] == chosen[entrant.syndrome]]


def _sums(
    entrants: Sequence[Entrant], rows: Rows, classes: tuple[str, ...], plan: RoundPlan
) -> npt.NDArray[np.float64]:
    """(C, m, 512) float64."""
    shape = (len(entrants), results.ensemble_rows(plan), EMBEDDING_SIZE)
    array = np.array([rows[entrant.photo] for entrant in entrants], dtype=np.float32).reshape(shape)
    labels = [entrant.syndrome for entrant in entrants]
    return class_sums(array, labels, [str(entrant.patient) for entrant in entrants], classes, plan.k)


# --- opened ----------------------------------------------------------------------------------------------


def centroids_open(total: SecureSum) -> Centroids:
    """The opened sum as unit centroids with the number of patients behind each. The same at every site.

    InvalidMessage for a sum that no honest sites can have added up to.
    """
    plan, members = parse_plan(total.round.plan), members_accepted(total)
    classes = open_order(members)
    words = results.words_of(total).astype(np.uint64)
    values = StatisticsQuantiser(len(total.sites)).decode(words)
    counts, sums = values[: len(classes)], values[len(classes) :]
    sha256 = candidate_spec(plan, members).sha256
    try:
        patients = read_counts(_whole_numbers(counts), classes, plan.k)
        shaped = sums.reshape(len(classes), results.ensemble_rows(plan), EMBEDDING_SIZE)
        return centroids_from_sums(shaped, patients, classes, model_sha256=sha256)
    except StatisticsRefused as error:
        raise InvalidMessage(str(error)) from None


def _whole_numbers(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.uint64]:
    if (counts < 0).any() or not np.array_equal(np.rint(counts), counts):
        raise StatisticsRefused("An opened count is not a whole number of patients.")
    return counts.astype(np.uint64)


def centroids_publish(total: SecureSum) -> str:
    """Keep the centroids of an opened sum as a safetensors blob; its sha256, equal at every site."""
    found = centroids_open(total)
    facts = {"keys": found.keys, "model_sha256": found.model_sha256}
    arrays: dict[str, npt.NDArray[Any]] = {
        "rows": found.rows.astype(np.float32),
        "patients": found.patients.astype(np.int64),
    }
    data = safetensors.numpy.save(arrays, metadata={"facts": json.dumps(facts, sort_keys=True)})
    return blob_add(data)


def centroids_load(data: bytes) -> Centroids:
    """What `centroids_publish` kept. InvalidMessage if damaged."""
    try:
        arrays = safetensors.numpy.load(data)
        length = int.from_bytes(data[:8], "little")
        facts: dict[str, Any] = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["facts"])
        rows, patients = arrays["rows"], arrays["patients"].astype(np.intp)
        found = Centroids(tuple(map(str, facts["keys"])), rows, patients, str(facts["model_sha256"]))
    except (SafetensorError, KeyError, ValueError, TypeError):
        raise InvalidMessage("The centroids are damaged. Publish them again from the opened sum.") from None
    fits = rows.ndim == 3 and rows.dtype == np.float32 and len(rows) == len(patients) == len(found.keys)
    if not fits or not np.isfinite(rows).all():
        raise InvalidMessage("The centroids are damaged. Publish them again from the opened sum.")
    return found


def centroids_of(model: GlobalModel) -> Centroids | None:
    """The centroids published with a global model, or None."""
    total = (
        SecureSum.objects.filter(name=model.centroids, state="opened").first() if model.centroids else None
    )
    return centroids_open(total) if total else None

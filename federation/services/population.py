"""Whose photos may take part in a sum: consent read now, held-out patients apart, the k rule over time.

A class is contributed by the same patients in the counts, the updates and the centroids of one round, and
by a set that differs from those of earlier rounds only as the k rule allows (learning.statistics).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from django.db.models import OuterRef, QuerySet, Subquery

from diagnosis import selectors, vault
from diagnosis.models import Diagnosis, Photo
from federation.errors import FederationError
from federation.models import Contribution, Round
from federation.plans import parse_plan
from federation.services import results

#: A presence sum says "somebody" by a random word, so its patients bind nobody later.
BINDING: Final = ("counts", "update", "centroids")
Sets = dict[str, frozenset[int]]


@dataclass(frozen=True, order=True)
class Entrant:
    """One photo that may be trained with: primary keys, and its patient's syndrome by standing diagnosis."""

    photo: int
    patient: int
    syndrome: str


@dataclass(frozen=True)
class Split:
    """All entrants, apart: held-out patients never train and never count."""

    training: tuple[Entrant, ...]
    held_out: tuple[Entrant, ...]

    def patients(self) -> Sets:
        """Syndrome → patients of the training part."""
        return patients_of(self.training)


def labelled(photos: QuerySet[Photo]) -> QuerySet[Any]:
    """The same photos with their standing diagnosis as `syndrome`, in order of primary key."""
    standing = Diagnosis.objects.filter(patient=OuterRef("patient"), retracted_at__isnull=True)
    syndrome = Subquery(standing.values("syndrome__identifier")[:1])
    return photos.annotate(syndrome=syndrome).order_by("pk")


def training_now() -> tuple[Entrant, ...]:
    """Everybody who may take part at this moment. Photos whose key is destroyed are gone, row or not."""
    rows = labelled(selectors.for_training()).values_list("pk", "patient_id", "syndrome", "key")
    return tuple(Entrant(*row) for *row, key in rows if vault.has_key(key))


def patients_of(entrants: Iterable[Entrant]) -> Sets:
    """Syndrome → its patients."""
    found: dict[str, set[int]] = {}
    for entrant in entrants:
        found.setdefault(entrant.syndrome, set()).add(entrant.patient)
    return {name: frozenset(found[name]) for name in sorted(found)}


def split_now(k: int) -> Split:
    """Training and held-out part, by patient. Who stood in a sum before is never held out later.

    Otherwise a syndrome that grows would move a contributed patient to the held-out ones, and the k rule
    would rightly block the syndrome.
    """
    from federation.learning.features import FeatureSet
    from federation.learning.split import split_by_patient

    found = training_now()
    empty = np.zeros((len(found), 1, 0), dtype=np.float32)  # the split looks at names only
    keys, patients = (tuple(str(getattr(e, name)) for e in found) for name in ("photo", "patient"))
    labels = tuple(entrant.syndrome for entrant in found)
    _, held = split_by_patient(FeatureSet(empty, keys, labels, patients, ("original",), "", 0), k=k)
    bound = {patient for sets in earlier_sets().values() for each in sets for patient in each}
    apart = {int(patient) for patient in held.patients} - bound
    return Split(
        tuple(entrant for entrant in found if entrant.patient not in apart),
        tuple(entrant for entrant in found if entrant.patient in apart),
    )


# --- the k rule over time ------------------------------------------------------------------------------


def earlier_sets() -> dict[str, list[frozenset[int]]]:
    """Syndrome → the patient sets that this site put into earlier sums, oldest first.

    Every input that left counts, whatever became of its sum: whether others opened it cannot be known here.
    Sets below their round's k only trained the neck; no row, count or class sum of theirs was sent.
    """
    found: dict[str, list[frozenset[int]]] = {}
    rows = Contribution.objects.filter(purpose__in=BINDING).select_related("round").order_by("pk")
    for row in rows:
        k = parse_plan(row.round.plan).k
        for name, patients in row.patients.items():
            one = frozenset(patients)
            if len(one) >= k and one not in found.setdefault(name, []):
                found[name].append(one)
    return {name: sets for name, sets in found.items() if sets}


def chosen_now(split: Split, k: int) -> Sets:
    """Syndrome → the patients (k or more) that a new count may have; syndromes that may not are left out."""
    from federation.learning.statistics import choose_patients

    earlier, chosen = earlier_sets(), {}
    for name, available in split.patients().items():
        before = [_texts(one) for one in earlier.get(name, [])]
        chosen[name] = frozenset(int(pk) for pk in choose_patients(before, _texts(available), k))
    return {name: patients for name, patients in chosen.items() if patients}


def _texts(patients: frozenset[int]) -> frozenset[str]:
    """Learning knows patients by opaque texts."""
    return frozenset(map(str, patients))


def counted(round_: Round) -> Sets:
    """Syndrome → the patients that this site put into the round's opened count."""
    total = results.opened_sum(round_, "counts")
    record = Contribution.objects.filter(sum=total.name).first() if total else None
    return {name: frozenset(patients) for name, patients in (record.patients if record else {}).items()}


def unchanged(chosen: Mapping[str, frozenset[int]], split: Split) -> Sets:
    """The syndromes of which all chosen patients may still be used.

    One that lost a patient is left out whole: any other set would differ from the counted one by less than k.
    """
    available = split.patients()
    return {name: one for name, one in chosen.items() if one <= available.get(name, frozenset())}


def entrants_of(entrants: Iterable[Entrant], chosen: Mapping[str, frozenset[int]]) -> tuple[Entrant, ...]:
    """The photos of the chosen patients."""
    return tuple(e for e in entrants if e.patient in chosen.get(e.syndrome, frozenset()))


def few_of(split: Split, classes: Sequence[str], k: int) -> Sets:
    """Open syndromes with 1 to k − 1 patients here: they train the neck and a row that stays at the site."""
    available = split.patients()
    return {name: available[name] for name in classes if 0 < len(available.get(name, ())) < k}


def within(entrants: Sequence[Entrant], most: int) -> tuple[Entrant, ...]:
    """At most as many photos as this site said in its answer: every patient's oldest stays, the newest go.

    Weights, ranges and what may be opened rest on that number. FederationError if patients alone are more.
    """
    ordered = sorted(entrants)
    first = {entrant.patient: entrant for entrant in reversed(ordered)}
    if len(first) > most:
        raise FederationError(
            f"{len(first)} patients would take part and the answer to this round said at most {most} photos. "
            "This hospital can take part in the next round."
        )
    more = [entrant for entrant in ordered if first[entrant.patient] != entrant]
    return tuple(sorted([*first.values(), *more[: most - len(first)]]))

"""This site's input of each secure sum, which patients stand in it, and the evidence of that.

Nothing computed here is stored in plain: the caller keeps the words in the key folder until they are masked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from django.db import connection, transaction

from diagnosis import selectors
from diagnosis.errors import ConsentMissing
from diagnosis.models import LedgerEntry, Patient, Photo
from diagnosis.services.ledger import ledger_note
from federation.errors import FederationError
from federation.models import Contribution, SecureSum
from federation.plans import parse_plan, vocabulary_of
from federation.services import results
from federation.services.centroids import class_sum_words
from federation.services.dry_run import DryRun, dry_run, samples_now
from federation.services.features import BATCH
from federation.services.in_words import refused_in_words
from federation.services.local_training import local_rows_keep, train, training_input
from federation.services.own import membership_now
from federation.services.population import chosen_now, labelled, patients_of, split_now
from federation.services.prepared import PreparedInput, prepared

__all__ = [
    "DryRun", "PreparedInput", "contribution_record", "dry_run", "input_words", "samples_now",
    "still_allowed",
]  # fmt: skip

#: Purpose of a sum → kind of the patient's ledger line.
LEDGER: Final = {
    "presence": "federation.counted", "counts": "federation.counted", "update": "federation.trained",
    "centroids": "federation.centroid",
}  # fmt: skip


def input_words(total: SecureSum) -> PreparedInput:
    """This site's words for a sum, from what consent allows at this moment.

    Counts, updates and centroids are the same, bit for bit, for the same photos. NotReady where something
    is missing that can still come; FederationError where this site cannot take part.
    """
    with refused_in_words():
        found = INPUTS[total.purpose](total)
    if (len(found.words), 8 * found.words.dtype.itemsize) != (total.words, total.bits):
        raise FederationError("This site's input has another length than the sum. Update the older site.")
    return found


def _numbers(chosen: Mapping[str, frozenset[int]]) -> dict[str, int]:
    return {name: len(patients) for name, patients in chosen.items()}


# --- the four purposes -----------------------------------------------------------------------------------


def _presence(total: SecureSum) -> PreparedInput:
    from federation.learning.statistics import presence_words

    plan, catalogue = parse_plan(total.round.plan), results.vocabulary()
    if vocabulary_of(catalogue) != plan.vocabulary_sha256:
        raise FederationError("This site's syndrome catalogue is not the plan's. Install the same release.")
    chosen = chosen_now(split_now(plan.k), plan.k)
    return prepared(presence_words(_numbers(chosen), catalogue, plan.k), chosen, ())


def _counts(total: SecureSum) -> PreparedInput:
    from federation.learning.statistics import count_words

    plan, classes = parse_plan(total.round.plan), results.open_identifiers(total.round)
    found = chosen_now(split_now(plan.k), plan.k)
    chosen = {name: found[name] for name in classes if name in found}
    return prepared(count_words(_numbers(chosen), classes, plan.k), chosen, ())


def _update(total: SecureSum) -> PreparedInput:
    """Train, then the update as words: exact zeros in the rows of syndromes with fewer than k patients."""
    from federation.learning.heads import build_head, layout_of
    from federation.learning.words import encode_update

    inputs = training_input(total)
    result = train(inputs, keep_curves_of=total)
    plan, member = inputs.training_plan, inputs.training_plan.member(total.member)
    layout = layout_of(build_head(inputs.base, len(plan.classes)))
    words = encode_update(
        plan, member, layout, result.update, site=membership_now().name,
        class_patients=result.class_patients,
    )  # fmt: skip
    local_rows_keep(inputs, result)
    return prepared(words, patients_of(inputs.entrants), (entrant.photo for entrant in inputs.entrants))


INPUTS: Final[dict[str, Callable[[SecureSum], PreparedInput]]] = {
    "presence": _presence, "counts": _counts, "update": _update, "centroids": class_sum_words,
}  # fmt: skip


# --- evidence --------------------------------------------------------------------------------------------


def still_allowed(patients: Mapping[str, Sequence[int]], photos: Sequence[int]) -> bool:
    """Whether consent and diagnoses still allow all of these, read now.

    patients: syndrome → primary keys, each with that standing diagnosis and a photo for training; photos:
    primary keys. Inside a transaction their rows stay locked until it ends, so that a withdrawal comes
    before or after it: call this first, before anything that writes the audit chain.
    """
    wanted = {patient for some in patients.values() for patient in some}
    wanted |= _patients_behind(photos)
    if connection.in_atomic_block:
        for part in _parts(sorted(wanted)):
            list(Patient.objects.select_for_update().filter(pk__in=part).order_by("pk").values_list("pk"))
    pairs, found = _allowed_now(sorted(wanted))
    named = {(patient, name) for name, some in patients.items() for patient in some}
    return named <= pairs and set(photos) <= found


def _patients_behind(photos: Sequence[int]) -> set[int]:
    found: set[int] = set()
    for part in _parts(photos):
        found.update(Photo.objects.filter(pk__in=part).values_list("patient_id", flat=True))
    return found


def _allowed_now(patients: Sequence[int]) -> tuple[set[tuple[int, str]], set[int]]:
    """((patient, syndrome) pairs, photos) of these patients that may be trained with."""
    pairs: set[tuple[int, str]] = set()
    photos: set[int] = set()
    for part in _parts(patients):
        rows = labelled(selectors.for_training().filter(patient__in=part))
        for photo, patient, syndrome in rows.values_list("pk", "patient_id", "syndrome"):
            pairs.add((patient, syndrome))
            photos.add(photo)
    return pairs, photos


def _parts(numbers: Sequence[int]) -> list[Sequence[int]]:
    return [numbers[start : start + BATCH] for start in range(0, len(numbers), BATCH)]


def contribution_record(
    total: SecureSum, *, patients: Mapping[str, Sequence[int]], photos: Sequence[int]
) -> Contribution:
    """Keep who stands in a sum, and tell each patient's ledger. In the transaction that masks the input.

    Once per sum. ConsentMissing, so that nothing leaves, when somebody's consent ended since.
    """
    with transaction.atomic():
        known = Contribution.objects.filter(sum=total.name).first()
        if known is not None:
            return known
        if not still_allowed(patients, photos):
            raise ConsentMissing("A patient's consent ended while the input was computed. Compute it again.")
        record = Contribution.objects.create(
            sum=total.name, round=total.round, purpose=total.purpose,
            patients={name: list(patients[name]) for name in sorted(patients)}, photos=list(photos),
        )  # fmt: skip
        _ledgers_note(total, {patient for some in patients.values() for patient in some})
    return record


def _ledgers_note(total: SecureSum, patients: set[int]) -> None:
    """One line per patient, kind and round, however many sums and attempts there are."""
    kind, plan = LEDGER[total.purpose], total.round.sha256
    noted = LedgerEntry.objects.filter(kind=kind, detail__plan=plan).values_list("patient_id", flat=True)
    for part in _parts(sorted(patients - set(noted))):
        for patient in Patient.objects.filter(pk__in=part).order_by("pk"):
            ledger_note(patient=patient, kind=kind, round=total.round.number, plan=plan)

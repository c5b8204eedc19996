"""Erasure that erases: rows in one transaction, then keys, files, caches and SQLite's log.

Order, so that a crash at any line leaves nothing that stays readable:
1. transaction: Erasure rows (key, blobs) are written and the patient's rows deleted;
2. after the commit: the journal beside the keys gets its lines, keys are destroyed, blobs removed, the
   write-ahead log is truncated (pages freed in the database itself are overwritten by secure_delete);
3. `services.replay` at start and in the sweep does step 2 again for whatever a crash left, and repeats
   step 1 for rows that a restored backup brought back.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable

from django.db import connection, transaction
from django.db.models import Q

from diagnosis import engine, vault
from diagnosis.errors import InvalidInput
from diagnosis.models import (
    Case,
    Diagnosis,
    Differential,
    Erasure,
    IntakeLink,
    Job,
    Patient,
    Photo,
    RankingRecord,
    Sex,
    User,
    Verdict,
)
from diagnosis.permissions import require
from diagnosis.registries import after_erasure
from diagnosis.services.audit import audit
from diagnosis.services.journal import Erased, erased_append
from diagnosis.services.ledger import ledger_note
from diagnosis.services.transitions import move

log = logging.getLogger(__name__)
PHOTO_JOBS = ("analyse_photo", "reembed_photo")
CASE_JOBS = ("rank_case",)
CHECKPOINT_MILLISECONDS = 2000


def photos_erase(*, photos: Iterable[Photo], reason: str) -> int:
    """Erase photos with everything derived from them; returns how many. Callers check and audit.

    The rows are read anew under their locks: an analysis may have named a crop since the caller read them,
    and its file would stay. Opens a transaction if there is none; keys and files follow after the commit.
    """
    with transaction.atomic():
        wanted = [photo.pk for photo in photos]
        photos = list(Photo.objects.select_for_update().filter(pk__in=wanted).order_by("pk"))
        erased = [_marked(photo.key, reason, (photo.original, photo.crop)) for photo in photos]
        numbers = [photo.pk for photo in photos]
        Job.objects.filter(kind__in=PHOTO_JOBS, subject__in=numbers).delete()
        Photo.objects.filter(pk__in=numbers).delete()  # embeddings go with them
        transaction.on_commit(lambda: erasures_finish(erased), robust=True)
    return len(photos)


def patient_hold_all(patient: Patient) -> list[Case]:
    """Lock every row that an erasure changes, before its first audit event; returns the cases.

    Whoever holds one of these rows may be about to append to the audit chain, which has one writer at a
    time: the chain always comes last. The caller holds the patient's row.
    """
    cases = list(Case.objects.select_for_update().filter(patient=patient).order_by("pk"))
    photos = list(Photo.objects.filter(patient=patient).values_list("pk", flat=True))
    ranked = [case.pk for case in cases]
    work = Q(kind__in=PHOTO_JOBS, subject__in=photos) | Q(kind__in=CASE_JOBS, subject__in=ranked)
    list(Job.objects.select_for_update().filter(work).order_by("pk"))  # before photos, as a failing job does
    list(Photo.objects.select_for_update().filter(patient=patient).order_by("pk"))
    return cases


def patient_erase(*, patient: Patient, reason: str, actor: User | None = None) -> int:
    """Erase a patient's photos, cases' contents and identity; returns the number of photos.

    What stays: the row with its code, the consent evidence (sealed parts unreadable), ledger, audit.
    """
    with transaction.atomic():
        cases = patient_hold_all(patient)
        _cases_empty(cases, actor)
        Diagnosis.objects.filter(patient=patient).delete()
        count = photos_erase(photos=Photo.objects.filter(patient=patient), reason=reason)
        IntakeLink.objects.filter(patient=patient).delete()
        _identity_drop(patient)
        erased = _marked(patient.key, reason, ())
        ledger_note(patient=patient, kind="erased", photos=count)
        audit(actor=actor, action="patient.erased", subject=f"patient:{patient.pk}",
              photos=count, cases=len(cases), reason=reason)  # fmt: skip
        transaction.on_commit(lambda: erasures_finish([erased]), robust=True)
    return count


def patient_remove(*, user: User, patient: Patient) -> None:
    """Remove a patient who never signed: the row, the identity and its key, here and in every backup."""
    require(user, "patient.register", patient)
    with transaction.atomic():
        patient.refresh_from_db(from_queryset=Patient.objects.select_for_update())
        if patient.state != "none" or patient.consents.exists() or patient.cases.exists():
            raise InvalidInput("Something was signed or opened for this patient. Withdraw instead.")
        erased = _marked(patient.key, "never signed", ())
        audit(actor=user, action="patient.removed", subject=f"patient:{patient.pk}", code=patient.code)
        patient.delete()
        transaction.on_commit(lambda: erasures_finish([erased]), robust=True)


def _cases_empty(cases: list[Case], actor: User | None) -> None:
    Verdict.objects.filter(case__in=cases).erase()
    Differential.objects.filter(case__in=cases).erase()
    RankingRecord.objects.filter(case__in=cases).erase()
    Job.objects.filter(kind__in=CASE_JOBS, subject__in=[case.pk for case in cases]).delete()
    for case in cases:
        if case.state != "withdrawn":
            move(case, "withdrawn", actor=actor, note="")


def _identity_drop(patient: Patient) -> None:
    """The sealed name goes; so do the traits that could tell who it was."""
    patient.sealed_identity, patient.sex, patient.ancestry = None, Sex.UNKNOWN, ""
    patient.save(update_fields=["sealed_identity", "sex", "ancestry"])


def _marked(key: uuid.UUID, reason: str, blobs: tuple[str, ...]) -> Erased:
    names = tuple(name for name in blobs if name)
    Erasure.objects.get_or_create(key=key, defaults={"reason": reason, "blobs": list(names)})
    return Erased(key, reason, names)


# --- after the commit ------------------------------------------------------------------------------


def erasures_finish(erased: list[Erased]) -> None:
    """Destroy keys and blobs of committed erasures. What fails here is done by the next replay."""
    erased_append(erased)
    for line in erased:
        vault.destroy_key(line.key)
    for line in erased:
        for name in line.blobs:
            vault.blob_delete(name)
    engine.forget_galleries()
    for _name, forget in after_erasure.items():
        forget()
    log_truncate()


def log_truncate() -> bool:
    """Move SQLite's write-ahead log into the database and empty it: deleted rows linger there.

    Readers may hold it for a moment; False when they still did after two seconds (a replay tries again).
    """
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        return False
    with connection.cursor() as cursor:
        (patience,) = cursor.execute("PRAGMA busy_timeout").fetchone()
        cursor.execute(f"PRAGMA busy_timeout={CHECKPOINT_MILLISECONDS}")
        try:
            busy = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        finally:
            cursor.execute(f"PRAGMA busy_timeout={int(patience)}")
    if busy:
        log.warning("the write-ahead log is in use; the next replay empties it")
    return not busy

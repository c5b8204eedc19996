"""What clinicians decide: their own differential, a word on single rows, the diagnosis, or none.

A case closes by a clinician's verdict alone; nothing here reads a distance or a band.
"""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from diagnosis import outbox
from diagnosis.case_selectors import differential_due, ranking_shown
from diagnosis.errors import Duplicate, InvalidInput, NotReady
from diagnosis.models import (
    Answer,
    Case,
    Diagnosis,
    Differential,
    Gene,
    Patient,
    Photo,
    Syndrome,
    Tier,
    User,
    Verdict,
    patients_allowing,
)
from diagnosis.permissions import require
from diagnosis.services.audit import audit
from diagnosis.services.case import case_hold, case_hold_standing
from diagnosis.services.ledger import ledger_note
from diagnosis.services.transitions import move

TEXT_MAX = 500


def differential_record(*, user: User, case: Case, syndromes: list[Syndrome], text: str = "") -> Differential:
    """Keep what `user` thinks before the list is shown to them. Raises Duplicate once it has been shown."""
    require(user, "case.decide", case)
    if not case.differential_first:
        raise InvalidInput("This case shows its list at once, so a differential would come after it.")
    text = " ".join(text.split())[:TEXT_MAX]
    if not syndromes and not text:
        raise InvalidInput("Name at least one disorder, or write what you think.")
    with transaction.atomic():
        case_hold_standing(case)
        if not differential_due(case, user):
            raise Duplicate("Your differential is recorded already and the list is shown.")
        row = Differential.objects.create(
            case=case, user=user, text=text, syndromes=[syndrome.identifier for syndrome in syndromes]
        )
        audit(actor=user, action="case.differential", subject=f"case:{case.pk}", syndromes=len(syndromes))
    return row


def verdict_record(*, user: User, case: Case, syndrome: Syndrome, answer: str) -> Verdict:
    """Add `user`'s word on one row of the newest list; the newest word holds, older ones stay."""
    require(user, "case.decide", case)
    if answer not in Answer.values:
        raise InvalidInput("A verdict is agree, disagree or unsure.")
    with transaction.atomic():
        case_hold_standing(case)
        record = ranking_shown(case, user)
        if record is None:
            raise NotReady("There is no list to judge yet. Reload the page.")
        if syndrome.identifier not in {row["id"] for row in record.result["syndromes"]}:
            raise InvalidInput(f"{syndrome.name} is not in the list of this case. Reload the page.")
        row = Verdict.objects.create(case=case, ranking=record, syndrome=syndrome, answer=answer, user=user)
        audit(actor=user, action="verdict.recorded", subject=f"case:{case.pk}", ranking=record.pk,
              verdict=row.pk)  # fmt: skip
    return row


def diagnosis_confirm(*, user: User, case: Case, syndrome: Syndrome, gene: Gene | None = None) -> Diagnosis:
    """Close the case with a diagnosis. With consent to the gallery the patient's photos stand in it now.

    Raises Duplicate while another case of the patient holds a diagnosis, InvalidInput for a gene that the
    catalogue does not list under the syndrome, IllegalMove for a case that is closed.
    """
    require(user, "case.decide", case)
    if gene is not None and not syndrome.genes.filter(pk=gene.pk).exists():
        raise InvalidInput(
            f"The catalogue does not list {gene.symbol} under {syndrome.name}. Leave the gene empty."
        )
    try:
        with transaction.atomic():
            case_hold(case)
            move(case, "diagnosed", actor=user)
            _clear_way(case, user)
            row = Diagnosis.objects.create(
                patient=case.patient, case=case, syndrome=syndrome, gene=gene, confirmed_by=user
            )
            audit(actor=user, action="diagnosis.confirmed", subject=f"case:{case.pk}", diagnosis=row.pk)
            _tell_gallery(case.patient, "diagnosis.confirmed")
    except IntegrityError:  # two clinicians confirmed at the same moment; the first one stands
        raise Duplicate("This patient has just been given a diagnosis. Reload the page.") from None
    return row


def _clear_way(case: Case, user: User) -> None:
    """Retract a standing diagnosis that came without a case; one that belongs to another case stays."""
    for standing in Diagnosis.objects.filter(patient=case.patient, retracted_at__isnull=True):
        if standing.case_id is not None:
            raise Duplicate(
                f"Case {standing.case_id} of this patient holds the diagnosis {standing.syndrome.name}. "
                "Reopen that case first."
            )
        _retract(standing, user)


def _retract(standing: Diagnosis, user: User) -> None:
    standing.retracted_at = timezone.now()
    standing.save(update_fields=["retracted_at"])
    audit(actor=user, action="diagnosis.retracted", subject=f"patient:{standing.patient_id}",
          diagnosis=standing.pk)  # fmt: skip


def case_leave_unsolved(*, user: User, case: Case) -> Case:
    """Close the case without a diagnosis; it is ranked again after every new model or gallery."""
    require(user, "case.decide", case)
    with transaction.atomic():
        case_hold(case)
        return move(case, "left_unsolved", actor=user)


def case_reopen(*, user: User, case: Case) -> Case:
    """Open a closed case again. Its diagnosis is retracted, which takes the photos out of the gallery.

    A case that already has a list returns to it: the standing list is still what the software said.
    """
    require(user, "case.decide", case)
    with transaction.atomic():
        case_hold(case)
        move(case, "reopened", actor=user)
        for standing in Diagnosis.objects.filter(case=case, retracted_at__isnull=True):
            _retract(standing, user)
            _tell_gallery(case.patient, "diagnosis.retracted")
        if case.rankings.exists() and not _work_waits(case):
            move(case, "ranked", actor=user)
    return case


def _work_waits(case: Case) -> bool:
    """Whether a photo of the case is still to be analysed, so that a newer list is on its way."""
    return Photo.objects.filter(case=case, state__in=["received", "analysing"]).exists()


def _tell_gallery(patient: Patient, reason: str) -> None:
    """Other rooms and the patient's ledger hear of it; without consent to the gallery nothing changed."""
    if not patients_allowing(Tier.GALLERY).filter(pk=patient.pk).exists():
        return
    detail: dict[str, Any] = {"reason": reason}
    outbox.publish("gallery.changed", f"patient:{patient.pk}", **detail)
    kind = "gallery.entered" if reason == "diagnosis.confirmed" else "gallery.left"
    ledger_note(patient=patient, kind=kind)

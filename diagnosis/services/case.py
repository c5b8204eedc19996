"""Opening a case, its note, and taking its ranking out as a table."""

from __future__ import annotations

from django.db import transaction

from diagnosis.case_selectors import ranking_shown
from diagnosis.errors import ConsentMissing, InvalidInput, NotReady
from diagnosis.models import Case, Patient, RankingRecord, Tier, User, patients_allowing
from diagnosis.permissions import require
from diagnosis.services.audit import audit

NOTE_MAX = 200


def case_open(*, user: User, patient: Patient, note: str = "", differential_first: bool = False) -> Case:
    """Open a case of `patient`, owned by the patient's team.

    Raises NotAllowed for another team's patient, ConsentMissing without consent to analysis (a case
    without it could hold no photo), InvalidInput for a note that is too long.
    """
    require(user, "case.open", patient)
    with transaction.atomic():
        Patient.objects.select_for_update().filter(pk=patient.pk).first()
        if not patients_allowing(Tier.ANALYSIS).filter(pk=patient.pk).exists():
            raise ConsentMissing(
                f"{patient.code} has not agreed to the analysis of photos here. "
                "Take consent under Patients first."
            )
        case = Case.objects.create(
            patient=patient, team_id=patient.team_id, note=_checked_note(note), opened_by=user,
            differential_first=differential_first,
        )  # fmt: skip
        audit(actor=user, action="case.opened", subject=f"case:{case.pk}", patient=patient.pk,
              differential_first=differential_first)  # fmt: skip
    return case


def case_hold(case: Case) -> None:
    """Lock the patient's row, then the case's, until the transaction ends; `case` is as the row is then.

    Every verb on a case begins with it, before its first audit event, as a withdrawal does: two that took
    patient, case and audit chain in different orders would wait for each other.
    """
    Patient.objects.select_for_update().filter(pk=case.patient_id).first()
    case.refresh_from_db(from_queryset=Case.objects.select_for_update())


def case_hold_standing(case: Case) -> None:
    """case_hold, and InvalidInput once the patient has withdrawn: nothing is written about them any more."""
    case_hold(case)
    if case.state == "withdrawn":
        raise InvalidInput("The patient has withdrawn; this case is closed.")


def case_note(*, user: User, case: Case, note: str) -> Case:
    """Replace the case's note. The audit chain keeps that it changed, never its words."""
    require(user, "case.decide", case)
    text = _checked_note(note)
    with transaction.atomic():
        case_hold_standing(case)
        case.note = text
        case.save(update_fields=["note", "changed_at"])
        audit(actor=user, action="case.noted", subject=f"case:{case.pk}", length=len(text))
    return case


def _checked_note(note: str) -> str:
    text = " ".join(note.split())
    if len(text) > NOTE_MAX:
        raise InvalidInput(f"A note has at most {NOTE_MAX} characters; this one has {len(text)}.")
    return text


def ranking_export(*, user: User, case: Case, form: str) -> RankingRecord:
    """The ranking that is about to leave the screen as `form` ("csv" or "print"), once that is audited.

    Raises NotReady without a ranking, or while the user's own differential is still to be recorded.
    """
    require(user, "ranking.view", case)
    record = ranking_shown(case, user)
    if record is None:
        raise NotReady("There is no list to take out yet. Open the case to see what it waits for.")
    audit(actor=user, action=f"ranking.{form}", subject=f"case:{case.pk}", ranking=record.pk,
          extractor=record.extractor.sha256, gallery=record.gallery.number)  # fmt: skip
    return record

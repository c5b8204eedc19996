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
    if not patients_allowing(Tier.ANALYSIS).filter(pk=patient.pk).exists():
        raise ConsentMissing(
            f"{patient.code} has not agreed to the analysis of photos here. "
            "Take consent under Patients first."
        )
    with transaction.atomic():
        case = Case.objects.create(
            patient=patient, team_id=patient.team_id, note=_checked_note(note), opened_by=user,
            differential_first=differential_first,
        )  # fmt: skip
        audit(actor=user, action="case.opened", subject=f"case:{case.pk}", patient=patient.pk,
              differential_first=differential_first)  # fmt: skip
    return case


def case_note(*, user: User, case: Case, note: str) -> Case:
    """Replace the case's note. The audit chain keeps that it changed, never its words."""
    require(user, "case.decide", case)
    text = _checked_note(note)
    with transaction.atomic():
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

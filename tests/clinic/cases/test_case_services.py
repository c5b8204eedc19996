"""Cases and verdicts as services: what they write, what they refuse, and that a refusal changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from diagnosis.errors import ConsentMissing, Duplicate, InvalidInput, NotAllowed, NotReady
from diagnosis.models import (
    AuditEvent,
    Case,
    Diagnosis,
    EvidenceChanged,
    Gene,
    OutboxEvent,
    Verdict,
)
from diagnosis.selectors import for_gallery, verdicts_standing
from diagnosis.services.case import case_note, case_open, ranking_export
from diagnosis.services.verdict import (
    case_leave_unsolved,
    case_reopen,
    diagnosis_confirm,
    differential_record,
    verdict_record,
)
from diagnosis.states import IllegalMove


@pytest.fixture
def clinician(make_user: Any, team: Any) -> Any:
    return make_user(roles={"geneticist"}, team=team)


@pytest.fixture
def ranked(make_patient: Any, make_case: Any, make_photo: Any, make_ranking: Any) -> Any:
    case = make_case(make_patient(tiers={"analysis", "gallery"}))
    make_photo(case)
    make_ranking(case)
    return case


def test_a_case_belongs_to_the_patients_team_and_is_audited(clinician: Any, make_patient: Any) -> None:
    patient = make_patient()
    case = case_open(user=clinician, patient=patient, note="  second   opinion ", differential_first=True)
    assert (case.team, case.state, case.note, case.differential_first) == (
        patient.team, "open", "second opinion", True,
    )  # fmt: skip
    event = AuditEvent.objects.get(action="case.opened")
    assert event.subject == f"case:{case.pk}" and event.actor == clinician
    assert "second" not in str(event.detail)


def test_no_case_without_consent_other_team_or_role(
    clinician: Any, make_user: Any, make_patient: Any
) -> None:
    from diagnosis.models import Team

    foreign = make_patient(team=Team.objects.create(name="Elsewhere"))
    for user, patient, error in (
        (clinician, make_patient(tiers=()), ConsentMissing),
        (clinician, foreign, NotAllowed),
        (make_user(roles={"intake"}, team=clinician.teams.first()), make_patient(), NotAllowed),
    ):
        with pytest.raises(error):
            case_open(user=user, patient=patient)
    assert not Case.objects.exists() and not AuditEvent.objects.filter(action="case.opened").exists()


def test_a_note_is_short_and_its_words_stay_out_of_the_chain(clinician: Any, ranked: Any) -> None:
    case_note(user=clinician, case=ranked, note="ask the cardiologist")
    ranked.refresh_from_db()
    assert ranked.note == "ask the cardiologist"
    assert AuditEvent.objects.get(action="case.noted").detail == {"length": 20}
    with pytest.raises(InvalidInput):
        case_note(user=clinician, case=ranked, note="x" * 201)


def test_the_newest_verdict_holds_and_older_ones_stay(clinician: Any, ranked: Any, catalogue: Any) -> None:
    for answer in ("agree", "unsure", "disagree"):
        verdict_record(user=clinician, case=ranked, syndrome=catalogue[2], answer=answer)
    assert verdicts_standing(ranked, clinician) == {catalogue[2].pk: "disagree"}
    assert list(Verdict.objects.order_by("id").values_list("answer", flat=True)) == [
        "agree",
        "unsure",
        "disagree",
    ]
    row = Verdict.objects.first()
    row.answer = "disagree"
    with pytest.raises(EvidenceChanged):
        row.save()
    with pytest.raises(EvidenceChanged):
        row.delete()
    with pytest.raises(EvidenceChanged):
        Verdict.objects.update(answer="agree")
    assert Verdict.objects.first().answer == "agree"


def test_verdicts_that_make_no_sense(
    clinician: Any, ranked: Any, catalogue: Any, make_case: Any, make_patient: Any
) -> None:
    from diagnosis.models import Syndrome

    unlisted = Syndrome.objects.create(identifier="SYN:9999", name="Not in the list", synthetic=True)
    fresh = make_case(make_patient())
    for case, syndrome, answer, error in (
        (ranked, catalogue[0], "perhaps", InvalidInput),
        (ranked, unlisted, "agree", InvalidInput),
        (fresh, catalogue[0], "agree", NotReady),
    ):
        with pytest.raises(error):
            verdict_record(user=clinician, case=case, syndrome=syndrome, answer=answer)
    assert not Verdict.objects.exists()


def test_confirming_puts_photos_into_the_gallery_and_reopening_takes_them_out(
    clinician: Any, ranked: Any, catalogue: Any
) -> None:
    gene = catalogue[4].genes.get()
    assert not for_gallery().filter(patient=ranked.patient).exists()
    row = diagnosis_confirm(user=clinician, case=ranked, syndrome=catalogue[4], gene=gene)
    assert (ranked.state, row.gene, row.confirmed_by) == ("solved", gene, clinician)
    assert for_gallery().filter(patient=ranked.patient).count() == 1
    event = OutboxEvent.objects.get(kind="gallery.changed")
    assert (event.subject, event.detail) == (
        f"patient:{ranked.patient_id}",
        {"reason": "diagnosis.confirmed"},
    )
    case_reopen(user=clinician, case=ranked)
    row.refresh_from_db()
    assert ranked.state == "ranked" and row.retracted_at is not None
    assert not for_gallery().filter(patient=ranked.patient).exists()
    assert OutboxEvent.objects.filter(kind="gallery.changed").count() == 2
    actions = set(AuditEvent.objects.values_list("action", flat=True))
    assert {"diagnosis.confirmed", "diagnosis.retracted", "case.diagnosed", "case.reopened"} <= actions


def test_without_the_gallery_tier_a_diagnosis_changes_no_gallery(
    clinician: Any, make_patient: Any, make_case: Any, make_photo: Any, catalogue: Any
) -> None:
    case = make_case(make_patient(tiers={"analysis"}))
    make_photo(case)
    diagnosis_confirm(user=clinician, case=case, syndrome=catalogue[0])
    assert case.state == "solved" and not for_gallery().exists()
    assert not OutboxEvent.objects.filter(kind="gallery.changed").exists()


def test_a_second_diagnosis_needs_the_first_case_reopened(
    clinician: Any, ranked: Any, catalogue: Any, make_case: Any
) -> None:
    diagnosis_confirm(user=clinician, case=ranked, syndrome=catalogue[0])
    other = make_case(ranked.patient)
    with pytest.raises(Duplicate, match=f"Case {ranked.pk} "):
        diagnosis_confirm(user=clinician, case=other, syndrome=catalogue[1])
    other.refresh_from_db()
    assert other.state == "open" and Diagnosis.objects.get(retracted_at=None).syndrome == catalogue[0]
    with pytest.raises(IllegalMove):
        diagnosis_confirm(user=clinician, case=ranked, syndrome=catalogue[1])
    case_reopen(user=clinician, case=ranked)
    diagnosis_confirm(user=clinician, case=other, syndrome=catalogue[1])
    assert Diagnosis.objects.get(retracted_at=None).syndrome == catalogue[1]


def test_a_diagnosis_that_came_without_a_case_gives_way(clinician: Any, ranked: Any, catalogue: Any) -> None:
    known = Diagnosis.objects.create(patient=ranked.patient, syndrome=catalogue[7])
    diagnosis_confirm(user=clinician, case=ranked, syndrome=catalogue[1])
    known.refresh_from_db()
    assert known.retracted_at is not None
    assert AuditEvent.objects.filter(action="diagnosis.retracted", detail__diagnosis=known.pk).exists()


def test_a_gene_of_another_disorder_is_refused(clinician: Any, ranked: Any, catalogue: Any) -> None:
    stray = Gene.objects.create(symbol="STRAY1", synthetic=True)
    with pytest.raises(InvalidInput, match="STRAY1"):
        diagnosis_confirm(user=clinician, case=ranked, syndrome=catalogue[0], gene=stray)
    assert not Diagnosis.objects.exists()


def test_leave_unsolved_then_reopen_returns_to_the_list(clinician: Any, ranked: Any, make_photo: Any) -> None:
    assert case_leave_unsolved(user=clinician, case=ranked).state == "unsolved"
    assert case_reopen(user=clinician, case=ranked).state == "ranked"
    case_leave_unsolved(user=clinician, case=ranked)
    make_photo(ranked, state="received")
    assert case_reopen(user=clinician, case=ranked).state == "open"


def test_a_withdrawn_case_takes_no_decision(clinician: Any, ranked: Any, catalogue: Any) -> None:
    Case.objects.filter(pk=ranked.pk).update(state="withdrawn")
    ranked.refresh_from_db()
    for decide in (case_leave_unsolved, case_reopen):
        with pytest.raises(IllegalMove):
            decide(user=clinician, case=ranked)
    with pytest.raises(IllegalMove):
        diagnosis_confirm(user=clinician, case=ranked, syndrome=catalogue[0])
    with pytest.raises(InvalidInput):
        verdict_record(user=clinician, case=ranked, syndrome=catalogue[0], answer="agree")


def test_own_differential_first(
    clinician: Any,
    make_user: Any,
    team: Any,
    make_patient: Any,
    make_case: Any,
    make_ranking: Any,
    catalogue: Any,
) -> None:
    case = make_case(make_patient(), differential_first=True)
    make_ranking(case)
    colleague = make_user(roles={"geneticist"}, team=team)
    for door in (
        lambda: verdict_record(user=clinician, case=case, syndrome=catalogue[0], answer="agree"),
        lambda: ranking_export(user=clinician, case=case, form="csv"),
    ):
        with pytest.raises(NotReady):
            door()
    with pytest.raises(InvalidInput):
        differential_record(user=clinician, case=case, syndromes=[], text="  ")
    row = differential_record(user=clinician, case=case, syndromes=catalogue[3:5], text="long philtrum")
    assert row.syndromes == ["SYN:0004", "SYN:0005"]
    assert verdict_record(user=clinician, case=case, syndrome=catalogue[0], answer="unsure").pk
    with pytest.raises(Duplicate):
        differential_record(user=clinician, case=case, syndromes=catalogue[:1])
    with pytest.raises(NotReady):  # the colleague has not written theirs
        verdict_record(user=colleague, case=case, syndrome=catalogue[0], answer="agree")


def test_people_without_the_role_or_the_team_decide_nothing(
    make_user: Any, team: Any, ranked: Any, catalogue: Any
) -> None:
    from diagnosis.models import Team

    outsiders = [
        make_user(roles={"geneticist"}, team=Team.objects.create(name="Other")),
        make_user(roles={"intake", "site_admin", "auditor", "api"}, team=team, second_factor=True),
    ]
    acts = (
        (verdict_record, {"syndrome": catalogue[0], "answer": "agree"}),
        (diagnosis_confirm, {"syndrome": catalogue[0]}),
        (case_leave_unsolved, {}),
        (case_note, {"note": "x"}),
        (ranking_export, {"form": "csv"}),
    )
    for user in outsiders:
        for act, arguments in acts:
            with pytest.raises(NotAllowed):
                act(user=user, case=ranked, **arguments)
    ranked.refresh_from_db()
    assert ranked.state == "ranked" and not Verdict.objects.exists() and not Diagnosis.objects.exists()

"""Registration under a pseudonym."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.utils import timezone

from diagnosis import vault
from diagnosis.errors import Duplicate, InvalidInput, NotAllowed
from diagnosis.models import AuditEvent, Patient, Team
from diagnosis.services import people


def test_codes_run_on(register: Any, settings: Any) -> None:
    settings.SITE_SLUG = "a"
    assert [register().code for _time in range(3)] == ["A-0001", "A-0002", "A-0003"]
    register(code="A-0146")
    assert register().code == "A-0147"


def test_a_removed_patients_code_is_never_given_again(register: Any, clerk: Any, settings: Any) -> None:
    from diagnosis.services.erasure import patient_remove

    settings.SITE_SLUG = "a"
    register()
    newest = register()
    patient_remove(user=clerk, patient=newest)
    assert newest.code == "A-0002" and register().code == "A-0003"
    Patient.objects.all().delete()  # as an older database would be, brought back by a restore
    assert register().code == "A-0004"


def test_a_removed_chosen_code_is_never_given_again(register: Any, clerk: Any, settings: Any) -> None:
    from diagnosis.services.erasure import patient_remove

    settings.SITE_SLUG = "a"
    patient_remove(user=clerk, patient=register(code="A-0500"))
    assert register().code == "A-0501"


def test_identity_is_sealed_and_read_by_the_team_only(
    register: Any, make_user: Any, clerk: Any, adult_born: dt.date
) -> None:
    patient = register()
    row = Patient.objects.filter(pk=patient.pk).values().get()
    assert b"Canari" not in bytes(row.pop("sealed_identity")) and "Canari" not in repr(row)
    assert people.patient_identity(user=clerk, patient=patient) == {
        "given_name": "Canarigivena", "family_name": "Canarifamilia", "date_of_birth": adult_born.isoformat(),
    }  # fmt: skip
    stranger = make_user(roles={"intake"}, team=Team.objects.create(name="elsewhere"))
    with pytest.raises(NotAllowed):
        people.patient_identity(user=stranger, patient=patient)
    assert "Canari" not in repr(list(AuditEvent.objects.values()))


@pytest.mark.parametrize(
    "wrong",
    [
        {"given_name": " "}, {"family_name": "x" * 81}, {"sex": "robot"}, {"code": "no code"},
        {"date_of_birth": dt.date(1850, 1, 1)}, {"date_of_birth": dt.date(2999, 1, 1)},
    ],
    ids=lambda wrong: next(iter(wrong)),
)  # fmt: skip
def test_refusals_leave_nothing(register: Any, wrong: dict[str, Any], site_home: Any) -> None:
    with pytest.raises(InvalidInput):
        register(**wrong)
    assert not Patient.objects.exists()
    assert not list((site_home / "keys").glob("data/*/*"))


def test_a_taken_code_is_refused_and_its_key_destroyed(register: Any, site_home: Any) -> None:
    register(code="A-0001")
    with pytest.raises(Duplicate):
        register(code="A-0001")
    assert len(list((site_home / "keys").glob("data/*/*"))) == 1


def test_other_teams_and_roles_may_not_register(register: Any, make_user: Any, team: Any) -> None:
    for user in (make_user(roles={"intake"}), make_user(roles={"site_admin", "auditor"}, team=team)):
        with pytest.raises(NotAllowed):
            register(user=user)


@pytest.mark.parametrize(
    ("years", "signers"),
    [
        (0, ["parent", "guardian"]),
        (17, ["parent", "guardian"]),
        (18, ["self", "representative"]),
        (80, ["self", "representative"]),
    ],
)
def test_who_may_sign_follows_from_age(register: Any, years: int, signers: list[str]) -> None:
    today = timezone.localdate()
    born = dt.date(today.year - years, today.month, min(today.day, 28))
    assert people.signers_possible(register(date_of_birth=born)) == signers


def test_age_counts_completed_years() -> None:
    born = dt.date(2008, 2, 29)
    assert people.age_years(born, dt.date(2026, 2, 28)) == 17
    assert people.age_years(born, dt.date(2026, 3, 1)) == 18


def test_identity_does_not_open_under_another_patients_key(register: Any) -> None:
    one, two = register(), register()
    with pytest.raises(vault.Unreadable):
        vault.unseal(two.key, bytes(one.sealed_identity), purpose="identity")

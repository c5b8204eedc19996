"""A mistyped name or birth date can be put right; nobody learns from the chain what it was."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.urls import reverse

from diagnosis.errors import InvalidInput, NotAllowed
from diagnosis.models import AuditEvent, Patient
from diagnosis.services import consent, ledger, people
from diagnosis.services.corrections import patient_correct
from diagnosis.services.journal import issued_last

RIGHT = dt.date(1991, 2, 3)


@pytest.fixture
def signed(register: Any, agree: Any) -> Any:
    patient = register()
    agree(patient)
    return patient


def correct(user: Any, patient: Any, **changes: Any) -> Any:
    facts = {"given_name": "Canarigivena", "family_name": "Canarifamilia", "date_of_birth": RIGHT}
    return patient_correct(user=user, patient=patient, **(facts | changes))


@pytest.mark.django_db(transaction=True)
def test_the_ledger_opens_with_the_corrected_date(signed: Any, clerk: Any, adult_born: dt.date) -> None:
    code = ledger.code_of(signed)
    correct(clerk, signed, family_name="Canariright")
    assert people.patient_identity(user=clerk, patient=Patient.objects.get(pk=signed.pk)) == {
        "given_name": "Canarigivena", "family_name": "Canariright", "date_of_birth": "1991-02-03",
    }  # fmt: skip
    assert ledger.ledger_open(code=code, date_of_birth=adult_born, place="a") is None
    assert ledger.ledger_open(code=code, date_of_birth=RIGHT, place="a") == signed
    signed.refresh_from_db()
    assert issued_last()[signed.key].birth_hash == signed.birth_hash


def test_the_chain_has_the_fields_and_no_value(signed: Any, clerk: Any) -> None:
    correct(clerk, signed)
    event = AuditEvent.objects.get(action="patient.corrected")
    assert event.detail == {"fields": ["date_of_birth"]} and event.actor == clerk
    correct(clerk, signed)
    assert AuditEvent.objects.filter(action="patient.corrected").count() == 1, "nothing changed, nothing said"


def test_before_the_first_signature_there_is_no_code_to_hash(register: Any, clerk: Any) -> None:
    patient = correct(clerk, register())
    patient.refresh_from_db()
    assert (patient.ledger_code_hash, patient.birth_hash) == ("", "")


@pytest.mark.django_db(transaction=True)
def test_who_may_not_and_when_not(signed: Any, clerk: Any, make_user: Any) -> None:
    before = bytes(signed.sealed_identity)
    for stranger in (make_user(roles={"intake"}), make_user(roles={"auditor"}, team=signed.team)):
        with pytest.raises(NotAllowed):
            correct(stranger, signed)
    for wrong in ({"given_name": " "}, {"date_of_birth": dt.date(2999, 1, 1)}):
        with pytest.raises(InvalidInput):
            correct(clerk, signed, **wrong)
    signed.refresh_from_db()
    assert bytes(signed.sealed_identity) == before
    consent.consent_withdraw(user=None, patient=signed, signer="self")
    with pytest.raises(InvalidInput, match="erased"):
        correct(clerk, signed)


def test_the_page(client: Any, signed: Any, clerk: Any, register: Any) -> None:
    client.force_login(clerk)
    address = reverse("clinic:patient_correct", args=[signed.pk])
    assert address in client.get(reverse("clinic:patient_page", args=[signed.pk])).content.decode()
    assert 'value="Canarifamilia"' in client.get(address).content.decode()
    data = {"given_name": "Canarigivena", "family_name": "Canariright", "date_of_birth": "1991-02-03"}
    assert client.post(address, data | {"date_of_birth": "2999-01-01"}).status_code == 400
    answer = client.post(address, data)
    assert "Canariright" in client.get(answer["Location"]).content.decode()

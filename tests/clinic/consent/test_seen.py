"""Whoever looks at a patient's face or name leaves a trace; the patient reads of the face in the ledger."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import time_machine
from django.urls import reverse
from django.utils import timezone

from diagnosis.errors import Unreadable
from diagnosis.models import AuditEvent, LedgerEntry
from diagnosis.services import composite, consent, ledger

SHOWN = "A photo was shown to doctors here as a similar face."


@pytest.fixture
def photo(register: Any, agree: Any, make_photo: Any, diagnose: Any) -> Any:
    """A photo that stands in the gallery."""
    patient = register()
    agree(patient, {"analysis", "gallery"})
    diagnose(patient)
    return make_photo(patient)


@pytest.fixture
def doctors(make_user: Any, photo: Any) -> Any:
    return [make_user(roles={"geneticist"}, team=photo.patient.team) for _number in range(2)]


def counts() -> tuple[int, int]:
    notes = LedgerEntry.objects.filter(kind="lookalike.shown").count()
    return notes, AuditEvent.objects.filter(action="gallery.viewed").count()


def test_a_face_shown_is_noted_once_a_day_and_audited_per_viewer(photo: Any, doctors: Any) -> None:
    noon = timezone.localtime().replace(hour=12)
    with time_machine.travel(noon):
        for _time in range(3):
            composite.gallery_crop(user=doctors[0], photo=photo.pk)
        assert counts() == (1, 1)
        composite.gallery_crop(user=doctors[1], photo=photo.pk)
        assert counts() == (1, 2)
    with time_machine.travel(noon + dt.timedelta(days=1)):
        composite.gallery_crop(user=doctors[0], photo=photo.pk)
    assert counts() == (2, 3)
    assert [line.text for line in ledger.ledger_read(photo.patient)].count(SHOWN) == 2
    viewers = AuditEvent.objects.filter(action="gallery.viewed", subject=f"photo:{photo.pk}")
    assert {event.actor for event in viewers} == set(doctors)


def test_each_photo_counts_for_itself(photo: Any, doctors: Any, make_photo: Any) -> None:
    second = make_photo(photo.patient)
    for shown in (photo, second):
        composite.gallery_crop(user=doctors[0], photo=shown.pk)
    assert counts() == (2, 2)


def test_what_is_not_shown_is_not_noted(photo: Any, doctors: Any, clerk: Any) -> None:
    consent.consent_narrow(user=None, patient=photo.patient, tier="gallery")
    with pytest.raises(Unreadable):
        composite.gallery_crop(user=doctors[0], photo=photo.pk)
    assert counts() == (0, 0)


def test_leaving_the_gallery_in_between_shows_nothing(photo: Any, doctors: Any, monkeypatch: Any) -> None:
    """The picture was opened, and the patient took it back before it was sent."""
    real = composite._sealed_crop

    def slow(row: Any) -> bytes:
        crop = real(row)
        consent.consent_narrow(user=None, patient=photo.patient, tier="gallery")
        return crop

    monkeypatch.setattr(composite, "_sealed_crop", slow)
    with pytest.raises(Unreadable):
        composite.gallery_crop(user=doctors[0], photo=photo.pk)
    assert counts() == (0, 0)


def test_reading_a_name_is_audited_without_it(client: Any, register: Any, clerk: Any, marks: Any) -> None:
    patient = register()
    client.force_login(clerk)
    address = reverse("clinic:patient_page", args=[patient.pk])
    for _time in range(2):
        assert marks.family in client.get(address).content.decode()
    event = AuditEvent.objects.get(action="patient.viewed")
    assert (event.actor, event.subject, event.detail) == (clerk, f"patient:{patient.pk}", {})
    client.get(reverse("clinic:patient_list"))
    assert AuditEvent.objects.filter(action="patient.viewed").count() == 1

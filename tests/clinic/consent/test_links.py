"""The one-time link: made, opened, used once, expired, replaced, and useless in the wrong hands."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import time_machine
from django.urls import reverse
from django.utils import timezone

from diagnosis.errors import InvalidInput, NotAllowed
from diagnosis.models import AuditEvent, Consent, IntakeLink
from diagnosis.services import consent, intake_links


def token_of(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


@pytest.fixture
def link(register: Any, clerk: Any) -> tuple[Any, str]:
    patient = register()
    return patient, token_of(consent.link_create(user=clerk, patient=patient, language="de"))


def test_only_a_hash_is_kept(link: tuple[Any, str]) -> None:
    _patient, token = link
    stored = repr(IntakeLink.objects.values().get()) + repr(list(AuditEvent.objects.values()))
    assert len(token) >= 43 and token not in stored
    assert consent.link_find(token).language == "de"


def test_used_once_at_signing(link: tuple[Any, str], agree: Any) -> None:
    patient, token = link
    for _time in range(3):  # opening does not use it up
        row = consent.link_find(token)
    agree(patient, user=None, link=row)
    for attempt in (lambda: consent.link_find(token), lambda: agree(patient, user=None, link=row)):
        with pytest.raises(consent.LinkRefused, match="used already") as refused:
            attempt()
        assert refused.value.reason == "used"
    assert Consent.objects.count() == 1


def test_a_refused_signature_does_not_use_it_up(link: tuple[Any, str], agree: Any) -> None:
    patient, token = link
    with pytest.raises(InvalidInput):
        agree(patient, set(), user=None, link=consent.link_find(token))
    assert consent.link_find(token).used_at is None


def test_expired(link: tuple[Any, str], agree: Any) -> None:
    patient, token = link
    row = consent.link_find(token)
    with time_machine.travel(timezone.now() + dt.timedelta(days=14, seconds=1)):
        for attempt in (lambda: consent.link_find(token), lambda: agree(patient, user=None, link=row)):
            with pytest.raises(consent.LinkRefused, match="too old") as refused:
                attempt()
            assert refused.value.reason == "expired"
    with time_machine.travel(timezone.now() + dt.timedelta(days=13, hours=23)):
        assert consent.link_find(token)


def test_a_new_link_replaces_the_old_one(link: tuple[Any, str], clerk: Any) -> None:
    patient, token = link
    newer = token_of(consent.link_create(user=clerk, patient=patient, language="en"))
    with pytest.raises(consent.LinkRefused):
        consent.link_find(token)
    assert consent.link_find(newer).patient == patient


def test_a_link_signs_for_its_own_patient_only(link: tuple[Any, str], register: Any, agree: Any) -> None:
    _patient, token = link
    with pytest.raises(consent.LinkRefused, match="somebody else"):
        agree(register(), user=None, link=consent.link_find(token))


def test_who_may_make_links(register: Any, make_user: Any, clerk: Any, agree: Any) -> None:
    patient = register()
    with pytest.raises(NotAllowed):
        consent.link_create(user=make_user(roles={"intake"}), patient=patient, language="en")
    agree(patient)
    consent.consent_withdraw(user=clerk, patient=patient, signer="self")
    with pytest.raises(InvalidInput):
        consent.link_create(user=clerk, patient=patient, language="en")


def test_pages_say_why_a_link_does_not_open(client: Any, link: tuple[Any, str], agree: Any) -> None:
    patient, token = link
    address = reverse("clinic:intake_open", args=[token])
    assert client.get(address).status_code == 200
    unknown = client.get(reverse("clinic:intake_open", args=["x" * 43]))
    assert unknown.status_code == 404 and "nicht vollständig" in unknown.content.decode()
    agree(patient, user=None, link=consent.link_find(token))
    used = client.get(address)
    assert used.status_code == 410 and "schon benutzt" in used.content.decode()


def test_the_welcome_page_names_nobody_and_asks_the_birth_date(
    client: Any, link: tuple[Any, str], adult_born: dt.date, marks: Any
) -> None:
    patient, token = link
    address = reverse("clinic:intake_open", args=[token])
    page = client.get(address).content.decode()
    assert marks.given not in page and marks.family not in page and patient.code not in page
    wrong = client.post(address, {"day": 1, "month": 1, "year": 2001})
    assert wrong.status_code == 200 and "passt nicht zu diesem Link" in wrong.content.decode()
    assert "intake" not in client.session
    right = client.post(address, {"day": adult_born.day, "month": adult_born.month, "year": adult_born.year})
    assert right.status_code == 302 and client.session["intake"]["patient"] == patient.pk


def test_birth_dates_cannot_be_tried_out(link: tuple[Any, str], adult_born: dt.date) -> None:
    patient, _token = link
    with time_machine.travel("2026-11-20 10:00:00+00:00", tick=False):
        for number in range(intake_links.LINK_TRIES):
            place = f"10.0.0.{number}"
            assert not intake_links.birth_check(
                patient=patient, date_of_birth=dt.date(1990, 1, 1), place=place
            )
        with pytest.raises(intake_links.ClinicError, match="Too many tries"):
            intake_links.birth_check(patient=patient, date_of_birth=adult_born, place="10.1.0.1")


def test_links_are_not_opened_in_bulk(client: Any, db: None) -> None:
    statuses = [client.get(reverse("clinic:intake_open", args=[f"guess{n}"])).status_code for n in range(31)]
    assert set(statuses[:30]) == {404} and statuses[30] == 429

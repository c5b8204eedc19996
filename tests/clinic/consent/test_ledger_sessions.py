"""When an open ledger closes, and that nothing of it stays usable on the device."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import time_machine
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from diagnosis.services import ledger

ENTRANCE = "/ledger/"


@pytest.fixture
def opened(register: Any, agree: Any, adult_born: dt.date) -> tuple[Client, Any]:
    patient = register()
    agree(patient, {"analysis", "gallery"})
    client = Client()
    enter(client, patient, adult_born)
    return client, patient


def enter(client: Client, patient: Any, born: dt.date) -> None:
    data = {"code": ledger.code_of(patient), "day": born.day, "month": born.month, "year": born.year}
    assert client.post(reverse("clinic:ledger_enter"), data)["Location"] == reverse("clinic:ledger_page")


def page(name: str) -> str:
    return reverse("clinic:intake_page", args=[name])


def test_closing_the_ledger_closes_the_form_opened_from_it(opened: tuple[Client, Any]) -> None:
    client, _patient = opened
    client.post(reverse("clinic:ledger_change"))
    assert client.get(page("who")).status_code == 200
    client.post(reverse("clinic:ledger_leave"))
    assert "ledger" not in client.session and "intake" not in client.session
    for address in (page("who"), reverse("clinic:intake_now"), reverse("clinic:intake_done")):
        assert client.get(address)["Location"] == reverse("clinic:intake_end"), address


def test_a_form_from_the_ledger_dies_with_the_ledger(opened: tuple[Client, Any]) -> None:
    """However the ledger ended: the form opens for nobody without it."""
    client, _patient = opened
    client.post(reverse("clinic:ledger_change"))
    session = client.session
    session.pop("ledger")
    session.save()
    assert client.get(page("who"))["Location"] == reverse("clinic:intake_end")


def test_another_patients_ledger_does_not_carry_the_form(
    opened: tuple[Client, Any], register: Any, agree: Any, adult_born: dt.date
) -> None:
    client, patient = opened
    client.post(reverse("clinic:ledger_change"))
    begun = client.session["intake"]
    other = register()
    agree(other)
    enter(client, other, adult_born)
    assert "intake" not in client.session
    session = client.session
    session["intake"] = begun
    session.save()
    assert begun["patient"] == patient.pk
    assert client.get(page("who"))["Location"] == reverse("clinic:intake_end")


def test_filling_in_the_form_keeps_the_ledger_open(opened: tuple[Client, Any]) -> None:
    client, _patient = opened
    start = timezone.now()
    client.post(reverse("clinic:ledger_change"))
    for minutes in (15, 30, 45):
        with time_machine.travel(start + dt.timedelta(minutes=minutes)):
            assert client.get(page("who")).status_code == 200, minutes


def test_a_new_code_closes_what_the_old_one_opened(opened: tuple[Client, Any], clerk: Any) -> None:
    """A lost code may be in somebody else's hands, and so may the session it opened."""
    client, patient = opened
    client.post(reverse("clinic:ledger_change"))
    ledger.code_reissue(user=clerk, patient=patient)
    assert client.get(page("who"))["Location"] == reverse("clinic:intake_end")
    assert client.get(reverse("clinic:ledger_page"))["Location"] == ENTRANCE
    assert client.post(reverse("clinic:ledger_withdraw"), {"step": "confirm"})["Location"] == ENTRANCE
    patient.refresh_from_db()
    assert patient.state == "given"


def test_no_ledger_stays_open_for_more_than_two_hours(opened: tuple[Client, Any]) -> None:
    client, _patient = opened
    start = timezone.now()
    for minutes in range(10, 120, 10):
        with time_machine.travel(start + dt.timedelta(minutes=minutes)):
            assert client.get(reverse("clinic:ledger_page")).status_code == 200, minutes
    with time_machine.travel(start + dt.timedelta(minutes=121)):
        assert client.get(reverse("clinic:ledger_page"))["Location"] == ENTRANCE

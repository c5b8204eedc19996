"""Whatever goes wrong on a patient's page is said in the patient's language, in the patient's pages' dress."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from diagnosis.consent_forms import flow
from diagnosis.errors import InvalidInput, NotAllowed, Unreadable
from diagnosis.services import consent
from diagnosis.views import ledger

GERMAN = {"HTTP_ACCEPT_LANGUAGE": "de"}


def is_german(answer: Any, *words: str) -> bool:
    page = answer.content.decode()
    return '<html lang="de">' in page and "css/intake.css" in page and all(word in page for word in words)


@pytest.mark.parametrize("address", ["/ledger/nothing/", "/i/", "/intake/a/b/c/"])
def test_nothing_at_the_address(client: Client, db: None, address: str) -> None:
    answer = client.get(address, **GERMAN)
    assert answer.status_code == 404 and is_german(answer, "Unter dieser Adresse gibt es nichts")


def test_a_view_that_finds_nothing(client: Client, register: Any, agree: Any, clerk: Any) -> None:
    client.force_login(clerk)
    client.post(reverse("clinic:patient_tablet", args=[register().pk]), {"language": "de"})
    answer = client.get(reverse("clinic:intake_pdf"), HTTP_ACCEPT_LANGUAGE="en")
    assert answer.status_code == 404 and is_german(answer), "the language of the visit, not of the browser"


def test_a_form_without_its_token(db: None) -> None:
    answer = Client(enforce_csrf_checks=True).post(reverse("clinic:ledger_enter"), {}, **GERMAN)
    assert answer.status_code == 403 and is_german(answer, "Die Seite war zu lange geöffnet")


def test_a_crash(db: None, monkeypatch: Any) -> None:
    def broken(*args: Any) -> None:
        raise RuntimeError("CANARY in a message")

    monkeypatch.setattr(ledger, "place_of", broken)
    data = {"code": "x" * 16, "day": 1, "month": 2, "year": 1990}
    answer = Client(raise_request_exception=False).post(reverse("clinic:ledger_enter"), data, **GERMAN)
    assert answer.status_code == 500 and is_german(answer, "Hier ist etwas schiefgegangen")
    assert "CANARY" not in answer.content.decode()


@pytest.mark.parametrize(("error", "status", "shown"), [
    (InvalidInput("Ein Satz für Patienten."), InvalidInput.status, "Ein Satz für Patienten."),
    (Unreadable("This was erased."), Unreadable.status, "fangen Sie noch einmal von vorn an"),
    (NotAllowed("Ask a site admin."), NotAllowed.status, "fragen Sie das Krankenhaus"),
], ids=["told", "unreadable", "not allowed"])  # fmt: skip
def test_errors_that_a_view_let_through(
    db: None, client: Client, monkeypatch: Any, error: Exception, status: int, shown: str
) -> None:
    def refuse(*args: Any) -> None:
        raise error

    monkeypatch.setattr(ledger, "place_of", refuse)
    data = {"code": "x" * 16, "day": 1, "month": 2, "year": 1990}
    answer = client.post(reverse("clinic:ledger_enter"), data, **GERMAN)
    assert answer.status_code == status and is_german(answer, shown)
    assert "site admin" not in answer.content.decode()


def test_a_used_link_at_the_no_is_told_in_the_visits_language(
    client: Client, register: Any, clerk: Any, adult_born: Any
) -> None:
    """The link is used up elsewhere while its form is open here; the last page says no."""
    patient = register()
    link = consent.link_create(user=clerk, patient=patient, language="de")
    client.post(link, {"day": adult_born.day, "month": adult_born.month, "year": adult_born.year})
    for name, answer in (("who", "self"), ("about", ""), ("photo", ""), ("analysis", "no")):
        client.post(reverse("clinic:intake_page", args=[name]), {"answer": answer})
    assert flow.intake_pages({"analysis": "no"})[-1] == "declined"
    patient.links.update(expires_at="2020-01-01T00:00:00Z")
    answer = client.post(reverse("clinic:intake_page", args=["declined"]))
    assert answer.status_code == 410 and is_german(answer, "Das ist jetzt nicht möglich")


def test_staff_keep_their_pages(client: Client, db: None) -> None:
    answer = client.get("/no/such/page/", **GERMAN)
    assert answer.status_code == 404 and "There is no such page" in answer.content.decode()


@pytest.mark.parametrize("secure", [True, False])
def test_the_language_cookie_follows_the_settings(
    client: Client, db: None, settings: Any, secure: bool
) -> None:
    settings.LANGUAGE_COOKIE_SECURE = secure
    answer = client.post(reverse("clinic:language"), {"language": "de", "next": "/ledger/"})
    cookie = answer.cookies[settings.LANGUAGE_COOKIE_NAME]
    assert bool(cookie["secure"]) is secure and cookie["httponly"] and cookie["samesite"] == "Lax"

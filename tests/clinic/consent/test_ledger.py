"""The ledger: its lines, its code, and a door that says nothing to those who guess."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import time_machine
from django.urls import reverse
from django.utils import translation

from diagnosis.errors import InvalidInput, NotAllowed
from diagnosis.models import AuditEvent, LedgerEntry, Patient
from diagnosis.registries import ledger_lines
from diagnosis.services import consent, ledger


@pytest.fixture
def opened(register: Any, agree: Any) -> tuple[Any, str]:
    patient = register()
    agree(patient, {"analysis", "gallery"})
    return patient, ledger.code_of(patient)


def test_the_code_opens_with_the_birth_date_only(opened: Any, adult_born: dt.date) -> None:
    patient, code = opened
    found = ledger.ledger_open(code=code, date_of_birth=adult_born, place="a")
    assert found == patient
    spelled = code.lower().replace("-", " ").replace("0", "o").replace("1", "l")
    assert ledger.ledger_open(code=spelled, date_of_birth=adult_born, place="a") == patient
    assert ledger.ledger_open(code=code, date_of_birth=dt.date(1999, 1, 1), place="a") is None
    assert ledger.ledger_open(code="AAAA-AAAA-AAAA-AAAA", date_of_birth=adult_born, place="a") is None


def test_neither_code_nor_birth_date_lies_open(opened: Any, adult_born: dt.date) -> None:
    patient, code = opened
    row = repr(Patient.objects.filter(pk=patient.pk).values().get())
    assert code not in row and code.replace("-", "") not in row and adult_born.isoformat() not in row
    assert ledger._birth_hash(code, adult_born.isoformat()) == patient.birth_hash
    other = ledger._birth_hash("another code", adult_born.isoformat())
    assert other != patient.birth_hash, "the birth date alone must not be guessable from its hash"


def test_codes_are_random_and_unambiguous() -> None:
    codes = {ledger._new_code() for _time in range(300)}
    assert len(codes) == 300
    assert all(len(code) == 19 and set(code) <= set(ledger.ALPHABET + "-") for code in codes)
    assert not set("ILOU") & set(ledger.ALPHABET) and len(set(ledger.ALPHABET)) == 32


def test_five_wrong_dates_lock_the_code_and_are_audited(opened: Any, adult_born: dt.date) -> None:
    patient, code = opened
    with time_machine.travel("2026-11-20 10:00:00+00:00", tick=False) as clock:
        for day in range(1, 6):
            assert ledger.ledger_open(code=code, date_of_birth=dt.date(1990, 1, day), place=f"p{day}") is None
        with pytest.raises(ledger.TooManyTries):
            ledger.ledger_open(code=code, date_of_birth=adult_born, place="q")
        locked = AuditEvent.objects.filter(action="ledger.code_locked")
        assert [event.subject for event in locked] == [f"patient:{patient.pk}"]
        clock.shift(3601)
        assert ledger.ledger_open(code=code, date_of_birth=adult_born, place="q") == patient


def test_unknown_codes_lock_like_known_ones(opened: Any) -> None:
    for day in range(1, 6):
        ledger.ledger_open(code="7777-7777-7777-7777", date_of_birth=dt.date(1990, 1, day), place=f"p{day}")
    with pytest.raises(ledger.TooManyTries):
        ledger.ledger_open(code="7777-7777-7777-7777", date_of_birth=dt.date(1990, 1, 9), place="x")


def test_ten_tries_a_minute_from_one_place(opened: Any, adult_born: dt.date) -> None:
    patient, code = opened
    with time_machine.travel("2026-11-20 10:00:00+00:00", tick=False) as clock:
        for number in range(10):
            ledger.ledger_open(code=f"{number}" * 16, date_of_birth=adult_born, place="10.0.0.1")
        with pytest.raises(ledger.TooManyTries):
            ledger.ledger_open(code=code, date_of_birth=adult_born, place="10.0.0.1")
        assert ledger.ledger_open(code=code, date_of_birth=adult_born, place="10.0.0.2") == patient
        clock.shift(61)
        assert ledger.ledger_open(code=code, date_of_birth=adult_born, place="10.0.0.1") == patient
    event = AuditEvent.objects.get(action="ledger.locked")
    assert "10.0.0.1" not in repr(event.detail)


def test_both_hashes_are_always_computed(opened: Any, adult_born: dt.date, monkeypatch: Any) -> None:
    """The same work for a known code, an unknown code and a wrong date: nothing to measure."""
    _patient, code = opened
    counted: list[str] = []
    real = ledger.vault.keyed_hash
    monkeypatch.setattr(
        ledger.vault, "keyed_hash", lambda purpose, data: counted.append(purpose) or real(purpose, data)
    )
    work = []
    for entered, born in ((code, dt.date(1990, 1, 1)), ("8888-8888-8888-8888", adult_born)):
        counted.clear()
        assert ledger.ledger_open(code=entered, date_of_birth=born, place="z") is None
        work.append(list(counted))
    assert work[0] == work[1] == ["rate-limit", "ledger-code", "ledger-birth"]


def test_wrong_code_and_wrong_date_get_the_same_page(client: Any, opened: Any, adult_born: dt.date) -> None:
    _patient, code = opened
    pages = []
    for entered, year in (("9999-9999-9999-9999", adult_born.year), (code, 1950)):
        data = {"code": entered, "day": adult_born.day, "month": adult_born.month, "year": year}
        answer = client.post(reverse("clinic:ledger_enter"), data)
        text = answer.content.decode().replace(entered, "CODE").replace(f'value="{year}"', 'value="YEAR"')
        pages.append((answer.status_code, [line for line in text.splitlines() if "csrf" not in line]))
    assert pages[0] == pages[1] and pages[0][0] == 400


def test_reissued_by_staff(
    opened: Any, clerk: Any, make_user: Any, adult_born: dt.date, register: Any
) -> None:
    patient, old = opened
    new = ledger.code_reissue(user=clerk, patient=patient)
    assert ledger.ledger_open(code=old, date_of_birth=adult_born, place="a") is None
    assert ledger.ledger_open(code=new, date_of_birth=adult_born, place="a") == patient
    assert ledger.code_of(patient) == new
    with pytest.raises(NotAllowed):
        ledger.code_reissue(user=make_user(roles={"intake"}), patient=patient)
    with pytest.raises(InvalidInput):
        ledger.code_reissue(user=clerk, patient=register())


def test_the_code_still_opens_after_withdrawal(opened: Any, adult_born: dt.date) -> None:
    patient, code = opened
    consent.consent_withdraw(user=None, patient=patient, signer="self")
    found = ledger.ledger_open(code=code, date_of_birth=adult_born, place="a")
    assert found == patient
    assert [line.text for line in ledger.ledger_read(found)][1:] == [
        "You withdrew your agreement.", "You agreed, and signed the form.",
    ]  # fmt: skip


def test_lines_are_counted_per_day_and_translated(opened: Any) -> None:
    patient, _code = opened
    for _time in range(3):
        ledger.ledger_note(patient=patient, kind="lookalike.shown")
    lines = ledger.ledger_read(patient)
    assert [(line.count, line.text) for line in lines] == [
        (3, "A photo was shown to doctors here as a similar face."), (1, "You agreed, and signed the form."),
    ]  # fmt: skip
    with translation.override("de"):
        assert ledger.ledger_read(patient)[1].text == "Sie haben zugestimmt und das Formular unterschrieben."


def test_other_rooms_add_lines_and_unknown_kinds_are_not_lost(opened: Any) -> None:
    patient, _code = opened
    with pytest.raises(ValueError, match="register"):
        ledger.ledger_note(patient=patient, kind="round.used")
    ledger_lines.register("round.used", lambda detail: f"Used in round {detail['round']}.")
    try:
        ledger.ledger_note(patient=patient, kind="round.used", round=7)
        assert ledger.ledger_read(patient)[0].text == "Used in round 7."
    finally:
        ledger_lines._entries.pop("round.used")
    assert "ask the hospital" in ledger.ledger_read(patient)[0].text
    assert LedgerEntry.objects.filter(patient=patient).count() == 2

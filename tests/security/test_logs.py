"""From registration to withdrawal with every logger at DEBUG: no name, token, picture or number leaks."""

from __future__ import annotations

import base64
import datetime as dt
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from diagnosis.models import Embedding, Patient

SECRETS = ("Canarygiven", "Canaryfamily", "2019-05-17", "Canarysigner", "Canarynote")


def everything_logged(caplog: pytest.LogCaptureFixture) -> str:
    """Messages with their arguments, and the tracebacks."""
    formatter = logging.Formatter("%(name)s %(message)s")
    return "\n".join(formatter.format(record) + repr(record.args) for record in caplog.records)


@pytest.fixture
def everything_at_debug(settings: Any) -> Iterator[None]:
    """Every logger that exists at DEBUG, except those that the settings pin."""
    names = [name for name in logging.root.manager.loggerDict if name not in settings.LOGGING["loggers"]]
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def test_no_log_tells_who_or_what(
    caplog: pytest.LogCaptureFixture, make_user: Any, team: Any, make_gallery: Any, photo_bytes: Any,
    run_jobs: Any, sign: Any, everything_at_debug: None,
) -> None:  # fmt: skip
    from diagnosis import engine
    from diagnosis.services.consent import consent_withdraw
    from diagnosis.services.people import patient_register
    from diagnosis.services.users import token_create

    make_gallery(syndromes=2)
    staff = make_user(roles={"geneticist", "intake"}, team=team)
    account = make_user(roles={"api"})
    with caplog.at_level(logging.DEBUG):
        token = token_create(user=None, target=account, label="test")
        patient = patient_register(
            user=staff, team=team, given_name="Canarygiven", family_name="Canaryfamily",
            date_of_birth=dt.date(2019, 5, 17), sex="female",
        )  # fmt: skip
        sign(patient, {"analysis"})
        client = Client(raise_request_exception=False)
        client.force_login(staff)
        opened = {"patient": patient.code, "note": "Canarynote"}
        case = client.post("/api/cases/", json.dumps(opened), content_type="application/json").json()["id"]
        from django.core.files.uploadedfile import SimpleUploadedFile

        upload = {"photo": SimpleUploadedFile("Canaryfamily.jpg", photo_bytes(), "image/jpeg")}
        photo = client.post(f"/api/cases/{case}/photos/", upload).json()["id"]
        run_jobs()
        rows = engine.open_rows(Embedding.objects.select_related("photo", "extractor").get(photo=photo))
        for path in (
            f"/cases/{case}/",
            f"/patients/{patient.pk}/",
            f"/api/cases/{case}/ranking/",
            "/nowhere/",
        ):
            client.get(path)
        body = json.dumps({"img": base64.b64encode(photo_bytes()).decode()})
        headers = {"Authorization": f"Bearer {token}", "X-Legal-Basis": "treatment"}
        caller = Client()
        for sent, known, status in ((body, headers, 200), ("{", headers, 400), (body, {}, 401)):
            answer = caller.post("/predict", sent, content_type="application/json", headers=known)
            assert answer.status_code == status
        consent_withdraw(user=staff, patient=Patient.objects.get(pk=patient.pk), signer="parent",
                         signer_name="Canarysigner")  # fmt: skip
    text = everything_logged(caplog)
    assert caplog.records, "nothing was logged at all, so nothing was tested"
    for secret in (*SECRETS, token, base64.b64encode(photo_bytes())[:64].decode(), body[:60]):
        place = text.find(secret)
        assert place < 0, text[max(place - 600, 0) : place + 100]
    assert "JFIF" not in text and "\\xff\\xd8" not in text
    assert not any(f"{value:.6f}" in text for value in rows[0][:50].tolist())


def test_no_log_level_reaches_what_writes_page_contexts_and_sql(settings: Any) -> None:
    for name in ("django.template", "django.db.backends"):
        assert settings.LOGGING["loggers"][name]["level"] == "INFO"
        assert logging.getLogger(name).getEffectiveLevel() >= logging.INFO

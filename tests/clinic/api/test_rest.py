"""The REST API: the clinic's services over JSON, with versions in every answer and no name in any."""

from __future__ import annotations

import json

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from diagnosis.models import Embedding, Patient, Photo, Syndrome, Verdict


@pytest.fixture
def door(api_account, speak, team):
    """A client with the token of an API account that is also a geneticist of the team."""
    user, token = api_account(roles={"geneticist"}, team=team)
    client = speak(token)
    client.user = user
    return client


def sent(client: Client, path: str, body: object) -> object:
    return client.post(path, json.dumps(body), content_type="application/json")


def upload(client: Client, case: int, data: bytes, **fields: object) -> object:
    body = {"photo": SimpleUploadedFile("photo.jpg", data, "image/jpeg"), **fields}
    return client.post(f"/api/cases/{case}/photos/", body)


def test_a_list_of_patients_asks_for_consent_once_and_names_what_holds_now(
    door, make_patient, team, sign, django_assert_max_num_queries
) -> None:
    tiers = [{"analysis"}, {"analysis", "gallery"}, set(), {"analysis", "training"}]
    patients = [make_patient(team=team, tiers=chosen) for chosen in tiers]
    sign(patients[1], {"analysis"})  # the newest word holds
    sign(patients[3], set())  # withdrawn
    with django_assert_max_num_queries(12):
        rows = {row["id"]: row["tiers"] for row in door.get("/api/patients/").json()["results"]}
    allowed = [{name for name, yes in rows[patient.pk].items() if yes} for patient in patients]
    assert allowed == [{"analysis"}, {"analysis"}, set(), set()]
    one = door.get(f"/api/patients/{patients[0].pk}/").json()["tiers"]
    assert one == rows[patients[0].pk] and len(one) == 5


def test_the_list_of_rankings_reads_no_rows(door, team, make_patient, make_case, make_gallery, photo_bytes,
                                            run_jobs, extractor) -> None:  # fmt: skip
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    make_gallery(syndromes=3)
    case = make_case(make_patient())
    upload(door, case.pk, photo_bytes())
    run_jobs()
    with CaptureQueriesContext(connection) as asked:
        assert door.get(f"/api/cases/{case.pk}/rankings/").json()["count"] == 1
    assert not [query for query in asked if '"result"' in query["sql"]]
    assert len(door.get(f"/api/cases/{case.pk}/ranking/").json()["syndromes"]) == 3


def test_from_registration_to_diagnosis(
    door, team, sign, make_gallery, photo_bytes, run_jobs, extractor
) -> None:
    make_gallery(syndromes=8)
    person = {"given_name": "Canarygiven", "family_name": "Canaryfamily", "date_of_birth": "2019-05-17",
              "sex": "female"}  # fmt: skip
    registered = sent(door, "/api/patients/", person)
    assert registered.status_code == 201, registered.content
    code = registered.json()["code"]
    assert sent(door, "/api/cases/", {"patient": code}).status_code == 403  # no consent yet
    sign(Patient.objects.get(code=code), {"analysis"})
    opened = sent(door, "/api/cases/", {"patient": code, "note": "from a script"})
    assert opened.status_code == 201 and opened.json()["state"] == "open"
    case = opened.json()["id"]
    assert door.get(f"/api/cases/{case}/ranking/").status_code == 404
    added = upload(door, case, photo_bytes(), age_months=60)
    assert added.status_code == 201 and added.json()["state"] == "received", added.content
    assert upload(door, case, photo_bytes()).status_code == 409  # the same picture again
    jobs = door.get(f"/api/cases/{case}/jobs/").json()["results"]
    assert [(job["kind"], job["state"]) for job in jobs] == [("analyse_photo", "queued")]
    run_jobs()
    photo = door.get(f"/api/cases/{case}/photos/").json()["results"][0]
    assert photo["state"] == "ready" and photo["quality"] > 0.2 and photo["refusal"] is None
    assert len(photo["landmarks"]) == 5 and photo["age_months"] == 60
    ranking = door.get(f"/api/cases/{case}/ranking/").json()
    assert [row["rank"] for row in ranking["syndromes"]] == list(range(1, 9))
    assert ranking["model"] == {"name": extractor.name, "sha256": extractor.sha256, "synthetic": True}
    assert ranking["gallery"]["patients"] == 8 and ranking["consent"] and ranking["photos"] == [photo["id"]]
    assert "Similarity is not probability" in ranking["notices"][0]
    assert all(len(row["lookalikes"]) == 1 for row in ranking["syndromes"])
    history = door.get(f"/api/cases/{case}/rankings/").json()
    assert history["count"] == 1 and "syndromes" not in history["results"][0]
    one = door.get(f"/api/cases/{case}/rankings/{ranking['id']}/").json()
    assert one["syndromes"] == ranking["syndromes"]
    first = ranking["syndromes"][0]["id"]
    judged = sent(door, f"/api/cases/{case}/verdicts/", {"syndrome": first, "answer": "agree"})
    assert judged.status_code == 201 and judged.json()["ranking"] == ranking["id"]
    assert Verdict.objects.get().user == door.user
    assert door.get(f"/api/cases/{case}/verdicts/").json()["count"] == 1
    assert door.get(f"/api/cases/{case}/diagnosis/").json()["diagnosis"] is None
    confirmed = sent(door, f"/api/cases/{case}/diagnosis/", {"syndrome": first})
    assert confirmed.status_code == 201 and confirmed.json()["diagnosis"]["syndrome"] == first
    assert sent(door, f"/api/cases/{case}/diagnosis/", {"syndrome": first}).status_code == 409
    assert door.get(f"/api/cases/{case}/").json()["state"] == "solved"


def test_a_lookalike_who_withdraws_is_not_named_any_more(
    door, make_patient, make_case, make_gallery, photo_bytes, run_jobs, make_user
) -> None:
    from diagnosis.services.consent import consent_withdraw

    make_gallery(syndromes=3)
    case = make_case(make_patient())
    upload(door, case.pk, photo_bytes())
    run_jobs()
    before = door.get(f"/api/cases/{case.pk}/ranking/").json()
    row = before["patients"][0]
    consent_withdraw(user=door.user, patient=Patient.objects.get(code=row["patient"]), signer="self")
    after = door.get(f"/api/cases/{case.pk}/ranking/")
    assert row["patient"] not in after.content.decode()
    assert after.json()["patients"][0] == row | {"patient": None}
    assert after.json()["syndromes"][0]["lookalikes"] == []


def test_correct_show_and_erase_a_photo(
    door, make_patient, make_case, extractor, photo_bytes, run_jobs
) -> None:
    case = make_case(make_patient())
    pk = upload(door, case.pk, photo_bytes()).json()["id"]
    run_jobs()
    marks = door.get(f"/api/photos/{pk}/").json()["landmarks"]
    moved = [[x + 1, y + 1] for x, y in marks]
    assert sent(door, f"/api/photos/{pk}/correct/", {"landmarks": moved}).json()["state"] == "received"
    assert sent(door, f"/api/photos/{pk}/correct/", {}).status_code == 409  # it is waiting already
    run_jobs()
    after = door.get(f"/api/photos/{pk}/").json()
    assert after["landmarks"] == moved and after["landmarks_by"] == door.user.username
    for wrong in ([[1, 2]] * 4, [[1, 2, 3]] * 5, "x", [[1, None]] * 5, [[1e400, 1]] * 5, [[0, 0]] * 5):
        assert sent(door, f"/api/photos/{pk}/correct/", {"landmarks": wrong}).status_code == 400
    for kind, media in (("original", "image/jpeg"), ("thumb", "image/jpeg"), ("crop", "image/png")):
        picture = door.get(f"/api/photos/{pk}/picture/{kind}/")
        assert (picture.status_code, picture["Content-Type"]) == (200, media)
        assert "no-store" in picture["Cache-Control"] and len(picture["X-Model"]) == 64
    assert door.get(f"/api/photos/{pk}/picture/embedding/").status_code == 400
    assert door.delete(f"/api/photos/{pk}/").status_code == 204
    assert door.get(f"/api/photos/{pk}/").status_code == 404 and not Photo.objects.exists()
    assert not Embedding.objects.exists()


def test_a_hidden_list_stays_hidden(
    door, make_patient, make_case, make_gallery, photo_bytes, run_jobs
) -> None:
    from diagnosis.services.verdict import differential_record

    make_gallery(syndromes=2)
    case = make_case(make_patient(), differential_first=True)
    upload(door, case.pk, photo_bytes())
    run_jobs()
    paths = [f"/api/cases/{case.pk}/{name}/" for name in ("ranking", "rankings", "verdicts")]
    assert [door.get(path).status_code for path in paths] == [409, 409, 409]
    differential_record(user=door.user, case=case, syndromes=[Syndrome.objects.first()])
    assert [door.get(path).status_code for path in paths] == [200, 200, 200]


def test_another_team_knows_of_nothing(api_account, speak, make_patient, make_case, make_user, team) -> None:
    from diagnosis.models import Team

    patient = make_patient()
    case = make_case(patient)
    photo = Photo.objects.create(case=case, patient=patient)
    _, token = api_account(roles={"geneticist", "intake"}, team=Team.objects.create(name="Elsewhere"))
    stranger = speak(token)
    paths = [
        f"/api/cases/{case.pk}/", f"/api/cases/{case.pk}/jobs/", f"/api/cases/{case.pk}/photos/",
        f"/api/cases/{case.pk}/ranking/", f"/api/cases/{case.pk}/rankings/",
        f"/api/cases/{case.pk}/verdicts/", f"/api/cases/{case.pk}/diagnosis/", f"/api/photos/{photo.pk}/",
        f"/api/photos/{photo.pk}/picture/crop/",
        f"/api/patients/{patient.pk}/",
    ]  # fmt: skip
    assert {path: stranger.get(path).status_code for path in paths} == dict.fromkeys(paths, 404)
    assert stranger.get("/api/cases/").json()["results"] == []
    assert stranger.get("/api/patients/").json()["results"] == []
    assert stranger.delete(f"/api/photos/{photo.pk}/").status_code == 404
    assert sent(stranger, "/api/cases/", {"patient": patient.code}).status_code == 400
    assert Photo.objects.count() == 1


def test_a_token_alone_opens_arcs_doors_and_nothing_else(
    api_account, speak, make_patient, make_case, team
) -> None:
    _, token = api_account(team=team)
    case, client = make_case(make_patient()), speak(token)
    assert client.get("/api/").json()["roles"] == ["api"]
    paths = [
        "/api/cases/",
        f"/api/cases/{case.pk}/",
        "/api/patients/",
        "/api/syndromes/",
        "/api/models/",
        "/api/audit/",
    ]
    assert [client.get(path).status_code for path in paths] == [403] * len(paths)


@pytest.mark.parametrize(("role", "opens"), [
    ("geneticist", {"cases", "patients", "syndromes", "genes", "models"}),
    ("intake", {"patients", "syndromes", "genes"}),
    ("site_admin", {"syndromes", "genes", "models", "audit"}),
    ("auditor", {"syndromes", "genes", "models", "audit"}),
])  # fmt: skip
def test_lists_by_role(make_user, team, role, opens) -> None:
    client = Client()
    client.force_login(make_user(roles={role}, team=team))
    lists = ("cases", "patients", "syndromes", "genes", "models", "audit")
    assert {name for name in lists if client.get(f"/api/{name}/").status_code == 200} == opens


def test_nobody_is_let_in_without_an_account(client, db) -> None:
    answer = client.get("/api/cases/")
    assert answer.status_code == 401 and answer["WWW-Authenticate"].startswith("Bearer ")
    assert set(answer.json()) == {"detail"}
    assert client.get("/api/schema/").status_code == 401 and client.get("/api/docs/").status_code == 302


def test_a_session_needs_the_csrf_token(make_user, make_patient, team) -> None:
    client, patient = Client(enforce_csrf_checks=True), make_patient()
    client.force_login(make_user(team=team))
    assert client.get("/api/cases/").status_code == 200
    assert sent(client, "/api/cases/", {"patient": patient.code}).status_code == 403


def test_no_answer_holds_a_name_or_an_embedding(
    door, make_user, make_patient, make_case, make_gallery, photo_bytes, run_jobs, team
) -> None:
    from diagnosis import engine

    make_gallery(syndromes=2)
    patient = make_patient()
    case = make_case(patient)
    photo = upload(door, case.pk, photo_bytes()).json()["id"]
    run_jobs()
    auditor = Client()
    auditor.force_login(make_user(roles={"auditor"}))
    paths = [
        "/api/", "/api/cases/", f"/api/cases/{case.pk}/", f"/api/cases/{case.pk}/photos/",
        f"/api/cases/{case.pk}/ranking/", f"/api/cases/{case.pk}/jobs/", f"/api/photos/{photo}/",
        "/api/patients/", f"/api/patients/{patient.pk}/", "/api/syndromes/", "/api/models/",
    ]  # fmt: skip
    texts = {path: door.get(path).content.decode() for path in paths}
    texts["/api/audit/"] = auditor.get("/api/audit/").content.decode()
    rows = engine.open_rows(Embedding.objects.select_related("photo", "extractor").get(photo=photo))
    numbers = [f"{abs(float(value)):.6f}"[:7] for value in rows[0][:40]]
    for path, text in texts.items():
        assert "Canaryname" not in text and "2019-05-17" not in text and '"Ada"' not in text, path
        assert "embedding" not in text.lower().replace("embedded", ""), path
        assert sum(number in text for number in numbers) < 3, path
        context = json.loads(text)["context"]
        assert context["model"]["synthetic"] is True and context["user"] and context["at"], path
        assert context["notice"].startswith("Research use."), path


@pytest.mark.parametrize("query", [
    "limit=-1", "limit=9999999999999999999999", "offset=99999999999999999999999",
                                   "limit=%00", "offset=²", "limit=1e3"])  # fmt: skip
def test_odd_pages_are_pages(door, query) -> None:
    assert door.get(f"/api/syndromes/?{query}").status_code == 200


@pytest.mark.parametrize("path", [
    "/api/syndromes/?search=%00", "/api/cases/?search=%00", "/api/cases/?state=nope",
                                  "/api/patients/?search=" + "x" * 99])  # fmt: skip
def test_odd_searches_are_named(door, path) -> None:
    assert door.get(path).status_code == 400


@pytest.mark.parametrize("body", [
    b"", b"{", b"\xff\xfe", b"[" * 100_000, b'"' + b"x" * (2 << 20) + b'"', b"NaN",
                                  b'{"patient": "\\ud800"}', b'{"patient": "\\u0000"}'])  # fmt: skip
def test_hostile_json_is_refused(door, body) -> None:
    answer = door.post("/api/cases/", body, content_type="application/json")
    assert answer.status_code in (400, 413) and set(answer.json()) <= {"detail", "patient"}


def test_an_upload_beyond_the_limit_is_not_read(door, make_patient, make_case, settings, photo_bytes) -> None:
    case = make_case(make_patient())
    settings.UPLOAD_MAX_BYTES = 1000
    assert upload(door, case.pk, b"x" * 100_000).status_code == 413


def test_pages_are_bounded(door, db) -> None:
    Syndrome.objects.bulk_create(Syndrome(identifier=f"SYN:{n:05d}", name=f"S{n}") for n in range(250))
    first = door.get("/api/syndromes/?limit=1000").json()
    assert first["count"] == 250 and len(first["results"]) == 200 and "offset=200" in first["next"]
    assert door.get("/api/syndromes/SYN:00007/").json()["name"] == "S7"
    assert door.get("/api/syndromes/?search=S24").json()["count"] == 11

"""GestaltMatcher-Arc's doors: its fields, our errors, consent at each call, and nothing kept of the photo."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest
from django.test import Client
from PIL import Image

from diagnosis.models import (
    AuditEvent,
    Case,
    Embedding,
    GalleryVersion,
    Gene,
    Job,
    Patient,
    Photo,
    RankingRecord,
    Syndrome,
)  # fmt: skip

PSEUDONYM = re.compile(r"[0-9a-f]{16}")


@pytest.fixture
def gallery(make_gallery):
    return make_gallery(syndromes=6)


@pytest.fixture
def call(api_account, basic):
    """call(path, data or body, basis=…) → response, as the API account does with HTTP Basic."""
    user, token = api_account()
    headers = {"Authorization": basic(user.username, token)}
    client = Client(raise_request_exception=False)

    def send(path, data=b"", *, basis="treatment", body=None, **more):
        body = {"img": base64.b64encode(data).decode()} if body is None else body
        extra = headers | ({"X-Legal-Basis": basis} if basis is not None else {}) | more
        return client.post(path, json.dumps(body), content_type="application/json", headers=extra)

    send.user = user
    return send


def counts() -> dict[str, int]:
    kept = (Case, Patient, Photo, Embedding, RankingRecord, Job)
    return {model.__name__: model.objects.count() for model in kept}


def mean_distance(one: np.ndarray, other: np.ndarray) -> float:
    pairs = zip(one.astype(float), other.astype(float), strict=True)
    return float(np.mean([1 - a @ b for a, b in pairs]))


# --- predict ---------------------------------------------------------------------------------------


def test_predict_answers_in_arcs_fields(call, make_gallery, extractor, photo_bytes) -> None:
    make_gallery(syndromes=102)
    answer = call("/predict", photo_bytes())
    assert answer.status_code == 200
    found = answer.json()
    assert found["model_version"] == f"compact test {extractor.sha256[:12]}"
    assert found["gallery_version"] == str(GalleryVersion.objects.get().number)
    assert found["match"] == "uncalibrated" and "Similarity is not probability" in " ".join(found["notices"])
    assert found["context"]["user"] == call.user.username
    assert found["context"]["gallery"]["patients"] == 102
    lists = [found[f"suggested_{kind}_list"] for kind in ("syndromes", "genes", "patients")]
    assert [len(rows) for rows in lists] == [100, 100, 100]
    for rows in lists:
        assert [row["distance"] for row in rows] == sorted(row["distance"] for row in rows)
        for row in rows:
            assert row["gestalt_score"] == pytest.approx(1.3 - row["distance"], abs=1e-6)
            assert PSEUDONYM.fullmatch(row["image_id"]) and PSEUDONYM.fullmatch(row["subject_id"])
    common = {"distance", "gestalt_score", "image_id", "subject_id"}
    assert set(lists[0][0]) == common | {"syndrome_name", "omim_id", "syndrome_id"}
    assert set(lists[1][0]) == common | {"gene_name", "gene_entrez_id"}
    assert set(lists[2][0]) == set(lists[0][0]) | set(lists[1][0])
    omim = {row["syndrome_id"]: row["omim_id"] for row in lists[0]}
    assert {value for key, value in omim.items() if key.startswith("SYN:")} == {""}


def test_omim_and_entrez_numbers_have_arcs_types(call, make_gallery, photo_bytes) -> None:
    make_gallery(syndromes=4)
    Gene.objects.filter(symbol="GEN3").update(entrez_id=25836)
    Syndrome.objects.filter(identifier="SYN:0003").update(identifier="OMIM:122470")
    found = call("/predict", photo_bytes()).json()
    assert {row["omim_id"] for row in found["suggested_syndromes_list"]} == {122470, ""}
    assert {row["gene_entrez_id"] for row in found["suggested_genes_list"]} == {"25836", None}


def test_predict_is_the_clinics_ranking(call, gallery, extractor, photo_bytes) -> None:
    """The slow twin: the stored photo's embedding against every allowed one, one by one."""
    from diagnosis import engine, pictures

    pixels = pictures.read_picture(photo_bytes()).pixels
    query = engine.embed(extractor, engine.find(pixels, choice=None, landmarks=None).aligned).rows
    distances = sorted(
        mean_distance(query, engine.open_rows(row))
        for row in Embedding.objects.select_related("photo", "extractor")
    )
    rows = call("/predict", photo_bytes()).json()["suggested_patients_list"]
    assert np.allclose([row["distance"] for row in rows], distances[:100], atol=2e-6) and len(rows) == 6


def test_a_consent_withdrawn_between_two_calls_counts_at_once(call, gallery, photo_bytes, make_user) -> None:
    from diagnosis.services.consent import consent_withdraw

    def seen() -> dict[str, str]:
        answer = call("/predict", photo_bytes()).json()
        return {row["syndrome_id"]: row["subject_id"] for row in answer["suggested_syndromes_list"]}

    before = seen()
    gone_first = next(iter(before))
    patient = Patient.objects.get(diagnoses__syndrome__identifier=gone_first)
    consent_withdraw(user=make_user(team=patient.team), patient=patient, signer="self")
    after = seen()
    assert gone_first not in after and before[gone_first] not in after.values()
    same = set(before) & set(after)
    assert len(same) == 5 and all(before[key] == after[key] for key in same)  # pseudonyms are stable


def test_narrowed_consent_counts_too(call, gallery, photo_bytes, sign) -> None:
    answer = call("/predict", photo_bytes()).json()["suggested_syndromes_list"]
    patient = Patient.objects.get(diagnoses__syndrome__identifier=answer[0]["syndrome_id"])
    sign(patient, {"analysis"})  # still a patient here, no longer in the gallery
    again = call("/predict", photo_bytes()).json()["suggested_syndromes_list"]
    assert answer[0]["syndrome_id"] not in {row["syndrome_id"] for row in again}


def test_pseudonyms_name_no_patient_and_differ_between_sites(
    call, gallery, photo_bytes, settings, tmp_path
) -> None:
    from diagnosis import engine, vault
    from diagnosis.services.arc import _Pseudonyms

    text = call("/predict", photo_bytes()).content.decode()
    assert not any(code in text for code in Patient.objects.values_list("code", flat=True))
    shown = {1: type("Facts", (), {"patient": 7})()}
    here = _Pseudonyms(shown).fields({"photos": [1], "distance": 0.5})
    settings.GESTALTWEB_KEYS = tmp_path / "elsewhere"
    vault.create_master_key()
    there = _Pseudonyms(shown).fields({"photos": [1], "distance": 0.5})
    assert here["subject_id"] != there["subject_id"] and here["image_id"] != there["image_id"]
    engine.forget_galleries()


# --- what is kept ----------------------------------------------------------------------------------


def test_the_photo_is_not_kept_and_the_call_is_audited(
    call, gallery, photo_bytes, site_home, settings
) -> None:
    from diagnosis.services.audit import chain_fault

    before, files = counts(), sorted((site_home / "files").rglob("*"))
    data = photo_bytes()
    found = call("/predict", data).json()
    assert counts() == before and sorted((site_home / "files").rglob("*")) == files
    event = AuditEvent.objects.get(action="arc.predict")
    assert event.actor == call.user and chain_fault() is None
    assert set(event.detail) == {
        "legal_basis", "bytes", "image", "outcome", "model", "gallery", "match", "syndromes", "genes",
        "patients",
    }  # fmt: skip
    assert (event.detail["outcome"], event.detail["patients"]) == ("answered", 6)
    text = json.dumps(event.detail)
    import hashlib

    assert hashlib.sha256(data).hexdigest() not in text  # a plain hash would find the photo anywhere
    assert not any(row["subject_id"] in text for row in found["suggested_patients_list"])


# --- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/predict", "/crop"])
@pytest.mark.parametrize("basis", [None, "", "because", "TREATMENT;consent"])
def test_no_legal_basis_no_answer(call, photo_bytes, path, basis) -> None:
    answer = call(path, photo_bytes(), basis=basis)
    assert answer.status_code == 400
    assert all(name in answer.json()["detail"] for name in ("treatment", "consent", "research-approval"))


@pytest.mark.parametrize("basis", ["treatment", "consent", "research-approval"])
def test_each_legal_basis_is_recorded(call, photo_bytes, basis) -> None:
    assert call("/crop", photo_bytes(), basis=basis).status_code == 200
    assert AuditEvent.objects.get(action="arc.crop").detail["legal_basis"] == basis


@pytest.mark.parametrize(
    "body", [{"img": "%%%"}, {"img": "abc"}, {"img": ""}, {}, [], "text", None, {"img": 7}, {"img": ["a"]}]
)
def test_what_is_no_base64_is_a_400(call, body) -> None:
    answer = call("/predict", body=body if body is not None else [None])
    assert answer.status_code == 400 and not AuditEvent.objects.filter(action="arc.predict").exists()


def test_a_picture_without_a_face_is_a_422_with_code_and_sentence(call) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.full((300, 300, 3), 128, np.uint8)).save(stream, "PNG")
    answer = call("/predict", stream.getvalue())
    assert answer.status_code == 422
    assert answer.json()["code"] == "no_face" and answer.json()["detail"].endswith(".")
    assert AuditEvent.objects.get(action="arc.predict").detail["outcome"] == "no_face"


@pytest.mark.parametrize("data", [b"GIF89a", b"<svg/>", b"\xff\xd8\xff" + b"\0" * 50, b"%PDF-1.4"])
def test_what_is_no_photo_is_a_422(call, data) -> None:
    answer = call("/predict", data)
    assert (answer.status_code, answer.json()["code"]) == (422, "not_a_photo")


def test_too_much_is_a_413(call, settings, photo_bytes) -> None:
    settings.UPLOAD_MAX_BYTES = 1000
    assert call("/predict", photo_bytes()).status_code == 413
    assert AuditEvent.objects.get(action="arc.predict").detail["outcome"] == "TooLarge"


def test_a_body_beyond_the_limit_is_not_even_parsed(call, monkeypatch) -> None:
    from diagnosis.api.arc import ArcJSON

    monkeypatch.setattr(ArcJSON, "limit", 1000)
    answer = call("/predict", b"x" * 2000)
    assert answer.status_code == 413 and "larger" in answer.json()["detail"]


def test_who_may_call(make_user, api_account, basic, photo_bytes, team) -> None:
    body = json.dumps({"img": base64.b64encode(photo_bytes()).decode()})

    def status(authorization=None, user=None):
        client = Client()
        if user is not None:
            client.force_login(user)
        headers = {"X-Legal-Basis": "treatment"} | ({"Authorization": authorization} if authorization else {})
        return client.post("/crop", body, content_type="application/json", headers=headers)

    nobody = status()
    assert nobody.status_code == 401 and nobody["WWW-Authenticate"].startswith("Basic ")
    user, token = api_account()
    other, _ = api_account()
    assert status(basic(user.username, token)).status_code == 200
    assert status(f"Bearer {token}").status_code == 200
    assert status(basic(user.username, "wrong")).status_code == 401
    assert status(basic(other.username, token)).status_code == 401  # somebody else's token
    assert status(basic(user.username, "correct horse battery")).status_code == 401  # never the password
    assert status("Basic %%%").status_code == 401 and status("Basic " + "a" * 9).status_code == 401
    assert status(user=make_user(roles={"geneticist"}, team=team)).status_code == 403
    user.grants.all().delete()
    assert status(basic(user.username, token)).status_code == 401  # no longer an API account
    user.grants.create(role="api")
    user.tokens.update(revoked_at="2026-01-01T00:00Z")
    assert status(basic(user.username, token)).status_code == 401


def test_too_often_is_a_429(call, photo_bytes, monkeypatch) -> None:
    from rest_framework.throttling import ScopedRateThrottle

    monkeypatch.setattr(ScopedRateThrottle, "THROTTLE_RATES", {"arc": "2/min"})
    assert [call("/crop", photo_bytes()).status_code for _ in range(4)] == [200, 200, 429, 429]


def test_without_a_model_it_says_so(call, photo_bytes) -> None:
    answer = call("/predict", photo_bytes())
    assert answer.status_code == 409 and "No model" in answer.json()["detail"]


# --- the other doors -------------------------------------------------------------------------------


def test_crop_is_the_aligned_face(call, photo_bytes) -> None:
    answer = call("/crop", photo_bytes())
    with Image.open(io.BytesIO(base64.b64decode(answer.json()["crop"]))) as image:
        assert (image.format, image.size, image.mode) == ("PNG", (112, 112), "RGB")
        assert np.asarray(image).std() > 20  # a face, not a blank


def test_encode_is_off_unless_turned_on(call, photo_bytes, settings, extractor) -> None:
    refused = call("/encode", photo_bytes())
    assert refused.status_code == 403 and "ARC_ENCODE_ENABLED" in refused.json()["detail"]
    assert "encodings" not in refused.json()
    settings.ARC_ENCODE_ENABLED = True
    rows = np.array(call("/encode", photo_bytes()).json()["encodings"])
    assert rows.shape == (4, 512) and np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert "encodings" not in AuditEvent.objects.get(action="arc.encode").detail


def test_status_tells_nothing_else(client, db) -> None:
    answer = client.get("/status")
    assert (answer.status_code, answer.json()) == (200, {"status": "running"})


@pytest.mark.parametrize("path", ["/predict_url", "/predict-url"])
def test_no_door_fetches_an_address(client, db, path) -> None:
    assert client.post(path, {"url": "http://169.254.169.254/"}).status_code == 404


@pytest.mark.parametrize("path", ["/predict", "/encode", "/crop"])
def test_only_post(call, path) -> None:
    client = Client()
    client.force_login(call.user)
    assert [client.get(path).status_code, client.options(path).status_code] == [405, 405]

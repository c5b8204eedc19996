"""The first of the two flows, end to end: a photo comes in, is analysed, and its case has a list."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from diagnosis import engine, tasks, vault
from diagnosis.errors import ConsentMissing
from diagnosis.models import (
    AuditEvent,
    Embedding,
    Job,
    LedgerEntry,
    OutboxEvent,
    Patient,
    Photo,
    RankingRecord,
    Syndrome,
    Verdict,
)
from diagnosis.services import ranking
from diagnosis.services.audit import chain_fault
from diagnosis.services.consent import consent_withdraw
from diagnosis.services.photo import photo_add, photo_correct, photo_picture, photo_remove
from diagnosis.services.verdict import case_leave_unsolved, verdict_record


@pytest.fixture
def scene(make_user, make_patient, make_case, team, extractor, make_gallery):
    make_gallery(syndromes=40)
    user, patient = make_user(team=team), make_patient(tiers={"analysis", "gallery"})
    return user, patient, make_case(patient)


def test_a_photo_becomes_a_list_of_syndromes(scene, photo_bytes, run_jobs, extractor) -> None:
    user, patient, case = scene
    photo = photo_add(user=user, case=case, data=photo_bytes(), age_months=420)
    assert photo.state == "received" and Job.objects.get().kind == "analyse_photo"
    assert run_jobs() == 2  # the analysis, then the ranking it asked for
    photo.refresh_from_db(), case.refresh_from_db()
    assert (photo.state, case.state, len(photo.faces), np.shape(photo.landmarks)) == (
        "ready",
        "ranked",
        1,
        (5, 2),
    )
    assert photo.quality > 0.2 and photo.measures["eye_distance_px"] > 20
    record = RankingRecord.objects.get(case=case)
    assert (record.extractor, record.photos, record.match) == (extractor, [photo.pk], "uncalibrated")
    assert (record.gallery.photos, record.gallery.syndromes) == (40, 40)
    rows = record.result["syndromes"]
    assert len(rows) == 40 and [row["rank"] for row in rows] == list(range(1, 41))
    assert rows == sorted(rows, key=lambda row: row["distance"])
    assert rows[0]["name"].startswith("Syndrome") and rows[0]["genes"] and rows[0]["patients"] == 1
    assert len(record.result["genes"]) == 40 and len(record.result["patients"]) == 40
    assert {row["id"] for row in record.result["patients"]}.isdisjoint({patient.pk})
    assert LedgerEntry.objects.filter(patient=patient, kind="photo.analysed").count() == 1
    assert OutboxEvent.objects.filter(kind="case.ranked", subject=f"case:{case.pk}").count() == 1
    assert chain_fault() is None
    assert set(Job.objects.values_list("state", flat=True)) == {"done"}


def test_the_list_is_that_of_the_definition(scene, photo_bytes, run_jobs, extractor) -> None:
    """The slow twin: open every allowed embedding and take mean cosine distances one by one."""
    user, _, case = scene
    photo = photo_add(user=user, case=case, data=photo_bytes())
    run_jobs()
    query = engine.open_rows(Embedding.objects.get(photo=photo))
    nearest: dict[str, float] = {}
    for embedding in Embedding.objects.exclude(photo=photo):
        rows = engine.open_rows(embedding).astype(np.float64)
        pairs = zip(query, rows, strict=True)
        distance = np.mean([1 - q @ g / np.linalg.norm(q) / np.linalg.norm(g) for q, g in pairs])
        name = embedding.photo.patient.diagnoses.get().syndrome.identifier
        nearest[name] = min(distance, nearest.get(name, 9.0))
    expected = sorted(nearest, key=lambda name: (nearest[name], name))
    found = RankingRecord.objects.get().result["syndromes"]
    assert [row["id"] for row in found] == expected
    assert np.allclose([row["distance"] for row in found], [nearest[name] for name in expected], atol=2e-6)


def test_several_photos_of_a_case_are_fused(scene, photo_bytes, run_jobs) -> None:
    user, _, case = scene
    photos = [photo_add(user=user, case=case, data=photo_bytes(seed)) for seed in (1, 2, 3)]
    run_jobs()
    (only,) = RankingRecord.objects.all()
    assert only.photos == [photo.pk for photo in photos]
    assert Job.objects.get(kind="rank_case").state == "done"


def test_the_list_waits_for_photos_in_work_and_comes_with_the_last(scene, photo_bytes, run_jobs) -> None:
    """Whatever becomes of the last one: here it shows no face."""
    user, _, case = scene
    first = photo_add(user=user, case=case, data=photo_bytes(1))
    empty = io.BytesIO()
    Image.fromarray(np.full((300, 300, 3), 120, dtype=np.uint8)).save(empty, "PNG")
    photo_add(user=user, case=case, data=empty.getvalue())
    one, two = Job.objects.filter(kind="analyse_photo").order_by("pk")
    tasks.analyse_photo(one.pk)
    (ranking,) = Job.objects.filter(kind="rank_case")
    tasks.rank_case(ranking.pk)
    ranking.refresh_from_db(), case.refresh_from_db()
    assert (ranking.state, case.state) == ("done", "open") and not RankingRecord.objects.exists()
    tasks.analyse_photo(two.pk)
    run_jobs()
    case.refresh_from_db()
    assert case.state == "ranked" and RankingRecord.objects.get().photos == [first.pk]


def test_a_photo_that_gets_ready_while_a_list_is_made_is_not_forgotten(
    scene, photo_bytes, run_jobs, monkeypatch
) -> None:
    """The running job reads the photos again before it stores, under the patient's lock."""
    user, _, case = scene
    first = photo_add(user=user, case=case, data=photo_bytes(1))
    tasks.analyse_photo(Job.objects.get(kind="analyse_photo").pk)
    real, late = engine.gallery, []

    def slow(extractor):
        if not late:
            late.append(photo_add(user=user, case=case, data=photo_bytes(2)))
            tasks.analyse_photo(Job.objects.filter(kind="analyse_photo").latest("pk").pk)
        return real(extractor)

    monkeypatch.setattr(engine, "gallery", slow)
    run_jobs()
    lists = [record.photos for record in RankingRecord.objects.order_by("id")]
    assert lists == [[first.pk, late[0].pk]]


def test_a_list_is_not_stored_with_a_gallery_patient_who_withdrew_meanwhile(
    scene, photo_bytes, run_jobs, monkeypatch
) -> None:
    user, _, case = scene
    photo_add(user=user, case=case, data=photo_bytes(1))
    gone = Patient.objects.filter(diagnoses__isnull=False).first()
    real, withdrawn = ranking.rank_sets, []

    def slow(*args, **kwargs):
        if not withdrawn:
            withdrawn.append(consent_withdraw(user=None, patient=gone, signer="self"))
        return real(*args, **kwargs)

    monkeypatch.setattr(ranking, "rank_sets", slow)
    run_jobs()
    record = RankingRecord.objects.get(case=case)
    assert record.gallery.patients == 39 and gone.pk not in {row["id"] for row in record.result["patients"]}


def test_a_list_whose_photos_change_each_time_is_tried_again_later(
    scene, photo_bytes, run_jobs, monkeypatch
) -> None:
    user, _, case = scene
    photo_add(user=user, case=case, data=photo_bytes(1))
    tasks.analyse_photo(Job.objects.get(kind="analyse_photo").pk)
    monkeypatch.setattr(engine, "gallery_stands", lambda *a: False)
    tasks.rank_case(Job.objects.get(kind="rank_case").pk)
    job = Job.objects.get(kind="rank_case")
    assert (job.state, job.attempts) == ("queued", 1) and not RankingRecord.objects.exists()
    monkeypatch.undo()
    Job.objects.update(not_before=None)
    run_jobs()
    assert RankingRecord.objects.get(case=case).gallery.patients == 40


def test_only_sealed_bytes_lie_on_disk_and_in_the_database(scene, photo_bytes, run_jobs, site_home) -> None:
    user, _, case = scene
    photo = photo_add(user=user, case=case, data=photo_bytes())
    run_jobs()
    for path in (site_home / "files").rglob("*"):
        assert path.is_dir() or path.read_bytes()[:3] == vault.MARK
    rows = engine.open_rows(Embedding.objects.get(photo=photo)).tobytes()
    assert rows[:64] not in bytes(Embedding.objects.get(photo=photo).sealed)
    texts = json.dumps(
        [list(AuditEvent.objects.values("detail")), list(LedgerEntry.objects.values("detail"))]
    )
    assert "Canaryname" not in texts and "landmarks" not in texts


def test_what_is_shown_is_read_from_the_vault_with_consent(scene, photo_bytes, run_jobs, sign) -> None:
    user, patient, case = scene
    photo = photo_add(user=user, case=case, data=photo_bytes())
    run_jobs()
    photo.refresh_from_db()
    assert photo_picture(user=user, photo=photo, kind="original")[0][:3] == b"\xff\xd8\xff"
    assert photo_picture(user=user, photo=photo, kind="crop")[0][:4] == b"\x89PNG"
    thumb, kind = photo_picture(user=user, photo=photo, kind="thumb")
    assert kind == "image/jpeg" and len(thumb) < 40_000
    sign(patient, set())
    for kind in ("original", "crop", "thumb"):
        with pytest.raises(ConsentMissing):
            photo_picture(user=user, photo=photo, kind=kind)


def test_landmarks_placed_by_hand_run_the_photo_again(scene, photo_bytes, run_jobs) -> None:
    user, _, case = scene
    photo = photo_add(user=user, case=case, data=photo_bytes())
    run_jobs()
    photo.refresh_from_db()
    before = RankingRecord.objects.get().result["syndromes"][0]["distance"]
    moved = [[x + 4, y + 3] for x, y in photo.landmarks]
    photo_correct(user=user, photo=photo, landmarks=moved)
    assert not Embedding.objects.filter(photo=photo).exists()
    run_jobs()
    photo.refresh_from_db()
    assert photo.state == "ready" and photo.landmarks == moved and photo.landmarks_by == user
    records = RankingRecord.objects.order_by("id")
    assert len(records) == 2 and records[1].result["syndromes"][0]["distance"] != before
    photo_correct(user=user, photo=photo)  # as it is: the detector's landmarks again
    run_jobs()
    photo.refresh_from_db()
    assert photo.landmarks != moved and photo.landmarks_by is None


def test_a_removed_photo_leaves_nothing(
    scene, photo_bytes, run_jobs, site_home, django_capture_on_commit_callbacks
) -> None:
    user, patient, case = scene
    keep = photo_add(user=user, case=case, data=photo_bytes(1))
    photo = photo_add(user=user, case=case, data=photo_bytes(2))
    run_jobs()
    photo.refresh_from_db()
    key, names = photo.key, (photo.original, photo.crop)
    with django_capture_on_commit_callbacks(execute=True):
        photo_remove(user=user, photo=photo)
    assert not vault.has_key(key) and not any((site_home / "files" / name).exists() for name in names)
    assert (
        not Photo.objects.filter(key=key).exists() and not Embedding.objects.filter(photo__key=key).exists()
    )
    run_jobs()
    assert [record.photos for record in RankingRecord.objects.all()] == [[keep.pk]]
    case.refresh_from_db()
    assert case.state == "ranked"
    assert LedgerEntry.objects.filter(patient=patient, kind="photo.removed").count() == 1


def test_lists_made_from_a_removed_photo_go_and_others_stay(scene, photo_bytes, run_jobs) -> None:
    """One list from the first photo, then one from both: removing the second erases the second list."""
    user, _, case = scene
    first = photo_add(user=user, case=case, data=photo_bytes(1))
    run_jobs()
    second = photo_add(user=user, case=case, data=photo_bytes(2))
    run_jobs()
    kept, gone = RankingRecord.objects.order_by("pk")
    syndrome = Syndrome.objects.get(identifier=gone.result["syndromes"][0]["id"])
    verdict_record(user=user, case=case, syndrome=syndrome, answer="agree")
    photo_remove(user=user, photo=Photo.objects.get(pk=second.pk))
    assert list(RankingRecord.objects.all()) == [kept] and not Verdict.objects.exists()
    event = AuditEvent.objects.get(action="case.lists_erased")
    assert event.detail == {"lists": 1, "verdicts": 1} and chain_fault() is None
    photo_remove(user=user, photo=Photo.objects.get(pk=first.pk))
    case.refresh_from_db()
    assert case.state == "open" and not RankingRecord.objects.exists()
    assert run_jobs() <= 1 and not RankingRecord.objects.exists(), "nothing is left that could be ranked"


def test_a_closed_case_stays_closed_when_its_last_photo_goes(scene, photo_bytes, run_jobs) -> None:
    user, _, case = scene
    photo = photo_add(user=user, case=case, data=photo_bytes(1))
    run_jobs()
    case_leave_unsolved(user=user, case=case)
    photo_remove(user=user, photo=Photo.objects.get(pk=photo.pk))
    case.refresh_from_db()
    assert case.state == "unsolved" and not RankingRecord.objects.exists()

"""The analysis of a photo when something is in the way: refusals, withdrawal, crashes, no model."""

from __future__ import annotations

import datetime as dt
import io

import numpy as np
import pytest
from django.utils import timezone
from PIL import Image

from diagnosis import engine, jobs, tasks, vault
from diagnosis.errors import ClinicError, ConsentMissing, InvalidInput, NotReady
from diagnosis.models import Embedding, Erasure, Job, LedgerEntry, OutboxEvent, Photo, RankingRecord
from diagnosis.services.consent import consent_withdraw
from diagnosis.services.photo import abandoned_discard, photo_add, photo_correct, photo_picture, photo_remove


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def desk(make_user, make_patient, make_case, team, extractor):
    user, patient = make_user(team=team), make_patient(tiers={"analysis"})
    return user, patient, make_case(patient)


@pytest.fixture
def two_faces(astronaut) -> bytes:
    face = astronaut[:280, 100:340]
    return png(np.concatenate([face, face[:, ::-1]], axis=1))


# --- refusals are data -----------------------------------------------------------------------------


def test_no_face_is_an_answer_with_a_remedy(desk, run_jobs) -> None:
    user, patient, case = desk
    photo = photo_add(user=user, case=case, data=png(np.full((300, 300, 3), 120, dtype=np.uint8)))
    run_jobs()
    photo.refresh_from_db(), case.refresh_from_db()
    assert (photo.state, photo.refusal["code"], photo.crop) == ("refused", "no_face", "")
    assert photo.refusal["remedy"] and case.state == "open" and not RankingRecord.objects.exists()
    assert LedgerEntry.objects.get(kind="photo.analysed").detail["outcome"] == "refused"
    with pytest.raises(NotReady):
        photo_picture(user=user, photo=photo, kind="crop")


def test_several_faces_wait_for_a_choice(desk, run_jobs, two_faces) -> None:
    user, _, case = desk
    photo = photo_add(user=user, case=case, data=two_faces)
    run_jobs()
    photo.refresh_from_db()
    assert (photo.state, photo.refusal["code"], len(photo.faces)) == ("refused", "several_faces", 2)
    with pytest.raises(InvalidInput, match="faces shown"):
        photo_correct(user=user, photo=photo, face_choice=2)
    chosen = {}
    for choice in (0, 1):
        photo_correct(user=user, photo=photo, face_choice=choice)
        run_jobs()
        photo.refresh_from_db()
        assert (photo.state, photo.face_choice) == ("ready", choice)
        assert photo.landmarks == photo.faces[choice]["landmarks"]
        chosen[choice] = photo.landmarks[0][0]
    assert abs(chosen[0] - chosen[1]) > 100, "two different faces were used"


@pytest.mark.parametrize(
    "landmarks",
    ["nonsense", [[1, 2]], [[0, 0]] * 5, [[float("nan"), 1]] * 5, [[10, 10]] * 4, {"a": 1},
     [[10, 10], [20, 10], [15, 15], [-50, 20], [20, 20]]],
)  # fmt: skip
def test_landmarks_that_form_no_face_are_refused_at_once(desk, run_jobs, photo_bytes, landmarks) -> None:
    user, _, case = desk
    photo = photo_add(user=user, case=case, data=photo_bytes())
    run_jobs()
    photo.refresh_from_db()
    with pytest.raises(InvalidInput):
        photo_correct(user=user, photo=photo, landmarks=landmarks)
    photo.refresh_from_db()
    assert photo.state == "ready" and Embedding.objects.count() == 1


def test_a_photo_in_work_cannot_be_run_again(desk, photo_bytes) -> None:
    user, _, case = desk
    photo = photo_add(user=user, case=case, data=photo_bytes())
    with pytest.raises(NotReady, match="just now"):
        photo_correct(user=user, photo=photo)


# --- something happens in between --------------------------------------------------------------------


@pytest.mark.parametrize("what", ["withdrawn", "removed"])
def test_a_patient_or_photo_that_goes_during_the_analysis_leaves_nothing(
    desk, run_jobs, photo_bytes, monkeypatch, site_home, what: str
) -> None:
    user, patient, case = desk
    photo = photo_add(user=user, case=case, data=photo_bytes())
    real = engine.embed

    def meanwhile(extractor, face):
        rows = real(extractor, face)
        if what == "withdrawn":
            consent_withdraw(user=None, patient=patient, signer="self")
        else:
            photo_remove(user=user, photo=Photo.objects.get(pk=photo.pk))
        return rows

    monkeypatch.setattr(engine, "embed", meanwhile)
    run_jobs()
    assert not Photo.objects.exists() and not Embedding.objects.exists()
    assert not LedgerEntry.objects.filter(kind="photo.analysed").exists()
    assert not vault.has_key(photo.key) and Erasure.objects.filter(key=photo.key).exists()
    assert [p for p in (site_home / "files").rglob("*") if p.is_file()] == []


def test_a_site_without_a_model_keeps_the_photo_waiting_then_says_so(
    make_user, make_patient, make_case, team, photo_bytes, settings
) -> None:
    settings.JOB_MAX_ATTEMPTS = 2
    photo = photo_add(user=make_user(team=team), case=make_case(make_patient()), data=photo_bytes())
    for _ in range(2):
        Job.objects.update(not_before=None)
        tasks.analyse_photo(Job.objects.get().pk)
    photo.refresh_from_db()
    assert photo.state == "failed" and "No model is installed" in photo.refusal["sentence"]
    assert Job.objects.get().state == "failed"


def test_a_failed_photo_can_be_run_again(desk, run_jobs, photo_bytes, monkeypatch, settings) -> None:
    settings.JOB_MAX_ATTEMPTS = 1
    user, _, case = desk
    photo = photo_add(user=user, case=case, data=photo_bytes())
    with monkeypatch.context() as broken:
        broken.setattr(engine, "find", lambda *a, **k: 1 / 0)
        tasks.analyse_photo(Job.objects.get().pk)
    photo.refresh_from_db()
    assert photo.state == "failed" and photo.refusal["sentence"] == tasks.FAULT
    settings.JOB_MAX_ATTEMPTS = 5
    photo_correct(user=user, photo=photo)
    run_jobs()
    photo.refresh_from_db()
    assert photo.state == "ready" and photo.refusal is None


@pytest.mark.parametrize("step", ["find", "embed", "seal_rows"])
def test_a_crash_at_any_step_is_made_good_by_the_next_worker(
    desk, run_jobs, photo_bytes, monkeypatch, step: str
) -> None:
    """The worker is gone in the middle: no error is recorded, the lease runs out, another begins again."""
    user, patient, case = desk
    photo = photo_add(user=user, case=case, data=photo_bytes())

    class Killed(BaseException):
        pass

    def gone(*args, **kwargs):
        raise Killed

    with monkeypatch.context() as dying, pytest.raises(Killed):
        dying.setattr(engine, step, gone)
        tasks.analyse_photo(Job.objects.get().pk)
    assert Job.objects.get().state == "running" and not Embedding.objects.exists()
    Job.objects.update(lease_expires=timezone.now() - dt.timedelta(seconds=1))
    run_jobs()
    photo.refresh_from_db()
    assert photo.state == "ready" and Embedding.objects.count() == 1
    assert LedgerEntry.objects.filter(patient=patient, kind="photo.analysed").count() == 1


def test_an_upload_cut_off_by_a_crash_is_swept_away_and_can_be_repeated(
    desk, photo_bytes, monkeypatch, site_home, django_capture_on_commit_callbacks
) -> None:
    from diagnosis.services import photo as service

    user, _, case = desk

    class Killed(BaseException):
        pass

    def gone(*args, **kwargs):
        raise Killed

    with monkeypatch.context() as dying, pytest.raises(Killed):
        dying.setattr(service, "_take_in", gone)
        dying.setattr(service, "photos_erase", lambda **k: 0)  # kill -9 runs no handler
        photo_add(user=user, case=case, data=photo_bytes())
    left = Photo.objects.get()
    assert left.fingerprint == "" and vault.has_key(left.key)
    assert abandoned_discard() == 0, "an upload that is still going on is left alone"
    again = photo_add(user=user, case=case, data=photo_bytes())
    Photo.objects.filter(pk=left.pk).update(uploaded_at=timezone.now() - dt.timedelta(hours=2))
    with django_capture_on_commit_callbacks(execute=True):
        assert abandoned_discard() == 1
    assert list(Photo.objects.all()) == [again] and not vault.has_key(left.key)
    assert not (site_home / "files" / left.original).exists()


def test_no_picture_is_opened_without_consent(desk, sign, monkeypatch, photo_bytes) -> None:
    from diagnosis import pictures

    user, patient, case = desk
    sign(patient, set())
    monkeypatch.setattr(pictures, "read_picture", lambda *a, **k: pytest.fail("the picture was opened"))
    with pytest.raises(ConsentMissing):
        photo_add(user=user, case=case, data=photo_bytes())


def test_a_photo_that_fails_leaves_the_case_with_the_list_of_the_others(
    desk, run_jobs, photo_bytes, monkeypatch, settings
) -> None:
    user, _, case = desk
    good = photo_add(user=user, case=case, data=photo_bytes(1))
    run_jobs()
    settings.JOB_MAX_ATTEMPTS = 1
    photo_add(user=user, case=case, data=photo_bytes(2))
    with monkeypatch.context() as broken:
        broken.setattr(engine, "find", lambda *a, **k: 1 / 0)
        tasks.analyse_photo(Job.objects.filter(kind="analyse_photo").latest("pk").pk)
    case.refresh_from_db()
    assert case.state == "open"
    run_jobs()
    case.refresh_from_db()
    assert case.state == "ranked" and RankingRecord.objects.latest("pk").photos == [good.pk]


# --- the gallery hears of it --------------------------------------------------------------------------


def test_a_diagnosed_patients_photo_enters_the_gallery_and_its_removal_is_told(
    make_user, make_patient, make_case, team, extractor, photo_bytes, run_jobs
) -> None:
    from diagnosis.models import Diagnosis, Syndrome

    user, patient = make_user(team=team), make_patient(tiers={"analysis", "gallery"})
    syndrome = Syndrome.objects.create(identifier="SYN:1", name="One", synthetic=True)
    Diagnosis.objects.create(patient=patient, syndrome=syndrome)
    photo = photo_add(user=user, case=make_case(patient), data=photo_bytes())
    run_jobs()
    assert len(engine.gallery(extractor)) == 1
    assert LedgerEntry.objects.filter(patient=patient, kind="gallery.entered").count() == 1
    photo.refresh_from_db()
    photo_remove(user=user, photo=photo)
    assert len(engine.gallery(extractor)) == 0
    reasons = OutboxEvent.objects.filter(kind="gallery.changed").values_list("detail__reason", flat=True)
    assert list(reasons) == ["photo.analysed", "photo.removed"]


def test_a_query_is_never_found_in_its_own_photos(
    make_user, make_patient, make_case, team, extractor, photo_bytes, run_jobs, make_gallery
) -> None:
    from diagnosis.models import Diagnosis, Syndrome

    make_gallery(syndromes=3)
    user, patient = make_user(team=team), make_patient(tiers={"analysis", "gallery"})
    syndrome = Syndrome.objects.create(identifier="SYN:OWN", name="Own", synthetic=True)
    Diagnosis.objects.create(patient=patient, syndrome=syndrome)
    photo_add(user=user, case=make_case(patient), data=photo_bytes())
    run_jobs()
    record = RankingRecord.objects.get()
    assert record.gallery.photos == 4 and len(record.result["syndromes"]) == 3
    assert "SYN:OWN" not in {row["id"] for row in record.result["syndromes"]}


def test_other_teams_and_roles_reach_no_photo(desk, make_user, run_jobs, photo_bytes, team) -> None:
    user, _, case = desk
    photo = photo_add(user=user, case=case, data=photo_bytes())
    run_jobs()
    photo.refresh_from_db()
    for stranger in (make_user(), make_user(roles=("intake", "site_admin", "auditor"), team=team)):
        for attempt in (
            lambda: photo_picture(user=stranger, photo=photo, kind="thumb"),  # noqa: B023
            lambda: photo_correct(user=stranger, photo=photo),  # noqa: B023
            lambda: photo_remove(user=stranger, photo=photo),  # noqa: B023
        ):
            with pytest.raises(ClinicError):
                attempt()
    photo.refresh_from_db()
    assert photo.state == "ready" and jobs.due().count() == 0

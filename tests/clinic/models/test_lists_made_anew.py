"""After a new model or a changed gallery every case without an answer gets a new list, whatever fails."""

from __future__ import annotations

import datetime as dt

import pytest
import torch
from django.urls import reverse
from django.utils import timezone

from diagnosis import engine, tasks
from diagnosis.models import Case, Diagnosis, Embedding, Job, OutboxEvent, RankingRecord, Syndrome
from diagnosis.phenotype.embed.backbone import build_backbone
from diagnosis.phenotype.embed.weights import save_weights
from diagnosis.services.consent import consent_withdraw
from diagnosis.services.model import MemberFile, adoption_follow, extractor_adopt, extractor_roll_back
from diagnosis.services.photo import photo_add
from diagnosis.services.ranking_request import CALM
from diagnosis.services.verdict import case_leave_unsolved, diagnosis_confirm
from gestaltweb.embedded import sweep_once


@pytest.fixture
def newer(install, tmp_path):
    """Another model, not yet in use."""
    torch.manual_seed(99)
    path = tmp_path / "other.safetensors"
    save_weights(build_backbone("compact"), path)
    return install(name="newer", members=[MemberFile("compact", path)])


@pytest.fixture
def ranked(make_user, make_patient, make_case, team, extractor, photo_bytes, run_jobs):
    """(user, two ranked cases)."""
    user = make_user(team=team)
    cases = [make_case(make_patient(tiers={"analysis", "gallery"})) for _ in range(2)]
    for case in cases:
        photo_add(user=user, case=case, data=photo_bytes())
    run_jobs()
    return user, cases


@pytest.fixture
def beside_gallery(make_gallery, request):
    """The same beside a gallery of three, whose photos have no pictures."""
    make_gallery(syndromes=3)
    return request.getfixturevalue("ranked")


def calm() -> None:
    """The gallery has not changed for a while."""
    Job.objects.update(changed_at=timezone.now() - 3 * CALM)
    OutboxEvent.objects.filter(kind="gallery.changed").update(created_at=timezone.now() - 2 * CALM)


def newest(case: Case) -> RankingRecord:
    return RankingRecord.objects.filter(case=case).latest("pk")


# --- the model -------------------------------------------------------------------------------------


def test_going_back_to_a_model_that_saw_every_photo_makes_lists_at_once(
    ranked, newer, extractor, run_jobs
) -> None:
    _, cases = ranked
    extractor_adopt(user=None, extractor=newer)
    run_jobs()
    assert {newest(case).extractor_id for case in cases} == {newer.pk}
    extractor_roll_back(user=None)
    assert not Job.objects.filter(kind="reembed_photo", state="queued").exists()
    run_jobs()
    assert {newest(case).extractor_id for case in cases} == {extractor.pk}


def test_a_last_photo_that_fails_does_not_keep_the_lists_back(ranked, newer, monkeypatch, run_jobs) -> None:
    _, cases = ranked
    extractor_adopt(user=None, extractor=newer)
    jobs_waiting = list(Job.objects.filter(kind="reembed_photo", state="queued").order_by("pk"))
    for job in jobs_waiting[:-1]:
        tasks.reembed_photo(job.pk)
    Job.objects.filter(pk=jobs_waiting[-1].pk).update(state="failed", error="Why.")
    assert not Job.objects.filter(kind="rank_case", state="queued").exists()
    sweep_once(thorough=False)
    assert Job.objects.get(pk=jobs_waiting[-1].pk).state == "failed", "it is not tried for ever"
    run_jobs()
    assert newest(cases[0]).extractor == newer
    assert adoption_follow() == 0, "each list is asked for once"


def test_two_last_photos_that_see_each_other_do_not_keep_the_lists_back(
    ranked, newer, monkeypatch, run_jobs
) -> None:
    """Two workers on PostgreSQL: each one's transaction still sees the other's job as running."""
    from diagnosis.services import model

    _, cases = ranked
    extractor_adopt(user=None, extractor=newer)
    with monkeypatch.context() as each:
        each.setattr(model, "reembedding", lambda: Job.objects.all())
        run_jobs()
    assert newest(cases[0]).extractor != newer
    sweep_once(thorough=False)
    run_jobs()
    assert {newest(case).extractor_id for case in cases} == {newer.pk}


def test_a_photo_whose_analysis_ends_after_the_adoption_is_embedded_by_the_new_model(
    ranked, newer, extractor, run_jobs
) -> None:
    _, cases = ranked
    photo = cases[0].photos.get()
    type(photo).objects.filter(pk=photo.pk).update(
        state="analysing"
    )  # by the old model, when that is replaced
    extractor_adopt(user=None, extractor=newer)
    type(photo).objects.filter(pk=photo.pk).update(state="ready")
    run_jobs()
    sweep_once(thorough=False)
    run_jobs()
    assert Embedding.objects.filter(photo=photo, extractor=newer).count() == 1
    assert newest(cases[0]).extractor == newer


def test_no_list_is_asked_for_before_the_gallery_is_whole(ranked, newer) -> None:
    extractor_adopt(user=None, extractor=newer)
    sweep_once(thorough=False)
    assert not Job.objects.filter(kind="rank_case", state="queued").exists()


def test_the_model_page_says_how_far_it_is(ranked, newer, make_user, client, sign_in, run_jobs) -> None:
    extractor_adopt(user=None, extractor=newer)
    tasks.reembed_photo(Job.objects.filter(kind="reembed_photo", state="queued").first().pk)
    sign_in(client, make_user(roles=("site_admin",), second_factor=True))
    assert "1 of 2 photos embedded by this model" in client.get(reverse("clinic:model_page")).content.decode()
    run_jobs()
    assert "embedded by this model" not in client.get(reverse("clinic:model_page")).content.decode()


# --- the gallery -----------------------------------------------------------------------------------


def test_a_confirmed_diagnosis_ranks_the_unsolved_anew_once_it_is_calm(beside_gallery, run_jobs) -> None:
    user, (solved, waiting) = beside_gallery
    case_leave_unsolved(user=user, case=waiting)
    diagnosis_confirm(user=user, case=solved, syndrome=Syndrome.objects.first())
    sweep_once(thorough=False)
    assert not Job.objects.filter(state="queued").exists(), "more diagnoses may follow in the next minute"
    calm()
    sweep_once(thorough=False)
    assert Job.objects.get(state="queued").subject == waiting.pk
    run_jobs()
    waiting.refresh_from_db()
    assert (newest(waiting).gallery.patients, waiting.state) == (4, "unsolved")
    assert newest(solved).gallery.patients == 3, "a case with an answer keeps its list"
    sweep_once(thorough=False)
    assert not Job.objects.filter(state="queued").exists(), "one change, one list"


def test_a_withdrawal_from_the_gallery_ranks_anew(beside_gallery, run_jobs) -> None:
    _, cases = beside_gallery
    consent_withdraw(user=None, patient=Diagnosis.objects.first().patient, signer="self")
    calm()
    sweep_once(thorough=False)
    run_jobs()
    assert [newest(case).gallery.patients for case in cases] == [2, 2]


def test_a_ranking_that_failed_since_the_change_is_not_repeated_for_ever(beside_gallery) -> None:
    consent_withdraw(user=None, patient=Diagnosis.objects.first().patient, signer="self")
    calm()
    assert adoption_follow() == 2
    Job.objects.filter(kind="rank_case").update(state="failed", changed_at=timezone.now())
    assert adoption_follow() == 0


def test_without_a_change_nothing_is_asked_for(beside_gallery) -> None:
    Job.objects.update(changed_at=timezone.now() + dt.timedelta(seconds=1))
    engine.forget_galleries()
    assert adoption_follow() == 0

"""A published model becomes the extractor in use, once, wherever the process was cut off."""

from __future__ import annotations

import pytest

from diagnosis import jobs

MIX = {"SYN:0001": 7, "SYN:0002": 7}


@pytest.fixture
def published(hospital, story):
    """A global model whose files are here, with this hospital's centroids."""
    from federation.services.candidates import candidate_make

    hospital.admit_all(MIX)
    round_ = story.begin()
    story.count(round_)
    story.train(round_)
    members = candidate_make(round_)
    story.vote(round_, members)
    total = story.sum(round_, "centroids", 2 * (1 + 4 * 512))
    story.open(total, story.contribute(total).words)
    return story.publish(round_, members, total.name)


def test_adoption_installs_inherits_and_says_where_it_came_from(hospital, published) -> None:
    from diagnosis.models import Extractor, OutboxEvent
    from federation.models import AdoptedModel
    from federation.services.adoption import model_adopt

    base = Extractor.objects.get()
    made = model_adopt(published)
    assert made == Extractor.objects.get(state="adopted") != base
    assert [row.sha256 for row in made.members.all()] == [published.members[0]["weights"]]
    assert (made.licence, made.synthetic, made.flip, made.grey) == ("CC0", True, True, True)
    assert made.origin == "federated round 1, 3 hospitals" and made.calibration == ""
    facts = made.facts["federation"]
    assert facts["survivors"] == ["a", "b", "c"] and facts["votes"]["accept"] == 3
    assert (facts["strategy"], facts["plan_sha256"]) == ("fedavg", published.round.sha256)
    assert AdoptedModel.objects.get().extractor == made
    assert OutboxEvent.objects.filter(kind="model.adopted", detail__sha256=made.sha256).count() == 1


def test_adopting_again_changes_nothing_and_overrules_no_roll_back(published) -> None:
    from diagnosis.models import AuditEvent, Extractor
    from diagnosis.services.model import extractor_roll_back
    from federation.services.adoption import model_adopt

    made = model_adopt(published)
    events = AuditEvent.objects.count()
    assert model_adopt(published) == made and AuditEvent.objects.count() == events
    back = extractor_roll_back(user=None)
    assert model_adopt(published) == made
    assert Extractor.objects.get(state="adopted") == back != made


@pytest.mark.parametrize(
    "line",
    [
        "federation.services.adoption.extractor_install",
        "diagnosis.engine.ensemble",
        "federation.services.adoption.extractor_adopt",
        "federation.services.adoption.AdoptedModel.objects.create",
    ],
)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_cut_off_anywhere_it_ends_the_same(published, monkeypatch, line, moment) -> None:
    from diagnosis import engine
    from diagnosis.models import Extractor, Job, OutboxEvent
    from federation import tasks
    from federation.models import AdoptedModel

    class Crash(BaseException):
        """As a killed process: no handler catches it."""

    module, _, name = line.rpartition(".")
    owner = pytest.importorskip("federation.services.adoption")
    if module == "diagnosis.engine":
        owner = engine
    elif "AdoptedModel" in module:
        owner = AdoptedModel.objects
    original, calls = getattr(owner, name), []

    def cut(*args, **kwargs):
        calls.append(1)
        if moment == "after":
            original(*args, **kwargs)
        raise Crash

    job = jobs.enqueue(kind="federation_adopt", subject=published.pk, key="adopt")
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, cut)
        with pytest.raises(Crash):
            tasks.adopt(job.pk)
    assert calls
    Job.objects.filter(pk=job.pk).update(lease_expires="2020-01-01T00:00:00Z")
    tasks.adopt(job.pk)
    assert Job.objects.get(pk=job.pk).state == "done"
    made = AdoptedModel.objects.get().extractor
    assert Extractor.objects.get(state="adopted") == made and Extractor.objects.count() == 2
    assert OutboxEvent.objects.filter(kind="model.adopted", detail__sha256=made.sha256).count() == 1


def test_a_missing_file_is_tried_again(published) -> None:
    from diagnosis.models import Extractor, Job
    from federation import tasks
    from federation.storage import blob_add, blob_bytes, blob_remove

    name = published.members[0]["weights"]
    data = blob_bytes(name)
    blob_remove(name)
    job = jobs.enqueue(kind="federation_adopt", subject=published.pk, key="adopt")
    tasks.adopt(job.pk)
    assert Extractor.objects.count() == 1 and Job.objects.get(pk=job.pk).state != "done"
    blob_add(data)
    Job.objects.filter(pk=job.pk).update(state="queued", not_before=None)
    tasks.adopt(job.pk)
    assert Extractor.objects.count() == 2


def test_old_rankings_keep_their_model_and_the_case_page_needs_no_calibration(
    hospital, published, client, make_user, sign_in, django_capture_on_commit_callbacks
) -> None:
    from diagnosis import engine
    from diagnosis import tasks as clinic
    from diagnosis.models import Case, Diagnosis, Embedding, Photo, RankingRecord
    from diagnosis.services.model import photos_to_embed
    from diagnosis.services.ranking_request import ranking_request
    from federation.services.adoption import model_adopt

    work = {"reembed_photo": clinic.reembed_photo, "rank_case": clinic.rank_case}

    def run() -> None:
        with django_capture_on_commit_callbacks(execute=True):
            while (job := jobs.due().filter(kind__in=work).first()) is not None:
                work[job.kind](job.pk)

    unsolved = hospital.admit("SYN:0001")
    Diagnosis.objects.filter(patient=unsolved).delete()
    case = Case.objects.get(patient=unsolved)
    base = engine.extractor_now()
    for photo in photos_to_embed(base):
        jobs.enqueue(kind="reembed_photo", subject=photo.pk, key=f"first:{photo.pk}")
    ranking_request(case=case.pk)
    run()
    old = RankingRecord.objects.get(case=case)
    made = model_adopt(published)
    run()
    assert Embedding.objects.filter(extractor=made).count() == Photo.objects.count()
    records = RankingRecord.objects.filter(case=case).order_by("pk")
    assert [record.extractor for record in records] == [base, made] and records[0] == old
    user = make_user(team=case.team)
    answer = sign_in(client, user).get(f"/cases/{case.pk}/")
    assert answer.status_code == 200
    page = answer.content.decode()
    assert "SYN:0001" in page and made.name in page


def test_a_hospital_that_joined_later_inherits_from_the_first_base(hospital, story, published) -> None:
    """It has never seen the model between the first base and the one to install."""
    import dataclasses

    from diagnosis.errors import NotReady
    from diagnosis.models import Extractor, ExtractorMember
    from federation.models import Round
    from federation.plans import parse_plan
    from federation.services.adoption import base_extractor

    asked = dataclasses.replace(hospital.member(), base_sha256=published.members[0]["weights"])
    later = story.begin(members=(asked,), previous_round=published.round.sha256)
    assert base_extractor(parse_plan(later.plan)) == Extractor.objects.get()
    assert Round.objects.count() == 2
    ExtractorMember.objects.update(sha256="0" * 64)
    with pytest.raises(NotReady, match="Install its weights"):
        base_extractor(parse_plan(later.plan))


def test_a_hospital_that_joined_later_needs_no_file_of_the_counting(hospital, published) -> None:
    from federation.models import SecureSum
    from federation.services.adoption import centroids_publish, model_adopt
    from federation.storage import blob_remove

    total = SecureSum.objects.get(name=published.centroids)
    before = centroids_publish(total)
    for other in SecureSum.objects.exclude(pk=total.pk):
        blob_remove(other.result)
    assert centroids_publish(total) == before
    assert model_adopt(published).facts["federation"]["open_classes"] == 2


def test_centroids_are_published_as_one_file_that_reads_back(published) -> None:
    import numpy as np

    from federation.errors import InvalidMessage
    from federation.models import SecureSum
    from federation.services.adoption import centroids_of, centroids_publish, model_adopt
    from federation.services.centroids import centroids_load
    from federation.storage import blob_bytes

    total = SecureSum.objects.get(name=published.centroids)
    sha256 = centroids_publish(total)
    assert centroids_publish(total) == sha256
    found = centroids_load(blob_bytes(sha256))
    assert found.keys == ("SYN:0001", "SYN:0002") and found.rows.shape == (2, 4, 512)
    assert found.model_sha256 == model_adopt(published).sha256
    np.testing.assert_allclose(np.linalg.norm(found.rows, axis=2), 1.0, rtol=1e-6)
    assert list(found.patients) == [len(some) for some in _people(total).values()]
    same = centroids_of(published)
    np.testing.assert_array_equal(same.rows, found.rows)
    for data in (b"", blob_bytes(sha256)[:-1], b"\x00" * 64):
        with pytest.raises(InvalidMessage):
            centroids_load(data)


def _people(total):
    from federation.models import Contribution

    return Contribution.objects.get(sum=total.name).patients


def test_an_impossible_centroid_sum_is_refused(published, story) -> None:
    import numpy as np

    from federation.errors import InvalidMessage
    from federation.models import SecureSum
    from federation.services.centroids import centroids_publish
    from federation.services.results import words_of

    total = SecureSum.objects.get(name=published.centroids)
    for count in (1 << 40, (7 << 40) + 1):  # one patient; a patient and a bit
        words = words_of(total).astype(np.uint64)
        words[0] = count
        story.open(total, words)
        with pytest.raises(InvalidMessage, match="count"):
            centroids_publish(total)

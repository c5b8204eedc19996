"""The engine's caches never outlive consent, and lists carry the bands of exactly their model."""

from __future__ import annotations

import threading

import pytest
from django.utils import timezone

from diagnosis import engine, vault
from diagnosis.errors import InvalidInput, NotReady, Unreadable
from diagnosis.models import Diagnosis, Embedding, GalleryVersion, RankingRecord
from diagnosis.services.consent import consent_withdraw
from diagnosis.services.model import extractor_calibrate
from diagnosis.services.photo import photo_add
from diagnosis.services.ranking import case_rank


@pytest.fixture
def opened(monkeypatch) -> list[int]:
    """Primary keys of the embeddings that were unsealed, in order."""
    seen: list[int] = []
    real = engine.open_rows
    monkeypatch.setattr(engine, "open_rows", lambda row: (seen.append(row.pk), real(row))[1])
    return seen


# --- the gallery -----------------------------------------------------------------------------------


def test_nothing_is_opened_twice_and_only_what_is_new(extractor, make_gallery, opened) -> None:
    photos = make_gallery(syndromes=5)
    first = engine.gallery(extractor)
    assert len(first) == 5 and len(opened) == 5
    assert engine.gallery(extractor) is first and len(opened) == 5
    more = make_gallery(syndromes=7, seed=2)
    assert len(engine.gallery(extractor)) == 12 and len(opened) == 12
    assert {int(key) for key in engine.gallery(extractor).image_keys} == {p.pk for p in photos + more}


@pytest.mark.parametrize(
    "change", ["withdrawn", "tier taken back", "diagnosis retracted", "photo being analysed"]
)
def test_what_may_not_stand_there_any_more_is_gone_at_the_next_use(
    extractor, make_gallery, sign, change: str
) -> None:
    photo = make_gallery(syndromes=4)[0]
    before = engine.gallery(extractor)
    version = engine.gallery_version(extractor, before)
    if change == "withdrawn":
        sign(photo.patient, set())
    elif change == "tier taken back":
        sign(photo.patient, {"analysis"})
    elif change == "diagnosis retracted":
        Diagnosis.objects.filter(patient=photo.patient).update(retracted_at=timezone.now())
    else:
        type(photo).objects.filter(pk=photo.pk).update(state="received")
    after = engine.gallery(extractor)
    assert (
        len(after) == 3 and str(photo.pk) not in after.image_keys and "SYN:0000" not in after.by_syndrome.keys
    )
    assert engine.gallery_version(extractor, after).pk != version.pk


def test_a_changed_diagnosis_or_gene_is_a_new_gallery(extractor, make_gallery) -> None:
    from diagnosis.models import Gene, Syndrome

    photo = make_gallery(syndromes=3)[0]
    before = engine.gallery(extractor)
    Diagnosis.objects.filter(patient=photo.patient).update(
        syndrome=Syndrome.objects.get(identifier="SYN:0002")
    )
    renamed = engine.gallery(extractor)
    assert set(renamed.syndromes) == {"SYN:0001", "SYN:0002"} and renamed.version != before.version
    Syndrome.objects.get(identifier="SYN:0002").genes.add(Gene.objects.get(symbol="GEN0"))
    assert engine.gallery(extractor).version != renamed.version


def test_a_withdrawal_empties_the_memory_of_this_process_at_once(
    extractor, make_gallery, django_capture_on_commit_callbacks
) -> None:
    photo = make_gallery(syndromes=3)[0]
    engine.gallery(extractor)
    assert engine._loaded.galleries
    with django_capture_on_commit_callbacks(execute=True):
        consent_withdraw(user=None, patient=photo.patient, signer="self")
    assert not engine._loaded.galleries
    assert not Embedding.objects.filter(photo=photo.pk).exists() and len(engine.gallery(extractor)) == 2


def test_a_process_that_ranks_nothing_forgets_too(extractor, make_gallery, monkeypatch) -> None:
    """The withdrawal happens in another process: only the database and its outbox tell."""
    photo = make_gallery(syndromes=3)[0]
    engine.gallery(extractor)
    (row,) = Embedding.objects.filter(photo=photo)
    monkeypatch.setattr(engine, "forget_galleries", lambda: None)
    engine.galleries_refresh()
    assert row.pk in engine._loaded.galleries[extractor.pk].rows
    consent_withdraw(user=None, patient=photo.patient, signer="self")
    engine.galleries_refresh()
    assert row.pk not in engine._loaded.galleries[extractor.pk].rows
    assert len(engine._loaded.galleries[extractor.pk].gallery) == 2


def test_an_embedding_whose_key_is_destroyed_does_not_stop_the_others(extractor, make_gallery) -> None:
    photo = make_gallery(syndromes=3)[0]
    vault.destroy_key(photo.key)
    assert len(engine.gallery(extractor)) == 2


def test_versions_are_named_once_and_counted(extractor, make_gallery) -> None:
    make_gallery(syndromes=3)
    gallery = engine.gallery(extractor)
    first = engine.gallery_version(extractor, gallery)
    engine.forget_galleries()
    assert engine.gallery_version(extractor, engine.gallery(extractor)).pk == first.pk
    make_gallery(syndromes=2, seed=5)
    second = engine.gallery_version(extractor, engine.gallery(extractor))
    assert (first.number, second.number, second.photos, second.syndromes) == (1, 2, 5, 3)
    assert GalleryVersion.objects.count() == 2


def test_rows_open_only_as_what_they_were_sealed_for(extractor, install, make_gallery) -> None:
    one, two = make_gallery(syndromes=2)
    mine, other = Embedding.objects.get(photo=one), Embedding.objects.get(photo=two)
    mine.sealed = other.sealed
    with pytest.raises(Unreadable):
        engine.open_rows(mine)
    other.extractor = install(grey=False)
    with pytest.raises(Unreadable):
        engine.open_rows(other)


def test_many_threads_load_the_networks_once(extractor, monkeypatch) -> None:
    engine.forget()
    loads: list[str] = []
    real = engine._load
    monkeypatch.setattr(engine, "_load", lambda e: (loads.append(e.sha256), real(e))[1])
    list(extractor.members.all())
    spec = engine.spec_of(extractor)
    monkeypatch.setattr(engine, "spec_of", lambda e, rows=None: spec)  # threads share no test transaction
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(engine.ensemble(extractor))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1 and len(set(map(id, found))) == 1


# --- bands and match -------------------------------------------------------------------------------


@pytest.fixture
def ranked(make_user, make_patient, make_case, team, make_gallery, extractor, photo_bytes, run_jobs):
    make_gallery(syndromes=30)
    case = make_case(make_patient())
    photo_add(user=make_user(team=team), case=case, data=photo_bytes())
    run_jobs()
    return case


@pytest.mark.parametrize("confident, match", [(True, "confident"), (False, "none")])
def test_lists_carry_bands_and_an_honest_match(
    ranked, extractor, make_calibration, confident: bool, match: str
) -> None:
    distances = [row["distance"] for row in RankingRecord.objects.get().result["syndromes"]]
    high, medium = distances[2], distances[9]
    cuts = {"high": high + 1e-5, "medium": medium + 1e-5}
    made = make_calibration(extractor.sha256, confident=confident, **cuts)
    extractor_calibrate(user=None, extractor=extractor, calibration=made)
    record = case_rank(case=ranked)
    assert record.match == match and (record.score > 0.99) == confident
    bands = [row["band"] for row in record.result["syndromes"]]
    assert bands == ["High"] * 3 + ["Medium"] * 7 + ["Low"] * 20
    assert RankingRecord.objects.order_by("id").first().match == "uncalibrated", "old lists stay as they were"


def test_a_calibration_of_another_model_or_a_damaged_one_is_refused(
    extractor, install, make_calibration
) -> None:
    other = install(grey=False)
    with pytest.raises(InvalidInput, match="another model"):
        extractor_calibrate(
            user=None, extractor=other, calibration=make_calibration(extractor.sha256, confident=True)
        )
    extractor_calibrate(
        user=None, extractor=extractor, calibration=make_calibration(extractor.sha256, confident=True)
    )
    engine.forget()
    path = engine.calibration_path(extractor.calibration)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(NotReady, match="missing or damaged"):
        engine.calibration(extractor)

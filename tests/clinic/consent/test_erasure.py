"""Withdrawal erases: rows, files, keys, caches and SQLite's log; a crash anywhere is made good."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.db import connection

from diagnosis import vault
from diagnosis.errors import InvalidInput, NotAllowed, Unreadable
from diagnosis.models import (
    AuditEvent,
    Case,
    Consent,
    Diagnosis,
    Differential,
    Embedding,
    Erasure,
    IntakeLink,
    Job,
    LedgerEntry,
    OutboxEvent,
    Patient,
    Photo,
    RankingRecord,
    Verdict,
)  # fmt: skip
from diagnosis.registries import after_erasure
from diagnosis.services import consent, erasure, people
from diagnosis.services.audit import chain_fault
from diagnosis.services.backup import blob_names
from diagnosis.services.consent import consent_withdraw
from diagnosis.services.journal import erased_lines
from diagnosis.services.replay import erasures_replay

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def photographed(register: Any, agree: Any, full_case: Any) -> Callable[[], Any]:
    """photographed() → a patient who agreed to everything, with a full case."""

    def make() -> Any:
        patient = register()
        agree(patient, {"analysis", "gallery", "training", "comparison", "matching"})
        full_case(patient)
        return patient

    return make


def keys_of(patient: Any) -> list[Any]:
    return [patient.key, *Photo.objects.filter(patient=patient).values_list("key", flat=True)]


def withdraw(patient: Any) -> Consent:
    return consent_withdraw(user=None, patient=patient, signer="self")


def left_of(patient: Any, keys: list[Any]) -> dict[str, int]:
    """What is left of a patient, by kind; everything must be 0."""
    cases = Case.objects.filter(patient=patient)
    return {
        "photos": Photo.objects.filter(patient=patient).count(),
        "embeddings": Embedding.objects.filter(photo__patient=patient).count(),
        "rankings": RankingRecord.objects.filter(case__in=cases).count(),
        "verdicts": Verdict.objects.filter(case__in=cases).count(),
        "differentials": Differential.objects.filter(case__in=cases).count(),
        "diagnoses": Diagnosis.objects.filter(patient=patient).count(),
        "links": IntakeLink.objects.filter(patient=patient).count(),
        "keys": sum(vault.has_key(key) for key in keys),
        "notes": cases.exclude(note="").count(),
    }


def test_withdrawal_leaves_nothing_and_touches_nobody_else(photographed: Any) -> None:
    patient, other = photographed(), photographed()
    keys, other_before = keys_of(patient), left_of(other, keys_of(other))
    assert all(left_of(patient, keys)[kind] for kind in ("photos", "embeddings", "rankings", "keys", "notes"))
    row = withdraw(patient)
    patient.refresh_from_db()
    assert not any(left_of(patient, keys).values()), left_of(patient, keys)
    assert left_of(other, keys_of(other)) == other_before
    assert len(list(blob_names())) == 4 and Job.objects.count() == 3  # the other patient's
    assert {case.state for case in Case.objects.filter(patient=patient)} == {"withdrawn"}
    assert (patient.state, patient.sealed_identity, patient.ancestry) == ("withdrawn", None, "")
    assert Consent.objects.filter(patient=patient).count() == 2 and row.kind == "withdrawn" and not row.duo
    assert (
        set(Erasure.objects.values_list("key", flat=True))
        == set(keys)
        == {line.key for line in erased_lines()}
    )
    kinds = list(LedgerEntry.objects.filter(patient=patient).order_by("id").values_list("kind", flat=True))
    assert kinds[0] == "consent.given" and kinds[-2:] == ["consent.withdrawn", "erased"]
    event = OutboxEvent.objects.get(kind="consent.withdrawn")
    assert len(event.detail["photos"]) == 2
    assert chain_fault() is None


def test_sealed_evidence_stays_and_does_not_open(photographed: Any, clerk: Any) -> None:
    patient = photographed()
    signed = Consent.objects.filter(patient=patient).get()
    withdraw(patient)
    signed = Consent.objects.get(pk=signed.pk)
    assert signed.sealed
    with pytest.raises(Unreadable):
        consent.signature_of(signed)
    with pytest.raises(Unreadable):
        people.patient_identity(user=clerk, patient=Patient.objects.get(pk=patient.pk))


def test_withdrawing_twice_is_one_withdrawal(photographed: Any, agree: Any) -> None:
    patient = photographed()
    assert withdraw(patient).pk == withdraw(patient).pk
    with pytest.raises(InvalidInput, match="erased"):
        agree(patient)


def test_caches_of_this_process_are_dropped(photographed: Any) -> None:
    from diagnosis import engine

    called: list[str] = []
    after_erasure.register("test", lambda: called.append("dropped"))
    try:
        engine._loaded.galleries = {1: object()}  # type: ignore[dict-item]
        withdraw(photographed())
    finally:
        after_erasure._entries.pop("test")
    assert not engine._loaded.galleries and called


# --- a crash at each step ------------------------------------------------------------------------------


class Crash(BaseException):
    """As a killed process: nothing after it runs, no handler catches it."""


STEPS = {
    "before the journal": ("diagnosis.services.erasure.erased_append", 1),
    "at the first key": ("diagnosis.vault.destroy_key", 1),
    "between two keys": ("diagnosis.vault.destroy_key", 2),
    "at the patient's key": ("diagnosis.vault.destroy_key", 3),
    "at the first file": ("diagnosis.vault.blob_delete", 1),
    "between two files": ("diagnosis.vault.blob_delete", 3),
    "at the log": ("diagnosis.services.erasure.log_truncate", 1),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_after_the_commit_is_made_good(step: str, photographed: Any, monkeypatch: Any) -> None:
    import importlib

    patient = photographed()
    keys = keys_of(patient)
    module_name, name = STEPS[step][0].rsplit(".", 1)
    module, calls = importlib.import_module(module_name), [0]
    real = getattr(module, name)

    def crashing(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == STEPS[step][1]:
            raise Crash
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, crashing)
        with pytest.raises(Crash):
            withdraw(patient)
    rows = {kind: n for kind, n in left_of(patient, keys).items() if kind != "keys"}
    assert not any(rows.values()), "the transaction had committed: no row may be left"
    erasures_replay()
    assert not any(left_of(patient, keys).values())
    assert list(blob_names()) == [] and {line.key for line in erased_lines()} == set(keys)
    assert erasures_replay() == 0


@pytest.mark.parametrize("name", ["patient_erase", "_journal"])
def test_a_crash_before_the_commit_changes_nothing(name: str, photographed: Any, monkeypatch: Any) -> None:
    patient = photographed()
    keys, before = keys_of(patient), left_of(patient, keys_of(patient))

    def crashing(*args: Any, **kwargs: Any) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(consent, name, crashing)
        with pytest.raises(Crash):
            withdraw(patient)
    patient.refresh_from_db()
    assert patient.state == "given" and left_of(patient, keys) == before
    assert not Erasure.objects.exists() and not erased_lines() and erasures_replay() == 0
    assert len(list(blob_names())) == 4


def test_an_error_while_erasing_is_logged_and_replayed(
    photographed: Any, monkeypatch: Any, caplog: Any
) -> None:
    """A full disk must not turn a committed withdrawal into an error page."""
    patient = photographed()
    keys = keys_of(patient)

    def broken(*args: Any) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(erasure, "erased_append", broken)
        withdraw(patient)
    assert caplog.records and any(vault.has_key(key) for key in keys)
    erasures_replay()
    assert not any(vault.has_key(key) for key in keys)


# --- canaries ------------------------------------------------------------------------------------------


def places(home: Path) -> Iterator[tuple[str, bytes]]:
    """Every file in which something could linger: the site's home, the database with its log, temp."""
    files = [path for path in home.rglob("*") if path.is_file()]
    if connection.vendor == "sqlite":
        name = str(connection.settings_dict["NAME"])
        files += [
            path for path in (Path(name + end) for end in ("", "-wal", "-shm", "-journal")) if path.exists()
        ]
    files += [path for path in Path(tempfile.gettempdir()).glob("gestaltweb*/**/*") if path.is_file()]
    for path in files:
        try:
            yield str(path), path.read_bytes()
        except (FileNotFoundError, PermissionError):
            continue


def test_canaries_are_never_plain_and_sealed_bytes_are_gone(
    photographed: Any, site_home: Path, caplog: Any, capfd: Any, marks: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    patient = photographed()
    plain = {"given name": marks.given.encode(), "family name": marks.family.encode(),
             "pixels": marks.pixels[:64], "embedding": marks.floats[:64], "note": b"a note about the patient",
             "differential": b"my own idea"}  # fmt: skip
    sealed = {"identity": bytes(patient.sealed_identity)[:48]}
    for photo in Photo.objects.filter(patient=patient):
        sealed[f"embedding {photo.pk}"] = bytes(photo.embeddings.get().sealed)[:48]
        sealed[f"key {photo.pk}"] = vault._key_path(photo.key).read_bytes()[16:]
        with default_storage.open(photo.original, "rb") as stream:
            sealed[f"original {photo.pk}"] = stream.read(48)
    open_texts = {"note", "differential"}  # written by clinicians about a pseudonym; they go with withdrawal
    before = {mark for mark, data in plain.items() for _name, content in places(site_home) if data in content}
    assert before <= open_texts, "in plain before withdrawal"
    if connection.vendor == "sqlite":  # the search does find what is there
        assert any(sealed["identity"] in content for _name, content in places(site_home))
    assert any(
        next(v for k, v in sealed.items() if k.startswith("original")) in c for _n, c in places(site_home)
    )
    withdraw(patient)
    found = [(mark, name) for name, content in places(site_home)
             for mark, data in (plain | sealed).items() if data in content]  # fmt: skip
    assert found == []
    said = caplog.text + "".join(capfd.readouterr())
    assert marks.given not in said and marks.family not in said


def test_ids_in_other_patients_rankings_resolve_to_nothing(photographed: Any, full_case: Any) -> None:
    from diagnosis.selectors import for_gallery

    patient, other = photographed(), photographed()
    shown = list(Photo.objects.filter(patient=patient).values_list("pk", flat=True))
    assert for_gallery().filter(pk__in=shown).count() == 2
    withdraw(patient)
    assert not for_gallery().filter(pk__in=shown).exists()
    assert RankingRecord.objects.filter(case__patient=other).exists()
    assert AuditEvent.objects.filter(action="patient.erased", subject=f"patient:{patient.pk}").count() == 1


def test_somebody_who_never_signed_is_removed_for_good(
    register: Any, clerk: Any, make_user: Any, agree: Any
) -> None:
    patient, signed = register(), register()
    with pytest.raises(NotAllowed):
        erasure.patient_remove(user=make_user(roles={"intake"}), patient=patient)
    key = patient.key
    erasure.patient_remove(user=clerk, patient=patient)
    assert not Patient.objects.filter(code=patient.code).exists() and not vault.has_key(key)
    assert Erasure.objects.get().key == key and AuditEvent.objects.filter(action="patient.removed").exists()
    agree(signed)
    with pytest.raises(InvalidInput, match="Withdraw instead"):
        erasure.patient_remove(user=clerk, patient=signed)


def test_a_reader_that_holds_the_log_delays_only_the_log(photographed: Any, monkeypatch: Any) -> None:
    """A page that is being read elsewhere must not fail a withdrawal; the next replay empties the log."""
    import sqlite3

    if connection.vendor != "sqlite":
        pytest.skip("SQLite's own log")
    patient = photographed()
    name = str(connection.settings_dict["NAME"])
    monkeypatch.setattr(erasure, "CHECKPOINT_MILLISECONDS", 50)
    reader = sqlite3.connect(name)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM diagnosis_photo").fetchone()
    withdraw(patient)
    assert not Photo.objects.exists() and Path(name + "-wal").stat().st_size > 0
    reader.rollback()
    reader.close()
    assert erasures_replay() == 0 and Path(name + "-wal").stat().st_size == 0
    assert connection.cursor().execute("PRAGMA busy_timeout").fetchone()[0] == 30000


def test_a_photo_taken_in_by_the_service_goes_without_a_trace(
    register: Any, agree: Any, make_user: Any, make_case: Any, site_home: Path, monkeypatch: Any
) -> None:
    """The real way in: upload, seal, job. What was shown to the clinician is what is searched for."""
    import io

    import numpy as np
    from PIL import Image

    from diagnosis import jobs
    from diagnosis.errors import ConsentMissing
    from diagnosis.services.photo import photo_add, photo_picture

    monkeypatch.setattr(jobs, "wake", lambda *args: None)
    patient = register()
    agree(patient)
    doctor = make_user(roles={"geneticist"}, team=patient.team)
    case = make_case(patient)
    stream = io.BytesIO()
    noise = np.random.default_rng(5).integers(0, 255, (400, 400, 3), np.uint8)
    Image.fromarray(noise).save(stream, "PNG")
    photo = photo_add(user=doctor, case=case, data=stream.getvalue())
    picture, _kind = photo_picture(user=doctor, photo=photo, kind="original")
    with default_storage.open(photo.original, "rb") as blob:
        sealed = blob.read()
    assert len(picture) > 10_000 and Job.objects.filter(subject=photo.pk).exists()
    marks = [picture[5000:5064], stream.getvalue()[5000:5064], sealed[:64], sealed[5000:5064]]
    assert [sum(mark in data for _name, data in places(site_home)) for mark in marks] == [0, 0, 1, 1]
    withdraw(patient)
    assert [sum(mark in data for _name, data in places(site_home)) for mark in marks] == [0, 0, 0, 0]
    assert not Photo.objects.exists() and not Job.objects.exists() and not vault.has_key(photo.key)
    with pytest.raises(ConsentMissing):
        photo_picture(user=doctor, photo=photo, kind="original")
    with pytest.raises(ConsentMissing):
        photo_add(user=doctor, case=Case.objects.get(pk=case.pk), data=stream.getvalue())


def test_a_crop_named_since_the_photo_was_read_goes_too(photographed: Any, site_home: Path) -> None:
    """An analysis begins between the page that read the photo and its removal."""
    patient = photographed()
    photo = Photo.objects.filter(patient=patient)[0]
    newer = vault.blob_write(photo.key, b"a crop made since", purpose="crop")
    Photo.objects.filter(pk=photo.pk).update(crop=newer)
    assert photo.crop != newer
    erasure.photos_erase(photos=[photo], reason="photo removed")
    assert newer in Erasure.objects.get(key=photo.key).blobs and not default_storage.exists(newer)

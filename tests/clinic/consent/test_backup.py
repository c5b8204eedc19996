"""Backup holds no key; restore brings back everything but what was erased or taken back since."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from diagnosis import vault
from diagnosis.errors import Unreadable
from diagnosis.models import ApiToken, AuditEvent, Consent, Embedding, IntakeLink, Patient, Photo
from diagnosis.selectors import consent_now, for_analysis
from diagnosis.services import consent, ledger, people
from diagnosis.services.audit import chain_fault
from diagnosis.services.backup import DATABASES, BackupError, backup_restore, backup_write, blob_names
from diagnosis.services.backup_seal import folder_open, folder_seal
from diagnosis.services.journal import journal_file
from diagnosis.services.replay import erasures_replay

pytestmark = pytest.mark.django_db(transaction=True)
ALL = {"analysis", "gallery", "training", "comparison", "matching"}


@pytest.fixture
def photographed(register: Any, agree: Any, full_case: Any) -> Callable[[], Any]:
    def make() -> Any:
        patient = register()
        agree(patient, ALL)
        full_case(patient)
        return patient

    return make


def opened(sealed: Path) -> Path:
    """The backup's folder, as only the key folder can open it."""
    return folder_open(sealed, sealed.with_name(f"{sealed.name} opened"))


def test_a_round_trip_brings_everything_back(
    photographed: Any, tmp_path: Path, site_home: Path, clerk: Any
) -> None:
    patient = photographed()
    before = people.patient_identity(user=clerk, patient=patient)
    photos = {p.pk: vault.blob_read(p.key, p.original, purpose="original") for p in Photo.objects.all()}
    manifest = backup_write(target=tmp_path / "b")
    end = AuditEvent.objects.order_by("-id")[0].sha256
    shutil.rmtree(site_home / "files")
    Photo.objects.all().delete()
    Patient.objects.filter(pk=patient.pk).update(ancestry="changed since")
    report = backup_restore(source=tmp_path / "b", replace=True)
    assert report.files == 4 and report.erasures == 0 and report.narrowed == 0
    patient = Patient.objects.get(pk=patient.pk)
    assert people.patient_identity(user=clerk, patient=patient) == before and patient.ancestry == ""
    assert {
        p.pk: vault.blob_read(p.key, p.original, purpose="original") for p in Photo.objects.all()
    } == photos
    told = AuditEvent.objects.order_by("-id")[0]
    assert chain_fault() is None and told.action == "backup.restored" and told.detail["replaced"] == end
    assert manifest["erased"] == []
    if connection.vendor == "sqlite":
        assert connection.cursor().execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_withdrawn_after_the_backup_stays_unreadable(
    photographed: Any, tmp_path: Path, clerk: Any, marks: Any
) -> None:
    patient, other = photographed(), photographed()
    keys = [patient.key, *Photo.objects.filter(patient=patient).values_list("key", flat=True)]
    sealed = bytes(Embedding.objects.filter(photo__patient=patient)[0].sealed)
    target = tmp_path / "backups" / "one"
    backup_write(target=target)
    consent.consent_withdraw(user=None, patient=patient, signer="self")
    report = backup_restore(source=target, replace=True)
    assert report.erasures >= 1
    patient = Patient.objects.get(pk=patient.pk)
    assert (patient.state, patient.sealed_identity) == ("withdrawn", None)
    assert consent_now(patient).kind == "withdrawn"
    assert not Photo.objects.filter(patient=patient).exists() and not any(vault.has_key(key) for key in keys)
    assert len(list(blob_names())) == 4 and for_analysis().filter(patient=other).count() == 2
    with pytest.raises(Unreadable):
        vault.unseal(keys[1], sealed, purpose="embedding")  # as it lies in the backup: no key opens it
    assert erasures_replay() == 0 and chain_fault() is None
    assert (
        people.patient_identity(user=clerk, patient=Patient.objects.get(pk=other.pk))["given_name"]
        == marks.given
    )


def test_withdrawal_before_anybody_restored_survives_a_lost_database(
    photographed: Any, tmp_path: Path
) -> None:
    """Today's database is gone too: the journal beside the keys still knows."""
    patient = photographed()
    backup_write(target=tmp_path / "b")
    consent.consent_withdraw(user=None, patient=patient, signer="self")
    call_command("flush", interactive=False, verbosity=0)
    backup_restore(source=tmp_path / "b")
    patient = Patient.objects.get(pk=patient.pk)
    assert patient.state == "withdrawn" and not Photo.objects.exists() and not list(blob_names())


def test_an_old_key_folder_does_not_help(photographed: Any, tmp_path: Path, site_home: Path) -> None:
    patient = photographed()
    keys = [patient.key, *Photo.objects.values_list("key", flat=True)]
    shutil.copytree(site_home / "keys" / "data", tmp_path / "old keys")
    backup_write(target=tmp_path / "b")
    consent.consent_withdraw(user=None, patient=patient, signer="self")
    shutil.copytree(tmp_path / "old keys", site_home / "keys" / "data", dirs_exist_ok=True)
    assert all(vault.has_key(key) for key in keys)
    backup_restore(source=tmp_path / "b", replace=True)
    assert not any(vault.has_key(key) for key in keys) and not Photo.objects.exists()


def test_choices_taken_back_since_stay_taken_back(photographed: Any, tmp_path: Path, agree: Any) -> None:
    narrowed, widened = photographed(), photographed()
    consent.consent_narrow(user=None, patient=widened, tier="matching")
    backup_write(target=tmp_path / "b")
    consent.consent_narrow(user=None, patient=narrowed, tier="training")
    agree(widened, ALL)
    report = backup_restore(source=tmp_path / "b", replace=True)
    assert report.narrowed == 1
    assert consent.tiers_of(consent_now(narrowed)) == ALL - {"training"}
    assert consent.tiers_of(consent_now(widened)) == ALL - {"matching"}, "a restore never widens"


def test_revoked_access_does_not_come_back(
    photographed: Any, tmp_path: Path, make_user: Any, clerk: Any, client: Any, capsys: Any
) -> None:
    patient = photographed()
    caller = make_user(roles={"api"})
    tokens = [
        ApiToken.objects.create(user=caller, token_hash=f"{number}" * 64, label="x") for number in range(2)
    ]
    path = consent.link_create(user=clerk, patient=patient, language="en")
    backup_write(target=tmp_path / "b")
    tokens[0].revoked_at = timezone.now()
    tokens[0].save()
    IntakeLink.objects.update(used_at=timezone.now())
    client.force_login(clerk)
    call_command("restore", str(tmp_path / "b"), "--replace")
    assert not ApiToken.objects.filter(revoked_at=None).exists() and ApiToken.objects.count() == 2
    assert client.get(path).status_code == 410
    assert not Session.objects.exists() and client.get("/patients/").status_code == 302
    told = AuditEvent.objects.order_by("-id")[0]
    assert told.action == "backup.restored" and (told.detail["links"], told.detail["tokens"]) == (1, 2)
    assert "a site admin must review" in capsys.readouterr().out


def test_replaced_codes_stay_replaced(photographed: Any, tmp_path: Path, clerk: Any, adult_born: Any) -> None:
    """A lost code must not open again; the one handed out since must, also after a withdrawal."""
    patient, withdrawn, same = photographed(), photographed(), photographed()
    old = {row.pk: ledger.code_of(row) for row in (patient, withdrawn, same)}
    backup_write(target=tmp_path / "b")
    new = {row.pk: ledger.code_reissue(user=clerk, patient=row) for row in (patient, withdrawn)}
    consent.consent_withdraw(user=None, patient=withdrawn, signer="self")
    assert backup_restore(source=tmp_path / "b", replace=True).codes == 2

    def opens(code: str) -> Any:
        return ledger.ledger_open(code=code, date_of_birth=adult_born, place=code)

    for row in (patient, withdrawn):
        assert opens(old[row.pk]) is None and opens(new[row.pk]) == row
    assert opens(old[same.pk]) == same
    assert ledger.code_of(Patient.objects.get(pk=patient.pk)) == new[patient.pk]
    assert not any(code.encode() in journal_file().read_bytes() for code in new.values())


def test_neither_keys_nor_names_nor_sessions_are_in_it(
    photographed: Any, tmp_path: Path, site_home: Path, marks: Any, client: Any, clerk: Any
) -> None:
    photographed()
    client.force_login(clerk)
    session = Session.objects.get().session_key
    backup_write(target=tmp_path / "b")
    inside = opened(tmp_path / "b")
    data = b"".join(file.read_bytes() for file in sorted(inside.rglob("*")) if file.is_file())
    stores = [path for name in ("master", "data") for path in (site_home / "keys" / name).rglob("*")]
    keys = [path.read_bytes() for path in stores if path.is_file()]
    assert len(keys) >= 4 and not any(key in data for key in keys)
    for plain in (marks.given.encode(), marks.family.encode(), marks.pixels[:64], marks.floats[:64]):
        assert plain not in data
    assert session.encode() not in data and Session.objects.exists()
    assert not any("keys" in name for name in json.loads((inside / "manifest.json").read_text())["files"])


def damaged(folder: Path) -> None:
    blob = next(path for path in (folder / "files").rglob("*") if path.is_file())
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")


def incomplete(folder: Path) -> None:
    (folder / DATABASES[connection.vendor]).unlink()


def smuggled(folder: Path) -> None:
    (folder / "files" / "extra").write_bytes(b"x")


def unnamed(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def changed(**facts: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | facts))

    return change


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "damaged": (damaged, "does not match its sha256"),
    "incomplete": (incomplete, "is missing"),
    "smuggled": (smuggled, "does not belong"),
    "no manifest": (unnamed, "not a backup"),
    "another version": (changed(version=99), "another version"),
    "another database": (changed(database="oracle"), "oracle"),
    "from the future": (changed(migrations=["diagnosis.9999_future"]), "newer"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_bad_backup_is_refused_before_anything_changes(
    name: str, photographed: Any, tmp_path: Path
) -> None:
    photographed()
    backup_write(target=tmp_path / "b")
    fault, sentence = FAULTS[name]
    folder = opened(tmp_path / "b")
    fault(folder)
    (tmp_path / "b").unlink()
    folder_seal(folder, tmp_path / "b")
    before = (Consent.objects.count(), AuditEvent.objects.count(), sorted(blob_names()))
    with pytest.raises(BackupError, match=sentence):
        backup_restore(source=tmp_path / "b", replace=True)
    assert (Consent.objects.count(), AuditEvent.objects.count(), sorted(blob_names())) == before


def test_commands_speak_in_sentences(photographed: Any, tmp_path: Path, capsys: Any) -> None:
    photographed()
    call_command("backup", str(tmp_path / "b.sealed"))
    assert (tmp_path / "b.sealed").stat().st_mode & 0o077 == 0
    with pytest.raises(CommandError, match="exists already"):
        call_command("backup", str(tmp_path / "b.sealed"))
    with pytest.raises(CommandError, match="--replace"):
        call_command("restore", str(tmp_path / "b.sealed"))
    with pytest.raises(CommandError, match="does not exist"):
        call_command("restore", str(tmp_path / "c.sealed"))
    call_command("restore", str(tmp_path / "b.sealed"), "--replace")
    assert "Restored" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_the_journal_survives_a_line_cut_off_by_a_crash(photographed: Any) -> None:
    patient = photographed()
    consent.consent_withdraw(user=None, patient=patient, signer="self")
    whole = journal_file().read_bytes()
    from diagnosis.services.journal import Chosen, chosen_append, chosen_last, erased_lines

    known = erased_lines()
    journal_file().write_bytes(whole + b'{"kind": "erased", "key": "12')
    assert erased_lines() == known and len(known) == 3
    chosen_append(Chosen(patient.key, frozenset({"analysis"}), timezone.now()))
    assert erased_lines() == known and chosen_last()[patient.key].tiers == {"analysis"}
    assert journal_file().stat().st_mode & 0o077 == 0

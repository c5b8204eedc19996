"""The sealed file: whole or nothing, opened beside this site's keys only, and nothing readable in it."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diagnosis import vault
from diagnosis.models import Diagnosis
from diagnosis.services import backup, backup_seal
from diagnosis.services.backup import BackupError, backup_restore, backup_write
from diagnosis.services.backup_seal import folder_open, folder_seal


def content_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def sealed(tmp_path: Path, monkeypatch: Any) -> Path:
    """A sealed folder of several chunks: 40 KB in chunks of 4 KB."""
    monkeypatch.setattr(backup_seal, "CHUNK", 4096)
    folder = tmp_path / "plain"
    (folder / "inner").mkdir(parents=True)
    (folder / "one").write_bytes(b"CANARY" * 5000)
    (folder / "inner" / "two").write_bytes(os.urandom(10_000))
    folder_seal(folder, tmp_path / "sealed")
    return tmp_path / "sealed"


def start_of_chunks(data: bytes) -> int:
    return 8 + int.from_bytes(data[4:8], "big")


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 8192])
def test_round_trip(tmp_path: Path, monkeypatch: Any, size: int) -> None:
    monkeypatch.setattr(backup_seal, "CHUNK", 512)
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "file").write_bytes(os.urandom(size))
    folder_seal(tmp_path / "plain", tmp_path / "sealed")
    assert content_of(folder_open(tmp_path / "sealed", tmp_path / "out")) == content_of(tmp_path / "plain")


def test_nothing_can_be_read_in_it_and_no_two_are_equal(sealed: Path, tmp_path: Path) -> None:
    data = sealed.read_bytes()
    assert b"CANARY" not in data and b"inner" not in data and sealed.stat().st_mode & 0o077 == 0
    folder_seal(tmp_path / "plain", tmp_path / "again")
    again = (tmp_path / "again").read_bytes()
    assert again[start_of_chunks(again) :] != data[start_of_chunks(data) :]


def cut_one_byte(data: bytes) -> bytes:
    return data[:-1]


def cut_last_chunk(data: bytes) -> bytes:
    start, sealed_chunk = start_of_chunks(data), 4096 + 16
    return data[: start + (len(data) - start - 1) // sealed_chunk * sealed_chunk]


def cut_all_chunks(data: bytes) -> bytes:
    return data[: start_of_chunks(data)]


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def swapped(data: bytes) -> bytes:
    start, size = start_of_chunks(data), 4096 + 16
    second, third = start + size, start + 2 * size
    return data[:start] + data[second:third] + data[start:second] + data[third:]


def longer(data: bytes) -> bytes:
    return data + data[-100:]


def other_salt(data: bytes) -> bytes:
    place = data.index(b'"salt": "') + len(b'"salt": "')
    return data[:place] + (b"0" if data[place : place + 1] != b"0" else b"1") + data[place + 1 :]


@pytest.mark.parametrize(
    "change", [cut_one_byte, cut_last_chunk, cut_all_chunks, flipped, swapped, longer, other_salt]
)
def test_whatever_is_changed_does_not_open(
    sealed: Path, tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    sealed.write_bytes(change(sealed.read_bytes()))
    with pytest.raises(BackupError, match="damaged or cut off"):
        folder_open(sealed, tmp_path / "out")


def test_another_sites_keys_do_not_open_it(sealed: Path, tmp_path: Path, settings: Any) -> None:
    settings.GESTALTWEB_KEYS = tmp_path / "other keys"
    vault.create_master_key()
    with pytest.raises(BackupError, match="other keys"):
        folder_open(sealed, tmp_path / "out")


def test_another_site_and_another_file_are_named(sealed: Path, tmp_path: Path, settings: Any) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8 not a backup")
    with pytest.raises(BackupError, match="not a backup"):
        folder_open(tmp_path / "photo.jpg", tmp_path / "out")
    settings.SITE_SLUG = "elsewhere"
    with pytest.raises(BackupError, match="here is 'elsewhere'"):
        folder_open(sealed, tmp_path / "out")


def test_a_path_outside_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    def add(archive: tarfile.TarFile, folder: Path, arcname: str) -> None:
        archive.addfile(tarfile.TarInfo("../../evil"), io.BytesIO())

    (tmp_path / "plain").mkdir()
    monkeypatch.setattr(tarfile.TarFile, "add", add)
    folder_seal(tmp_path / "plain", tmp_path / "sealed")
    with pytest.raises(BackupError, match="cannot be unpacked"):
        folder_open(tmp_path / "sealed", tmp_path / "out" / "inner")
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.django_db(transaction=True)
def test_a_backup_tells_nothing_of_anybody(
    register: Any, agree: Any, full_case: Any, tmp_path: Path, site_home: Path, monkeypatch: Any
) -> None:
    """Codes, traits, diagnoses, rankings and notes, too: whoever finds the file has bytes."""
    patient = register(ancestry="Canarian islands")
    agree(patient)
    full_case(patient)
    seen: dict[str, bytes] = {}
    real = backup._publish
    monkeypatch.setattr(
        backup, "_publish", lambda folder, target: seen.update(content_of(folder)) or real(folder, target)
    )
    backup_write(target=tmp_path / "b")
    syndrome = Diagnosis.objects.get(patient=patient).syndrome.identifier
    plain, data = b"".join(seen.values()), (tmp_path / "b").read_bytes()
    if "database.sqlite3" in seen:  # pg_dump compresses
        assert all(mark.encode() in plain for mark in (patient.code, "Canarian", "a note about", syndrome))
    for mark in (patient.code, "Canarian", "a note about the patient", syndrome, "SQLite format", "PGDMP"):
        assert mark.encode() not in data, mark
    assert not list(site_home.glob(".scratch-*")) and not list(tmp_path.glob(".*"))


@pytest.mark.django_db(transaction=True)
def test_leftovers_of_a_killed_backup_are_removed(site_home: Path, tmp_path: Path) -> None:
    for name, age in ((".scratch-old", 2 * 24 * 3600), (".scratch-running", 60)):
        (site_home / name).mkdir()
        (site_home / name / "database.sqlite3").write_bytes(b"rows")
        then = (site_home / name).stat().st_mtime - age
        os.utime(site_home / name, (then, then))
    backup_write(target=tmp_path / "b")
    assert [path.name for path in site_home.glob(".scratch-*")] == [".scratch-running"]
    backup_restore(source=tmp_path / "b")

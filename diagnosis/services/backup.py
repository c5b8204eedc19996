"""Backup and restore. A backup holds the database, the sealed files and the models, never the keys.

It is one file, sealed as a whole (`backup_seal`): it opens only beside this site's keys, and even then
photos, embeddings and identities open only if they have not been erased since. Inside: manifest.json
(version, site, sha256 of every file, erased keys), database.sqlite3 or database.dump, files/…, models/….
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess  # noqa: S404  pg_dump and pg_restore are PostgreSQL's own way
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone

from diagnosis.models import AuditEvent, Patient
from diagnosis.services.audit import audit, head_restart
from diagnosis.services.backup_seal import NEEDS, BackupError, folder_open, folder_seal
from diagnosis.services.erasure import log_truncate
from diagnosis.services.replay import (
    access_end,
    choices_replay,
    codes_replay,
    erasures_known,
    erasures_remember,
    erasures_replay,
    settled_forget,
)

__all__ = ["BackupError", "RestoreReport", "backup_restore", "backup_write", "blob_names"]

VERSION: Final = 1
MANIFEST: Final = "manifest.json"
DATABASES: Final = {"sqlite": "database.sqlite3", "postgresql": "database.dump"}
SCRATCH: Final = ".scratch-"
SCRATCH_SECONDS: Final = 24 * 3600  # older ones belong to a process that was killed


@dataclass(frozen=True)
class RestoreReport:
    """What a restore did: files written, erasures finished, patients whose choices were narrowed again or
    whose replaced ledger code was replaced again, one-time links and API tokens ended."""

    files: int
    erasures: int
    narrowed: int
    codes: int
    links: int
    tokens: int


# --- backup ----------------------------------------------------------------------------------------


def backup_write(*, target: Path) -> dict[str, Any]:
    """Write a backup to the new file `target` and return its manifest.

    The database is copied first, from one snapshot; a file erased between the two copies is left out,
    as it should be. Nothing unsealed leaves the site's home. Raises BackupError with what to do.
    """
    if target.exists():
        raise BackupError(f"{target} exists already. Choose a new name, so that no backup is overwritten.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with _scratch() as scratch:
        folder = scratch / "backup"
        folder.mkdir(mode=0o700)
        _database_copy(folder)
        _blobs_copy(folder / "files")
        _models_copy(folder / "models")
        manifest = _manifest_write(folder)
        _publish(folder, target)
    audit(actor=None, action="backup.written", subject="site", files=len(manifest["files"]))
    return manifest


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A private folder in the site's home; leftovers of earlier ones go, for they hold rows in plain."""
    home = Path(settings.GESTALTWEB_HOME)
    for left in home.glob(f"{SCRATCH}*"):
        if time.time() - left.stat().st_mtime > SCRATCH_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=home) as scratch:
        yield Path(scratch)


def _publish(folder: Path, target: Path) -> None:
    """The name appears only when the file under it is complete."""
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        folder_seal(folder, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _database_copy(folder: Path) -> None:
    if connection.vendor == "sqlite":
        _sqlite_copy(folder / DATABASES["sqlite"])
    elif connection.vendor == "postgresql":
        command = ["pg_dump", "--format=custom", "--exclude-table-data=django_session",
                   f"--file={folder / DATABASES['postgresql']}"]  # fmt: skip
        _postgres(command)
    else:
        raise BackupError(f"Backups of {connection.vendor} are not supported. Use SQLite or PostgreSQL.")


def _sqlite_copy(path: Path) -> None:
    """SQLite's online backup: one consistent snapshot beside running writers. Sessions stay out."""
    connection.ensure_connection()
    copy = sqlite3.connect(path)
    try:
        connection.connection.backup(copy)
        copy.execute("PRAGMA secure_delete=ON")
        copy.execute("DELETE FROM django_session")
        copy.commit()
        copy.execute("PRAGMA journal_mode=DELETE")
    finally:
        copy.close()
    path.chmod(0o600)


def _postgres(command: list[str]) -> None:
    """Run one of PostgreSQL's tools on this database; the password travels in the environment only."""
    facts = connection.settings_dict
    place = {"PGHOST": facts["HOST"], "PGPORT": facts["PORT"], "PGUSER": facts["USER"],
             "PGPASSWORD": facts["PASSWORD"], "PGDATABASE": facts["NAME"]}  # fmt: skip
    environment = os.environ | {name: str(value) for name, value in place.items() if value}
    try:
        subprocess.run(command, env=environment, check=True, capture_output=True)  # noqa: S603
    except FileNotFoundError:
        raise BackupError(f"{command[0]} was not found. Install PostgreSQL's client programs.") from None
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip().splitlines()
        raise BackupError(f"{command[0]} failed: {reason[-1] if reason else error.returncode}") from None


def blob_names() -> Iterator[str]:
    """Names of all sealed blobs in the store."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            folders, files = default_storage.listdir(folder)
        except FileNotFoundError:
            continue
        prefix = f"{folder}/" if folder else ""
        waiting += [prefix + name for name in folders]
        yield from (prefix + name for name in files)


def _blobs_copy(folder: Path) -> None:
    for name in blob_names():
        with contextlib.suppress(FileNotFoundError):  # erased meanwhile
            with default_storage.open(name, "rb") as stream:
                data = stream.read()
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def _models_folder() -> Path:
    return Path(settings.GESTALTWEB_HOME) / "models"


def _models_copy(folder: Path) -> None:
    if _models_folder().exists():
        shutil.copytree(_models_folder(), folder)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _hashes(folder: Path) -> dict[str, str]:
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in paths}


def _migrations() -> list[str]:
    applied = MigrationLoader(connection).applied_migrations
    return sorted(f"{app}.{name}" for app, name in applied)


def _manifest_write(folder: Path) -> dict[str, Any]:
    manifest = {
        "version": VERSION, "gestaltweb": settings.VERSION, "site": settings.SITE_SLUG, "needs": NEEDS,
        "database": connection.vendor, "made_at": timezone.now().isoformat(), "migrations": _migrations(),
        "erased": sorted(line.key.hex for line in erasures_known()), "files": _hashes(folder),
    }  # fmt: skip
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True), "utf-8")
    return manifest


# --- restore ---------------------------------------------------------------------------------------


def backup_restore(*, source: Path, replace: bool = False) -> RestoreReport:
    """Bring a backup back, then erase again whatever was erased since, and take back narrowed choices.

    What let people in then (one-time links, API tokens, sessions, replaced ledger codes) is ended; accounts,
    roles, passwords and second factors are those of the backup and must be reviewed.

    The backup is checked whole before anything is touched. Today's erasures are written to the journal
    beside the keys first, so that the older database cannot forget them. A site with patients is only
    overwritten with `replace`. Run it while the site is stopped.
    """
    with _opened(source) as folder:
        manifest = _manifest_checked(folder)
        if not replace and Patient.objects.exists():
            raise BackupError("This site has patients. Make a backup of it first, then say --replace.")
        erased = {name for line in erasures_remember() for name in line.blobs}
        files = _blobs_restore(folder / "files", erased)
        _models_restore(folder / "models")
        replaced = AuditEvent.objects.order_by("-id").values_list("sha256", flat=True).first()
        _database_restore(folder)
    head_restart()  # the restored chain is shorter; the event below names the end of the one it replaced
    settled_forget()
    links, tokens = access_end()
    erasures, narrowed, codes = erasures_replay(), choices_replay(), codes_replay()
    _orphans_remove(set(manifest["files"]))
    audit(actor=None, action="backup.restored", subject="site", made_at=manifest["made_at"],
          erasures=erasures, narrowed=narrowed, codes=codes, links=links, tokens=tokens,
          replaced=replaced)  # fmt: skip
    log_truncate()
    return RestoreReport(files, erasures, narrowed, codes, links, tokens)


@contextlib.contextmanager
def _opened(source: Path) -> Iterator[Path]:
    """The backup as a folder, for as long as it is needed."""
    if not source.is_file():
        raise BackupError(f"{source} does not exist. Give the file that `backup` wrote.")
    with _scratch() as scratch:
        yield folder_open(source, scratch)


def _manifest_checked(folder: Path) -> dict[str, Any]:
    """The manifest, once every file is there, whole, and for this database and code."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError):
        raise BackupError("There is no readable manifest.json. This is not a backup of GestaltWeb.") from None
    if manifest.get("version") != VERSION:
        raise BackupError(
            "This backup was written by another version of `backup`. Use that version to restore."
        )
    _fits_check(manifest)
    _files_check(folder, manifest["files"])
    return manifest


def _fits_check(manifest: dict[str, Any]) -> None:
    if manifest["database"] != connection.vendor:
        raise BackupError(
            f"This backup holds a {manifest['database']} database, and here is {connection.vendor}."
        )
    known = {f"{app}.{name}" for app, name in MigrationLoader(None).disk_migrations}
    if newer := sorted(set(manifest["migrations"]) - known):
        raise BackupError(f"This backup is newer than this program ({newer[0]} is unknown). Update first.")


def _files_check(folder: Path, expected: dict[str, str]) -> None:
    found = _hashes(folder)
    if missing := sorted(set(expected) - set(found)):
        raise BackupError(f"The backup is not complete: {missing[0]} is missing.")
    if extra := sorted(set(found) - set(expected)):
        raise BackupError(f"The backup was changed: {extra[0]} does not belong to it.")
    if changed := sorted(name for name in expected if found[name] != expected[name]):
        raise BackupError(f"The backup is damaged: {changed[0]} does not match its sha256.")


def _blobs_restore(folder: Path, erased: set[str]) -> int:
    """Write blobs that are not here; a random name that is here is the same blob. Erased ones stay away."""
    written = 0
    for path in sorted(folder.rglob("*")) if folder.exists() else ():
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in erased and not default_storage.exists(name):
            default_storage.save(name, ContentFile(path.read_bytes()))
            written += 1
    return written


def _models_restore(folder: Path) -> None:
    if folder.exists():
        shutil.copytree(folder, _models_folder(), dirs_exist_ok=True)


def _database_restore(folder: Path) -> None:
    if connection.vendor == "postgresql":
        command = ["pg_restore", "--clean", "--if-exists", "--no-owner", "--single-transaction"]
        name, dump = connection.settings_dict["NAME"], folder / DATABASES["postgresql"]
        connection.close()  # pg_restore replaces the tables and must not wait for us
        _postgres([*command, f"--dbname={name}", str(dump)])
        connection.close()
        return
    connection.ensure_connection()
    copy = sqlite3.connect(f"file:{folder / DATABASES['sqlite']}?mode=ro", uri=True)
    try:
        copy.backup(connection.connection)  # one transaction of SQLite: all or nothing
    except sqlite3.OperationalError as error:
        raise BackupError(f"The database is in use ({error}). Stop the site, then restore.") from None
    finally:
        copy.close()
        connection.close()  # the next one turns write-ahead logging on again


def _orphans_remove(expected: set[str]) -> None:
    """Blobs that are not of the backup belong to rows that the restored database does not know."""
    for name in list(blob_names()):
        if f"files/{name}" not in expected:
            default_storage.delete(name)

"""A file beside the keys that no restore of the database rolls back: erasures, choices, ledger codes.

One JSON line per event in GESTALTWEB_KEYS/erasures.log, appended and synced. Data keys, ids of tiers,
hashes and times only: nobody is named. `services.erasure` and `services.backup` replay it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import os
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from diagnosis import vault


@dataclass(frozen=True)
class Erased:
    """A data key that was destroyed, with the blobs sealed under it."""

    key: uuid.UUID
    reason: str
    blobs: tuple[str, ...]


@dataclass(frozen=True)
class Chosen:
    """What a patient (named by data key) allowed at a moment."""

    patient_key: uuid.UUID
    tiers: frozenset[str]
    at: dt.datetime


@dataclass(frozen=True)
class Issued:
    """A ledger code given to a patient: the two hashes that find it, and the code under the patient's key."""

    patient_key: uuid.UUID
    code_hash: str
    birth_hash: str
    sealed: bytes


def journal_file() -> Path:
    return Path(settings.GESTALTWEB_KEYS) / "erasures.log"


def _append(lines: Iterable[dict[str, Any]]) -> None:
    text = "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines)
    if not text:
        return
    journal_file().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(journal_file(), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "a", encoding="utf-8") as stream:
        stream.write("\n" + text)  # a line that a crash cut off must not swallow the next one
        stream.flush()
        os.fsync(stream.fileno())


def erased_append(erased: Iterable[Erased]) -> None:
    """Record destroyed keys; those already recorded are left out."""
    known = {line.key for line in erased_lines()}
    _append(
        {"kind": "erased", "key": line.key.hex, "reason": line.reason, "blobs": list(line.blobs)}
        for line in erased
        if line.key not in known
    )


def chosen_append(chosen: Chosen) -> None:
    """Record what a patient allows from now on."""
    _append([{
        "kind": "chosen", "key": chosen.patient_key.hex, "tiers": sorted(chosen.tiers),
        "at": chosen.at.isoformat(),
    }])  # fmt: skip


def issued_append(issued: Issued) -> None:
    """Record the code that opens a patient's ledger from now on; earlier ones open nothing any more."""
    _append([{
        "kind": "code", "key": issued.patient_key.hex, "code": issued.code_hash,
        "birth": issued.birth_hash, "sealed": issued.sealed.hex(),
    }])  # fmt: skip


def _lines(kind: str) -> list[dict[str, Any]]:
    """Lines of one kind, oldest first. Empty lines, and one cut off by a crash, are not JSON: left out."""
    found: list[dict[str, Any]] = []
    with contextlib.suppress(FileNotFoundError):
        for line in journal_file().read_text("utf-8").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                found.append(json.loads(line))
    return [line for line in found if line.get("kind") == kind]


def erased_lines() -> list[Erased]:
    """All recorded erasures, oldest first."""
    return [Erased(uuid.UUID(line["key"]), line["reason"], tuple(line["blobs"])) for line in _lines("erased")]


def chosen_last() -> dict[uuid.UUID, Chosen]:
    """The last recorded choice of each patient."""
    last: dict[uuid.UUID, Chosen] = {}
    for line in _lines("chosen"):
        key = uuid.UUID(line["key"])
        last[key] = Chosen(key, frozenset(line["tiers"]), dt.datetime.fromisoformat(line["at"]))
    return last


def issued_last() -> dict[uuid.UUID, Issued]:
    """The code in force of each patient."""
    last: dict[uuid.UUID, Issued] = {}
    for line in _lines("code"):
        key = uuid.UUID(line["key"])
        last[key] = Issued(key, line["code"], line["birth"], bytes.fromhex(line["sealed"]))
    return last


# --- numbers that are never given twice --------------------------------------------------------------


def patient_number_next(*, above: int) -> int:
    """The next running number of a patient, greater than `above` and than any that was ever handed out.

    The last one stands in a file beside the keys: neither the removal of a patient nor a restore of the
    database gives one person's pseudonym to the next. A number whose transaction fails is skipped.
    """
    return _patient_number(lambda last: max(last, above) + 1)


def patient_number_taken(number: int) -> None:
    """Somebody chose this number: the next one is greater."""
    _patient_number(lambda last: max(last, number))


def _patient_number(advance: Callable[[int], int]) -> int:
    path = Path(settings.GESTALTWEB_KEYS) / "patient-number"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        number = advance(int(path.read_text("utf-8")) if path.exists() else 0)
        vault.write_private(path, str(number).encode())
    return number

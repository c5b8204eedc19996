"""Replay: erasures that a crash left half done, and those that a restored backup has undone.

Run `erasures_replay` at start and in the sweep, all of them after a restore.
"""

from __future__ import annotations

import datetime as dt
import uuid

from django.conf import settings
from django.contrib.sessions.models import Session
from django.core.files.storage import default_storage
from django.db.models import Max, Q, QuerySet
from django.utils import timezone

from diagnosis import vault
from diagnosis.models import ApiToken, Erasure, IntakeLink, Patient, Photo
from diagnosis.services.consent import narrowing_replay, withdrawal_replay
from diagnosis.services.erasure import erasures_finish, log_truncate, photos_erase
from diagnosis.services.journal import Erased, chosen_last, erased_append, erased_lines, issued_last
from diagnosis.services.ledger import code_replay

PORTION = 500  # SQLite limits the parameters of one query
SETTLED_AFTER = dt.timedelta(hours=1)
_settled: dict[str, int] = {}  # by key folder: up to this Erasure row all were found finished


def erasures_known() -> list[Erased]:
    """Every erasure that the database or the journal beside the keys knows."""
    known = {line.key: line for line in erased_lines()}
    known.update({line.key: line for line in _erased_rows(Erasure.objects.all())})
    return list(known.values())


def _erased_rows(rows: QuerySet[Erasure]) -> list[Erased]:
    found = rows.order_by("id").values_list("key", "reason", "blobs")
    return [Erased(key, reason, tuple(blobs)) for key, reason, blobs in found]


def erasures_replay() -> int:
    """Finish every erasure that is not finished; returns how many were not.

    The first time in a process, and after a restore, all erasures ever made are checked; from then on those
    that are not settled: younger than an hour, for a file that was being written may appear after its end.
    """
    place, now = str(settings.GESTALTWEB_KEYS), timezone.now()
    since = _settled.get(place)
    known = erasures_known() if since is None else _erased_rows(Erasure.objects.filter(pk__gt=since))
    revived = _patients_revived(known) + _photos_revived(known)
    unfinished = [line for line in known if _unfinished(line)]
    if unfinished:
        erasures_finish(unfinished)
    elif known:
        log_truncate()  # a reader may have held the log when the last erasure wanted to empty it
    settled = Erasure.objects.filter(at__lt=now - SETTLED_AFTER).aggregate(Max("pk"))["pk__max"]
    _settled[place] = max(settled or 0, since or 0)
    return len(unfinished) + revived


def settled_forget() -> None:
    """The database was replaced: the next replay checks everything again."""
    _settled.pop(str(settings.GESTALTWEB_KEYS), None)


def choices_replay() -> int:
    """After a restore: take back choices that patients had taken back since; returns how many patients."""
    narrowed = 0
    for key, chosen in chosen_last().items():
        patient = Patient.objects.filter(key=key, state="given").first()
        if patient is not None and vault.has_key(key):
            narrowed += narrowing_replay(patient=patient, chosen=chosen)
    return narrowed


def codes_replay() -> int:
    """After a restore: ledger codes replaced since stay replaced; returns how many patients' were."""
    replaced = 0
    for key, issued in issued_last().items():
        patient = Patient.objects.filter(key=key).first()
        replaced += patient is not None and code_replay(patient=patient, issued=issued)
    return replaced


def access_end() -> tuple[int, int]:
    """After a restore: what let somebody in then must not do so again; returns (links, tokens) ended.

    Links, API tokens and sessions may have been used up or revoked since, and nobody can tell which.
    """
    now = timezone.now()
    Session.objects.all().delete()
    links = IntakeLink.objects.filter(used_at=None, expires_at__gt=now).update(expires_at=now)
    tokens = ApiToken.objects.filter(revoked_at=None).update(revoked_at=now)
    return links, tokens


def erasures_remember() -> list[Erased]:
    """Write every erasure the database knows into the journal, so that replacing it forgets none."""
    known = erasures_known()
    erased_append(known)
    return known


def _unfinished(line: Erased) -> bool:
    return vault.has_key(line.key) or any(default_storage.exists(name) for name in line.blobs)


def _patients_revived(known: list[Erased]) -> int:
    """Withdraw again the patients whose key was erased but whose row says otherwise."""
    revived = 0
    for keys in _portions(known):
        back = Q(state="given") | Q(sealed_identity__isnull=False)
        for patient in Patient.objects.filter(back, key__in=keys):
            withdrawal_replay(patient=patient)
            revived += 1
    return revived


def _photos_revived(known: list[Erased]) -> int:
    revived = 0
    for keys in _portions(known):
        if photos := list(Photo.objects.filter(key__in=keys)):
            revived += photos_erase(photos=photos, reason="replayed")
    return revived


def _portions(known: list[Erased]) -> list[list[uuid.UUID]]:
    keys = [line.key for line in known]
    return [keys[start : start + PORTION] for start in range(0, len(keys), PORTION)]

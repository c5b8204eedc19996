"""The patient's ledger: what the photo was used for, and the code that opens it with the birth date.

The code is random (80 bits) and only an HMAC of it lies outside the sealed identity. The birth date is
hashed together with the code, so that after an erasure nobody can try dates against what remains.
"""

from __future__ import annotations

import datetime as dt
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from django.core.cache import cache
from django.db import transaction
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from diagnosis import vault
from diagnosis.errors import ClinicError, InvalidInput
from diagnosis.models import LedgerEntry, Patient, User
from diagnosis.permissions import require
from diagnosis.registries import ledger_lines
from diagnosis.selectors import ledger_of
from diagnosis.services.audit import audit
from diagnosis.services.journal import Issued, issued_append
from diagnosis.services.people import identity_read, identity_write

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: no I, L, O, U
CODE_LENGTH: Final = 16
CODE_PURPOSE: Final = "ledger-code"
TRIES_PER_PLACE: Final = 10  # per minute
TRIES_PER_CODE: Final = 5  # wrong birth dates per hour
NOBODY: Final = "0" * 64


class TooManyTries(ClinicError):
    """Somebody tries too often; the sentence says when to come back."""

    status = 429


# --- lines -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LedgerLine:
    """One line as the patient reads it: a day, a sentence, and how often it happened that day."""

    day: dt.date
    text: str
    count: int


def _line_texts() -> dict[str, Callable[[dict[str, Any]], str]]:
    own: dict[str, Callable[[dict[str, Any]], str]] = {
        "consent.given": lambda detail: _("You agreed, and signed the form."),
        "consent.changed": lambda detail: _("You changed your choices."),
        "consent.withdrawn": lambda detail: _("You withdrew your agreement."),
        "photo.analysed": lambda detail: _("A photo was analysed for the doctors here."),
        "photo.removed": lambda detail: _("A photo was removed and erased."),
        "gallery.entered": lambda detail: _("A photo entered this hospital’s collection."),
        "gallery.left": lambda detail: _("Your photos left this hospital’s collection."),
        "lookalike.shown": lambda detail: _("A photo was shown to doctors here as a similar face."),
        "erased": _erased_text,
        "code.issued": lambda detail: _("A new code for this page was issued."),
    }
    return own | dict(ledger_lines.items())


def _erased_text(detail: dict[str, Any]) -> str:
    photos = int(detail.get("photos", 0))
    if not photos:
        return _("The keys and the name kept here were destroyed. There was no photo.")
    text = ngettext(
        "%(photos)d photo was erased. Its keys were destroyed.",
        "%(photos)d photos were erased. Their keys were destroyed.",
        photos,
    )
    return text % {"photos": photos}


def _use_unnamed(detail: dict[str, Any]) -> str:
    """A line whose room is switched off today: still shown, never dropped."""
    return _("A photo was used. Please ask the hospital what for.")


def ledger_note(*, patient: Patient, kind: str, **detail: Any) -> LedgerEntry:
    """Add a line to a patient's ledger in the caller's transaction. `detail` has ids and hashes only."""
    if kind not in _line_texts():
        raise ValueError(f"unknown ledger line {kind!r}; register its text in registries.ledger_lines")
    return LedgerEntry.objects.create(patient=patient, kind=kind, detail=detail)


def ledger_read(patient: Patient) -> list[LedgerLine]:
    """A patient's lines, newest first; equal lines of one day are counted, not repeated."""
    texts = _line_texts()
    lines: list[LedgerLine] = []
    for entry in ledger_of(patient):
        text = texts.get(entry.kind, _use_unnamed)(entry.detail)
        line = LedgerLine(localtime(entry.at).date(), text, 1)
        if lines and (lines[-1].day, lines[-1].text) == (line.day, line.text):
            line = LedgerLine(line.day, line.text, lines.pop().count + 1)
        lines.append(line)
    return lines


# --- the code --------------------------------------------------------------------------------------


def code_normal(entered: str) -> str:
    """An entered code in the form it is hashed: upper case, no separators, O as 0, I and L as 1."""
    plain = "".join(letter for letter in entered.upper() if letter.isalnum())
    return plain.translate(str.maketrans("OIL", "011"))[:64]


def _new_code() -> str:
    plain = "".join(secrets.choice(ALPHABET) for _place in range(CODE_LENGTH))
    return "-".join(plain[start : start + 4] for start in range(0, CODE_LENGTH, 4))


def _code_hash(code: str) -> str:
    return vault.keyed_hash("ledger-code", code_normal(code).encode())


def _birth_hash(code: str, born: str) -> str:
    return vault.keyed_hash("ledger-birth", f"{code_normal(code)}/{born}".encode())


def code_issue(patient: Patient) -> str:
    """Give the patient a new code and save it; the old one stops working. Caller holds a transaction."""
    code = _new_code()
    _code_write(patient, code)
    _code_journal(patient, code)
    return code


def code_rehash(patient: Patient) -> None:
    """The birth date was corrected: the code in force opens with the new one. Caller holds a transaction."""
    if code := code_of(patient):
        _code_write(patient, code)
        _code_journal(patient, code)


def _code_journal(patient: Patient, code: str) -> None:
    sealed = vault.seal(patient.key, code.encode(), purpose=CODE_PURPOSE)
    issued = Issued(patient.key, patient.ledger_code_hash, patient.birth_hash, sealed)
    transaction.on_commit(lambda: issued_append(issued), robust=True)


def _code_write(patient: Patient, code: str) -> None:
    identity = identity_read(patient) | {"ledger_code": code}
    identity_write(patient, identity)
    patient.ledger_code_hash = _code_hash(code)
    patient.birth_hash = _birth_hash(code, identity["date_of_birth"])
    patient.save(update_fields=["sealed_identity", "ledger_code_hash", "birth_hash"])


def code_replay(*, patient: Patient, issued: Issued) -> bool:
    """After a restore: the code issued last holds again and no earlier one; True when that changed it."""
    with transaction.atomic():
        patient.refresh_from_db(from_queryset=Patient.objects.select_for_update())
        if patient.ledger_code_hash in ("", issued.code_hash):
            return False
        if vault.has_key(patient.key):
            _code_write(patient, vault.unseal(patient.key, issued.sealed, purpose=CODE_PURPOSE).decode())
        else:  # withdrawn: the hashes are what is left of the code
            patient.ledger_code_hash, patient.birth_hash = issued.code_hash, issued.birth_hash
            patient.save(update_fields=["ledger_code_hash", "birth_hash"])
        return True


def code_of(patient: Patient) -> str:
    """The code in force, "" before the first signature. Unreadable once erased."""
    return identity_read(patient).get("ledger_code", "")


def code_reissue(*, user: User, patient: Patient) -> str:
    """A new code for a patient who lost theirs, by staff who have checked who asks."""
    require(user, "consent.take", patient)
    with transaction.atomic():
        patient.refresh_from_db(from_queryset=Patient.objects.select_for_update())
        if not patient.ledger_code_hash:
            raise InvalidInput("There is no code yet: it is made when the form is signed.")
        code = code_issue(patient)
        ledger_note(patient=patient, kind="code.issued")
        audit(actor=user, action="ledger.code_issued", subject=f"patient:{patient.pk}")
    return code


# --- the door --------------------------------------------------------------------------------------


def _count(name: str, seconds: int) -> int:
    """Tries under `name` in the running window, this one included."""
    cache.add(name, 0, seconds)
    try:
        return int(cache.incr(name))
    except ValueError:  # the window ended between the two calls
        cache.set(name, 1, seconds)
        return 1


def tries_limit(*, what: str, place: str, limit: int = TRIES_PER_PLACE, seconds: int = 60) -> None:
    """Count one try of `what` from `place` (an address); TooManyTries beyond `limit`, audited once."""
    hashed = vault.keyed_hash("rate-limit", place.encode())[:32]
    tries = _count(f"tries:{what}:{hashed}", seconds)
    if tries == limit + 1:
        audit(actor=None, action=f"{what}.locked", subject="place", place=hashed)
    if tries > limit and seconds > 60:
        raise TooManyTries(_("Too many tries. Please wait an hour, or ask the hospital."))
    if tries > limit:
        raise TooManyTries(_("Too many tries. Please wait a minute and try again."))


def ledger_open(*, code: str, date_of_birth: dt.date, place: str) -> Patient | None:
    """The patient whose code and birth date these are, else None: the same answer whatever is wrong.

    Both hashes are computed and compared in every case. Five wrong tries on one code lock it for an
    hour; ten a minute from one place lock the place for the rest of that minute. Both are audited.
    """
    tries_limit(what="ledger", place=place)
    code_hash, birth = _code_hash(code), _birth_hash(code, date_of_birth.isoformat())
    patient = Patient.objects.filter(ledger_code_hash=code_hash).first()
    _lock_check(code_hash)
    expected = patient.birth_hash if patient and patient.birth_hash else NOBODY
    if not hmac.compare_digest(birth, expected) or patient is None:
        _lock_count(code_hash, patient)
        return None
    cache.delete(f"ledger-code:{code_hash}")
    audit(actor=None, action="ledger.opened", subject=f"patient:{patient.pk}")
    return patient


def _lock_check(code_hash: str) -> None:
    """Unknown codes lock like known ones, so that a lock says nothing about a code."""
    if int(cache.get(f"ledger-code:{code_hash}", 0)) >= TRIES_PER_CODE:
        raise TooManyTries(_("Too many tries. Please wait an hour, or ask the hospital."))


def _lock_count(code_hash: str, patient: Patient | None) -> None:
    if _count(f"ledger-code:{code_hash}", 3600) == TRIES_PER_CODE:
        subject = f"patient:{patient.pk}" if patient else "unknown code"
        audit(actor=None, action="ledger.code_locked", subject=subject)

"""Patients: registered under a pseudonym, with an identity sealed under a data key of their own."""

from __future__ import annotations

import datetime as dt
import json
import re
import uuid

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from diagnosis import vault
from diagnosis.errors import Duplicate, InvalidInput
from diagnosis.models import Patient, Sex, Signer, Team, User
from diagnosis.permissions import require
from diagnosis.services.audit import audit
from diagnosis.services.journal import patient_number_next, patient_number_taken

PURPOSE = "identity"
CODE_FORM = re.compile(r"^[A-Z0-9]{1,6}-\d{4,8}$")
OLDEST = dt.date(1900, 1, 1)
ADULT_YEARS = 18
FIELDS = ("given_name", "family_name", "date_of_birth")


def site_prefix() -> str:
    """The letters in front of this site's running numbers: up to four from the site's slug."""
    letters = re.sub(r"[^A-Z0-9]", "", settings.SITE_SLUG.upper())
    return letters[:4] or "P"


def code_next() -> str:
    """The next pseudonym, such as A-0147: never one that was given before. Call it inside a transaction."""
    prefix = site_prefix()
    codes = Patient.objects.filter(code__startswith=f"{prefix}-").values_list("code", flat=True)
    numbers = [int(code.rpartition("-")[2]) for code in codes if code.rpartition("-")[2].isdigit()]
    return f"{prefix}-{patient_number_next(above=max(numbers, default=0)):04d}"


def patient_register(
    *,
    user: User,
    team: Team,
    given_name: str,
    family_name: str,
    date_of_birth: dt.date,
    sex: str,
    ancestry: str = "",
    affected: bool = True,
    synthetic: bool = False,
    code: str | None = None,
) -> Patient:
    """Create a patient of `team`; the name and birth date are stored sealed only.

    Raises NotAllowed outside the user's team, InvalidInput with what to change, Duplicate for a code
    that is taken.
    """
    require(user, "patient.register", Patient(team=team))
    identity = identity_checked(given_name, family_name, date_of_birth)
    if sex not in Sex.values:
        raise InvalidInput("Choose one of the listed values for sex.")
    if code is not None and not CODE_FORM.match(code):
        raise InvalidInput("A code is letters, a dash and at least four digits, such as A-0147.")
    key = uuid.uuid4()
    vault.create_key(key)
    try:
        with transaction.atomic():
            if code is not None and code.startswith(f"{site_prefix()}-"):
                patient_number_taken(int(code.rpartition("-")[2]))
            patient = Patient.objects.create(
                code=code or code_next(), team=team, sex=sex, ancestry=ancestry.strip()[:60], key=key,
                sealed_identity=vault.seal(key, _packed(identity), purpose=PURPOSE), affected=affected,
                synthetic=synthetic, created_by=user,
            )  # fmt: skip
            audit(actor=user, action="patient.registered", subject=f"patient:{patient.pk}", code=patient.code)
    except IntegrityError:
        vault.destroy_key(key)
        raise Duplicate("This code is taken. Try again, or choose another one.") from None
    return patient


def identity_checked(given_name: str, family_name: str, date_of_birth: dt.date) -> dict[str, str]:
    """The three fields as they are sealed, or InvalidInput with what to change."""
    given, family = " ".join(given_name.split()), " ".join(family_name.split())
    if not given or not family or len(given) > 80 or len(family) > 80:
        raise InvalidInput("Enter a given name and a family name, at most 80 letters each.")
    if not OLDEST <= date_of_birth <= timezone.localdate():
        raise InvalidInput("Check the date of birth: it must lie between 1900 and today.")
    return {"given_name": given, "family_name": family, "date_of_birth": date_of_birth.isoformat()}


def _packed(identity: dict[str, str]) -> bytes:
    return json.dumps(identity, sort_keys=True).encode()


def identity_read(patient: Patient) -> dict[str, str]:
    """What is sealed about a patient, ledger code included. For services; Unreadable once erased."""
    identity: dict[str, str] = json.loads(
        vault.unseal(patient.key, bytes(patient.sealed_identity or b""), purpose=PURPOSE)
    )
    return identity


def identity_write(patient: Patient, identity: dict[str, str]) -> None:
    """Seal `identity` into the row (not saved)."""
    patient.sealed_identity = vault.seal(patient.key, _packed(identity), purpose=PURPOSE)


def patient_identity(*, user: User, patient: Patient) -> dict[str, str]:
    """{given_name, family_name, date_of_birth (ISO 8601)} for staff of the team; Unreadable once erased."""
    require(user, "patient.view", patient)
    identity = identity_read(patient)
    return {name: identity[name] for name in FIELDS}


def age_years(born: dt.date, today: dt.date) -> int:
    """Completed years of life on `today`."""
    return today.year - born.year - ((today.month, today.day) < (born.month, born.day))


def signers_possible(patient: Patient) -> list[str]:
    """Who may sign for this patient at this age (models.Signer values); Unreadable once erased."""
    born = dt.date.fromisoformat(identity_read(patient)["date_of_birth"])
    if age_years(born, timezone.localdate()) < ADULT_YEARS:
        return [Signer.PARENT.value, Signer.GUARDIAN.value]
    return [Signer.SELF.value, Signer.REPRESENTATIVE.value]

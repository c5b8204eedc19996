"""Mistyped identities put right. Beside `people` and `ledger`, which both have a part in it."""

from __future__ import annotations

import datetime as dt

from django.db import transaction

from diagnosis import vault
from diagnosis.errors import InvalidInput
from diagnosis.models import Patient, User
from diagnosis.permissions import require
from diagnosis.services import ledger
from diagnosis.services.audit import audit
from diagnosis.services.people import FIELDS, identity_checked, identity_read, identity_write


def patient_correct(
    *, user: User, patient: Patient, given_name: str, family_name: str, date_of_birth: dt.date
) -> Patient:
    """Correct name and birth date; from then on the ledger opens with the corrected date.

    The audit chain keeps which fields changed, never their values. Raises NotAllowed, or InvalidInput with
    what to change, also once the identity was erased.
    """
    require(user, "patient.register", patient)
    entered = identity_checked(given_name, family_name, date_of_birth)
    with transaction.atomic():
        patient.refresh_from_db(from_queryset=Patient.objects.select_for_update())
        if not vault.has_key(patient.key):
            raise InvalidInput("This patient's data were erased; there is nothing left to correct.")
        identity = identity_read(patient)
        changed = [name for name in FIELDS if identity[name] != entered[name]]
        if changed:
            identity_write(patient, identity | entered)
            patient.save(update_fields=["sealed_identity"])
            ledger.code_rehash(patient)
            audit(actor=user, action="patient.corrected", subject=f"patient:{patient.pk}", fields=changed)
    return patient

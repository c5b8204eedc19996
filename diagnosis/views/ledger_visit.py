"""An open ledger in a session: whose it is, by which code, and since when.

A code that staff have replaced closes every ledger it had opened, and no ledger stays open for more than two
hours, however often it is looked at.
"""

from __future__ import annotations

import hmac
from typing import Final

from django.http import HttpRequest
from django.utils import timezone

from diagnosis.models import Patient

KEY: Final = "ledger"
INTAKE_KEY: Final = "intake"
QUIET_SECONDS: Final = 20 * 60
LONGEST_SECONDS: Final = 2 * 3600


def ledger_begin(request: HttpRequest, patient: Patient) -> None:
    """Open the patient's ledger in this session; nothing that was begun in it before goes on."""
    request.session.cycle_key()
    request.session.pop(INTAKE_KEY, None)
    now = timezone.now().timestamp()
    request.session[KEY] = {
        "patient": patient.pk, "code": patient.ledger_code_hash, "since": now, "seen": now,
    }  # fmt: skip


def ledger_end(request: HttpRequest) -> None:
    """Close the ledger, with a form that was opened from it."""
    request.session.pop(KEY, None)
    if request.session.get(INTAKE_KEY, {}).get("mode") == "ledger":
        del request.session[INTAKE_KEY]


def ledger_now(request: HttpRequest) -> Patient | None:
    """The patient whose ledger is open, or None: closed, too long quiet, too long open, or code replaced."""
    entry = request.session.get(KEY)
    if not entry:
        return None
    now = timezone.now().timestamp()
    patient = Patient.objects.filter(pk=entry["patient"]).first()
    quiet, open_for = now - entry["seen"], now - entry.get("since", 0)
    same_code = patient is not None and hmac.compare_digest(patient.ledger_code_hash, entry.get("code", ""))
    if quiet > QUIET_SECONDS or open_for > LONGEST_SECONDS or not same_code:
        ledger_end(request)
        return None
    request.session[KEY] = entry | {"seen": now}
    return patient

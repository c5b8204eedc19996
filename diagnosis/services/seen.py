"""Who looked at whom: reads that leave a trace, once a day each, so that a reload is not another look."""

from __future__ import annotations

import datetime as dt

from django.db import transaction
from django.utils import timezone

from diagnosis.errors import Unreadable
from diagnosis.models import AuditEvent, LedgerEntry, Patient, Photo, User
from diagnosis.selectors import for_gallery
from diagnosis.services.audit import audit
from diagnosis.services.ledger import ledger_note


def today_begins() -> dt.datetime:
    """Midnight of this day where the hospital is."""
    return timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)


def look_audit(*, user: User, action: str, subject: str) -> None:
    """Audit that `user` looked at `subject`, the first time on this day."""
    looks = AuditEvent.objects.filter(action=action, subject=subject, actor=user, at__gte=today_begins())
    if not looks.exists():
        audit(actor=user, action=action, subject=subject)


def gallery_face_shown(*, user: User, photo: Photo) -> None:
    """A gallery picture is about to be shown beside another patient: ledger and audit chain say so.

    Raises Unreadable where the patient has left the gallery meanwhile.
    """
    subject, since = f"photo:{photo.pk}", today_begins()
    looks = AuditEvent.objects.filter(action="gallery.viewed", subject=subject, at__gte=since)
    if looks.filter(actor=user).exists():
        return
    with transaction.atomic():
        Patient.objects.select_for_update().filter(pk=photo.patient_id).first()
        if not for_gallery().filter(pk=photo.pk).exists():
            raise Unreadable("This picture is not in the gallery any more.")
        noted = LedgerEntry.objects.filter(
            patient=photo.patient_id, kind="lookalike.shown", at__gte=since, detail__photo=photo.pk
        )
        if not noted.exists():
            ledger_note(patient=photo.patient, kind="lookalike.shown", photo=photo.pk)
        look_audit(user=user, action="gallery.viewed", subject=subject)

"""One-time links to the intake form, for people without an account. Only the token's HMAC is kept."""

from __future__ import annotations

import datetime as dt
import hmac
import secrets
from typing import Final

from django.db import transaction
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from diagnosis import consent_forms, vault
from diagnosis.errors import ClinicError, InvalidInput
from diagnosis.models import IntakeLink, Patient, User
from diagnosis.permissions import require
from diagnosis.services.audit import audit
from diagnosis.services.ledger import tries_limit
from diagnosis.services.people import identity_read

LINK_DAYS: Final = 14
LINK_TRIES: Final = 10  # birth dates per hour and patient


class LinkRefused(ClinicError):
    """A one-time link that opens nothing; `reason` is unknown, expired or used."""

    status = 410

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


def _token_hash(token: str) -> str:
    return vault.keyed_hash("intake-link", token.encode())


def link_create(*, user: User, patient: Patient, language: str) -> str:
    """A one-time URL path to the form, for 14 days. Earlier unused links of the patient stop working."""
    require(user, "consent.take", patient)
    if patient.state == "withdrawn":
        raise InvalidInput("This patient's data were erased. Register the person again under a new code.")
    token, now = secrets.token_urlsafe(32), timezone.now()
    with transaction.atomic():
        IntakeLink.objects.filter(patient=patient, used_at=None, expires_at__gt=now).update(expires_at=now)
        link = IntakeLink.objects.create(
            patient=patient, token_hash=_token_hash(token), created_by=user,
            language=language if language in consent_forms.LANGUAGES else "en",
            expires_at=now + dt.timedelta(days=LINK_DAYS),
        )  # fmt: skip
        audit(actor=user, action="intake.link_created", subject=f"patient:{patient.pk}", link=link.pk)
    return reverse("clinic:intake_open", args=[token])


def link_find(token: str) -> IntakeLink:
    """The link behind a token, or LinkRefused saying whether it is unknown, used or expired."""
    link = IntakeLink.objects.select_related("patient").filter(token_hash=_token_hash(token)).first()
    if link is None:
        raise LinkRefused("unknown", _("This link is not complete. Please copy the whole link."))
    link_check(link)
    return link


def link_check(link: IntakeLink) -> None:
    """LinkRefused unless the link may still be used."""
    if link.used_at is not None:
        raise LinkRefused("used", _("This link was used already. Ask the hospital for a new one."))
    if link.expires_at <= timezone.now():
        raise LinkRefused("expired", _("This link is too old. Ask the hospital for a new one."))


def link_use(link: IntakeLink, patient: Patient) -> None:
    """Use the link up, in the signature's transaction: one UPDATE, so no two can share it."""
    unused = IntakeLink.objects.filter(
        pk=link.pk, patient=patient, used_at=None, expires_at__gt=timezone.now()
    )
    if not unused.update(used_at=timezone.now()):
        link.refresh_from_db()
        link_check(link)
        raise LinkRefused("unknown", _("This link belongs to somebody else."))


def birth_check(*, patient: Patient, date_of_birth: dt.date, place: str) -> bool:
    """Whether somebody who holds a link knows the patient's birth date: a link sent astray opens nothing.

    More than ten tries on one patient in an hour raise TooManyTries, and so do ten a minute from one place.
    """
    tries_limit(what="intake", place=place)
    tries_limit(what="intake.birth", place=f"patient/{patient.pk}", limit=LINK_TRIES, seconds=3600)
    born = identity_read(patient)["date_of_birth"]
    return hmac.compare_digest(born.encode(), date_of_birth.isoformat().encode())

"""Reads of the patient pages: demographics and consent, never a face and never a ranking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from diagnosis.models import Case, Consent, IntakeLink, Patient, Team, Tier, User
from diagnosis.permissions import visible_to
from diagnosis.selectors import consent_now


@dataclass(frozen=True)
class Choice:
    """One opt-in as it stands now."""

    tier: str
    label: Any
    allowed: bool


def patient_list(user: User, *, search: str = "") -> QuerySet[Patient]:
    """Patients of the user's teams, newest first; `search` looks in the code (names are sealed)."""
    patients = visible_to(user, Patient.objects.all()).select_related("team")
    if search:
        patients = patients.filter(code__icontains=search.strip())
    return patients.order_by("-id")


def patients_for(user: User) -> QuerySet[Patient]:
    """The patients whose pages `user` may open."""
    return visible_to(user, Patient.objects.all()).select_related("team")


def cases_of(user: User, patient: Patient) -> QuerySet[Case]:
    """The patient's cases that `user` may open: none for intake staff."""
    return visible_to(user, Case.objects.filter(patient=patient)).order_by("-id")


def choices_of(consent: Consent | None) -> list[Choice]:
    """The five opt-ins in the form's order, as `consent` has them."""
    return [Choice(tier.value, tier.label, bool(consent and getattr(consent, tier.value))) for tier in Tier]


def choices_now(patient: Patient) -> list[Choice]:
    """The five opt-ins as they stand at this moment."""
    return choices_of(consent_now(patient))


def link_open(patient: Patient) -> IntakeLink | None:
    """The patient's one-time link that still works, if any."""
    links = IntakeLink.objects.filter(patient=patient, used_at=None, expires_at__gt=timezone.now())
    return links.order_by("-id").first()


def teams_of(user: User) -> QuerySet[Team]:
    """The teams `user` works in."""
    return user.teams.order_by("name")

"""Consent as evidence: what was read, what was chosen, by whom, when. The latest row is what holds."""

from __future__ import annotations

from django.db import models
from django.db.models import OuterRef, Q, Subquery
from django.utils.translation import gettext_lazy as _

from diagnosis.models.base import Evidence
from diagnosis.models.people import Patient, User


class Tier(models.TextChoices):
    """The five separate opt-ins of the intake form."""

    ANALYSIS = "analysis", _("analysis of my photo here")
    GALLERY = "gallery", _("keep it in this hospital's gallery")
    TRAINING = "training", _("use it to train the shared model")
    COMPARISON = "comparison", _("let other hospitals' cases be compared with it (masked)")
    MATCHING = "matching", _("look-alike matching and being contacted")


class ConsentForm(Evidence):
    """One version of the intake form in one language; `sha256` is over the exact text that is shown."""

    version = models.CharField(max_length=20)
    language = models.CharField(max_length=5)
    sha256 = models.CharField(max_length=64)
    text = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["version", "language", "sha256"], name="consent_form_once")
        ]

    def __str__(self) -> str:
        return f"{self.version}-{self.language}"


class Signer(models.TextChoices):
    SELF = "self", _("the patient")
    PARENT = "parent", _("a parent")
    GUARDIAN = "guardian", _("a legal guardian")
    REPRESENTATIVE = "representative", _("a representative of an adult who cannot decide alone")


class ConsentKind(models.TextChoices):
    GIVEN = "given", _("given")
    CHANGED = "changed", _("changed")
    WITHDRAWN = "withdrawn", _("withdrawn")


class Consent(Evidence):
    """One signature. Five booleans, one per tier; all false when withdrawn.

    `sealed` holds signer's name and drawn signature under the patient's data key; it survives as
    unreadable bytes after erasure. `duo` are the GA4GH DUO codes that follow from the choices.
    `no_methods_research` is DUO's NMDS (DUO:0000015), which blocks training.
    """

    patient = models.ForeignKey(Patient, on_delete=models.PROTECT, related_name="consents")
    form = models.ForeignKey(ConsentForm, on_delete=models.PROTECT, related_name="+")
    kind = models.CharField(max_length=10, choices=ConsentKind.choices)
    analysis = models.BooleanField(default=False)
    gallery = models.BooleanField(default=False)
    training = models.BooleanField(default=False)
    comparison = models.BooleanField(default=False)
    matching = models.BooleanField(default=False)
    duo = models.JSONField(default=list)
    no_methods_research = models.BooleanField(default=False)
    signer = models.CharField(max_length=15, choices=Signer.choices)
    language = models.CharField(max_length=5)
    sealed = models.BinaryField(null=True)
    recorded_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    signed_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["patient", "-id"])]
        constraints = [
            models.CheckConstraint(
                name="withdrawn_allows_nothing",
                condition=~Q(kind="withdrawn")
                | Q(analysis=False, gallery=False, training=False, comparison=False, matching=False),
            ),
            models.CheckConstraint(
                name="nothing_without_analysis",
                condition=Q(analysis=True)
                | Q(gallery=False, training=False, comparison=False, matching=False),
            ),
            models.CheckConstraint(
                name="no_methods_research_blocks_training",
                condition=Q(no_methods_research=False) | Q(training=False),
            ),
        ]

    def __str__(self) -> str:
        return f"consent {self.pk} of {self.patient_id}"


def patients_allowing(tier: str) -> models.QuerySet[Patient]:
    """Patients whose latest Consent row opts in to `tier`, as the database knows it at this moment."""
    latest = Consent.objects.filter(patient=OuterRef("pk")).order_by("-id")
    return (
        Patient.objects.filter(state="given")
        .annotate(_allowed=Subquery(latest.values(tier)[:1]))
        .filter(_allowed=True)
    )


class IntakeLink(models.Model):
    """A one-time link to the intake form; only the token's hash is kept."""

    patient = models.ForeignKey(Patient, on_delete=models.CASCADE, related_name="links")
    token_hash = models.CharField(max_length=64, unique=True)
    language = models.CharField(max_length=5, default="en")
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"intake link {self.pk}"


class LedgerEntry(Evidence):
    """One line of a patient's ledger: what their photo was used for. `detail` has ids and hashes only."""

    patient = models.ForeignKey(Patient, on_delete=models.PROTECT, related_name="ledger")
    kind = models.CharField(max_length=40)
    detail = models.JSONField(default=dict)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["patient", "-id"])]

    def __str__(self) -> str:
        return f"{self.kind} {self.at:%Y-%m-%d}"


class Erasure(Evidence):
    """A data key that was destroyed, and the sealed files that go with it.

    Written in the transaction that deletes the rows; key and files follow after the commit and again at
    every replay, so that neither a crash in between nor a restored backup brings anything back.
    """

    key = models.UUIDField(unique=True)
    blobs = models.JSONField(default=list)
    reason = models.CharField(max_length=40)
    at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"erasure of key {self.key}"

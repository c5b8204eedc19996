"""A case: one question about one patient's face, its photos, and what clinicians decided."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils.translation import gettext_lazy as _

from diagnosis.models.base import Evidence, state_constraint
from diagnosis.models.people import Patient, Team, User


class Case(models.Model):
    """One case of one patient, owned by a team. `state` follows states.CASE."""

    patient = models.ForeignKey(Patient, on_delete=models.PROTECT, related_name="cases")
    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="cases")
    state = models.CharField(max_length=12, default="open", db_index=True)
    note = models.CharField(max_length=200, blank=True)
    differential_first = models.BooleanField(
        default=False, help_text="the list stays hidden until an own differential is recorded"
    )
    opened_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    opened_at = models.DateTimeField(auto_now_add=True)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [state_constraint("case")]
        ordering = ["-changed_at"]

    def __str__(self) -> str:
        return f"case {self.pk}"


class Photo(models.Model):
    """One photo. Original and crop are sealed blobs under the photo's own data key `key`.

    landmarks (5, 2) px in the stored, upright original; `faces` the detected boxes and landmarks;
    `fingerprint` an HMAC of the decoded pixels, which finds duplicates and tells nobody else anything.
    """

    case = models.ForeignKey(Case, on_delete=models.PROTECT, related_name="photos")
    patient = models.ForeignKey(Patient, on_delete=models.PROTECT, related_name="photos")
    state = models.CharField(max_length=12, default="received", db_index=True)
    key = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    original = models.CharField(max_length=120, blank=True)
    crop = models.CharField(max_length=120, blank=True)
    fingerprint = models.CharField(max_length=64, db_index=True, blank=True)
    width = models.PositiveIntegerField(default=0)
    height = models.PositiveIntegerField(default=0)
    age_months = models.PositiveIntegerField(null=True, blank=True)
    faces = models.JSONField(default=list)
    face_choice = models.PositiveSmallIntegerField(null=True, blank=True)
    landmarks = models.JSONField(null=True, blank=True)
    landmarks_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    quality = models.FloatField(null=True, blank=True)
    measures = models.JSONField(default=dict)
    refusal = models.JSONField(null=True, blank=True)
    warnings = models.JSONField(default=list)
    uploaded_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    uploaded_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            state_constraint("photo"),
            models.UniqueConstraint(
                fields=["patient", "fingerprint"],
                condition=~models.Q(fingerprint=""),
                name="photo_once_per_patient",
            ),
        ]
        ordering = ["id"]

    def __str__(self) -> str:
        return f"photo {self.pk}"


class Answer(models.TextChoices):
    AGREE = "agree", _("agree")
    DISAGREE = "disagree", _("disagree")
    UNSURE = "unsure", _("unsure")


class Verdict(Evidence):
    """A clinician's word on one row of one ranking. The newest row per (case, syndrome, user) holds."""

    case = models.ForeignKey(Case, on_delete=models.PROTECT, related_name="verdicts")
    ranking = models.ForeignKey("diagnosis.RankingRecord", on_delete=models.PROTECT, related_name="verdicts")
    syndrome = models.ForeignKey("diagnosis.Syndrome", on_delete=models.PROTECT, related_name="+")
    answer = models.CharField(max_length=10, choices=Answer.choices)
    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.answer} on case {self.case_id}"


class Differential(Evidence):
    """What a clinician thought before the list was revealed."""

    case = models.ForeignKey(Case, on_delete=models.PROTECT, related_name="differentials")
    syndromes = models.JSONField(default=list)
    text = models.CharField(max_length=500, blank=True)
    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"differential of case {self.case_id}"

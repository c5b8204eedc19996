"""Long work, the audit chain and the outbox: what is to be done, what was done, what others must hear."""

from __future__ import annotations

from django.db import models

from diagnosis.models.base import Evidence, state_constraint
from diagnosis.models.people import User


class Job(models.Model):
    """One piece of long work. This row is the truth; Celery only wakes workers."""

    kind = models.CharField(max_length=40)
    subject = models.BigIntegerField()
    state = models.CharField(max_length=12, default="queued", db_index=True)
    key = models.CharField(max_length=120, unique=True)
    attempts = models.PositiveIntegerField(default=0)
    lease_owner = models.CharField(max_length=80, blank=True)
    lease_expires = models.DateTimeField(null=True, blank=True)
    not_before = models.DateTimeField(null=True, blank=True)
    step = models.CharField(max_length=40, blank=True)
    progress = models.PositiveSmallIntegerField(default=0)
    error = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [state_constraint("job")]
        indexes = [models.Index(fields=["state", "lease_expires"]), models.Index(fields=["kind", "subject"])]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}"


class AuditEvent(Evidence):
    """One link of the audit chain. `sha256` covers the event and the previous link's hash."""

    at = models.DateTimeField()
    actor = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    actor_label = models.CharField(max_length=80)
    action = models.CharField(max_length=60)
    subject = models.CharField(max_length=80)
    detail = models.JSONField(default=dict)
    previous = models.CharField(max_length=64)
    sha256 = models.CharField(max_length=64, unique=True)

    class Meta:
        indexes = [models.Index(fields=["action"]), models.Index(fields=["subject"])]

    def __str__(self) -> str:
        return f"{self.action} {self.subject}"


class OutboxEvent(models.Model):
    """Something changed that other rooms must hear (consent, gallery, model). Ids only, no identities."""

    kind = models.CharField(max_length=40, db_index=True)
    subject = models.CharField(max_length=80)
    detail = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}"


class OutboxCursor(models.Model):
    """How far one reader has read the outbox."""

    reader = models.CharField(max_length=40, unique=True)
    position = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return self.reader

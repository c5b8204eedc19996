"""The transcript as stored, what this site still has to say, and large files by hash."""

from __future__ import annotations

from django.db import models

from diagnosis.models import Evidence


class TranscriptLink(Evidence):
    """One entry in its place. `text` is the entry's canonical JSON; `sha256` covers all links before."""

    seq = models.PositiveBigIntegerField(unique=True)
    sha256 = models.CharField(max_length=64, unique=True)
    previous = models.CharField(max_length=64)
    at = models.PositiveBigIntegerField(help_text="coordinator's time, milliseconds since 1970")
    author = models.CharField(max_length=64)
    kind = models.CharField(max_length=20, db_index=True)
    key = models.CharField(max_length=200)
    text = models.TextField()

    class Meta:
        ordering = ["seq"]
        constraints = [models.UniqueConstraint(fields=["author", "key"], name="entry_once_per_key")]

    def __str__(self) -> str:
        return f"{self.seq} {self.kind}"


class Outgoing(models.Model):
    """An entry of this site, signed and stored before it is sent, and sent unchanged until it is accepted.

    blobs: files, by hash, that the coordinator must have before the entry. refusal: why it was not accepted.
    """

    key = models.CharField(max_length=200, unique=True)
    kind = models.CharField(max_length=20)
    text = models.TextField()
    blobs = models.JSONField(default=list)
    sent = models.BooleanField(default=False)
    seq = models.PositiveBigIntegerField(null=True, blank=True)
    refusal = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]
        indexes = [models.Index(fields=["sent", "id"])]

    def __str__(self) -> str:
        return self.key


class Blob(models.Model):
    """A file by its sha256. received: bytes that are durably here."""

    sha256 = models.CharField(max_length=64, unique=True)
    size = models.PositiveBigIntegerField()
    received = models.PositiveBigIntegerField(default=0)
    complete = models.BooleanField(default=False)
    owner = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.sha256[:12]

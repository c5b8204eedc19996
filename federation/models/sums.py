"""Secure sums: what everybody sees of one, this site's side of it, and the memory that bounds later ones."""

from __future__ import annotations

from django.db import models

from diagnosis.models import Evidence
from federation.models.base import state_constraint
from federation.models.rounds import Round


class SecureSum(models.Model):
    """One secure sum as the transcript tells it. name: "<round, 16 digits>.<purpose>.<attempt>".

    sites: participants; keyed: those who sent keys; survivors: whose input is in.
    """

    name = models.CharField(max_length=120, unique=True)
    round = models.ForeignKey(Round, on_delete=models.CASCADE, related_name="sums")
    purpose = models.CharField(max_length=12)
    member = models.CharField(max_length=40, blank=True)
    attempt = models.PositiveIntegerField()
    state = models.CharField(max_length=12, default="keys", db_index=True)
    sites = models.JSONField()
    keyed = models.JSONField(default=list)
    survivors = models.JSONField(default=list)
    words = models.PositiveBigIntegerField()
    bits = models.PositiveSmallIntegerField()
    result = models.CharField(max_length=64, blank=True)
    reason = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["pk"]
        constraints = [state_constraint("sum")]

    def __str__(self) -> str:
        return self.name


class SumMessage(Evidence):
    """One message of secure aggregation, as `secagg.wire` encoded it. kind: advert, share, masked, signed,
    unmask; receiver: of a share."""

    sum = models.ForeignKey(SecureSum, on_delete=models.CASCADE, related_name="messages")
    kind = models.CharField(max_length=10)
    site = models.CharField(max_length=64)
    receiver = models.CharField(max_length=64, blank=True)
    text = models.TextField()

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["sum", "kind", "site", "receiver"], name="sum_message_once")
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.site}"


class OwnSum(models.Model):
    """This site's side of a secure sum. Its secrets lie in the key folder (`secrets_store`), never here.

    masked: sha256 of the masked bytes, a blob that is kept and sent again unchanged. checked: what this site
    found when it added up the sum itself ("" not yet, "agrees", "differs", "too large").
    """

    sum = models.OneToOneField(SecureSum, on_delete=models.CASCADE, related_name="own")
    state = models.CharField(max_length=12, default="asked")
    masked = models.CharField(max_length=64, blank=True)
    reason = models.CharField(max_length=300, blank=True)
    checked = models.CharField(max_length=10, blank=True)

    class Meta:
        constraints = [state_constraint("own_sum")]

    def __str__(self) -> str:
        return f"own side of {self.sum_id}"


class Opening(Evidence):
    """A survivor set for which this site gave its shares: for this base model and purpose only an equal set
    is answered again. A second record lies in the key folder, which no restore takes back."""

    base_model = models.CharField(max_length=64)
    purpose = models.CharField(max_length=60)
    survivors = models.JSONField()
    sum = models.CharField(max_length=120, unique=True)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["base_model", "purpose"])]

    def __str__(self) -> str:
        return f"opening of {self.sum}"


class Contribution(Evidence):
    """Which of this site's patients entered a sum: {syndrome identifier: [patient primary keys]}.

    photos: primary keys of the photos. Later sums may differ from it only as the k rule allows.
    """

    sum = models.CharField(max_length=120, unique=True)
    round = models.ForeignKey(Round, on_delete=models.PROTECT, related_name="contributions")
    purpose = models.CharField(max_length=60)
    patients = models.JSONField()
    photos = models.JSONField(default=list)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["purpose"])]

    def __str__(self) -> str:
        return f"contribution to {self.sum}"

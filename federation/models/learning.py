"""Cached features, training curves, validation figures and the federation's published models."""

from __future__ import annotations

from django.db import models

from diagnosis.models import Evidence, Extractor, Photo
from federation.models.rounds import Round


class PhotoFeatures(models.Model):
    """Trunk features of one photo's views, sealed under the photo's own data key: erased with it."""

    photo = models.ForeignKey(Photo, on_delete=models.CASCADE, related_name="trunk_features")
    trunk_sha256 = models.CharField(max_length=64)
    sealed = models.BinaryField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["photo", "trunk_sha256"], name="features_once")]

    def __str__(self) -> str:
        return f"features of photo {self.photo_id}"


class Curve(models.Model):
    """One local epoch at this site. Never sent. loss: mean; top_1: macro, of held-out patients, or null."""

    round = models.ForeignKey(Round, on_delete=models.CASCADE, related_name="curves")
    member = models.CharField(max_length=40)
    attempt = models.PositiveIntegerField()
    epoch = models.PositiveIntegerField()
    loss = models.FloatField()
    top_1 = models.FloatField(null=True)

    class Meta:
        ordering = ["member", "attempt", "epoch"]
        constraints = [
            models.UniqueConstraint(fields=["round", "member", "attempt", "epoch"], name="epoch_once")
        ]

    def __str__(self) -> str:
        return f"epoch {self.epoch}"


class SiteValidation(Evidence):
    """What the candidate did for this site's own held-out patients. Never sent; only the ballot is.

    figures: {"before", "after", "alone", "patients", "change": [low, estimate, high]}.
    """

    round = models.OneToOneField(Round, on_delete=models.PROTECT, related_name="validation")
    ballot = models.CharField(max_length=8)
    reason = models.CharField(max_length=300)
    figures = models.JSONField()
    members = models.JSONField(help_text="[{name, weights, classifier, state}] as computed here")
    at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"validation of round {self.round_id}"


class GlobalModel(Evidence):
    """A model that the federation published. members: [{name, weights, classifier, state}], sha256 each."""

    number = models.PositiveIntegerField(unique=True)
    round = models.OneToOneField(Round, on_delete=models.PROTECT, related_name="published_model")
    members = models.JSONField()
    centroids = models.CharField(max_length=120, blank=True, help_text="name of the sum, or none")
    published_at = models.PositiveBigIntegerField()

    def __str__(self) -> str:
        return f"global model {self.number}"


class AdoptedModel(Evidence):
    """That this site installed a global model as an extractor."""

    model = models.OneToOneField(GlobalModel, on_delete=models.PROTECT, related_name="adoption")
    extractor = models.ForeignKey(Extractor, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"adoption of model {self.model_id}"


class PublishedCentroids(Evidence):
    """Centroids that the federation published with a model: a safetensors blob, scored against locally."""

    model = models.OneToOneField(GlobalModel, on_delete=models.PROTECT, related_name="kept_centroids")
    sha256 = models.CharField(max_length=64)
    at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"centroids of model {self.model_id}"

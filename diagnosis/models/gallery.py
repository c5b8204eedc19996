"""The syndrome catalogue, confirmed diagnoses, extractors and their members, and gallery versions."""

from __future__ import annotations

from django.db import models

from diagnosis.models.base import Evidence, state_constraint
from diagnosis.models.case import Case, Photo
from diagnosis.models.people import Patient, User


class Gene(models.Model):
    symbol = models.CharField(max_length=30, unique=True)
    entrez_id = models.PositiveIntegerField(null=True, blank=True)
    synthetic = models.BooleanField(default=False)

    def __str__(self) -> str:
        return self.symbol


class Syndrome(models.Model):
    """A disorder under a stable public identifier: OMIM:…, ORPHA:…, or SYN:… for a synthetic one.

    The catalogue is the label space of every secure sum; rows are added, never renamed away.
    """

    identifier = models.CharField(max_length=30, unique=True)
    name = models.CharField(max_length=200)
    synthetic = models.BooleanField(default=False)
    genes = models.ManyToManyField(Gene, related_name="syndromes", blank=True)
    hpo_terms = models.JSONField(default=list, help_text="[{id, name, frequency}] typical facial terms")

    class Meta:
        ordering = ["identifier"]

    def __str__(self) -> str:
        return self.name


class Diagnosis(models.Model):
    """A confirmed diagnosis of a patient. At most one stands; a retracted one stays as history."""

    patient = models.ForeignKey(Patient, on_delete=models.PROTECT, related_name="diagnoses")
    case = models.ForeignKey(Case, null=True, on_delete=models.SET_NULL, related_name="diagnoses")
    syndrome = models.ForeignKey(Syndrome, on_delete=models.PROTECT, related_name="diagnoses")
    gene = models.ForeignKey(Gene, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    confirmed_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    confirmed_at = models.DateTimeField(auto_now_add=True)
    retracted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["patient"],
                condition=models.Q(retracted_at__isnull=True),
                name="one_standing_diagnosis",
            )
        ]

    def __str__(self) -> str:
        return f"diagnosis of {self.patient_id}"


class Extractor(models.Model):
    """A feature extractor: an ensemble of members × flip × grey. `sha256` names the whole ensemble.

    `calibration` names the stored bands and no-match score ("" until calibrated for this extractor);
    `facts` carries origin, licence, training and curves as shown on the model page.
    """

    name = models.CharField(max_length=80)
    sha256 = models.CharField(max_length=64, unique=True)
    state = models.CharField(max_length=12, default="installed")
    flip = models.BooleanField(default=True)
    grey = models.BooleanField(default=True)
    synthetic = models.BooleanField(default=False)
    origin = models.CharField(max_length=200)
    licence = models.CharField(max_length=120)
    calibration = models.CharField(max_length=120, blank=True)
    facts = models.JSONField(default=dict)
    installed_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    installed_at = models.DateTimeField(auto_now_add=True)
    adopted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            state_constraint("extractor"),
            models.UniqueConstraint(
                fields=["state"], condition=models.Q(state="adopted"), name="one_adopted_extractor"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class ExtractorMember(models.Model):
    """One network of an ensemble; its weights lie in GESTALTWEB_HOME/models/<sha256>.safetensors."""

    extractor = models.ForeignKey(Extractor, on_delete=models.CASCADE, related_name="members")
    position = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=40)
    architecture = models.CharField(max_length=30)
    sha256 = models.CharField(max_length=64)

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["extractor", "position"], name="member_position_once")]

    def __str__(self) -> str:
        return self.name


class Embedding(models.Model):
    """The (m, 512) float32 rows of one photo under one extractor, sealed under the photo's data key."""

    photo = models.ForeignKey(Photo, on_delete=models.CASCADE, related_name="embeddings")
    extractor = models.ForeignKey(Extractor, on_delete=models.PROTECT, related_name="embeddings")
    rows = models.PositiveSmallIntegerField()
    sealed = models.BinaryField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["photo", "extractor"], name="embedding_once_per_extractor")
        ]

    def __str__(self) -> str:
        return f"embedding of photo {self.photo_id}"


class GalleryVersion(Evidence):
    """What the gallery was at a moment: a number, a content hash, and how much stood in it."""

    number = models.PositiveIntegerField(unique=True)
    extractor = models.ForeignKey(Extractor, on_delete=models.PROTECT, related_name="+")
    sha256 = models.CharField(max_length=64)
    photos = models.PositiveIntegerField()
    patients = models.PositiveIntegerField()
    syndromes = models.PositiveIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["extractor", "sha256"], name="gallery_content_once")]

    def __str__(self) -> str:
        return f"gallery {self.number}"

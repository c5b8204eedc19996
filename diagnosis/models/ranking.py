"""Rankings as evidence: what the software said, with which model, gallery and consent."""

from __future__ import annotations

from django.db import models

from diagnosis.models.base import Evidence
from diagnosis.models.case import Case
from diagnosis.models.consent import Consent
from diagnosis.models.gallery import Extractor, GalleryVersion
from diagnosis.models.people import User


class RankingRecord(Evidence):
    """One ranking of one case. Rows name gallery photos by primary key only; whether such a photo may
    still be shown is read again at each view.

    result: {syndromes: [{rank, id, distance, band, photos, patients}], genes: […], patients: […]}.
    """

    case = models.ForeignKey(Case, on_delete=models.PROTECT, related_name="rankings")
    source = models.CharField(max_length=20, default="local")
    photos = models.JSONField(default=list)
    extractor = models.ForeignKey(Extractor, on_delete=models.PROTECT, related_name="+")
    gallery = models.ForeignKey(GalleryVersion, on_delete=models.PROTECT, related_name="+")
    consent = models.ForeignKey(Consent, on_delete=models.PROTECT, related_name="+")
    result = models.JSONField()
    match = models.CharField(max_length=12)
    score = models.FloatField(null=True)
    seconds = models.FloatField(default=0)
    requested_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["case", "-id"])]

    def __str__(self) -> str:
        return f"ranking {self.pk} of case {self.case_id}"

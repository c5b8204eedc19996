"""Rankings as evidence: what the software said, with the model, gallery and consent behind it."""

from __future__ import annotations

from typing import Any

from django.http import Http404
from django.shortcuts import get_object_or_404
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from diagnosis import api_selectors
from diagnosis.api.base import ApiView, GalleryNamed, ModelNamed, PagedView, door, with_context
from diagnosis.api.cases import case_of
from diagnosis.models import Photo, RankingRecord
from diagnosis.permissions import require
from diagnosis.words import LIST_NOTICE, NO_MATCH


class RankingSummary(serializers.Serializer):
    """One list without its rows."""

    id = serializers.IntegerField()
    case = serializers.IntegerField(source="case_id")
    source = serializers.CharField()
    created_at = serializers.DateTimeField()
    photos = serializers.ListField(child=serializers.IntegerField())
    model = ModelNamed(source="extractor")
    gallery = GalleryNamed()
    consent = serializers.IntegerField(source="consent_id")
    match = serializers.ChoiceField(choices=["confident", "none", "uncalibrated"])
    score = serializers.FloatField(allow_null=True)
    seconds = serializers.FloatField()
    notices = serializers.SerializerMethodField()

    def get_notices(self, record: RankingRecord) -> list[str]:
        return [LIST_NOTICE] + ([NO_MATCH] if record.match == "none" else [])


class Lookalike(serializers.Serializer):
    photo = serializers.IntegerField()
    patient = serializers.CharField(help_text="pseudonym")


class ListRow(serializers.Serializer):
    rank = serializers.IntegerField()
    distance = serializers.FloatField()
    patients = serializers.IntegerField()
    lookalikes = Lookalike(many=True, help_text="those that may be named now, nearest first")


class SyndromeRow(ListRow):
    id = serializers.CharField()
    name = serializers.CharField()
    band = serializers.CharField(help_text='"" where not calibrated')
    genes = serializers.ListField(child=serializers.CharField())


class GeneRow(ListRow):
    id = serializers.CharField()


class NearPatientRow(serializers.Serializer):
    rank = serializers.IntegerField()
    distance = serializers.FloatField()
    patient = serializers.CharField(allow_null=True, help_text="null once no longer in the gallery")


class RankingRow(RankingSummary):
    """One list: syndromes, genes and patients, nearest first."""

    syndromes = SyndromeRow(many=True)
    genes = GeneRow(many=True)
    patients = NearPatientRow(many=True)


def ranking_answer(record: RankingRecord) -> dict[str, Any]:
    """The stored list with the look-alikes that may be named at this moment."""
    shown = api_selectors.lookalikes_now(record)
    result = record.result
    return dict(RankingSummary(record).data) | {
        "syndromes": [_row(row, shown, "id", "name", "band", "genes") for row in result["syndromes"]],
        "genes": [_row(row, shown, "id") for row in result["genes"]],
        "patients": [_patient(row, shown) for row in result["patients"]],
    }


def _row(row: dict[str, Any], shown: dict[int, Photo], *more: str) -> dict[str, Any]:
    found = [shown[int(key)] for key in row["photos"] if int(key) in shown]
    return {name: row[name] for name in ("rank", "distance", "patients", *more)} | {
        "lookalikes": [{"photo": photo.pk, "patient": photo.patient.code} for photo in found]
    }


def _patient(row: dict[str, Any], shown: dict[int, Photo]) -> dict[str, Any]:
    codes = [shown[int(key)].patient.code for key in row["photos"] if int(key) in shown]
    return {"rank": row["rank"], "distance": row["distance"], "patient": codes[0] if codes else None}


class RankingNewest(ApiView):
    @door("The newest list of a case", with_context(RankingRow), also=(404, 409), tag="rankings",
          operation_id="ranking_newest")  # fmt: skip
    def get(self, request: Request, pk: int) -> Response:
        require(request.user, "ranking.view")
        case = case_of(request, pk)
        record = api_selectors.rankings_shown(case, request.user).filter(source="local").first()
        if record is None:
            raise Http404
        return Response(ranking_answer(record))


class RankingList(PagedView):
    @door("All lists of a case, newest first, without their rows", RankingSummary(many=True),
          also=(404, 409), tag="rankings", operation_id="ranking_list")  # fmt: skip
    def get(self, request: Request, pk: int) -> Response:
        require(request.user, "ranking.view")
        rows = api_selectors.rankings_shown(case_of(request, pk), request.user)
        return self.page(request, rows, RankingSummary)


class RankingOne(ApiView):
    @door("One list of a case", with_context(RankingRow), also=(404, 409), tag="rankings",
          operation_id="ranking")  # fmt: skip
    def get(self, request: Request, pk: int, ranking: int) -> Response:
        require(request.user, "ranking.view")
        rows = api_selectors.rankings_shown(case_of(request, pk), request.user)
        return Response(ranking_answer(get_object_or_404(rows, pk=ranking)))

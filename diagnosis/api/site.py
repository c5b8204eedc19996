"""What belongs to the whole site: the catalogue, models, the audit chain."""

from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from diagnosis import api_selectors, case_selectors, selectors
from diagnosis.api.base import EXTRACTOR_STATES, ApiView, PagedView, door, with_context
from diagnosis.models import Extractor, Gene, Syndrome
from diagnosis.permissions import require


class RootRow(serializers.Serializer):
    """Who asks, and what this site is. The rest of the API is described under /api/docs/."""

    roles = serializers.ListField(child=serializers.CharField())


class Root(ApiView):
    @door("Who am I, and what is this site", with_context(RootRow), tag="site", operation_id="root")
    def get(self, request: Request) -> Response:
        return Response({"roles": sorted(request.user.roles)})


class Nowhere(ApiView):
    """Addresses under /api/ that do not exist answer in JSON too."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        raise NotFound("There is nothing at this address. The doors are listed under /api/schema/.")


# --- catalogue -------------------------------------------------------------------------------------


class HpoTerm(serializers.Serializer):
    id = serializers.CharField()
    name = serializers.CharField()
    frequency = serializers.FloatField(required=False, allow_null=True)


class CatalogueRow(serializers.Serializer):
    identifier = serializers.CharField()
    name = serializers.CharField()
    synthetic = serializers.BooleanField()
    genes = serializers.SerializerMethodField()
    hpo_terms = HpoTerm(many=True)

    def get_genes(self, syndrome: Syndrome) -> list[str]:
        return sorted(gene.symbol for gene in syndrome.genes.all())


class GeneFacts(serializers.Serializer):
    symbol = serializers.CharField()
    entrez_id = serializers.IntegerField(allow_null=True)
    synthetic = serializers.BooleanField()
    syndromes = serializers.SerializerMethodField()

    def get_syndromes(self, gene: Gene) -> list[str]:
        return sorted(syndrome.identifier for syndrome in gene.syndromes.all())


class SearchQuery(serializers.Serializer):
    search = serializers.CharField(max_length=100, required=False, default="")


class SyndromeList(PagedView):
    @door("The syndrome catalogue", CatalogueRow(many=True), tag="catalogue", operation_id="syndrome_list",
          parameters=[SearchQuery])  # fmt: skip
    def get(self, request: Request) -> Response:
        require(request.user, "catalogue.view")
        query = self.checked(SearchQuery, request.query_params)
        return self.page(request, case_selectors.syndromes(**query), CatalogueRow)


class SyndromeOne(ApiView):
    @door("One syndrome", with_context(CatalogueRow), also=(404,), tag="catalogue", operation_id="syndrome")
    def get(self, request: Request, identifier: str) -> Response:
        require(request.user, "catalogue.view")
        found = get_object_or_404(case_selectors.syndromes(), identifier=identifier.replace("\0", ""))
        return Response(CatalogueRow(found).data)


class GeneList(PagedView):
    @door("The catalogue's genes", GeneFacts(many=True), tag="catalogue", operation_id="gene_list",
          parameters=[SearchQuery])  # fmt: skip
    def get(self, request: Request) -> Response:
        require(request.user, "catalogue.view")
        query = self.checked(SearchQuery, request.query_params)
        return self.page(request, api_selectors.genes(**query), GeneFacts)


# --- models ----------------------------------------------------------------------------------------


class MemberRow(serializers.Serializer):
    position = serializers.IntegerField()
    name = serializers.CharField()
    architecture = serializers.CharField()
    sha256 = serializers.CharField()


class ExtractorRow(serializers.Serializer):
    name = serializers.CharField()
    sha256 = serializers.CharField()
    state = serializers.ChoiceField(choices=EXTRACTOR_STATES)
    synthetic = serializers.BooleanField()
    flip = serializers.BooleanField()
    grey = serializers.BooleanField()
    origin = serializers.CharField()
    licence = serializers.CharField()
    calibrated = serializers.SerializerMethodField()
    members = MemberRow(many=True)
    installed_at = serializers.DateTimeField()
    adopted_at = serializers.DateTimeField(allow_null=True)

    def get_calibrated(self, extractor: Extractor) -> bool:
        return bool(extractor.calibration)


class ModelList(PagedView):
    @door("Models on this site, the one in use first", ExtractorRow(many=True), tag="site",
          operation_id="model_list")  # fmt: skip
    def get(self, request: Request) -> Response:
        require(request.user, "model.view")
        return self.page(request, selectors.extractors(), ExtractorRow)


# --- audit -----------------------------------------------------------------------------------------


class AuditRow(serializers.Serializer):
    id = serializers.IntegerField()
    at = serializers.DateTimeField()
    actor = serializers.CharField(source="actor_label")
    action = serializers.CharField()
    subject = serializers.CharField()
    detail = serializers.DictField()
    previous = serializers.CharField()
    sha256 = serializers.CharField()


class AuditQuery(serializers.Serializer):
    action = serializers.CharField(max_length=60, required=False, default="")
    actor = serializers.CharField(max_length=80, required=False, default="")
    subject = serializers.CharField(max_length=80, required=False, default="")


class AuditList(PagedView):
    @door("The audit chain, newest first", AuditRow(many=True), tag="site", operation_id="audit_list",
          parameters=[AuditQuery])  # fmt: skip
    def get(self, request: Request) -> Response:
        require(request.user, "audit.view")
        query: dict[str, Any] = self.checked(AuditQuery, request.query_params)
        return self.page(request, selectors.audit_events(**query), AuditRow)

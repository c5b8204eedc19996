"""GestaltMatcher-Arc's doors at the root of the site: /predict, /encode, /crop, /status.

Its clients can be pointed here: same paths, same fields. What differs is on purpose: every call needs an API
account (HTTP Basic: user name and token) and a legal basis, errors are HTTP errors, and there is no
/predict_url, because a server that fetches any address it is given is a way into the hospital's network.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from django.conf import settings
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import ScopedRateThrottle

from diagnosis.api.base import ApiView, BoundedJSON, Context, door
from diagnosis.services import arc as arc_service
from diagnosis.words import LIST_NOTICE, NO_MATCH, RESEARCH_USE

BASIS_HEADER = "X-Legal-Basis"
ERRORS = (409, 413, 415, 422, 429)


class ArcJSON(BoundedJSON):
    """Room for one photo of the site's limit in base64."""

    limit = settings.UPLOAD_MAX_BYTES * 4 // 3 + 4096


class Image(serializers.Serializer):
    img = serializers.CharField(help_text="an image file (JPEG, PNG, WebP, HEIC) in base64")


class Hit(serializers.Serializer):
    distance = serializers.FloatField(help_text="mean cosine distance, 0 to 2")
    gestalt_score = serializers.FloatField(help_text="1.3 - distance, as since Arc v1.1.5")
    image_id = serializers.CharField(help_text="pseudonym of the nearest gallery photo")
    subject_id = serializers.CharField(help_text="pseudonym of its patient")


class SyndromeHit(Hit):
    syndrome_name = serializers.CharField()
    omim_id = serializers.JSONField(help_text='OMIM number, "" without one')
    syndrome_id = serializers.CharField(help_text="OMIM:…, ORPHA:… or SYN:…")


class GeneHit(Hit):
    gene_name = serializers.CharField()
    gene_entrez_id = serializers.CharField(allow_null=True)


class PatientHit(SyndromeHit):
    gene_name = serializers.CharField()
    gene_entrez_id = serializers.CharField(allow_null=True)


class Prediction(serializers.Serializer):
    context = Context()
    model_version = serializers.CharField()
    gallery_version = serializers.CharField()
    match = serializers.ChoiceField(choices=["confident", "none", "uncalibrated"])
    notices = serializers.ListField(child=serializers.CharField())
    suggested_syndromes_list = SyndromeHit(many=True)
    suggested_genes_list = GeneHit(many=True)
    suggested_patients_list = PatientHit(many=True)


class Crop(serializers.Serializer):
    context = Context()
    crop = serializers.CharField(help_text="the aligned face, 112 x 112, as PNG in base64")


class Encodings(serializers.Serializer):
    context = Context()
    model_version = serializers.CharField()
    encodings = serializers.ListField(
        child=serializers.ListField(child=serializers.FloatField()), help_text="one row of 512 per view"
    )


class Status(serializers.Serializer):
    status = serializers.CharField()


BASIS = OpenApiParameter(
    BASIS_HEADER, str, OpenApiParameter.HEADER, required=True, enum=list(arc_service.LEGAL_BASES),
    description="on what legal basis this photo is processed; there is no patient record behind the call",
)  # fmt: skip


class ArcView(ApiView):
    """A door for one photo that is not kept."""

    challenge = 'Basic realm="GestaltWeb", charset="UTF-8"'  # what Arc's clients expect to be asked for
    parser_classes = [ArcJSON]
    throttle_classes = [ScopedRateThrottle]
    throttle_scope = "arc"

    def call(self, request: Request) -> dict[str, Any]:
        """The service's arguments, in the order of who, why, what: nothing is read for who may not call."""
        basis = request.headers.get(BASIS_HEADER, "").strip()
        arc_service.call_allowed(user=request.user, legal_basis=basis)
        return {"user": request.user, "legal_basis": basis, "data": _image(self.checked(Image)["img"])}


def _image(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ParseError("img is not valid base64.") from None


def _model_version(extractor: Any) -> str:
    return f"{extractor.name} {extractor.sha256[:12]}"


class Predict(ArcView):
    @door("Rank one photo against this hospital's gallery", Prediction, also=ERRORS, tag="arc",
          operation_id="arc_predict", request=Image, parameters=[BASIS])  # fmt: skip
    def post(self, request: Request) -> Response:
        found = arc_service.arc_predict(**self.call(request))
        return Response({
            "model_version": _model_version(found.extractor), "gallery_version": str(found.gallery.number),
            "match": found.ranked.match,
            "notices": [RESEARCH_USE, LIST_NOTICE] + ([NO_MATCH] if found.ranked.match == "none" else []),
            "suggested_syndromes_list": found.syndromes, "suggested_genes_list": found.genes,
            "suggested_patients_list": found.patients,
        })  # fmt: skip


class CropFace(ArcView):
    @door("The aligned face of one photo", Crop, also=ERRORS, tag="arc", operation_id="arc_crop",
          request=Image, parameters=[BASIS])  # fmt: skip
    def post(self, request: Request) -> Response:
        png = arc_service.arc_crop(**self.call(request))
        return Response({"crop": base64.b64encode(png).decode("ascii")})


class Encode(ArcView):
    @door("The embedding of one photo (off unless the site's admin turned it on)", Encodings, also=ERRORS,
          tag="arc", operation_id="arc_encode", request=Image, parameters=[BASIS])  # fmt: skip
    def post(self, request: Request) -> Response:
        arc_service.encode_allowed(user=request.user)
        extractor, rows = arc_service.arc_encode(**self.call(request))
        return Response({"model_version": _model_version(extractor), "encodings": rows.rows.tolist()})


class ServiceStatus(ApiView):
    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []

    @door("Whether the service runs", Status, tag="arc", operation_id="arc_status", auth=[])
    def get(self, request: Request) -> Response:
        return Response({"status": "running"})

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Nothing about the site or its model for those who have not said who they are."""
        return super(ApiView, self).finalize_response(request, response, *args, **kwargs)

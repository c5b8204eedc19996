"""Photos: facts about them, adding, correcting, removing. A picture only comes where it is asked for."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from diagnosis import case_selectors
from diagnosis.api.base import (
    PHOTO_STATES,
    ApiView,
    BoundedForm,
    PagedView,
    context_now,
    door,
    with_context,
)
from diagnosis.api.cases import case_of
from diagnosis.models import Photo
from diagnosis.permissions import require, visible_to
from diagnosis.selectors import for_analysis
from diagnosis.services import photo as photo_service


def photo_of(request: Request, pk: int) -> Photo:
    """The photo, or 404 for one that this account may not know of or that may not be used now."""
    photos = visible_to(request.user, for_analysis())
    photo: Photo = get_object_or_404(photos.select_related("case", "patient", "landmarks_by"), pk=pk)
    return photo


class Reason(serializers.Serializer):
    code = serializers.CharField()
    sentence = serializers.CharField()
    remedy = serializers.CharField()


def points() -> serializers.ListField:
    """(5, 2) px in the stored photo: eyes, nose, corners of the mouth, left to right as seen."""
    pair = serializers.ListField(child=serializers.FloatField(), min_length=2, max_length=2)
    return serializers.ListField(child=pair, min_length=5, max_length=5, allow_null=True, required=False)


class FaceRow(serializers.Serializer):
    box = serializers.ListField(child=serializers.FloatField(), min_length=4, max_length=4)
    landmarks = points()
    probability = serializers.FloatField()


class PhotoRow(serializers.Serializer):
    id = serializers.IntegerField()
    case = serializers.IntegerField(source="case_id")
    state = serializers.ChoiceField(choices=PHOTO_STATES)
    uploaded_at = serializers.DateTimeField()
    width = serializers.IntegerField()
    height = serializers.IntegerField()
    age_months = serializers.IntegerField(allow_null=True)
    quality = serializers.FloatField(allow_null=True, help_text="0 to 1")
    measures = serializers.DictField(child=serializers.FloatField())
    refusal = Reason(allow_null=True)
    warnings = Reason(many=True)
    faces = FaceRow(many=True)
    face_choice = serializers.IntegerField(allow_null=True)
    landmarks = points()
    landmarks_by = serializers.CharField(source="landmarks_by.username", default=None, allow_null=True)


class PhotoNew(serializers.Serializer):
    photo = serializers.FileField(help_text="JPEG, PNG, WebP or HEIC")
    age_months = serializers.IntegerField(
        min_value=0, max_value=photo_service.MAX_AGE_MONTHS, required=False, default=None, allow_null=True
    )


class PhotoCorrection(serializers.Serializer):
    landmarks = points()
    face_choice = serializers.IntegerField(
        min_value=0, max_value=999, required=False, default=None, allow_null=True
    )


class CasePhotos(PagedView):
    parser_classes = [BoundedForm]

    @door("Photos of a case, without pictures", PhotoRow(many=True), also=(404,), tag="photos",
          operation_id="photo_list")  # fmt: skip
    def get(self, request: Request, pk: int) -> Response:
        require(request.user, "photo.view")
        return self.page(request, case_selectors.photos_of(case_of(request, pk)), PhotoRow)

    @door("Add a photo; its analysis begins at once", with_context(PhotoRow), status=201,
          also=(404, 409, 413, 415), tag="photos", operation_id="photo_add",
          request={"multipart/form-data": PhotoNew})  # fmt: skip
    def post(self, request: Request, pk: int) -> Response:
        require(request.user, "photo.add")
        case, sent = case_of(request, pk), self.checked(PhotoNew)
        photo = photo_service.photo_add(
            user=request.user, case=case, data=sent["photo"].read(), age_months=sent["age_months"]
        )
        return Response(PhotoRow(photo).data, status=201)


class PhotoOne(ApiView):
    @door("Facts about one photo", with_context(PhotoRow), also=(404,), tag="photos", operation_id="photo")
    def get(self, request: Request, pk: int) -> Response:
        require(request.user, "photo.view")
        return Response(PhotoRow(photo_of(request, pk)).data)

    @door("Erase a photo and all that was made of it", None, status=204, also=(404, 409), tag="photos",
          operation_id="photo_remove")  # fmt: skip
    def delete(self, request: Request, pk: int) -> Response:
        require(request.user, "photo.remove")
        photo_service.photo_remove(user=request.user, photo=photo_of(request, pk))
        return Response(status=204)


class PhotoCorrect(ApiView):
    @door("Analyse again, with other landmarks or another of its faces", with_context(PhotoRow),
          also=(404, 409, 413, 415), tag="photos", operation_id="photo_correct",
          request=PhotoCorrection)  # fmt: skip
    def post(self, request: Request, pk: int) -> Response:
        require(request.user, "photo.correct")
        photo, sent = photo_of(request, pk), self.checked(PhotoCorrection)
        photo = photo_service.photo_correct(
            user=request.user, photo=photo, landmarks=sent.get("landmarks"), face_choice=sent["face_choice"]
        )
        return Response(PhotoRow(photo).data)


KIND = OpenApiParameter("kind", str, OpenApiParameter.PATH, enum=list(photo_service.KINDS))


class PhotoPicture(ApiView):
    @door("One picture: the stored original, the aligned face, or a thumbnail",
          {(200, "image/jpeg"): OpenApiTypes.BINARY, (200, "image/png"): OpenApiTypes.BINARY},
          also=(404, 409, 410), tag="photos", operation_id="photo_picture", parameters=[KIND])  # fmt: skip
    def get(self, request: Request, pk: int, kind: str) -> HttpResponse:
        require(request.user, "photo.view")
        data, media = photo_service.photo_picture(user=request.user, photo=photo_of(request, pk), kind=kind)
        response = HttpResponse(data, content_type=media)
        response["Content-Disposition"] = "inline"
        response["Cross-Origin-Resource-Policy"] = "same-origin"
        named = context_now(request.user)
        response["X-Model"] = (named["model"] or {}).get("sha256", "")
        response["X-Gallery"] = (named["gallery"] or {}).get("sha256", "")
        return response

"""What all doors of the API share: who calls, how much is read, and which versions every answer names."""

from __future__ import annotations

import functools
import io
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import ParseError
from rest_framework.pagination import LimitOffsetPagination
from rest_framework.parsers import JSONParser, MultiPartParser
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from diagnosis import states
from diagnosis.api.authentication import TokenAuthentication
from diagnosis.api.errors import TooMuch
from diagnosis.api_selectors import gallery_newest
from diagnosis.selectors import extractor_adopted
from diagnosis.words import RESEARCH_USE

JSON_MAX_BYTES = 1 << 20
PAGE_MAX = 200
FARTHEST_OFFSET = 10_000_000
# Part headers and the other fields of an upload, beside the photo itself.
FORM_SLACK = 64 * 1024

# Named in settings (ENUM_NAME_OVERRIDES), so that the schema has one name per set of states.
CASE_STATES = [(state, state) for state in states.states_of(states.CASE)]
PHOTO_STATES = [(state, state) for state in states.states_of(states.PHOTO)]
JOB_STATES = [(state, state) for state in states.states_of(states.JOB)]
EXTRACTOR_STATES = [(state, state) for state in states.states_of(states.EXTRACTOR)]
CONSENT_STATES = [(state, state) for state in states.states_of(states.CONSENT)]

# --- what every answer carries -------------------------------------------------------------------------


class ModelNamed(serializers.Serializer):
    name = serializers.CharField()
    sha256 = serializers.CharField()
    synthetic = serializers.BooleanField(help_text="trained on synthetic faces: not for patients")


class GalleryNamed(serializers.Serializer):
    number = serializers.IntegerField()
    sha256 = serializers.CharField()
    photos = serializers.IntegerField()
    patients = serializers.IntegerField()
    syndromes = serializers.IntegerField()


class Context(serializers.Serializer):
    """Who was answered when, by what: the model in use and the gallery's newest named content."""

    site = serializers.CharField()
    version = serializers.CharField()
    model = ModelNamed(allow_null=True)
    gallery = GalleryNamed(allow_null=True)
    user = serializers.CharField()
    at = serializers.DateTimeField()
    notice = serializers.CharField()


class Problem(serializers.Serializer):
    """Why not, in a sentence. Fields that were wrong come under their own names."""

    detail = serializers.CharField(required=False)
    code = serializers.CharField(required=False, help_text="stable; with refused photos")


def context_now(user: Any) -> dict[str, Any]:
    """The `context` of an answer."""
    extractor = extractor_adopted()
    gallery = gallery_newest(extractor)
    return {
        "site": settings.SITE_NAME,
        "version": settings.VERSION,
        "model": ModelNamed(extractor).data if extractor else None,
        "gallery": GalleryNamed(gallery).data if gallery else None,
        "user": user.get_username(),
        "at": timezone.now().isoformat(),
        "notice": RESEARCH_USE,
    }


@functools.cache
def with_context(row: type[serializers.Serializer]) -> type[serializers.Serializer]:
    """The serializer of a whole answer: the row's fields and `context`."""
    name = f"{row.__name__.removesuffix('Row')}Answer"
    fields = {"context": Context(), "__doc__": row.__doc__, "__module__": row.__module__}
    made: type[serializers.Serializer] = serializers.SerializerMetaclass(name, (row,), fields)
    return made


# --- reading ----------------------------------------------------------------------------------------------


class BoundedJSON(JSONParser):
    """JSON up to a size. DRF's own parser reads whatever comes and fails on deep nesting."""

    limit = JSON_MAX_BYTES

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        data = stream.read(self.limit + 1)
        if len(data) > self.limit:
            raise TooMuch
        try:
            return super().parse(io.BytesIO(data), media_type, parser_context)
        except RecursionError:
            raise ParseError("JSON parse error - nested too deeply") from None


class BoundedForm(MultiPartParser):
    """Multipart up to the size of one photo."""

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        meta = (parser_context or {})["request"].META
        length = str(meta.get("CONTENT_LENGTH") or "0")
        if not length.isdigit() or int(length) > settings.UPLOAD_MAX_BYTES + FORM_SLACK:
            raise TooMuch
        return super().parse(stream, media_type, parser_context)


class Pages(LimitOffsetPagination):
    """limit and offset; the page carries `context` like every answer."""

    default_limit = 50
    max_limit = PAGE_MAX

    def get_offset(self, request: Any) -> int:
        """Bounded: a database takes no number of any length."""
        return min(int(super().get_offset(request)), FARTHEST_OFFSET)

    def get_paginated_response_schema(self, schema: Any) -> dict[str, Any]:
        whole: dict[str, Any] = super().get_paginated_response_schema(schema)
        whole["properties"] = {"context": {"$ref": "#/components/schemas/Context"}, **whole["properties"]}
        whole["required"] = ["context", *whole["required"]]
        return whole


# --- doors ------------------------------------------------------------------------------------------------


class ApiView(APIView):
    """A door: token or session, bounded JSON, `context` in every answer that is not an error."""

    authentication_classes = [TokenAuthentication, SessionAuthentication]
    permission_classes = [IsAuthenticated]
    parser_classes = [BoundedJSON]
    metadata_class = None

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        if not response.status_code >= 400 and isinstance(getattr(response, "data", None), dict):
            response.data = {"context": context_now(self.request.user), **response.data}
        return super().finalize_response(request, response, *args, **kwargs)

    def checked(self, serializer: type[serializers.Serializer], data: Any = None) -> dict[str, Any]:
        """What was sent, parsed; a 400 that names the fields otherwise."""
        found = serializer(data=self.request.data if data is None else data)
        found.is_valid(raise_exception=True)
        values: dict[str, Any] = dict(found.validated_data)
        return values


class PagedView(ApiView):
    """A door to a list."""

    pagination_class = Pages

    def page(self, request: Request, rows: QuerySet[Any] | list[Any], row: type[Any]) -> Response:
        """One page of `rows` as `row` serializes them."""
        pages = Pages()
        found = pages.paginate_queryset(rows, request, view=self)
        return pages.get_paginated_response(row(found, many=True).data)


def door(
    summary: str, answer: Any, *, status: int = 200, also: tuple[int, ...] = (), tag: str = "", **more: Any
) -> Any:
    """Describe one method for the schema: its answer, and the errors that it may give."""
    responses: dict[Any, Any] = dict(answer) if isinstance(answer, dict) else {status: answer}
    for code in sorted({400, 401, 403, *also}):
        responses[code] = Problem
    return extend_schema(summary=summary, responses=responses, tags=[tag] if tag else None, **more)

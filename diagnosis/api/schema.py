"""The generated schema, and a page to read it on."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET
from drf_spectacular.renderers import OpenApiJsonRenderer
from drf_spectacular.views import SpectacularAPIView
from rest_framework.authentication import SessionAuthentication
from rest_framework.permissions import IsAuthenticated

from diagnosis.api.authentication import TokenAuthentication


class Schema(SpectacularAPIView):
    """OpenAPI 3 as JSON, generated from the doors themselves."""

    authentication_classes = [TokenAuthentication, SessionAuthentication]
    permission_classes = [IsAuthenticated]
    renderer_classes = [OpenApiJsonRenderer]
    metadata_class = None


@login_required
@require_GET
def docs(request: HttpRequest) -> HttpResponse:
    """Swagger UI from this site's own files; nothing is fetched from elsewhere and no script is inline."""
    return render(request, "diagnosis/api/docs.html")

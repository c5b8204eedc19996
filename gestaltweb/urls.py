"""Root URLs of a hospital's site. A coordinator's are in `coordinator_urls`."""

from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.urls import URLPattern, URLResolver, include, path


def health(request: HttpRequest) -> JsonResponse:
    """200 when this process and its database answer; says nothing else to anybody."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return JsonResponse({"status": "running"})


Patterns = list[URLPattern | URLResolver]
#: What both roles have.
common: Patterns = [
    path("health/", health, name="health"),
    path("account/", include("allauth.urls")),
    path("federation/", include("federation.urls")),
]
urlpatterns: Patterns = [*common, path("", include("diagnosis.urls"))]
handler400 = "diagnosis.views.errors.bad_request"
handler403 = "diagnosis.views.errors.permission_denied"
handler404 = "diagnosis.views.errors.not_found"
handler500 = "diagnosis.views.errors.server_error"

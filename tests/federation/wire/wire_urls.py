"""The doors alone, as the coordinator mounts them, and one quick page beside them."""

from django.http import HttpRequest, HttpResponse
from django.urls import include, path


def quick(request: HttpRequest) -> HttpResponse:
    return HttpResponse("quick")


urlpatterns = [path("quick/", quick), path("", include("federation.doors.urls"))]

"""URLs of the coordinator's doors. Sites sign path and query, so a moved path is another request."""

from __future__ import annotations

from django.urls import path

from federation.doors import blobs, log, status

app_name = "federation_doors"
urlpatterns = [
    path("federation/v1/entries", log.entries, name="entries"),
    path("federation/v1/links", log.links, name="links"),
    path("federation/v1/blobs/<str:sha256>", blobs.state, name="blob"),
    path("federation/v1/blobs/<str:sha256>/<str:offset>", blobs.chunk, name="chunk"),
    path("federation/v1/time", status.time, name="time"),
]

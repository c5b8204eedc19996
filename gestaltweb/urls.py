"""Root URLs of a hospital's site."""

from django.urls import include, path

urlpatterns = [
    path("account/", include("allauth.urls")),
    path("", include("diagnosis.urls")),
]

"""URLs of the clinic. tests/clinic/test_permission_table.py has one row per name."""

from django.urls import URLPattern, URLResolver

app_name = "clinic"
urlpatterns: list[URLPattern | URLResolver] = []

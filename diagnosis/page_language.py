"""Only the patient's pages speak another language than English; a half-translated page helps nobody.

Staff pages go through gettext too, but only the patient's texts are complete in German. Until the others
are, a clinician with a German browser reads clean English instead of a mixture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils import translation

PATIENT_PAGES = ("clinic:intake_", "clinic:ledger_", "clinic:language")


class PageLanguageMiddleware:
    """English on every page that is not a patient's own."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> None:
        name = request.resolver_match.view_name if request.resolver_match else ""
        if not name.startswith(PATIENT_PAGES):
            translation.activate("en")
            request.LANGUAGE_CODE = "en"

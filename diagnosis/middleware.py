"""Headers of pages that show patients (never stored by browser or proxy), and errors as sentences."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from diagnosis.errors import ClinicError
from diagnosis.phenotype.errors import PhenotypeError
from diagnosis.states import IllegalMove
from diagnosis.views.errors import is_patient_path, patient_sentence

PERMISSIONS = "camera=(self), microphone=(), geolocation=(), browsing-topics=()"


class PatientPagesMiddleware:
    """no-store on everything but static files: a page shown to a signed-in person is about patients."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if not request.path.startswith(settings.STATIC_URL):
            response["Cache-Control"] = "no-store, private"
            response["Permissions-Policy"] = PERMISSIONS
        return response


class SecondFactorMiddleware:
    """Binds the second factor to the session: one opened with a password alone never gains its rights."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.user.is_authenticated:
            methods = request.session.get("account_authentication_methods", [])
            proved = any(method.get("method") == "mfa" for method in methods)
            request.user.second_factor_proved = proved
        return self.get_response(request)


class ErrorSentencesMiddleware:
    """A ClinicError that a view let through becomes a page (or an htmx answer) with its sentence."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Answer known errors; unknown ones stay Django's (a plain 500 page without details)."""
        if isinstance(error, IllegalMove | PhenotypeError):
            status = 409
        elif isinstance(error, ClinicError):
            status = error.status
        else:
            return None
        if is_patient_path(request):
            return patient_sentence(error, status)
        return render(request, "errors/sentence.html", {"sentence": str(error)}, status=status)

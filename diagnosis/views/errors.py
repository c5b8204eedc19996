"""Errors on the patient's pages speak the patient's language; all others keep Django's way and templates.

A page here needs neither database nor session: it may be shown because one of them is away.
"""

from __future__ import annotations

from typing import Final

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views import csrf, defaults

from diagnosis.errors import InvalidInput

PATIENT_PATHS: Final = ("/i/", "/intake/", "/ledger/", "/language/")


def is_patient_path(request: HttpRequest) -> bool:
    """Whether the address is one of the patient's own, also where no page answers. A coordinator has none."""
    return settings.SITE_ROLE == "hospital" and request.path.startswith(PATIENT_PATHS)


def patient_error(heading: str, remedy: str, status: int) -> HttpResponse:
    """The page: what happened, and what to do now."""
    page = {"heading": heading, "remedy": remedy, "language": (get_language() or "en")[:2]}
    return HttpResponse(render_to_string("errors/patient.html", page), status=status)


def patient_sentence(error: Exception, status: int) -> HttpResponse:
    """An error that a patient's view let through. Only sentences written for patients are shown."""
    from diagnosis.services.intake_links import LinkRefused
    from diagnosis.services.ledger import TooManyTries

    told = isinstance(error, InvalidInput | LinkRefused | TooManyTries)
    remedy = str(error) if told else _("Please start again from the beginning, or ask the hospital.")
    return patient_error(_("This is not possible now"), remedy, status)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """400."""
    if not is_patient_path(request):
        return defaults.bad_request(request, exception)
    return patient_error(_("This could not be read"), _("Please go back and try again."), 400)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """403."""
    if not is_patient_path(request):
        return defaults.permission_denied(request, exception)
    return patient_error(_("This page is not open to you"), _("Please ask the hospital."), 403)


def csrf_failed(request: HttpRequest, reason: str = "") -> HttpResponse:
    """403 for a form without its token: an old page, or cookies switched off."""
    if not is_patient_path(request):
        return csrf.csrf_failure(request, reason)
    remedy = _(
        "Nothing was changed. Please go back, reload the page and send it again. Cookies must be allowed."
    )
    return patient_error(_("The page was open for too long"), remedy, 403)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """404."""
    if not is_patient_path(request):
        return defaults.page_not_found(request, exception)
    remedy = _("Please check the address. It is on the form or in the message that you got.")
    return patient_error(_("There is nothing at this address"), remedy, 404)


def server_error(request: HttpRequest) -> HttpResponse:
    """500."""
    if not is_patient_path(request):
        return defaults.server_error(request)
    remedy = _("Please try again later. If it stays like this, tell the hospital at what time it happened.")
    return patient_error(_("Something went wrong here"), remedy, 500)

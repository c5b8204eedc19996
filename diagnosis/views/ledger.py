"""The patient's ledger: code and birth date open it; choices are changed and everything is withdrawn here."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import translation
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from diagnosis.consent_forms import TIERS
from diagnosis.forms.intake import LedgerForm
from diagnosis.models import Patient
from diagnosis.patient_selectors import choices_now
from diagnosis.places import place_of
from diagnosis.selectors import consent_now
from diagnosis.services import consent as consents
from diagnosis.services.ledger import TooManyTries, ledger_open, ledger_read
from diagnosis.views.intake import pdf_answer
from diagnosis.views.intake_visit import Visit, visit_start
from diagnosis.views.ledger_visit import ledger_begin, ledger_end, ledger_now


@require_http_methods(["GET", "POST"])
def ledger_enter(request: HttpRequest) -> HttpResponse:
    """Code and date of birth. Whatever is wrong, the answer is the same."""
    form, status = LedgerForm(request.POST or None), 200
    if request.method == "POST" and form.is_valid():
        code, born = form.cleaned_data["code"], form.cleaned_data["date_of_birth"]
        try:
            patient = ledger_open(code=code, date_of_birth=born, place=place_of(request))
        except TooManyTries as error:
            form.add_error(None, str(error))
            return render(request, "intake/ledger_enter.html", {"form": form}, status=error.status)
        if patient is not None:
            ledger_begin(request, patient)
            return redirect("clinic:ledger_page")
        form.add_error(None, _("Code and date of birth do not fit together. Please check both."))
    status = 400 if form.errors else 200
    return render(request, "intake/ledger_enter.html", {"form": form}, status=status)


def in_ledger(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Pass the patient whose ledger is open; without one go to its entrance."""

    @wraps(view)
    def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        patient = ledger_now(request)
        return view(request, patient, *args, **kwargs) if patient else redirect("clinic:ledger_enter")

    return inner


@require_GET
@in_ledger
def ledger_page(request: HttpRequest, patient: Patient) -> HttpResponse:
    """What the photo was used for, and what is allowed now."""
    page = {"patient": patient, "lines": ledger_read(patient), "choices": choices_now(patient),
            "consent": consent_now(patient)}  # fmt: skip
    return render(request, "intake/ledger.html", page)


@require_GET
@in_ledger
def ledger_pdf(request: HttpRequest, patient: Patient) -> HttpResponse:
    """The newest signed form."""
    consent = consent_now(patient)
    if consent is None or patient.state != "given":
        raise Http404
    return pdf_answer(request, consent)


@require_POST
@in_ledger
def ledger_change(request: HttpRequest, patient: Patient) -> HttpResponse:
    """Through the form again, with the present choices shown and none of them ticked."""
    if patient.state != "given":
        return redirect("clinic:ledger_page")
    visit_start(request, Visit(patient.pk, "ledger", (translation.get_language() or "en")[:2]))
    return redirect("clinic:intake_now")


@require_http_methods(["GET", "POST"])
@in_ledger
def ledger_stop(request: HttpRequest, patient: Patient, tier: str) -> HttpResponse:
    """Take back one choice: one page that says what follows, one button."""
    allowed = {choice.tier: choice for choice in choices_now(patient)}
    if tier not in TIERS or not allowed[tier].allowed:
        return redirect("clinic:ledger_page")
    if tier == "analysis":
        return redirect("clinic:ledger_withdraw")
    if request.method == "POST":
        consents.consent_narrow(user=None, patient=patient, tier=tier)
        return redirect("clinic:ledger_page")
    return render(request, "intake/ledger_stop.html", {"choice": allowed[tier], "tier": tier})


@require_http_methods(["GET", "POST"])
@in_ledger
def ledger_withdraw(request: HttpRequest, patient: Patient) -> HttpResponse:
    """Withdraw in two steps: first what happens, then the question once more."""
    consent = consent_now(patient)
    if consent is None or patient.state != "given":
        return redirect("clinic:ledger_page")
    if request.method == "POST" and request.POST.get("step") == "confirm":
        consents.consent_withdraw(user=None, patient=patient, signer=consent.signer)
        return redirect("clinic:ledger_page")
    page = {"sure": request.method == "POST", "photos": patient.photos.count()}
    return render(request, "intake/ledger_withdraw.html", page)


@require_POST
def ledger_leave(request: HttpRequest) -> HttpResponse:
    """Close the ledger on this device, with a form that was opened from it."""
    ledger_end(request)
    return redirect("clinic:ledger_enter")

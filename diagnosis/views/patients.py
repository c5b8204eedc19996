"""Patient pages for staff: register, find, take consent, withdraw. No faces and no rankings here."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from diagnosis.consent_forms.qr import qr_svg_path
from diagnosis.errors import ClinicError, Unreadable
from diagnosis.forms.patients import IdentityForm, LanguageForm, PatientForm, PatientSearchForm
from diagnosis.models import Consent, Patient
from diagnosis.patient_selectors import cases_of, choices_now, link_open, patient_list, patients_for
from diagnosis.permissions import require
from diagnosis.selectors import consent_history, consent_now
from diagnosis.services import consent as consents
from diagnosis.services import erasure, ledger, people
from diagnosis.services.corrections import patient_correct as patient_correction
from diagnosis.services.intake_links import LINK_DAYS
from diagnosis.services.seen import look_audit
from diagnosis.views.intake import ledger_address, pdf_answer
from diagnosis.views.intake_visit import Visit, visit_start

PER_PAGE = 50


def _patient(request: HttpRequest, pk: int, action: str = "patient.view") -> Patient:
    """The patient, 404 when the user's teams do not know them, NotAllowed when the role does not fit."""
    require(request.user, action)
    patient: Patient = get_object_or_404(patients_for(request.user), pk=pk)  # type: ignore[arg-type]
    require(request.user, action, patient)
    return patient


@login_required
@require_GET
def patients(request: HttpRequest) -> HttpResponse:
    """The team's patients by code."""
    require(request.user, "patient.list")
    form = PatientSearchForm(request.GET)
    search = form.cleaned_data["search"] if form.is_valid() else ""
    rows = Paginator(patient_list(request.user, search=search), PER_PAGE)  # type: ignore[arg-type]
    page = {"page": rows.get_page(request.GET.get("page")), "form": form, "search": search}
    return render(request, "diagnosis/patients/list.html", page)


@login_required
@require_http_methods(["GET", "POST"])
def patient_new(request: HttpRequest) -> HttpResponse:
    """Register a patient."""
    require(request.user, "patient.register")
    form = PatientForm(request.POST or None, user=request.user)  # type: ignore[arg-type]
    if request.method == "POST" and form.is_valid():
        try:
            patient = people.patient_register(user=request.user, **form.cleaned_data)  # type: ignore[arg-type]
            return redirect("clinic:patient_page", pk=patient.pk)
        except ClinicError as error:
            form.add_error(None, str(error))
    return render(request, "diagnosis/patients/new.html", {"form": form}, status=400 if form.errors else 200)


@login_required
@require_GET
def patient_page(request: HttpRequest, pk: int) -> HttpResponse:
    """Demographics, consent and ledger of one patient."""
    return _answer(request, _patient(request, pk))


def _answer(request: HttpRequest, patient: Patient, status: int = 200, **more: Any) -> HttpResponse:
    page = {
        "patient": patient, "identity": _identity(request, patient), "choices": choices_now(patient),
        "consent": consent_now(patient), "history": consent_history(patient), "link": link_open(patient),
        "of_age": _of_age(patient), "lines": ledger.ledger_read(patient), "language_form": LanguageForm(),
        "link_days": LINK_DAYS, "cases": cases_of(request.user, patient), **more,  # type: ignore[arg-type]
    }  # fmt: skip
    return render(request, "diagnosis/patients/page.html", page, status=status)


def _of_age(patient: Patient) -> bool:
    """A parent or guardian signed, and the patient can sign by now."""
    consent = consent_now(patient)
    if consent is None or patient.state != "given" or consent.signer not in ("parent", "guardian"):
        return False
    return consent.signer not in people.signers_possible(patient)


def _identity(request: HttpRequest, patient: Patient) -> dict[str, str] | None:
    """Who it is, and a trace of who read it; None once erased."""
    try:
        identity = people.patient_identity(user=request.user, patient=patient)  # type: ignore[arg-type]
    except Unreadable:
        return None
    look_audit(user=request.user, action="patient.viewed", subject=f"patient:{patient.pk}")  # type: ignore[arg-type]
    return identity


@login_required
@require_http_methods(["GET", "POST"])
def patient_correct(request: HttpRequest, pk: int) -> HttpResponse:
    """Put a mistyped name or birth date right."""
    patient = _patient(request, pk, "patient.register")
    identity = _identity(request, patient)
    if identity is None:
        messages.error(request, _("The identity was erased and cannot be corrected."))
        return redirect("clinic:patient_page", pk=pk)
    form = IdentityForm(request.POST or None, initial=identity)
    if request.method == "POST" and form.is_valid():
        try:
            patient_correction(user=request.user, patient=patient, **form.cleaned_data)  # type: ignore[arg-type]
            return redirect("clinic:patient_page", pk=pk)
        except ClinicError as error:
            form.add_error(None, str(error))
    page = {"patient": patient, "form": form}
    return render(request, "diagnosis/patients/correct.html", page, status=400 if form.errors else 200)


@login_required
@require_POST
def patient_link(request: HttpRequest, pk: int) -> HttpResponse:
    """Make a one-time link and show it, once."""
    patient = _patient(request, pk, "consent.take")
    form = LanguageForm(request.POST)
    language = form.cleaned_data["language"] if form.is_valid() else "en"
    path = consents.link_create(user=request.user, patient=patient, language=language)  # type: ignore[arg-type]
    address = request.build_absolute_uri(path)
    side, drawing = qr_svg_path(address)
    return _answer(request, patient, link_address=address, qr_side=side, qr_path=drawing)


@login_required
@require_POST
def patient_tablet(request: HttpRequest, pk: int) -> HttpResponse:
    """Hand the form over on this device: signs the staff member out and locks the session to the form."""
    patient = _patient(request, pk, "consent.take")
    if patient.state == "withdrawn":
        messages.error(request, _("This patient's data were erased. Register the person again."))
        return redirect("clinic:patient_page", pk=pk)
    form = LanguageForm(request.POST)
    language = form.cleaned_data["language"] if form.is_valid() else "en"
    visit_start(request, Visit(patient.pk, "tablet", language, staff=request.user.pk))
    return redirect("clinic:intake_now")


@login_required
@require_POST
def patient_code(request: HttpRequest, pk: int) -> HttpResponse:
    """A new ledger code for somebody who lost theirs; the old one stops working."""
    patient = _patient(request, pk, "consent.take")
    code = ledger.code_reissue(user=request.user, patient=patient)  # type: ignore[arg-type]
    patient.refresh_from_db()
    address = ledger_address(request)
    side, drawing = qr_svg_path(f"{address}#{code}")
    return _answer(request, patient, code=code, ledger_address=address, qr_side=side, qr_path=drawing)


@login_required
@require_POST
def patient_remove(request: HttpRequest, pk: int) -> HttpResponse:
    """Remove somebody who never signed, name and all."""
    patient = _patient(request, pk, "patient.register")
    erasure.patient_remove(user=request.user, patient=patient)  # type: ignore[arg-type]
    messages.success(request, _("Removed. The name and its key were destroyed."))
    return redirect("clinic:patient_list")


@login_required
@require_GET
def consent_document(request: HttpRequest, pk: int, consent_pk: int) -> HttpResponse:
    """A signed form as PDF."""
    patient = _patient(request, pk, "consent.view")
    consent = get_object_or_404(Consent.objects.exclude(kind="withdrawn"), pk=consent_pk, patient=patient)
    return pdf_answer(request, consent, user=request.user)


@login_required
@require_http_methods(["GET", "POST"])
def patient_withdraw(request: HttpRequest, pk: int) -> HttpResponse:
    """Withdraw on the patient's behalf, in two steps."""
    patient = _patient(request, pk, "consent.withdraw")
    consent = consent_now(patient)
    if consent is None or patient.state != "given":
        messages.info(request, _("There is no agreement in force."))
        return redirect("clinic:patient_page", pk=pk)
    if request.method == "POST" and request.POST.get("step") == "confirm":
        consents.consent_withdraw(user=request.user, patient=patient, signer=consent.signer)  # type: ignore[arg-type]
        messages.success(request, _("Withdrawn. Photos, embeddings, rankings and identity were erased."))
        return redirect("clinic:patient_page", pk=pk)
    page = {"patient": patient, "sure": request.method == "POST", "photos": patient.photos.count(),
            "cases": patient.cases.count()}  # fmt: skip
    return render(request, "diagnosis/patients/withdraw.html", page)

"""Doors of what clinicians decide: a word on a row, their own differential, the diagnosis, or none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_POST

from diagnosis import case_selectors
from diagnosis.errors import ClinicError
from diagnosis.forms.cases import DiagnosisForm, DifferentialForm, VerdictForm, words_of
from diagnosis.models import Case, Syndrome
from diagnosis.permissions import require
from diagnosis.selectors import for_gallery
from diagnosis.services import verdict as verdict_service
from diagnosis.states import IllegalMove
from diagnosis.views.cases import case_of, user_of

FOUND_MOST = 50


@login_required
@require_POST
def verdict_new(request: HttpRequest, pk: int) -> HttpResponse:
    """Agree, disagree or unsure on one row. With htmx the row's own cell comes back, else the page."""
    case = case_of(request, pk)
    require(user_of(request), "case.decide", case)
    form = VerdictForm(request.POST)
    if not form.is_valid():
        messages.error(request, _("This disorder is not in the catalogue any more. Reload the page."))
        return redirect("clinic:case_page", pk=pk)
    row = verdict_service.verdict_record(user=user_of(request), case=case, **form.cleaned_data)
    key = row.syndrome.identifier
    if request.headers.get("HX-Request"):
        context = {"case": case, "key": key, "answer": row.answer, "name": row.syndrome.name}
        return render(request, "diagnosis/cases/verdict.html", context)
    address = reverse("clinic:case_page", args=[pk])
    return redirect(f"{address}?rows=all#row-{key}")


@login_required
@require_http_methods(["GET", "POST"])
def differential(request: HttpRequest, pk: int) -> HttpResponse:
    """One's own idea, written down before the list is shown."""
    case = case_of(request, pk)
    require(user_of(request), "case.decide", case)
    form = DifferentialForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            verdict_service.differential_record(
                user=user_of(request), case=case, syndromes=form.syndromes(), text=form.cleaned_data["text"]
            )
            messages.success(request, _("Recorded. Here is the list."))
            return redirect("clinic:case_page", pk=pk)
        except ClinicError as error:
            form.add_error(None, str(error))
    context = {"case": case, "patient": case.patient, "form": form,
               "catalogue": Syndrome.objects.values_list("name", "identifier")}  # fmt: skip
    return render(request, "diagnosis/cases/differential.html", context)


@login_required
@require_http_methods(["GET", "POST"])
def diagnosis_new(request: HttpRequest, pk: int) -> HttpResponse:
    """Find the disorder in the catalogue, then confirm it with its gene: a decision of its own page."""
    case = case_of(request, pk)
    require(user_of(request), "case.decide", case)
    named = request.POST.get("syndrome", "").replace("\x00", "") or words_of(request, "syndrome")
    syndrome = Syndrome.objects.filter(identifier=named).first()
    form = DiagnosisForm(request.POST or None, syndrome=syndrome, initial={"syndrome": named})
    if request.method == "POST" and form.is_valid():
        try:
            verdict_service.diagnosis_confirm(user=user_of(request), case=case, **form.cleaned_data)
            messages.success(request, _in_gallery_sentence(case))
            return redirect("clinic:case_page", pk=pk)
        except (ClinicError, IllegalMove) as error:
            form.add_error(None, str(error))
    search = words_of(request, "search")
    context = {
        "case": case, "patient": case.patient, "form": form, "syndrome": syndrome, "search": search,
        "found": case_selectors.syndromes(search)[:FOUND_MOST] if search else [],
        "suggested": _suggested(case, user_of(request)), "to_gallery": _gallery_consent(case),
    }  # fmt: skip
    return render(request, "diagnosis/cases/diagnosis.html", context)


def _suggested(case: Case, user: Any) -> list[Syndrome]:
    """The first rows of the list that may be seen, so that the usual choice needs no search."""
    record = case_selectors.ranking_shown(case, user)
    keys = [row["id"] for row in record.result.get("syndromes", [])[:5]] if record else []
    found = Syndrome.objects.in_bulk(keys, field_name="identifier")
    return [found[key] for key in keys if key in found]


def _gallery_consent(case: Case) -> bool:
    return case_selectors.gallery_allowed(case.patient)


def _in_gallery_sentence(case: Case) -> str:
    """What the confirmation did to the gallery, in words."""
    if not _gallery_consent(case):
        return _("Diagnosis confirmed. Without consent to the gallery, the photos stay out of it.")
    photos = for_gallery().filter(patient=case.patient).count()
    one = "Diagnosis confirmed. %d photo of this patient now stands in this hospital's gallery."
    several = "Diagnosis confirmed. %d photos of this patient now stand in this hospital's gallery."
    return ngettext(one, several, photos) % photos


def _decide(request: HttpRequest, pk: int, service: Callable[..., Any], sentence: str) -> HttpResponse:
    case = case_of(request, pk)
    try:
        service(user=user_of(request), case=case)
        messages.success(request, sentence)
    except IllegalMove as error:
        messages.error(request, str(error))
    return redirect("clinic:case_page", pk=pk)


@login_required
@require_POST
def case_unsolved(request: HttpRequest, pk: int) -> HttpResponse:
    """Close the case without a diagnosis."""
    sentence = _("Left unsolved. It is ranked again after every new model or gallery.")
    return _decide(request, pk, verdict_service.case_leave_unsolved, sentence)


@login_required
@require_POST
def case_reopen(request: HttpRequest, pk: int) -> HttpResponse:
    """Open a closed case again."""
    sentence = _("Case reopened. A diagnosis it held is retracted, and its photos are out of the gallery.")
    return _decide(request, pk, verdict_service.case_reopen, sentence)

"""Doors of the cases: the list, a new case, the case page, its progress, and taking the ranking out."""

from __future__ import annotations

import csv
from typing import Any, cast

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from diagnosis import case_selectors
from diagnosis.errors import ClinicError
from diagnosis.forms.cases import CaseFilterForm, CaseForm, NoteForm, number_of, words_of
from diagnosis.models import Case, RankingRecord, Role, User
from diagnosis.permissions import can, require, visible_to
from diagnosis.services import case as case_service
from diagnosis.views.case_page import ROWS_FIRST, asked_context, case_context, ranking_rows
from diagnosis.views.case_table import EXPORT_COLUMNS, export_rows

PAGE_SIZE = 25
PATIENTS_SHOWN = 10


def user_of(request: HttpRequest) -> User:
    """The signed-in user; every door here is behind login_required."""
    return cast(User, request.user)


def case_of(request: HttpRequest, pk: int) -> Case:
    """The case, or 404 for a case that this user may not know of."""
    cases = visible_to(user_of(request), Case.objects.all())
    found: Case = get_object_or_404(cases.select_related("patient", "team", "opened_by"), pk=pk)
    return found


HOMES = (
    ("case.list", "clinic:case_list"),
    ("patient.list", "clinic:patient_list"),
    ("users.manage", "clinic:user_list"),
    ("audit.view", "clinic:audit_list"),
)


@login_required
@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """Where this user's work begins; the account for those who still have to set up their second factor,
    and for those without a role."""
    user = user_of(request)
    place = next((place for action, place in HOMES if can(user, action)), "mfa_index")
    unprotected = Role.SITE_ADMIN in user.roles and not can(user, "users.manage")
    return redirect("mfa_index" if unprotected and place == "clinic:audit_list" else place)


@login_required
@require_GET
def case_list(request: HttpRequest) -> HttpResponse:
    """The cases of the user's teams."""
    require(user_of(request), "case.list")
    form = CaseFilterForm(request.GET or None)
    chosen = form.cleaned_data if form.is_valid() else {"search": "", "state": ""}
    cases = case_selectors.case_list_page(user_of(request), **chosen)
    page = Paginator(cases, PAGE_SIZE).get_page(request.GET.get("page"))
    found = case_selectors.top_rows(list(page.object_list), user_of(request))
    named = case_selectors.diagnoses_by_patient(case.patient_id for case in page.object_list)
    context = {"form": form, "page": page, "top": found, "diagnoses": named, "filtered": any(chosen.values()),
               "query": _query_without_page(request)}  # fmt: skip
    return render(request, "diagnosis/cases/list.html", context)


def _query_without_page(request: HttpRequest) -> str:
    query = request.GET.copy()
    query.pop("page", None)
    return query.urlencode()


@login_required
@require_http_methods(["GET", "POST"])
def case_new(request: HttpRequest) -> HttpResponse:
    """First step of two: whose case. The second is the upload on the case's own page."""
    require(user_of(request), "case.open")
    form = CaseForm(
        request.POST or None, user=user_of(request), initial={"patient": request.GET.get("patient")}
    )
    if request.method == "POST" and form.is_valid():
        case = case_service.case_open(user=user_of(request), **form.cleaned_data)
        messages.success(request, _("Case opened. Now add a photo."))
        return redirect("clinic:case_page", pk=case.pk)
    search = words_of(request, "search")
    chosen = request.POST.get("patient") or request.GET.get("patient", "")
    patients = case_selectors.patients_to_choose(user_of(request), search, first=number_of(chosen))
    page = Paginator(patients, PATIENTS_SHOWN).get_page(request.GET.get("page"))
    context = {"form": form, "page": page, "search": search, "chosen": chosen,
               "query": _query_without_page(request)}  # fmt: skip
    return render(request, "diagnosis/cases/new.html", context)


@login_required
@require_GET
def case_page(request: HttpRequest, pk: int) -> HttpResponse:
    """One case, from who it is to what was decided."""
    case = case_of(request, pk)
    require(user_of(request), "case.view", case)
    return render(request, "diagnosis/cases/page.html", case_context(request, case))


@login_required
@require_GET
def case_progress(request: HttpRequest, pk: int) -> HttpResponse:
    """What a page on display refreshes: the progress, and what changed beside it.

    `photos` and `ranking` in the address say what the page shows now. Photos are replaced when a state
    changed; a list is put where there was none, and only announced where one is being read.
    """
    case = case_of(request, pk)
    require(user_of(request), "case.view", case)
    context = asked_context(request, case)
    seen = request.GET.get("ranking", "0")
    newest = str(context["seen_ranking"])
    changed = {
        "partial": True,
        "photos_changed": request.GET.get("photos", "") != context["seen_photos"],
        "list_arrived": seen == "0" and newest != "0",
        "list_newer": seen not in ("0", newest),
    }
    if changed["photos_changed"] or changed["list_arrived"]:
        context = case_context(request, case)
    context |= changed
    if context["list_newer"]:
        context["seen_ranking"] = seen
    return render(request, "diagnosis/cases/progress.html", context)


@login_required
@require_POST
def case_note(request: HttpRequest, pk: int) -> HttpResponse:
    """Replace the working note."""
    case = case_of(request, pk)
    form = NoteForm(request.POST)
    try:
        if form.is_valid():
            case_service.case_note(user=user_of(request), case=case, note=form.cleaned_data["note"])
            messages.success(request, _("Note saved."))
        else:
            messages.error(request, _("A note has at most 200 characters. Nothing was saved."))
    except ClinicError as error:
        messages.error(request, str(error))
    return redirect("clinic:case_page", pk=pk)


# --- taking the ranking out ------------------------------------------------------------------------


@login_required
@require_GET
def ranking_csv(request: HttpRequest, pk: int) -> HttpResponse:
    """The whole list as CSV; every line names model, gallery and what the list is not."""
    case = case_of(request, pk)
    record = case_service.ranking_export(user=user_of(request), case=case, form="csv")
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="case-{case.pk}-ranking-{record.pk}.csv"'
    writer = csv.writer(response)
    writer.writerow(EXPORT_COLUMNS)
    writer.writerows(export_rows(case, record, user_of(request)))
    return response


@login_required
@require_GET
def case_print(request: HttpRequest, pk: int) -> HttpResponse:
    """One quiet sheet for paper or PDF."""
    case = case_of(request, pk)
    record = case_service.ranking_export(user=user_of(request), case=case, form="print")
    return render(request, "diagnosis/cases/print.html", _sheet(request, case, record))


def _sheet(request: HttpRequest, case: Case, record: RankingRecord) -> dict[str, Any]:
    found = record.result.get("syndromes", [])
    rows = ranking_rows(record, "syndromes", found[:ROWS_FIRST], user_of(request))
    return case_context(request, case) | {"rows": rows, "rows_all": len(found)}

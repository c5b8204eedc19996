"""Doors of the administration: accounts, teams, the audit chain, extractors."""

from __future__ import annotations

import csv
import json
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from diagnosis.errors import ClinicError
from diagnosis.forms.administration import AuditFilterForm, RolesForm, TeamForm, TokenForm, UserForm
from diagnosis.models import ApiToken, AuditEvent, Extractor, User
from diagnosis.permissions import require
from diagnosis.selectors import audit_events, extractors, users_with_roles
from diagnosis.services import model as models
from diagnosis.services import users
from diagnosis.services.audit import audit, chain_fault
from diagnosis.views.cases import user_of


@login_required
@require_http_methods(["GET", "POST"])
def user_list(request: HttpRequest) -> HttpResponse:
    """All accounts; POST makes a new one and shows its one-time link."""
    require(request.user, "users.manage")
    form, link = UserForm(request.POST or None), ""
    if request.method == "POST" and form.is_valid():
        try:
            created = users.user_create(user=user_of(request), **_user_fields(form))
            link = _absolute(request, users.password_link(user=user_of(request), target=created))
            form = UserForm()
        except ClinicError as error:
            form.add_error("username", str(error))
    page = {"users": users_with_roles(), "form": form, "link": link, "team_form": TeamForm()}
    return render(request, "diagnosis/admin/users.html", page)


def _user_fields(form: UserForm) -> dict[str, Any]:
    data = form.cleaned_data
    return data | {"roles": set(data["roles"]), "teams": list(data["teams"])}


def _absolute(request: HttpRequest, path: str) -> str:
    return request.build_absolute_uri(path)


@login_required
@require_http_methods(["GET", "POST"])
def user_page(request: HttpRequest, pk: int) -> HttpResponse:
    """One account: roles, teams, second factor, tokens."""
    require(request.user, "users.manage")
    target = get_object_or_404(User, pk=pk)
    start = {"roles": list(target.roles), "teams": target.teams.all()}
    form = RolesForm(request.POST or None, initial=start)
    if request.method == "POST" and form.is_valid():
        users.roles_set(user=user_of(request), target=target, roles=set(form.cleaned_data["roles"]))
        users.teams_set(user=user_of(request), target=target, teams=list(form.cleaned_data["teams"]))
        messages.success(request, _("Saved."))
        return redirect("clinic:user_page", pk=pk)
    return _user_answer(request, target, form)


def _user_answer(request: HttpRequest, target: User, form: RolesForm, **more: Any) -> HttpResponse:
    page = {"target": target, "form": form, "token_form": TokenForm(), "tokens": target.tokens.all(), **more}
    return render(request, "diagnosis/admin/user.html", page)


def _roles_form(target: User) -> RolesForm:
    return RolesForm(initial={"roles": list(target.roles), "teams": target.teams.all()})


@login_required
@require_POST
def user_link(request: HttpRequest, pk: int) -> HttpResponse:
    """A fresh one-time link for setting the password, shown once."""
    target = get_object_or_404(User, pk=pk)
    link = _absolute(request, users.password_link(user=user_of(request), target=target))
    return _user_answer(request, target, _roles_form(target), link=link)


@login_required
@require_POST
def user_active(request: HttpRequest, pk: int) -> HttpResponse:
    """Close an account, or open it again."""
    target = get_object_or_404(User, pk=pk)
    change = users.user_deactivate if target.is_active else users.user_reactivate
    change(user=user_of(request), target=target)
    return redirect("clinic:user_page", pk=pk)


@login_required
@require_POST
def user_second_factor_reset(request: HttpRequest, pk: int) -> HttpResponse:
    """Remove a lost second factor."""
    target = get_object_or_404(User, pk=pk)
    users.second_factor_reset(user=user_of(request), target=target)
    messages.success(request, _("The second factor is removed and all sessions are ended."))
    return redirect("clinic:user_page", pk=pk)


@login_required
@require_POST
def token_new(request: HttpRequest, pk: int) -> HttpResponse:
    """A new API token, shown once."""
    require(request.user, "users.manage")
    target, form = get_object_or_404(User, pk=pk), TokenForm(request.POST)
    if not form.is_valid():
        return redirect("clinic:user_page", pk=pk)
    token = users.token_create(user=user_of(request), target=target, label=form.cleaned_data["label"])
    return _user_answer(request, target, _roles_form(target), token=token)


@login_required
@require_POST
def token_end(request: HttpRequest, pk: int) -> HttpResponse:
    """Revoke an API token."""
    require(request.user, "users.manage")
    token = get_object_or_404(ApiToken, pk=pk)
    users.token_revoke(user=user_of(request), token=token)
    return redirect("clinic:user_page", pk=token.user_id)


@login_required
@require_POST
def team_new(request: HttpRequest) -> HttpResponse:
    """Add a team."""
    require(request.user, "users.manage")
    form = TeamForm(request.POST)
    if form.is_valid():
        try:
            users.team_create(user=user_of(request), name=form.cleaned_data["name"])
        except ClinicError as error:
            messages.error(request, str(error))
    return redirect("clinic:user_list")


@login_required
@require_GET
def audit_list(request: HttpRequest) -> HttpResponse:
    """The audit chain, newest first, with a check that it is whole."""
    require(request.user, "audit.view")
    form = AuditFilterForm(request.GET)
    events = audit_events(**(form.cleaned_data if form.is_valid() else {}))
    page = Paginator(events, 50).get_page(request.GET.get("page"))
    fault = chain_fault() if "check" in request.GET else None
    context = {"page": page, "form": form, "checked": "check" in request.GET, "fault": fault}
    return render(request, "diagnosis/admin/audit.html", context)


@login_required
@require_GET
def audit_csv(request: HttpRequest) -> StreamingHttpResponse:
    """The whole chain as CSV, hashes included, so that somebody else can check it."""
    require(request.user, "audit.view")
    audit(actor=user_of(request), action="audit.exported", subject="audit")
    rows = ((_AUDIT_COLUMNS,), (_audit_row(event) for event in audit_events().reverse().iterator()))
    writer = csv.writer(_Echo())
    lines = (writer.writerow(row) for part in rows for row in part)
    response = StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="audit.csv"'
    return response


_AUDIT_COLUMNS = ("id", "at", "who", "action", "about", "detail", "previous", "sha256")


class _Echo:
    """A file that hands back what is written, so that the chain streams instead of piling up."""

    def write(self, text: str) -> str:
        return text


def _audit_row(event: AuditEvent) -> tuple[Any, ...]:
    """`detail` as the JSON that was hashed, so that somebody else can check the chain."""
    detail = json.dumps(event.detail, sort_keys=True, separators=(",", ":"))
    names = (event.actor_label, event.action, event.subject)
    return (event.pk, event.at.isoformat(), *names, detail, event.previous, event.sha256)


@login_required
@require_GET
def model_page(request: HttpRequest) -> HttpResponse:
    """Extractors on this site: which one is in use, where each comes from, how good it measured."""
    require(request.user, "model.view")
    found = list(extractors())
    page: dict[str, Any] = {
        "extractors": found, "may_roll_back": any(extractor.state == "retired" for extractor in found)
    }  # fmt: skip
    adopted = next((extractor for extractor in found if extractor.state == "adopted"), None)
    if adopted is not None:
        page["embedded"], page["to_embed"] = models.embedding_progress(adopted)
    return render(request, "diagnosis/admin/models.html", page)


@login_required
@require_POST
def model_adopt(request: HttpRequest, pk: int) -> HttpResponse:
    """Use this extractor from now on; photos are embedded again in the background."""
    require(request.user, "model.manage")
    extractor = get_object_or_404(Extractor, pk=pk)
    models.extractor_adopt(user=user_of(request), extractor=extractor)
    messages.success(request, _("Adopted. Photos are being embedded again in the background."))
    return redirect("clinic:model_page")


@login_required
@require_POST
def model_roll_back(request: HttpRequest) -> HttpResponse:
    """Return to the extractor that was in use before."""
    models.extractor_roll_back(user=user_of(request))
    messages.success(request, _("Rolled back."))
    return redirect("clinic:model_page")

"""Standing rules: a yes in advance, within limits."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from diagnosis.views.cases import user_of
from federation import page_selectors, selectors
from federation.forms.rounds import RuleForm
from federation.models import StandingRule
from federation.permissions import can, require, require_hospital
from federation.services import approvals
from federation.views.common import answer, did, look


@login_required
@require_http_methods(["GET", "POST"])
def rule_list(request: HttpRequest) -> HttpResponse:
    """All rules; POST makes one."""
    look(request)
    require_hospital()
    if request.method == "POST":
        require(request.user, "round.answer")
    sites = page_selectors.sites_to_invite()
    form = None
    if can(request.user, "round.answer"):
        form = RuleForm(request.POST or None, sites=sites, user=user_of(request))
    if form is not None and request.method == "POST" and did(form, lambda data: _create(request, data)):
        messages.success(request, _("The rule is set. You can end it here at any time."))
        return redirect("federation:rule_list")
    return answer(
        request,
        "rules.html",
        {"form": form, "rules": page_selectors.rules_shown(selectors.standing_rules())},
        form,
    )


def _create(request: HttpRequest, data: dict[str, Any]) -> None:
    limits = {name: data[name] for name in ("strategies", "sites", "maximum_epochs", "minimum_participants")}
    approvals.rule_create(user=user_of(request), expires_at=data["expires_on"], **limits)


@login_required
@require_POST
def rule_end(request: HttpRequest, pk: int) -> HttpResponse:
    """End a rule now; what it answered stays."""
    require(request.user, "round.answer")
    require_hospital()
    approvals.rule_end(user=user_of(request), rule=get_object_or_404(StandingRule, pk=pk))
    messages.success(request, _("The rule is ended. It answers no more rounds."))
    return redirect("federation:rule_list")

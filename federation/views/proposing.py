"""Proposing a round: choose, read the plan in words with its hash, say it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from diagnosis.views.cases import user_of
from federation import page_selectors, selectors
from federation.forms.rounds import PlanForm, ProposeForm
from federation.permissions import require, require_hospital
from federation.plans import RoundPlan, encode_plan
from federation.views.common import answer, did


@login_required
@require_http_methods(["GET", "POST"])
def propose(request: HttpRequest) -> HttpResponse:
    """The form; then the plan as every hospital's admin will read it; then said, exactly as it was shown."""
    require(request.user, "round.propose")
    require_hospital()
    if "plan" in request.POST:
        return _say(request)
    form = ProposeForm(request.POST or None, sites=page_selectors.sites_to_invite())
    plans = list[RoundPlan]()
    if request.method == "POST" and did(form, lambda data: plans.append(_suggest(request, data))):
        return _preview(request, plans[0], PlanForm(initial={"plan": encode_plan(plans[0])}))
    page = {
        "form": form, "found": selectors.federation_overview(),
        "unconfirmed": page_selectors.sites_unconfirmed(),
    }  # fmt: skip
    return answer(request, "propose.html", page, form)


def _suggest(request: HttpRequest, choices: dict[str, Any]) -> RoundPlan:
    from federation.services.proposals import plan_suggest  # a coordinator never loads this side

    return plan_suggest(user=user_of(request), **choices)


def _say(request: HttpRequest) -> HttpResponse:
    from federation.services.proposals import round_propose

    form = PlanForm(request.POST)
    if did(form, lambda data: round_propose(user=user_of(request), plan=data["plan"])):
        messages.success(request, _("Proposed. The round appears here once the coordinator has taken it up."))
        return redirect("federation:home")
    plan = form.cleaned_data.get("plan")
    if plan is None:
        return redirect("federation:propose")
    return _preview(request, plan, form)


def _preview(request: HttpRequest, plan: RoundPlan, form: PlanForm) -> HttpResponse:
    found = selectors.federation_overview()
    title = found.membership.title if found.membership else plan.proposer
    page = {"words": page_selectors.plan_in_words(plan, title, encode_plan(plan)), "form": form, "plan": plan}
    return answer(request, "propose_preview.html", page, form)

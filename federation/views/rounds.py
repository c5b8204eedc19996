"""Following rounds: the list, one round while it runs and afterwards, the receipt."""

from __future__ import annotations

import hashlib
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from diagnosis.views.cases import user_of
from federation import page_selectors, selectors
from federation.forms.members import ReasonForm
from federation.models import Round
from federation.permissions import require_hospital
from federation.services import receipts
from federation.services.approval_facts import own_answer
from federation.views.common import look, round_or_404
from federation.views.curve_figures import curve_figures


@login_required
@require_GET
def round_list(request: HttpRequest) -> HttpResponse:
    """All rounds, newest first."""
    look(request)
    page = Paginator(selectors.rounds(), 25).get_page(request.GET.get("page"))
    return render(request, "federation/rounds.html", {"page": page})


@login_required
@require_GET
def round_page(request: HttpRequest, number: int) -> HttpResponse:
    """One round: how far it is, who takes part, this site's own curves and figures, what comes next."""
    look(request)
    round_ = round_or_404(number)
    page = _live(request, round_, still="still" in request.GET)
    page |= {
        "approval": selectors.approval_of(round_), "own_answer": own_answer(round_),
        "model": selectors.published_models().filter(round=round_).first(),
        "may": page_selectors.own_choices(round_), "words": page_selectors.plan_of(round_),
        "withdraw_form": ReasonForm(prefix="withdraw"), "stop_form": ReasonForm(prefix="stop"),
        "found": selectors.federation_overview(),
    }  # fmt: skip
    return render(request, "federation/round.html", page)


@login_required
@require_GET
def round_live(request: HttpRequest, number: int) -> HttpResponse:
    """The part that changes while a round runs; 204 while it is still what the page shows."""
    look(request)
    page = _live(request, round_or_404(number), still=False)
    if page["seen"] == request.GET.get("seen"):
        return HttpResponse(status=204)
    return render(request, "federation/parts/live.html", page)


def _live(request: HttpRequest, round_: Round, *, still: bool) -> dict[str, Any]:
    """Context of the live part, rendered once: `seen` is the hash of what it shows."""
    timeline = selectors.round_timeline(round_)
    page: dict[str, Any] = {"round": round_, "timeline": timeline, "still": still}
    page |= {"figures": curve_figures(selectors.curves(round_)), "validation": selectors.validation(round_)}
    page["inner"] = render_to_string("federation/parts/live_inner.html", page, request)
    page["seen"] = hashlib.sha256(page["inner"].encode()).hexdigest()[:16]
    return page


@login_required
@require_GET
def receipt(request: HttpRequest, number: int) -> HttpResponse:
    """The receipt of this hospital's answer, as PDF."""
    look(request)
    require_hospital()
    approval = selectors.approval_of(round_or_404(number))
    if approval is None:
        raise Http404(_("This hospital has not answered this round."))
    made = receipts.receipt_pdf(user=user_of(request), approval=approval)
    response = HttpResponse(made, content_type="application/pdf")
    response["Content-Disposition"] = f'attachment; filename="round-{number}-receipt.pdf"'
    return response

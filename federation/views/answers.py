"""The approval page and this hospital's answers."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from diagnosis.views.cases import user_of
from federation import page_selectors
from federation.forms.members import DeclineForm, ReasonForm
from federation.forms.rounds import ApproveForm
from federation.models import Round
from federation.permissions import can, require, require_hospital
from federation.services import approvals
from federation.views.common import answer, did, look, round_or_404


@login_required
@require_GET
def round_answer(request: HttpRequest, number: int) -> HttpResponse:
    """What is asked, what leaves, what never does, who could learn what; below it the answer."""
    look(request)
    require_hospital()
    return _page(request, round_or_404(number))


def _page(
    request: HttpRequest,
    round_: Round,
    *,
    approve: ApproveForm | None = None,
    decline: DeclineForm | None = None,
) -> HttpResponse:
    facts = approvals.approval_facts(round_)
    page: dict[str, Any] = {
        "round": round_, "facts": facts, "plan_words": page_selectors.plan_of(round_),
        "peer_pks": page_selectors.peer_pks(),
    }  # fmt: skip
    if can(request.user, "round.answer"):
        start = {"plan_sha256": facts.plan_sha256}
        page["approve"] = approve or ApproveForm(initial=start, user=user_of(request))
        page["decline"] = decline or DeclineForm(prefix="decline")
        page["said_no"] = decline is not None
    return answer(request, "answer.html", page, approve or decline)


@login_required
@require_POST
def round_approve(request: HttpRequest, number: int) -> HttpResponse:
    """Yes, to the plan with the hash that the page showed, with the current code of the second factor."""
    require(request.user, "round.answer")
    require_hospital()
    round_ = round_or_404(number)
    form = ApproveForm(request.POST, user=user_of(request))

    def approve(data: dict[str, str]) -> None:
        approvals.round_approve(user=user_of(request), round_=round_, plan_sha256=data["plan_sha256"])

    if did(form, approve):
        messages.success(request, _("Approved and signed. The receipt is on this page."))
        return redirect("federation:round_page", number=number)
    return _page(request, round_, approve=form)


@login_required
@require_POST
def round_decline(request: HttpRequest, number: int) -> HttpResponse:
    """No, with a reason."""
    require(request.user, "round.answer")
    require_hospital()
    round_, form = round_or_404(number), DeclineForm(request.POST, prefix="decline")

    def decline(data: dict[str, str]) -> None:
        approvals.round_decline(user=user_of(request), round_=round_, reason=data["reason"])

    if did(form, decline):
        messages.success(request, _("Declined. This hospital takes no part in the round."))
        return redirect("federation:round_page", number=number)
    return _page(request, round_, decline=form)


@login_required
@require_POST
def round_withdraw(request: HttpRequest, number: int) -> HttpResponse:
    """Take a yes back, as long as the masked update has not been made."""
    done = _("Taken back. This hospital takes no further part in the round.")
    return _end(request, number, "withdraw", "round.answer", approvals.round_withdraw, done)


@login_required
@require_POST
def round_stop(request: HttpRequest, number: int) -> HttpResponse:
    """End a round that this hospital proposed."""
    done = _("The round ends as soon as the coordinator has taken the message up.")
    return _end(request, number, "stop", "round.propose", approvals.round_stop, done)


def _end(
    request: HttpRequest, number: int, prefix: str, action: str, service: Any, done: str
) -> HttpResponse:
    require(request.user, action)
    require_hospital()
    round_, form = round_or_404(number), ReasonForm(request.POST, prefix=prefix)
    if did(form, lambda data: service(user=user_of(request), round_=round_, reason=data["reason"])):
        messages.success(request, done)
    else:
        messages.error(request, _first_error(form))
    return redirect("federation:round_page", number=number)


def _first_error(form: forms.Form) -> str:
    return next(str(error) for errors in form.errors.values() for error in errors)

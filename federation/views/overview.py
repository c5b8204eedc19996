"""The federation's first page, for a hospital or for the coordinator, and the list that everybody follows."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from federation import page_selectors, selectors
from federation.forms.members import FoundForm, JoinForm
from federation.views.common import form_for, look

ROUNDS_SHOWN = 8


@login_required
@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """Where this site stands, what waits for its admin, members, rounds, models."""
    look(request)
    found = selectors.federation_overview()
    if found.membership is None:
        return _beginning(request)
    page: dict[str, Any] = {
        "found": found, "membership": found.membership, "members": page_selectors.members_shown(),
        "rounds": selectors.rounds()[:ROUNDS_SHOWN], "models": selectors.published_models(),
        "standing": page_selectors.membership_words(), "former": page_selectors.former_members(),
    }  # fmt: skip
    if found.is_coordinator:
        page["invitations"] = selectors.invitations().filter(used_by=None)
    return render(request, f"federation/{_first_page(found)}", page)


def _first_page(found: selectors.Overview) -> str:
    return "coordinator.html" if found.is_coordinator else "home.html"


def _beginning(request: HttpRequest) -> HttpResponse:
    """Before there is a federation: how to join one, or how to begin one."""
    if settings.SITE_ROLE == "coordinator":
        form = form_for(request, "coordinator.manage", FoundForm)
        return render(request, "federation/found.html", {"form": form})
    return render(request, "federation/join.html", {"form": form_for(request, "federation.manage", JoinForm)})


@login_required
@require_GET
def transcript(request: HttpRequest) -> HttpResponse:
    """Every entry in its place, newest first; two sites that show the same last hash follow the same list."""
    look(request)
    page = Paginator(page_selectors.transcript_links(), 50).get_page(request.GET.get("page"))
    return render(
        request, "federation/transcript.html", {"page": page, "found": selectors.federation_overview()}
    )

"""Doors that only a coordinator's site opens."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from diagnosis.views.cases import user_of
from federation import selectors
from federation.forms.members import BindingReasonForm, FoundForm, InvitationForm
from federation.permissions import require, require_coordinator
from federation.services import membership
from federation.views.common import answer, did, member_or_404


@login_required
@require_POST
def found(request: HttpRequest) -> HttpResponse:
    """Begin a federation."""
    require_coordinator()
    require(request.user, "coordinator.manage")
    form = FoundForm(request.POST)
    if did(form, lambda data: membership.federation_found(user=user_of(request), **data)):
        messages.success(request, _("The federation has begun. Invite its hospitals now."))
        return redirect("federation:home")
    return answer(request, "found.html", {"form": form}, form)


@login_required
@require_http_methods(["GET", "POST"])
def invitations(request: HttpRequest) -> HttpResponse:
    """Invitations; POST makes one and shows its code, once."""
    require_coordinator()
    require(request.user, "coordinator.manage")
    form, codes = InvitationForm(request.POST or None), list[str]()

    def invite(data: dict[str, str]) -> None:
        codes.append(membership.invitation_create(user=user_of(request), **data))

    did_it = request.method == "POST" and did(form, invite)
    shown = InvitationForm() if did_it else form
    page = {"form": shown, "codes": codes, "invitations": selectors.invitations()}
    return answer(request, "invitations.html", page, form)


@login_required
@require_http_methods(["GET", "POST"])
def site_remove(request: HttpRequest, pk: int) -> HttpResponse:
    """End a site's membership, everywhere."""
    require_coordinator()
    require(request.user, "coordinator.manage")
    peer = member_or_404(pk)
    form = BindingReasonForm(request.POST or None, user=user_of(request))

    def remove(data: dict[str, str]) -> None:
        membership.peer_remove(user=user_of(request), peer=peer, reason=data["reason"])

    if request.method == "POST" and did(form, remove):
        messages.success(request, _("%s is no member any more.") % peer.title)
        return redirect("federation:home")
    return answer(request, "remove.html", {"form": form, "peer": peer}, form)

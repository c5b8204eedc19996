"""Doors of membership: joining, comparing keys, a new key, leaving."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from diagnosis.views.cases import user_of
from federation import identity, page_selectors, selectors
from federation.forms.members import BindingReasonForm, ConfirmForm, FollowForm, JoinForm, ReasonForm
from federation.forms.second_factor import SecondFactorForm
from federation.models import Peer
from federation.permissions import can, require, require_hospital
from federation.services import alarms, membership
from federation.views.common import answer, did, look, member_or_404


@login_required
@require_POST
def join(request: HttpRequest) -> HttpResponse:
    """Join by an invitation's code."""
    require(request.user, "federation.manage")
    require_hospital()
    form = JoinForm(request.POST)
    if did(form, lambda data: membership.site_join(user=user_of(request), **data)):
        messages.success(request, _("This site has asked to be admitted. The page shows how it goes on."))
        return redirect("federation:home")
    return answer(request, "join.html", {"form": form}, form)


@login_required
@require_GET
def site_page(request: HttpRequest, pk: int) -> HttpResponse:
    """One member: its key, who has compared it, and the form to confirm it here."""
    look(request)
    return _site_page(request, member_or_404(pk))


def _site_page(
    request: HttpRequest,
    peer: Peer,
    *,
    form: ConfirmForm | None = None,
    reason_form: ReasonForm | None = None,
) -> HttpResponse:
    failed, member = form or reason_form, page_selectors.member_shown(peer)
    shown = identity.fingerprint(peer.public_key)
    if form is None and can(request.user, "federation.manage"):
        form = ConfirmForm(user=user_of(request), fingerprint=shown)
    page = {
        "peer": peer, "member": member, "fingerprint": shown, "form": form,
        "reason_form": reason_form or ReasonForm(), "said_no": reason_form is not None,
        "changed": page_selectors.earlier_confirmation(peer), "found": selectors.federation_overview(),
    }  # fmt: skip
    return answer(request, "site.html", page, failed)


@login_required
@require_POST
def site_confirm(request: HttpRequest, pk: int) -> HttpResponse:
    """Say that the fingerprint heard over the telephone is the one shown here."""
    require(request.user, "federation.manage")
    require_hospital()
    peer = member_or_404(pk)
    shown = identity.fingerprint(peer.public_key)
    form = ConfirmForm(request.POST, user=user_of(request), fingerprint=shown)

    def confirm(data: dict[str, str]) -> None:
        membership.peer_confirm(user=user_of(request), peer=peer, fingerprint=shown[:-9] + data["heard"])

    if did(form, confirm):
        messages.success(request, _("Confirmed. The key of %s counts here from now on.") % peer.title)
        return redirect("federation:home")
    return _site_page(request, peer, form=form)


@login_required
@require_POST
def site_unconfirm(request: HttpRequest, pk: int) -> HttpResponse:
    """Trust this key no longer."""
    require(request.user, "federation.manage")
    require_hospital()
    peer, form = member_or_404(pk), ReasonForm(request.POST)
    if did(form, lambda data: membership.peer_unconfirm(user=user_of(request), peer=peer, **data)):
        messages.success(request, _("Taken back. This key counts here no longer."))
        return redirect("federation:site_page", pk=pk)
    return _site_page(request, peer, reason_form=form)


@login_required
@require_http_methods(["GET", "POST"])
def leave(request: HttpRequest) -> HttpResponse:
    """Leave the federation, after reading what stays."""
    require(request.user, "federation.manage")
    require_hospital()
    form = BindingReasonForm(request.POST or None, user=user_of(request))

    def go(data: dict[str, str]) -> None:
        membership.site_leave(user=user_of(request), reason=data["reason"])

    if request.method == "POST" and did(form, go):
        messages.success(request, _("This site has left the federation."))
        return redirect("federation:home")
    return answer(request, "leave.html", {"form": form, "found": selectors.federation_overview()}, form)


@login_required
@require_http_methods(["GET", "POST"])
def follow(request: HttpRequest) -> HttpResponse:
    """End the alarm, after comparing lists with other hospitals."""
    require(request.user, "federation.manage")
    require_hospital()
    form = FollowForm(request.POST or None, user=user_of(request))

    def go(data: dict[str, str]) -> None:
        alarms.alarm_end(user=user_of(request), reason=data["reason"])

    if request.method == "POST" and did(form, go):
        messages.success(request, _("This site follows the coordinator again."))
        return redirect("federation:home")
    return answer(request, "follow.html", {"form": form, "found": selectors.federation_overview()}, form)


@login_required
@require_http_methods(["GET", "POST"])
def key(request: HttpRequest) -> HttpResponse:
    """A new identity key, announced by the old one."""
    require(request.user, "federation.manage")
    require_hospital()
    form = SecondFactorForm(request.POST or None, user=user_of(request))
    if request.method == "POST" and did(form, lambda _data: membership.key_rotate(user=user_of(request))):
        messages.success(request, _("The new key is announced. Read out its fingerprint once it is in use."))
        return redirect("federation:home")
    return answer(request, "key.html", {"form": form, "found": selectors.federation_overview()}, form)

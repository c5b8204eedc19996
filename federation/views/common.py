"""What the console's doors share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from diagnosis.errors import ClinicError
from federation.models import Peer, Round
from federation.permissions import can, require

REFUSED = 400


def look(request: HttpRequest) -> None:
    """NotAllowed for everybody but site admins and auditors."""
    require(request.user, "federation.view")


def did(form: forms.Form, act: Callable[[dict[str, Any]], object]) -> bool:
    """Whether the form was in order and `act` did it. A refusal becomes the form's own error."""
    if not form.is_valid():
        return False
    try:
        act(form.cleaned_data)
    except ClinicError as error:
        form.add_error(None, str(error))
        return False
    return True


def answer(
    request: HttpRequest, template: str, page: dict[str, Any], form: forms.Form | None
) -> HttpResponse:
    """The page; with status 400 when it comes back because of `form`."""
    status = REFUSED if form is not None and form.is_bound and form.errors else 200
    return render(request, f"federation/{template}", page, status=status)


def form_for(request: HttpRequest, action: str, make: Callable[[], forms.Form]) -> forms.Form | None:
    """An empty form, or None for those who may look only: then the page says so instead."""
    return make() if can(request.user, action) else None


def round_or_404(number: int) -> Round:
    """The round of this number."""
    return get_object_or_404(Round.objects.select_related("proposer"), number=number)


def member_or_404(pk: int) -> Peer:
    """The site with this key."""
    return get_object_or_404(Peer, pk=pk)

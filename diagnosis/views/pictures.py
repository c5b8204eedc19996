"""Pictures of patients, opened for one view at a time: permission and consent are read at that moment, and
neither the browser nor anything between may keep what is sent (PatientPagesMiddleware sets no-store).
"""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_GET

from diagnosis import case_selectors
from diagnosis.forms.cases import CompareForm, number_of
from diagnosis.models import Syndrome
from diagnosis.services import composite as composite_service
from diagnosis.services import photo as photo_service
from diagnosis.views.cases import case_of, user_of
from diagnosis.views.photos import photo_of


@login_required
@require_GET
def photo_picture(request: HttpRequest, pk: int, kind: str) -> HttpResponse:
    """A photo of the user's own team: original, crop or thumb."""
    data, media = photo_service.photo_picture(user=user_of(request), photo=photo_of(request, pk), kind=kind)
    return picture_answer(data, media)


@login_required
@require_GET
def gallery_picture(request: HttpRequest, pk: int) -> HttpResponse:
    """The aligned face of a gallery patient of this hospital."""
    data, media = composite_service.gallery_crop(user=user_of(request), photo=pk)
    return picture_answer(data, media)


@login_required
@require_GET
def composite_picture(request: HttpRequest, pk: int) -> HttpResponse:
    """The mean face of a syndrome, made for this view; `case` names the patient who is left out."""
    syndrome = get_object_or_404(Syndrome, pk=pk)
    named = number_of(request.GET.get("case", ""))
    leave_out = case_of(request, named).patient if named is not None else None
    faces = CompareForm(request.GET, ancestries=case_selectors.ancestries_known()).faces()
    made = composite_service.composite_make(
        user=user_of(request), syndrome=syndrome, faces=faces, leave_out=leave_out
    )
    return picture_answer(composite_service.picture_png(made.pixels), "image/png")


def picture_answer(data: bytes, media: str) -> HttpResponse:
    """The bytes, shown in place and never guessed at."""
    response = HttpResponse(data, content_type=media)
    response["Content-Disposition"] = "inline"
    response["Cache-Control"] = "no-store, private"
    response["Cross-Origin-Resource-Policy"] = "same-origin"
    return response

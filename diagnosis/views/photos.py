"""Doors of the photos: add, run again with other landmarks or another face, remove."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST

from diagnosis.errors import ClinicError
from diagnosis.forms.cases import face_of, landmarks_of, uploads_of
from diagnosis.models import Photo
from diagnosis.permissions import require, visible_to
from diagnosis.services import photo as photo_service
from diagnosis.views.cases import case_of, user_of


def photo_of(request: HttpRequest, pk: int) -> Photo:
    """The photo, or 404 for one that this user may not know of."""
    photos = visible_to(user_of(request), Photo.objects.all())
    found: Photo = get_object_or_404(photos.select_related("case", "patient"), pk=pk)
    return found


@login_required
@require_POST
def photo_new(request: HttpRequest, pk: int) -> HttpResponse:
    """Take in one or several photos; those that cannot be used are named with a remedy, the others stay."""
    case = case_of(request, pk)
    require(user_of(request), "photo.add", case)
    try:
        uploads = uploads_of(request)
    except ClinicError as error:
        messages.error(request, str(error))
        return redirect("clinic:case_page", pk=pk)
    added: list[Photo] = []
    for number, upload in enumerate(uploads, start=1):
        try:
            photo = photo_service.photo_add(
                user=user_of(request), case=case, data=upload.data, age_months=upload.age_months
            )
            added.append(photo)
        except ClinicError as error:
            which = _("Photo %(number)d of %(all)d: ") % {"number": number, "all": len(uploads)}
            messages.error(request, (which if len(uploads) > 1 else "") + str(error))
    if added:
        one, several = "%d photo added; its analysis has begun.", "%d photos added; their analysis has begun."
        messages.success(request, ngettext(one, several, len(added)) % len(added))
    return _to_photo(added[-1]) if added else redirect("clinic:case_page", pk=pk)


@login_required
@require_POST
def photo_correct(request: HttpRequest, pk: int) -> HttpResponse:
    """Run a photo again: with landmarks placed by hand, with another of its faces, or as it is."""
    photo = photo_of(request, pk)
    try:
        photo_service.photo_correct(
            user=user_of(request), photo=photo, landmarks=landmarks_of(request), face_choice=face_of(request)
        )
        messages.success(request, _("The photo is being analysed again."))
    except ClinicError as error:
        messages.error(request, str(error))
    return _to_photo(photo)


@login_required
@require_POST
def photo_remove(request: HttpRequest, pk: int) -> HttpResponse:
    """Erase one photo with all that was made of it."""
    photo = photo_of(request, pk)
    case = photo.case_id
    photo_service.photo_remove(user=user_of(request), photo=photo)
    messages.success(request, _("The photo and all that was made of it are erased."))
    return redirect("clinic:case_page", pk=case)


def _to_photo(photo: Photo) -> HttpResponse:
    address = reverse("clinic:case_page", args=[photo.case_id])
    return redirect(f"{address}?photo={photo.pk}")

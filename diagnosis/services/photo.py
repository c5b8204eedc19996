"""Photos: taken in, shown, corrected, removed. Each use asks consent at that moment.

An upload has two transactions around the writing of its file. The first makes the row with the data key
and the file's name, so that whatever a crash leaves behind can be found and erased; the second, after the
sealed file is on disk, gives the row its fingerprint and enqueues the analysis.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

import numpy as np
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from diagnosis import jobs, outbox, pictures, selectors, vault
from diagnosis.errors import ConsentMissing, Duplicate, InvalidInput, NotReady, Unreadable
from diagnosis.models import (
    Case,
    Patient,
    Photo,
    RankingRecord,
    Tier,
    User,
    Verdict,
    patients_allowing,
)
from diagnosis.permissions import require
from diagnosis.phenotype.types import PixelArray
from diagnosis.services.audit import audit
from diagnosis.services.erasure import patient_hold_all, photos_erase
from diagnosis.services.ledger import ledger_note
from diagnosis.services.ranking_request import ranking_request_rest
from diagnosis.services.transitions import move
from diagnosis.states import IllegalMove

MAX_AGE_MONTHS: Final = 120 * 12
ABANDONED_AFTER: Final = dt.timedelta(hours=1)
KINDS: Final = ("original", "crop", "thumb")


# --- consent at the moment of use ------------------------------------------------------------------


def patient_hold(patient: int) -> None:
    """Lock the patient's row until the transaction ends and make sure that analysis is allowed.

    A withdrawal takes the same lock, so it comes either before (ConsentMissing) or after what follows.
    """
    Patient.objects.select_for_update().filter(pk=patient).first()
    consent_require(patient)


def consent_require(patient: int) -> None:
    """ConsentMissing unless the patient allows the analysis at this moment."""
    if not patients_allowing(Tier.ANALYSIS).filter(pk=patient).exists():
        raise ConsentMissing(
            "This patient has not agreed to the analysis of photos here, or has withdrawn. "
            "Take consent under Patients first."
        )


def _allowed_now(photo: Photo) -> None:
    if not selectors.for_analysis().filter(pk=photo.pk).exists():
        raise ConsentMissing("This photo may not be used: consent is missing or was withdrawn.")


# --- taking in -------------------------------------------------------------------------------------


def photo_add(*, user: User, case: Case, data: bytes, age_months: int | None = None) -> Photo:
    """Take in one photo of the case's patient and enqueue its analysis.

    Raises InvalidInput with a remedy for a file that is no usable photo, Duplicate naming the photo that
    is the same picture, ConsentMissing, NotAllowed.
    """
    require(user, "photo.add", case)
    if case.state == "withdrawn":
        raise ConsentMissing("The patient has withdrawn; this case is closed.")
    if age_months is not None and not 0 <= age_months <= MAX_AGE_MONTHS:
        raise InvalidInput("The age at the photo must lie between 0 months and 120 years.")
    consent_require(case.patient_id)  # before the picture is opened; again under the lock before it is kept
    pixels = pictures.read_picture(data, max_bytes=settings.UPLOAD_MAX_BYTES).pixels
    fingerprint = photo_fingerprint(case.patient_id, pixels)
    photo = _row_first(user, case, pixels, age_months, fingerprint)
    try:
        vault.create_key(photo.key)
        sealed = pictures.encode_picture(pixels)
        vault.blob_write(photo.key, sealed, purpose="original", name=photo.original)
        _take_in(user, case, photo, fingerprint)
    except BaseException:
        photos_erase(photos=[photo], reason="upload failed")
        raise
    return photo


def photo_fingerprint(patient: int, pixels: PixelArray) -> str:
    """Hex HMAC of the decoded pixels under a key of this patient's own: equal photos of two patients do
    not have equal fingerprints."""
    shape = f"{pixels.shape[1]}x{pixels.shape[0]}|".encode()
    return vault.keyed_hash(f"photo-fingerprint/{patient}", shape + pixels.tobytes())


def _row_first(user: User, case: Case, pixels: PixelArray, age_months: int | None, fingerprint: str) -> Photo:
    with transaction.atomic():
        patient_hold(case.patient_id)
        _require_new(case.patient_id, fingerprint)
        return Photo.objects.create(
            case=case, patient_id=case.patient_id, original=vault.blob_name("original"),
            width=pixels.shape[1], height=pixels.shape[0], age_months=age_months, uploaded_by=user,
        )  # fmt: skip


def _require_new(patient: int, fingerprint: str) -> None:
    same = Photo.objects.filter(patient=patient, fingerprint=fingerprint).first()
    if same is not None:
        raise Duplicate(
            f"This is the same picture as photo {same.pk} of {same.uploaded_at:%Y-%m-%d} in case "
            f"{same.case_id}. Nothing was added."
        )


def _take_in(user: User, case: Case, photo: Photo, fingerprint: str) -> None:
    with transaction.atomic():
        patient_hold(photo.patient_id)
        _require_new(photo.patient_id, fingerprint)
        photo.fingerprint = fingerprint
        photo.save(update_fields=["fingerprint"])
        move(case, "photo_added", actor=user)
        audit(actor=user, action="photo.added", subject=f"photo:{photo.pk}", case=case.pk)
        jobs.enqueue(kind="analyse_photo", subject=photo.pk, key=f"analyse_photo:{photo.pk}")


# --- correcting ------------------------------------------------------------------------------------


def photo_correct(
    *, user: User, photo: Photo, landmarks: Any | None = None, face_choice: int | None = None
) -> Photo:
    """Analyse again with landmarks (5, 2) px placed by hand, or with one of the faces found, or as it is.

    The photo's embedding is dropped at once; it comes back with the new analysis.
    """
    require(user, "photo.correct", photo)
    _allowed_now(photo)
    fields: dict[str, Any] = {"landmarks": None, "landmarks_by": None, "face_choice": None, "refusal": None}
    if landmarks is not None:
        fields |= {"landmarks": _checked_landmarks(photo, landmarks), "landmarks_by": user}
    elif face_choice is not None:
        fields["face_choice"] = _checked_choice(photo, face_choice)
    with transaction.atomic():
        patient_hold(photo.patient_id)
        try:
            move(photo, "rerun", actor=user, **fields)
        except IllegalMove:
            raise NotReady("This photo is being analysed just now. Wait until it is done.") from None
        photo.embeddings.all().delete()
        jobs.enqueue(kind="analyse_photo", subject=photo.pk, key=f"analyse_photo:{photo.pk}")
    return photo


def _checked_landmarks(photo: Photo, landmarks: Any) -> list[list[float]]:
    from diagnosis.phenotype.errors import PhotoRefused
    from diagnosis.phenotype.face.align import check_landmarks

    try:
        points = np.asarray(landmarks, dtype=np.float64)
        check_landmarks(points, photo.width, photo.height)
    except PhotoRefused as refused:
        raise InvalidInput(str(refused)) from None
    except (TypeError, ValueError):
        raise InvalidInput("Five landmarks are needed, each with x and y. Place all five.") from None
    return [[float(x), float(y)] for x, y in points]


def _checked_choice(photo: Photo, face_choice: int) -> int:
    if not 0 <= face_choice < len(photo.faces):
        raise InvalidInput("Choose one of the faces shown in the photo.")
    return face_choice


# --- removing --------------------------------------------------------------------------------------


def photo_remove(*, user: User, photo: Photo) -> None:
    """Erase one photo with everything derived from it: lists made with it and the words on their rows, too.

    The case is ranked anew from the photos that remain; without a list it is open again.
    """
    require(user, "photo.remove", photo)
    case, patient = photo.case, photo.patient
    with transaction.atomic():
        patient_hold_all(Patient.objects.select_for_update().get(pk=patient.pk))
        in_gallery = selectors.for_gallery().filter(pk=photo.pk).exists()
        audit(actor=user, action="photo.removed", subject=f"photo:{photo.pk}", case=case.pk)
        ledger_note(patient=patient, kind="photo.removed", photo=photo.pk)
        if in_gallery:
            outbox.publish("gallery.changed", f"patient:{patient.pk}", reason="photo.removed")
        _lists_erase(user, case, photo.pk)
        ranking_request_rest(case=case.pk, without=photo.pk)
        photos_erase(photos=[photo], reason="photo removed")


def _lists_erase(user: User, case: Case, photo: int) -> None:
    """Erase the case's lists that the photo took part in. The audit chain keeps how many there were."""
    made = RankingRecord.objects.filter(case=case).values_list("pk", "photos")
    lists = [pk for pk, photos in made if photo in photos]
    if not lists:
        return
    words = Verdict.objects.filter(ranking__in=lists).erase()
    RankingRecord.objects.filter(pk__in=lists).erase()
    audit(actor=user, action="case.lists_erased", subject=f"case:{case.pk}", lists=len(lists),
          verdicts=words)  # fmt: skip
    case.refresh_from_db()
    if case.state == "ranked" and not RankingRecord.objects.filter(case=case).exists():
        move(case, "list_erased", actor=user)


def abandoned_discard() -> int:
    """Remove uploads that a crash cut off before they were taken in. The sweep calls this."""
    since = timezone.now() - ABANDONED_AFTER
    abandoned = Photo.objects.filter(fingerprint="", state="received", uploaded_at__lt=since)
    return photos_erase(photos=abandoned, reason="upload abandoned") if abandoned.exists() else 0


# --- showing ---------------------------------------------------------------------------------------


def photo_picture(*, user: User, photo: Photo, kind: str) -> tuple[bytes, str]:
    """(bytes, content type) of the stored original, the aligned crop or a thumbnail, if allowed now."""
    require(user, "photo.view", photo)
    _allowed_now(photo)
    if kind not in KINDS:
        raise InvalidInput(f"A picture is one of {', '.join(KINDS)}.")
    if kind == "crop":
        if photo.state not in ("ready", "refused") or not photo.crop:
            raise NotReady("There is no aligned face of this photo yet.")
        return vault.blob_read(photo.key, photo.crop, purpose="crop"), "image/png"
    original = photo_original(photo)
    return (pictures.thumbnail(original) if kind == "thumb" else original), "image/jpeg"


def photo_original(photo: Photo) -> bytes:
    """The stored JPEG. The caller has asked consent; Unreadable after erasure."""
    if not photo.fingerprint:
        raise Unreadable("This photo was not taken in completely. Upload it again.")
    return vault.blob_read(photo.key, photo.original, purpose="original")

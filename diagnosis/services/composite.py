"""Gallery faces as clinicians may see them: single look-alikes, and the mean face of a syndrome.

A composite is computed when it is asked for and never stored. It is made of this hospital's consented
gallery alone, from at least MIN_PATIENTS patients: a mean of few faces still shows each of them.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from diagnosis import vault
from diagnosis.case_selectors import FaceFilter, composite_photos
from diagnosis.errors import InvalidInput, Unreadable
from diagnosis.models import Patient, Photo, Syndrome, User
from diagnosis.permissions import require
from diagnosis.selectors import for_gallery
from diagnosis.services.seen import gallery_face_shown

MIN_PATIENTS = 5
SIDE = 112

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Composite:
    """pixels (112, 112, 3) uint8 RGB on the alignment template; patients is how many faces were averaged."""

    pixels: Pixels
    patients: int


def gallery_crop(*, user: User, photo: int) -> tuple[bytes, str]:
    """The aligned crop of a gallery photo and its media type, if it may stand in the gallery now.

    The patient's ledger and the audit chain keep that it was shown. Raises NotAllowed by role, Unreadable for
    a photo that is not, or no longer, in the gallery.
    """
    require(user, "gallery.view")
    row = for_gallery().filter(pk=photo).first()
    if row is None:
        raise Unreadable("This picture is not in the gallery any more.")
    crop = _sealed_crop(row)
    gallery_face_shown(user=user, photo=row)
    return crop, "image/png"


def composite_make(
    *, user: User, syndrome: Syndrome, faces: FaceFilter, leave_out: Patient | None
) -> Composite:
    """The mean aligned face of the syndrome's gallery patients, one crop each, in colour.

    Raises InvalidInput below MIN_PATIENTS patients after the filter, `leave_out` not counted.
    """
    require(user, "gallery.view")
    photos = composite_photos(syndrome, faces, leave_out)
    if len(photos) < MIN_PATIENTS:
        raise InvalidInput(composite_refusal(len(photos)))
    crops = [crop_pixels(_sealed_crop(photo)) for photo in photos]
    return Composite(mean_face(crops), len(crops))


def composite_refusal(patients: int) -> str:
    """Why there is no composite of so few patients."""
    return (
        f"A composite is shown from {MIN_PATIENTS} consented patients of this hospital on, because the mean "
        f"of few faces still shows each of them. Here there are {patients}."
    )


def mean_face(crops: Iterable[Pixels]) -> Pixels:
    """The mean (112, 112, 3) uint8 of crops of that shape, summed in whole numbers, rounded half up."""
    total = np.zeros((SIDE, SIDE, 3), dtype=np.int64)
    count = 0
    for crop in crops:
        total += crop
        count += 1
    mean: Pixels = ((2 * total + count) // (2 * count)).astype(np.uint8)
    return mean


def crop_pixels(data: bytes) -> Pixels:
    """(112, 112, 3) uint8 RGB of a stored crop."""
    with Image.open(io.BytesIO(data)) as picture:
        pixels: Pixels = np.asarray(picture.convert("RGB"), dtype=np.uint8)
    if pixels.shape != (SIDE, SIDE, 3):
        raise Unreadable("A stored crop has another size. Run the photo again.")
    return pixels


def picture_png(pixels: Pixels) -> bytes:
    """A PNG of pixels (H, W, 3) uint8."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def _sealed_crop(photo: Photo) -> bytes:
    return vault.blob_read(photo.key, photo.crop, purpose="crop")

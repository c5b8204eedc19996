"""The mean face: equal to the slow mean, made of one crop per consenting patient, refused below five."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diagnosis import vault
from diagnosis.case_selectors import FaceFilter, composite_photos
from diagnosis.errors import InvalidInput, NotAllowed, Unreadable
from diagnosis.models import Photo, Team
from diagnosis.services.composite import (
    MIN_PATIENTS,
    composite_make,
    crop_pixels,
    gallery_crop,
    mean_face,
)


@pytest.fixture
def clinician(make_user: Any, team: Any) -> Any:
    return make_user(roles={"geneticist"}, team=team)


def slow_mean(crops: list[np.ndarray]) -> np.ndarray:
    """Pixel by pixel in whole numbers, half rounded up."""
    out = np.zeros((112, 112, 3), dtype=np.uint8)
    for y in range(112):
        for x in range(112):
            for c in range(3):
                total = sum(int(crop[y, x, c]) for crop in crops)
                whole, rest = divmod(total, len(crops))
                out[y, x, c] = whole + (1 if 2 * rest >= len(crops) else 0)
    return out


def test_the_mean_equals_the_slow_mean() -> None:
    random = np.random.default_rng(7)
    for count in (5, 8):
        crops = [random.integers(0, 256, (112, 112, 3), dtype=np.uint8) for _ in range(count)]
        assert np.array_equal(mean_face(crops), slow_mean(crops))


def test_one_crop_per_patient_the_best_one(clinician: Any, catalogue: Any, make_gallery_patient: Any) -> None:
    patients = [make_gallery_patient(catalogue[0], photos=2) for _ in range(MIN_PATIENTS)]
    for patient in patients:
        first = patient.photos.order_by("id").first()
        Photo.objects.filter(pk=first.pk).update(quality=0.99)
    used = composite_photos(catalogue[0], FaceFilter(), None)
    assert [photo.pk for photo in used] == [p.photos.order_by("id").first().pk for p in patients]
    made = composite_make(user=clinician, syndrome=catalogue[0], faces=FaceFilter(), leave_out=None)
    crops = [crop_pixels(vault.blob_read(photo.key, photo.crop, purpose="crop")) for photo in used]
    assert made.patients == MIN_PATIENTS and np.array_equal(made.pixels, slow_mean(crops))


def test_refused_below_five_patients_whatever_makes_them_few(
    clinician: Any, catalogue: Any, make_gallery_patient: Any, sign: Any
) -> None:
    few = [make_gallery_patient(catalogue[1], photos=3) for _ in range(MIN_PATIENTS - 1)]
    call = {"user": clinician, "syndrome": catalogue[1]}
    with pytest.raises(InvalidInput, match="Here there are 4"):
        composite_make(**call, faces=FaceFilter(), leave_out=None)
    make_gallery_patient(catalogue[1], tiers=("analysis",))  # no consent to the gallery: does not count
    with pytest.raises(InvalidInput):
        composite_make(**call, faces=FaceFilter(), leave_out=None)
    fifth = make_gallery_patient(catalogue[1], sex="female")
    assert composite_make(**call, faces=FaceFilter(), leave_out=None).patients == 5
    with pytest.raises(InvalidInput):  # the patient who is looked at is not compared with herself
        composite_make(**call, faces=FaceFilter(), leave_out=fifth)
    with pytest.raises(InvalidInput, match="Here there are 1"):
        composite_make(**call, faces=FaceFilter(sex="female"), leave_out=None)
    sign(few[0], {"analysis"})  # takes back the gallery tier
    with pytest.raises(InvalidInput, match="Here there are 4"):
        composite_make(**call, faces=FaceFilter(), leave_out=None)


def test_age_bands_have_no_gap_and_no_overlap(catalogue: Any, make_gallery_patient: Any) -> None:
    ages = {"0-1": [0, 23], "2-5": [24, 71], "6-11": [72, 143], "12-17": [144, 215], "18+": [216, 1000]}
    for months in sum(ages.values(), []):
        make_gallery_patient(catalogue[2], age_months=months)
    make_gallery_patient(catalogue[2], age_months=None)
    for band, expected in ages.items():
        found = composite_photos(catalogue[2], FaceFilter(age=band), None)
        assert [photo.age_months for photo in found] == expected
    assert len(composite_photos(catalogue[2], FaceFilter(), None)) == 11


def test_look_alikes_of_other_teams_are_shown_until_consent_ends(
    clinician: Any, make_user: Any, catalogue: Any, make_gallery_patient: Any, sign: Any
) -> None:
    elsewhere = Team.objects.create(name="Elsewhere")
    patient = make_gallery_patient(catalogue[0], team=elsewhere)
    photo = patient.photos.get()
    data, media = gallery_crop(user=clinician, photo=photo.pk)
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.size == (112, 112) and media == "image/png"
    with pytest.raises(NotAllowed):
        gallery_crop(user=make_user(roles={"intake", "site_admin", "auditor"}), photo=photo.pk)
    sign(patient, {"analysis"})
    with pytest.raises(Unreadable):
        gallery_crop(user=clinician, photo=photo.pk)

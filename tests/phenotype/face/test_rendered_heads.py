"""The gate on rendered heads, whose pose is known: what the limits for turned heads rest on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from diagnosis.phenotype.face.detect import FaceDetector
from diagnosis.phenotype.face.find import FoundFace, find_face

PEOPLE = 24

pytestmark = pytest.mark.slow  # needs the extra `synthetic` and, the first time, its head to be built


def rendered(detector: FaceDetector, yaw: float | None) -> list[tuple[FoundFace, float]]:
    """PEOPLE photos at ± yaw, or at the generator's own poses: what was found, and the true yaw."""
    pytest.importorskip("anny")
    from diagnosis.synthetic.people import draw_person, draw_syndrome
    from diagnosis.synthetic.photos import draw_photo
    from diagnosis.synthetic.render import render_many

    people = [draw_person(77001, n, draw_syndrome(6000 + n % 40) if n % 2 else None) for n in range(PEOPLE)]
    photos = [draw_photo(person, 0, 6.0 + (n * 7) % 50) for n, person in enumerate(people)]
    if yaw is not None:
        turned = [yaw * (1 if n % 2 else -1) for n in range(PEOPLE)]
        photos = [
            dataclasses.replace(photo, yaw=angle, pitch=0.0)
            for photo, angle in zip(photos, turned, strict=True)
        ]
    pictures = render_many(zip(people, photos, strict=True), size=256)
    return [
        (find_face(picture.pixels, detector=detector), photo.yaw)
        for picture, photo in zip(pictures, photos, strict=True)
    ]


def warned(found: FoundFace) -> bool:
    return found.quality is not None and "turned_away" in {w.code for w in found.quality.warnings}


def test_ordinary_synthetic_photos_pass_without_a_word(detector: FaceDetector) -> None:
    results = rendered(detector, None)
    assert all(found.refusal is None for found, _ in results)
    assert sum(bool(found.quality and found.quality.warnings) for found, _ in results) <= 1
    estimates = [found.quality.measures["yaw_degrees"] for found, _ in results if found.quality]
    assert np.corrcoef(estimates, [truth for _, truth in results])[0, 1] > 0.93


@pytest.mark.parametrize(
    ("yaw", "least_warned", "most_warned", "least_refused", "most_refused"),
    [(15, 0, 1, 0, 0), (35, 20, PEOPLE, 0, 2), (60, 0, PEOPLE, 18, PEOPLE)],
)
def test_turned_heads_are_warned_of_and_then_refused(
    detector: FaceDetector,
    yaw: float,
    least_warned: int,
    most_warned: int,
    least_refused: int,
    most_refused: int,
) -> None:
    found = [result for result, _ in rendered(detector, yaw)]
    assert least_warned <= sum(warned(one) for one in found) <= most_warned
    assert least_refused <= sum(one.refusal is not None for one in found) <= most_refused

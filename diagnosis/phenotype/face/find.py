"""From one photo to the one face that will be ranked, or to the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from PIL import Image

from diagnosis.phenotype.errors import PhotoRefused
from diagnosis.phenotype.face.align import (
    align_face,
    check_landmarks,
    invert_transform,
    map_points,
    similarity_to_template,
)
from diagnosis.phenotype.face.detect import check_photo, shrink
from diagnosis.phenotype.face.quality import LIMITS, assess_quality, luma
from diagnosis.phenotype.face.sentences import REFUSALS, WARNINGS
from diagnosis.phenotype.types import (
    CROP_SIDE,
    AlignedFace,
    DetectedFace,
    FloatArray,
    PixelArray,
    Quality,
    Refusal,
)

DOMINANT_RATIO = 3.0
"""A face this many times as wide as every other is taken without asking; the others are background."""

_FLAT_RANGE = 100.0  # grey levels between the darkest and lightest 1 % of a photo: stretched up to here,
_BLANK_RANGE = 2.0  # and from here on
_LIGHTEST_SEEN = next(limit.refuse for limit in LIMITS if limit.code == "too_dark")


class Detector(Protocol):
    """Whatever finds faces; FaceDetector, or a stand-in."""

    def detect(self, photo: PixelArray) -> tuple[DetectedFace, ...]:
        """Faces in photo (H, W, 3) uint8 RGB, most prominent first."""
        ...


@dataclass(frozen=True)
class FoundFace:
    """All faces of a photo, which one is meant, its crop and quality, or why it cannot be ranked.

    chosen indexes faces. aligned and quality are there whenever a face could be aligned, even when its
    quality is the refusal, so that a page can show what was refused.
    """

    faces: tuple[DetectedFace, ...]
    chosen: int | None = None
    aligned: AlignedFace | None = None
    quality: Quality | None = None
    refusal: Refusal | None = None


def find_face(photo: PixelArray, *, choice: int | None = None, detector: Detector) -> FoundFace:
    """The face of photo (H, W, 3) uint8 RGB that will be ranked; refusals are data, not exceptions.

    choice indexes the faces as returned; without it the only face, or one that dominates the photo, is
    taken. Raises ValueError for an array of another shape or dtype.
    """
    check_photo(photo)
    faces = detector.detect(photo)
    if not faces:
        low, high = np.percentile(luma(shrink(photo)), [1, 99])
        faces = _detect_stretched(photo, float(low), float(high), detector)
        if not faces:
            return FoundFace((), refusal=_why_none(photo, float(high)))
    if choice is not None and not 0 <= choice < len(faces):
        return FoundFace(faces, refusal=REFUSALS["unknown_choice"])
    if choice is None and not _first_dominates(faces):
        return FoundFace(faces, refusal=REFUSALS["several_faces"])
    found = _align_and_assess(photo, faces, choice or 0)
    return _warn_of_others(found) if choice is None and len(faces) > 1 else found


def find_face_at(photo: PixelArray, landmarks: FloatArray) -> FoundFace:
    """The face of photo (H, W, 3) uint8 RGB whose landmarks (5, 2) px were placed by hand.

    Raises ValueError for arrays of another shape or dtype.
    """
    check_photo(photo)
    try:
        check_landmarks(landmarks, photo.shape[1], photo.shape[0])
    except PhotoRefused as refused:
        return FoundFace((), refusal=_as_refusal(refused))
    points = np.array(landmarks, dtype=np.float32)
    return _align_and_assess(photo, (DetectedFace(_box_around(points), points, 1.0),), 0)


def _align_and_assess(photo: PixelArray, faces: tuple[DetectedFace, ...], chosen: int) -> FoundFace:
    try:
        aligned = align_face(photo, faces[chosen].landmarks)
    except PhotoRefused as refused:
        return FoundFace(faces, chosen, refusal=_as_refusal(refused))
    quality = assess_quality(photo, faces[chosen], aligned)
    return FoundFace(faces, chosen, aligned, quality, quality.refusal)


def _detect_stretched(
    photo: PixelArray, low: float, high: float, detector: Detector
) -> tuple[DetectedFace, ...]:
    """Looks again with the grey levels low to high stretched to all 256, where there are few of them.

    So that the answer to a dark or hazy face is "too dark" or "hazy" rather than "no face".
    """
    if not _BLANK_RANGE <= high - low <= _FLAT_RANGE:
        return ()
    table = np.clip((np.arange(256) - low) * 255 / (high - low), 0, 255).astype(np.uint8)
    return detector.detect(np.asarray(Image.fromarray(photo).point(table.tolist() * 3)))


def _why_none(photo: PixelArray, lightest: float) -> Refusal:
    if min(photo.shape[:2]) < CROP_SIDE:  # smaller than the crop that its face would have to fill
        return REFUSALS["photo_too_small"]
    return REFUSALS["too_dark" if lightest <= _LIGHTEST_SEEN else "no_face"]


def _first_dominates(faces: tuple[DetectedFace, ...]) -> bool:
    return all(_width(faces[0]) >= DOMINANT_RATIO * _width(other) for other in faces[1:])


def _warn_of_others(found: FoundFace) -> FoundFace:
    if found.quality is None:
        return found
    quality = replace(found.quality, warnings=(WARNINGS["other_faces"], *found.quality.warnings))
    return replace(found, quality=quality)


def _width(face: DetectedFace) -> float:
    return float(face.box[2] - face.box[0])


def _box_around(landmarks: FloatArray) -> FloatArray:
    """The crop's footprint in the photo as an upright box (4,) px."""
    to_photo = invert_transform(similarity_to_template(landmarks))
    low, high = -0.5, CROP_SIDE - 0.5
    corners = map_points(to_photo, np.array([[low, low], [high, low], [low, high], [high, high]]))
    return np.concatenate([corners.min(axis=0), corners.max(axis=0)]).astype(np.float32)


def _as_refusal(refused: PhotoRefused) -> Refusal:
    return Refusal(refused.code, refused.sentence, refused.remedy)

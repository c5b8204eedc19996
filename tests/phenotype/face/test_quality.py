"""The gate on the astronaut, degraded step by step: each limit from both sides, the score monotone."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import skimage.data
import skimage.measure
from PIL import Image, ImageDraw, ImageFilter

from diagnosis.phenotype.face.align import align_face
from diagnosis.phenotype.face.detect import FaceDetector
from diagnosis.phenotype.face.find import find_face
from diagnosis.phenotype.face.pose import canonical_landmarks
from diagnosis.phenotype.face.quality import LIMITS, assess_quality, blur_effect, luma
from diagnosis.phenotype.face.sentences import REFUSALS, WARNINGS
from diagnosis.phenotype.types import AlignedFace, DetectedFace, PixelArray, Quality


def blurred(photo: PixelArray, sigma: float) -> PixelArray:
    return np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(sigma)))


def lit(photo: PixelArray, factor: float) -> PixelArray:
    return np.clip(photo * factor, 0, 255).astype(np.uint8)


def hazy(photo: PixelArray, left: float) -> PixelArray:
    return (photo * left + 153 * (1 - left)).astype(np.uint8)


def resized(photo: PixelArray, share: float) -> PixelArray:
    side = round(photo.shape[0] * share)
    return np.asarray(Image.fromarray(photo).resize((side, side), Image.Resampling.BICUBIC))


Degrade = Callable[[PixelArray, float], PixelArray]
LADDERS: dict[str, tuple[Degrade, tuple[float, ...]]] = {
    "blurred": (blurred, (0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 6)),
    "too_dark": (lit, (0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.05)),
    "too_bright": (lit, (1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8, 2.5)),
    "low_contrast": (hazy, (0.7, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05)),
    "too_small": (resized, (0.9, 0.75, 0.6, 0.5, 0.4, 0.3, 0.25, 0.2)),
}
# Code, degradation, last step without a word, a step that only warns, first step that refuses.
STEPS = [
    ("blurred", blurred, 1.5, 2.7, 4.0),
    ("too_dark", lit, 0.3, 0.2, 0.1),
    ("too_bright", lit, 1.2, 1.45, 1.7),
    ("low_contrast", hazy, 0.4, 0.2, 0.1),
    ("too_small", resized, 0.75, 0.45, 0.25),
]


def at_scale(face: DetectedFace, photo: PixelArray) -> DetectedFace:
    """The same face in a resized copy of the 512 px photo."""
    points = (face.landmarks + 0.5) * photo.shape[0] / 512 - 0.5
    return DetectedFace(face.box, points.astype(np.float32), face.probability)


def codes(quality: Quality) -> set[str]:
    return {warning.code for warning in quality.warnings}


def test_a_good_photo_passes_without_a_word(astronaut: PixelArray, astronaut_face: DetectedFace) -> None:
    quality = assess_quality(astronaut, astronaut_face)
    assert quality.refusal is None and quality.warnings == ()
    assert quality.score == pytest.approx(1.0, abs=0.02)
    assert quality.measures["eye_distance_px"] == pytest.approx(41, abs=4)
    assert quality.measures["probability"] == astronaut_face.probability


def test_a_given_crop_saves_the_warp_and_changes_nothing(
    astronaut: PixelArray, astronaut_face: DetectedFace
) -> None:
    aligned = align_face(astronaut, astronaut_face.landmarks)
    assert assess_quality(astronaut, astronaut_face, aligned) == assess_quality(astronaut, astronaut_face)


@pytest.mark.parametrize("code", LADDERS)
def test_the_score_falls_with_every_step_of_degradation(
    astronaut: PixelArray, astronaut_face: DetectedFace, code: str
) -> None:
    degrade, steps = LADDERS[code]
    copies = [astronaut, *(degrade(astronaut, step) for step in steps)]
    scores = [assess_quality(copy, at_scale(astronaut_face, copy)).score for copy in copies]
    assert all(0 <= score <= 1 for score in scores)
    assert all(later <= earlier for earlier, later in zip(scores, scores[1:], strict=False))
    assert scores[-1] == 0
    assert len({round(score, 3) for score in scores}) >= 5  # it falls by degrees, not at once


@pytest.mark.parametrize(("code", "degrade", "fine", "doubtful", "refused"), STEPS)
def test_each_limit_from_both_sides_as_detected(
    detector: FaceDetector,
    astronaut: PixelArray,
    code: str,
    degrade: Degrade,
    fine: float,
    doubtful: float,
    refused: float,
) -> None:
    """End to end: the landmarks are those that the detector finds in the degraded photo."""
    good, warned, bad = (
        find_face(degrade(astronaut, s), detector=detector) for s in (fine, doubtful, refused)
    )
    assert good.quality and good.refusal is None and code not in codes(good.quality)
    assert warned.quality and warned.refusal is None and code in codes(warned.quality)
    assert bad.refusal is not None and bad.refusal.code == code
    assert bad.quality and bad.quality.score == 0 and code not in codes(bad.quality)


def test_measured_shift_of_the_landmarks_behind_the_limits(
    detector: FaceDetector, astronaut: PixelArray, astronaut_face: DetectedFace
) -> None:
    """What the limits rest on: where nothing is said landmarks stay, at the refusal they have moved."""
    for code, degrade, fine, _, refused in STEPS:
        if code == "too_bright":
            continue  # refused for the skin that is lost, next test
        shifts = []
        for step in (fine, refused):
            copy = degrade(astronaut, step)
            faces = detector.detect(copy)
            eyes = 42 * copy.shape[0] / 512
            truth = at_scale(astronaut_face, copy).landmarks
            shifts.append(np.abs(faces[0].landmarks - truth).max() / eyes if faces else np.inf)
        assert shifts[0] < 0.12 < shifts[1], (code, shifts)


def test_too_bright_means_that_most_of_the_face_is_lost(
    astronaut: PixelArray, astronaut_face: DetectedFace
) -> None:
    crop = luma(align_face(lit(astronaut, 1.7), astronaut_face.landmarks).pixels)[34:106, 20:92]
    assert (crop >= 245).mean() > 0.6


def test_dark_skin_is_not_a_dark_photo(astronaut: PixelArray, astronaut_face: DetectedFace) -> None:
    """Reflectance scaled to a third, eyes and highlights kept: median level as in a photo × 0.36."""
    grey = luma(astronaut)[..., None]
    dark_skin = np.where(grey > 195, astronaut, astronaut * 0.36).astype(np.uint8)
    quality = assess_quality(dark_skin, astronaut_face)
    median = np.median(luma(align_face(dark_skin, astronaut_face.landmarks).pixels)[34:106, 20:92])
    assert median < 75
    assert quality.refusal is None and "too_dark" not in codes(quality)


@pytest.mark.parametrize("seed", range(6))
def test_blur_equals_scikit_images(seed: int, astronaut: PixelArray) -> None:
    rng = np.random.default_rng(seed)
    y, x = rng.integers(0, 400, 2)
    patch = luma(blurred(astronaut, seed / 2)[y : y + 72, x : x + 80])
    assert blur_effect(patch) == pytest.approx(skimage.measure.blur_effect(patch, h_size=11), abs=1e-9)


def test_blur_ignores_brightness_and_contrast(astronaut: PixelArray, astronaut_face: DetectedFace) -> None:
    crop = luma(align_face(astronaut, astronaut_face.landmarks).pixels)
    assert blur_effect(0.2 * crop + 40) == pytest.approx(blur_effect(crop), abs=1e-9)
    assert blur_effect(np.full((72, 72), 90.0)) == 1.0


def occluded(photo: PixelArray, paint: Callable[[ImageDraw.ImageDraw], None], noise: float) -> PixelArray:
    """photo under a painted cover that has a camera's noise, sigma in grey levels."""
    image = Image.fromarray(photo)
    paint(ImageDraw.Draw(image))
    covered = np.asarray(image)
    grain = np.random.default_rng(1).normal(0, noise, photo.shape) * (covered != photo).any(axis=2)[..., None]
    return np.clip(covered + grain, 0, 255).astype(np.uint8)


def ellipse(x: float, y: float, rx: float, ry: float, fill: tuple[int, int, int]) -> Callable[..., None]:
    return lambda draw: draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=fill)


SKIN, BLACK, PAPER = (205, 160, 135), (15, 15, 18), (170, 200, 220)
COVERS = {
    "hand on the left eye": (ellipse(205, 102, 14, 10, SKIN), {"eyes_covered"}),
    "patch on the right eye": (ellipse(247, 104, 14, 10, BLACK), {"eyes_covered"}),
    "bar over the eyes": (lambda d: d.rectangle((185, 92, 267, 114), fill=BLACK), {"eyes_covered"}),
    "sunglasses": (
        lambda d: [d.ellipse((x - 16, 93, x + 16, 115), fill=BLACK) for x in (205, 247)],
        {"eyes_covered"},
    ),
    "mask": (
        lambda d: d.polygon([(195, 124), (257, 126), (250, 166), (200, 164)], fill=PAPER),
        {"mouth_covered"},
    ),
    "hand on the mouth": (ellipse(224, 141, 30, 13, SKIN), {"mouth_covered"}),
}


@pytest.mark.parametrize("noise", [0.0, 3.0])
@pytest.mark.parametrize("cover", COVERS)
def test_covered_eyes_and_mouth_are_suspected(
    detector: FaceDetector, astronaut: PixelArray, cover: str, noise: float
) -> None:
    paint, expected = COVERS[cover]
    found = find_face(occluded(astronaut, paint, noise), detector=detector)
    assert found.quality is not None and found.refusal is None  # a suspicion never refuses
    assert codes(found.quality) & {"eyes_covered", "mouth_covered"} == expected


def test_uncovered_faces_are_not_suspected(detector: FaceDetector) -> None:
    """scikit-image's LFW subset: every second of its 100 grey faces of 25 × 25 px, much enlarged."""
    suspected = refused = seen = 0
    for face in skimage.data.lfw_subset()[:100:2]:
        grey = np.pad((face * 255).astype(np.uint8), 8, mode="edge")
        large = Image.fromarray(grey).resize((328, 328), Image.Resampling.BICUBIC)
        found = find_face(np.repeat(np.asarray(large)[..., None], 3, axis=2), detector=detector)
        seen += found.quality is not None
        refused += found.refusal is not None
        suspected += bool(found.quality and codes(found.quality) & {"eyes_covered", "mouth_covered"})
    assert seen == 50
    assert refused == 0 and suspected == 0


@pytest.mark.parametrize(
    ("yaw", "pitch", "refused", "warned"),
    [
        (10, 0, False, False),
        (30, 0, False, True),
        (-30, 0, False, True),
        (50, 0, True, False),
        (-50, 0, True, False),
        (0, 20, False, False),
        (0, -40, False, True),
        (0, 52, True, False),
    ],
)
def test_turned_heads(yaw: float, pitch: float, refused: bool, warned: bool) -> None:
    """Landmarks of a turned canonical face on pixels without any fault of their own."""
    crop = np.random.default_rng(0).integers(60, 200, (112, 112, 3), dtype=np.uint8)
    landmarks = (8.0 * canonical_landmarks(yaw, pitch) + 300).astype(np.float32)
    face = DetectedFace(np.zeros(4, np.float32), landmarks, 1.0)
    quality = assess_quality(np.zeros((600, 600, 3), np.uint8), face, AlignedFace(crop, landmarks))
    assert (quality.refusal is not None and quality.refusal.code == "turned_away") is refused
    assert ("turned_away" in codes(quality)) is warned


def test_score_falls_as_the_head_turns() -> None:
    crop = np.random.default_rng(0).integers(60, 200, (112, 112, 3), dtype=np.uint8)
    scores = []
    for yaw in range(0, 60, 5):
        landmarks = (8.0 * canonical_landmarks(yaw) + 300).astype(np.float32)
        face = DetectedFace(np.zeros(4, np.float32), landmarks, 1.0)
        scores.append(assess_quality(np.zeros((9, 9, 3), np.uint8), face, AlignedFace(crop, landmarks)).score)
    assert scores == sorted(scores, reverse=True) and scores[0] > 0.9 and scores[-1] == 0


def test_several_faults_are_all_named(astronaut: PixelArray, astronaut_face: DetectedFace) -> None:
    bad = lit(blurred(astronaut, 5), 0.08)
    quality = assess_quality(bad, astronaut_face)
    assert quality.refusal is not None and quality.refusal.code == "too_dark"
    assert {"low_contrast", "blurred"} <= codes(quality)
    assert "too_dark" not in codes(quality)


def test_every_code_has_sentences_that_end_and_a_remedy() -> None:
    assert {limit.code for limit in LIMITS} <= set(REFUSALS) & set(WARNINGS)
    for table in (REFUSALS, WARNINGS):
        for code, entry in table.items():
            assert entry.code == code
            for text in (entry.sentence, entry.remedy):
                assert re.fullmatch(r"[A-Z].{15,}\.", text), text


def test_limits_are_in_order() -> None:
    for limit in LIMITS:
        steps = (limit.refuse, limit.warn, limit.good)
        assert steps in (tuple(sorted(steps)), tuple(sorted(steps, reverse=True)))
        assert limit.part(limit.good) == 1 and limit.part(limit.refuse) == 0
        assert limit.reached(limit.refuse, limit.warn) and not limit.reached(limit.good, limit.warn)

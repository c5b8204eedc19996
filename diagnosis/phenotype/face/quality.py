"""Quality gate: what is measured on one face, from which value on it is refused, and what to do then.

The limits were measured by degrading scikit-image's astronaut (eyes 42 px apart) step by step while
watching the detector; tests/phenotype/face/test_quality.py repeats steps on both sides of each limit.
Shift is the largest move of a landmark in eye distances, p the detector's probability:

    eye distance 24 px: shift 0.05 · 16 px: 0.06 · 13 px: 0.08 · 10 px: 0.14 · 6.5 px: 0.22 · 5 px: no face
    Gaussian blur of 1 px: blur 0.50, shift 0.02 · 2 px: 0.60, 0.04 · 3 px: 0.67, 0.14
        · 4 px: 0.71, 0.17 · 6 px: 0.77, 0.20, p 0.988 · 8 px: no face
    light × 0.3: lightest 65, shift 0.08 · × 0.15: 32, 0.11 · × 0.1: 21, 0.18, p 0.985 · × 0.07: no face
    light × 1.5: half of the face clipped, shift 0.06 · × 2: no face
    haze leaving 30 %: contrast 37, shift 0.05 · 20 %: 25, 0.09, p 0.989 · 10 %: 13, no face

Light is judged by the lightest parts and by contrast, never by the mean, so that dark skin is not
mistaken for a dark photo.

Turned heads: 24 people of diagnosis.synthetic, each rendered at a known yaw, 256 px. Estimated median at
25°: 23, at 35°: 31, at 45°: 41, at 60°: 50; largest landmark error (median, in distances from eyes to
mouth) 0.07 at 0°, 0.12 at 45°, 0.17 at 60°. Warned of at 20°: 0, 25°: 6, 30°: 17, 35°: 24; refused at
35°: 0, 45°: 3, 50°: 7, 60°: 21. Over 60 people at the generator's own poses (yaw to 22°) the estimate
follows the truth with r = 0.97, and none is refused or warned of. Pitch depends more on the shape of the
face (r = 0.41 at up to 12°), so it is given more room.

Too much light is refused for what it deletes rather than for shift: at × 1.7 a level of 245 or more is
reached by over 60 % of the face.

Covered eyes and mouths are suspected where the median edge strength in their part of the crop is below
0.4 of the mean edge strength of the face. Uncovered, the astronaut has 1.4 (eyes) and 1.1 (mouth), and
the 100 faces of scikit-image's LFW subset at least 0.42 and 0.58. Covers painted on the astronaut (hand,
eye patch, sunglasses, bar, mask) leave 0.0 plain and below 0.4 with a camera's noise; small ones that
spare the lids or the corners of the mouth leave up to 1.1 and are missed. It stays a warning: closed
eyes can raise it, and a patterned scarf deceives it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from diagnosis.phenotype.face.align import (
    ARCFACE_TEMPLATE,
    align_face,
    landmark_fit,
    photo_px_per_crop_px,
    similarity_to_template,
)
from diagnosis.phenotype.face.pose import estimate_pose
from diagnosis.phenotype.face.sentences import REFUSALS, WARNINGS
from diagnosis.phenotype.types import AlignedFace, DetectedFace, PixelArray, Quality, Refusal

Luma = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Limit:
    """One measure: refused at or beyond `refuse`, warned of at or beyond `warn`, faultless from `good` on.

    The measure's part of the score falls linearly from 1 at `good` to 0 at `refuse`.
    """

    measure: str
    code: str
    refuse: float
    warn: float
    good: float

    def part(self, value: float) -> float:
        """This measure's factor of the score, in [0, 1]."""
        return float(np.clip((value - self.refuse) / (self.good - self.refuse), 0.0, 1.0))

    def reached(self, value: float, limit: float) -> bool:
        """Whether value is at or beyond limit, seen from the good side."""
        return value <= limit if self.good > self.refuse else value >= limit


LIMITS = (
    Limit("eye_distance_px", "too_small", refuse=12, warn=24, good=36),
    Limit("lightest_level", "too_dark", refuse=26, warn=55, good=90),
    Limit("clipped_share", "too_bright", refuse=0.6, warn=0.25, good=0.1),
    Limit("contrast_levels", "low_contrast", refuse=18, warn=35, good=60),
    Limit("blur", "blurred", refuse=0.7, warn=0.6, good=0.5),
    Limit("yaw_degrees_abs", "turned_away", refuse=45, warn=25, good=12),
    Limit("pitch_degrees_abs", "turned_away", refuse=50, warn=30, good=22),
)
"""In the order in which the first reached one becomes the refusal."""

COVERED_LIMIT = 0.4
"""Median edge strength of an eye or mouth, relative to the face's mean, below which it may be covered."""

TURNED_PHOTO_DEGREES = 60.0
"""Beyond this roll the photo, not the head, is taken to lie on its side."""

_INNER = (slice(34, 106), slice(20, 92))  # brows to chin, cheek to cheek: no hair, no background
_EYE_REACH = (10, 6)  # px of the crop to each side of the centre, x and y
_MOUTH_REACH = (16, 7)
_CLIPPED_LEVEL = 245.0
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def assess_quality(photo: PixelArray, face: DetectedFace, aligned: AlignedFace | None = None) -> Quality:
    """Measures face in photo (H, W, 3) uint8 RGB; aligned saves the warp where it is already there.

    Grey levels are 0 to 255, angles degrees, eye_distance_px is that of the template scaled back to the
    photo, so that a turned head does not look small. The score is the product of the measures' parts: 0
    where refused. Several refusals: the first is the refusal, the others stand first among the warnings.
    Raises PhotoRefused where the landmarks cannot be aligned.
    """
    crop = aligned if aligned is not None else align_face(photo, face.landmarks)
    measures = _measure(crop, face.probability)
    refusals = _reached(measures, refuse=True)
    refused_codes = {refusal.code for refusal in refusals}
    warned = [w for w in _reached(measures, refuse=False) if w.code not in refused_codes]
    warned += _covered(measures) + _turned_photo(measures)
    score = float(np.prod([limit.part(measures[limit.measure]) for limit in LIMITS]))
    return Quality(score, measures, refusals[0] if refusals else None, (*refusals[1:], *warned))


def _measure(crop: AlignedFace, probability: float) -> dict[str, float]:
    return {
        "probability": probability,
        **_geometry(crop.landmarks),
        **_light(luma(crop.pixels)[_INNER]),
        "blur": blur_effect(luma(crop.pixels)[_INNER]),
        **_detail(luma(crop.pixels)),
    }


def luma(pixels: PixelArray) -> Luma:
    """Brightness (H, W) float64 in grey levels of pixels (H, W, 3) uint8 RGB."""
    grey: Luma = pixels.astype(np.float64) @ _LUMA
    return grey


def _geometry(landmarks: npt.NDArray[np.floating]) -> dict[str, float]:
    eyes = ARCFACE_TEMPLATE[1] - ARCFACE_TEMPLATE[0]
    pose = estimate_pose(landmarks)
    return {
        "eye_distance_px": float(np.hypot(*eyes)) * photo_px_per_crop_px(similarity_to_template(landmarks)),
        "yaw_degrees": pose.yaw,
        "pitch_degrees": pose.pitch,
        "roll_degrees": pose.roll,
        "yaw_degrees_abs": abs(pose.yaw),
        "pitch_degrees_abs": abs(pose.pitch),
        "landmark_fit": landmark_fit(landmarks),
    }


def _light(inner: Luma) -> dict[str, float]:
    darkest, lightest = np.percentile(inner, [5, 95])
    return {
        "lightest_level": float(lightest),
        "contrast_levels": float(lightest - darkest),
        "clipped_share": float((inner >= _CLIPPED_LEVEL).mean()),
    }


def blur_effect(grey: Luma, window: int = 11) -> float:
    """Blur of grey (h, w): 0 sharp, 1 without any edge; hardly depends on brightness or contrast.

    Crete, Dolmiere, Ladret, Nicolas, "The blur effect: perception and estimation with a new no-reference
    perceptual blur metric", SPIE 6492, 2007: how much of the edges is left when the picture is blurred
    once more. As scikit-image's function of that name: Sobel edges, the larger of the two directions.
    """
    return max(_blur_along(grey, axis, window) for axis in (0, 1))


def _blur_along(grey: Luma, axis: int, window: int) -> float:
    sharp = _edges(grey, axis)
    lost = np.maximum(0, sharp - _edges(_box_mean(grey, axis, window), axis))
    total = sharp[2:-1, 2:-1].sum()
    return float((total - lost[2:-1, 2:-1].sum()) / total) if total > 0 else 1.0


def _edges(grey: Luma, axis: int) -> Luma:
    """Absolute Sobel derivative of grey (h, w) along axis, (h, w)."""
    padded = np.pad(grey, 1, mode="symmetric")
    along = padded if axis == 0 else padded.T
    slope = (along[2:] - along[:-2]) / 2
    smooth = (slope[:, :-2] + 2 * slope[:, 1:-1] + slope[:, 2:]) / 4
    return np.abs(smooth if axis == 0 else smooth.T)


def _box_mean(grey: Luma, axis: int, window: int) -> Luma:
    """Running mean of an odd window of grey (h, w) along axis, mirrored at the borders, (h, w)."""
    pad = [(0, 0), (0, 0)]
    pad[axis] = (window // 2, window // 2)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(grey, pad, mode="symmetric"), window, axis=axis)
    mean: Luma = windows.mean(axis=-1)
    return mean


def _detail(grey: Luma) -> dict[str, float]:
    """Median edge strength of eyes and mouth relative to the inner face's mean, of the luma (112, 112)."""
    edges = np.hypot(_edges(grey, 0), _edges(grey, 1))
    mean = float(edges[_INNER].mean())
    mouth = (ARCFACE_TEMPLATE[3] + ARCFACE_TEMPLATE[4]) / 2
    parts = {
        "left_eye_detail": _around(edges, ARCFACE_TEMPLATE[0], _EYE_REACH),
        "right_eye_detail": _around(edges, ARCFACE_TEMPLATE[1], _EYE_REACH),
        "mouth_detail": _around(edges, mouth, _MOUTH_REACH),
    }
    return {name: float(np.median(part)) / mean if mean > 0 else 0.0 for name, part in parts.items()}


def _around(edges: Luma, centre: npt.NDArray[np.floating], reach: tuple[int, int]) -> Luma:
    x, y = (round(float(value)) for value in centre)
    return edges[y - reach[1] : y + reach[1] + 1, x - reach[0] : x + reach[0] + 1]


def _reached(measures: dict[str, float], *, refuse: bool) -> list[Refusal]:
    """Each code once, in the order of LIMITS, whose refusing or warning limit is reached."""
    sentences = REFUSALS if refuse else WARNINGS
    codes = [
        limit.code
        for limit in LIMITS
        if limit.reached(measures[limit.measure], limit.refuse if refuse else limit.warn)
    ]
    return [sentences[code] for code in dict.fromkeys(codes)]


def _covered(measures: dict[str, float]) -> list[Refusal]:
    eyes = min(measures["left_eye_detail"], measures["right_eye_detail"])
    found = {"eyes_covered": eyes, "mouth_covered": measures["mouth_detail"]}
    return [WARNINGS[code] for code, detail in found.items() if detail < COVERED_LIMIT]


def _turned_photo(measures: dict[str, float]) -> list[Refusal]:
    return [WARNINGS["photo_turned"]] if abs(measures["roll_degrees"]) > TURNED_PHOTO_DEGREES else []

"""Alignment against scikit-image's transform and against a slow supersampled warp."""

from __future__ import annotations

import math

import numpy as np
import pytest
import skimage.transform
from PIL import Image

from diagnosis.phenotype.errors import PhotoRefused
from diagnosis.phenotype.face.align import (
    ARCFACE_TEMPLATE,
    MIN_LANDMARK_FIT,
    align_face,
    check_landmarks,
    invert_transform,
    landmark_fit,
    map_points,
    photo_px_per_crop_px,
    similarity_to_template,
    warp_to_crop,
)
from diagnosis.phenotype.face.pose import canonical_landmarks
from diagnosis.phenotype.types import DetectedFace, PixelArray

TEMPLATE = ARCFACE_TEMPLATE.astype(np.float64)


def similarity(points: np.ndarray, scale: float, degrees: float, shift: tuple[float, float]) -> np.ndarray:
    angle = math.radians(degrees)
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return scale * points @ rotation.T + shift


def bilinear(photo: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear samples of photo (H, W, 3) at pixel-centre coordinates; 0 outside the picture."""
    height, width = photo.shape[:2]
    inside = (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    x0, y0 = np.minimum(x.astype(int), width - 2), np.minimum(y.astype(int), height - 2)
    fx, fy = (x - x0)[..., None], (y - y0)[..., None]
    top = photo[y0, x0] * (1 - fx) + photo[y0, x0 + 1] * fx
    bottom = photo[y0 + 1, x0] * (1 - fx) + photo[y0 + 1, x0 + 1] * fx
    return (top * (1 - fy) + bottom * fy) * inside[..., None]


def slow_warp(photo: np.ndarray, transform: np.ndarray, k: int) -> np.ndarray:
    """Each crop pixel as the mean of k × k samples of its footprint, one offset at a time, float64."""
    back = np.linalg.inv(np.vstack([transform, [0, 0, 1]]))
    photo = photo.astype(np.float64)
    total = np.zeros((112, 112, 3))
    offsets = (np.arange(k) + 0.5) / k - 0.5
    rows, columns = np.mgrid[0:112, 0:112].astype(np.float64)
    for dy in offsets:
        for dx in offsets:
            x = back[0, 0] * (columns + dx) + back[0, 1] * (rows + dy) + back[0, 2]
            y = back[1, 0] * (columns + dx) + back[1, 1] * (rows + dy) + back[1, 2]
            total += bilinear(photo, x, y)
    return total / k**2


def test_the_matrix_is_scikit_images(rng: np.random.Generator) -> None:
    for _ in range(50):
        landmarks = similarity(
            TEMPLATE, rng.uniform(0.1, 30), rng.uniform(-180, 180), tuple(rng.uniform(-500, 3000, 2))
        )
        landmarks += rng.normal(0, 0.1 * np.ptp(landmarks), (5, 2))
        twin = skimage.transform.SimilarityTransform.from_estimate(landmarks, TEMPLATE)
        assert np.allclose(similarity_to_template(landmarks), twin.params[:2], atol=1e-8)


def test_an_exact_similarity_is_undone_exactly() -> None:
    landmarks = similarity(TEMPLATE, 7.5, 33.0, (900.0, 1200.0))
    transform = similarity_to_template(landmarks)
    assert np.allclose(map_points(transform, landmarks), TEMPLATE, atol=1e-9)
    assert photo_px_per_crop_px(transform) == pytest.approx(7.5)
    assert landmark_fit(landmarks) == pytest.approx(1.0)


def test_no_other_similarity_fits_better(astronaut_face: DetectedFace, rng: np.random.Generator) -> None:
    landmarks = astronaut_face.landmarks.astype(np.float64)
    best = similarity_to_template(landmarks)
    least = ((map_points(best, landmarks) - TEMPLATE) ** 2).sum()
    for _ in range(200):
        da, db, dx, dy = rng.normal(0, [0.003, 0.003, 0.5, 0.5])
        other = best + np.array([[da, -db, dx], [db, da, dy]])
        assert ((map_points(other, landmarks) - TEMPLATE) ** 2).sum() > least


def test_points_go_to_the_crop_and_back(astronaut_face: DetectedFace) -> None:
    transform = similarity_to_template(astronaut_face.landmarks)
    points = np.array([[0.0, 0.0], [511.0, 30.0], [224.5, 129.25]])
    back = map_points(invert_transform(transform), map_points(transform, points))
    assert np.allclose(back, points, atol=1e-9)


@pytest.mark.parametrize("degrees", [0.0, 17.0, 180.0])
@pytest.mark.parametrize("side", [200, 512, 1600, 3000])
def test_the_crop_is_the_slow_warp(
    astronaut: PixelArray, astronaut_face: DetectedFace, side: int, degrees: float
) -> None:
    """Same definition, written once with Pillow's C code and once sample by sample."""
    photo = np.asarray(Image.fromarray(astronaut).resize((side, side), Image.Resampling.BICUBIC))
    centre = (astronaut_face.landmarks.astype(np.float64) + 0.5) * side / 512 - 0.5
    landmarks = similarity(centre - centre.mean(axis=0), 1.0, degrees, tuple(centre.mean(axis=0)))
    transform = similarity_to_template(landmarks)
    k = max(1, math.ceil(photo_px_per_crop_px(transform)))
    difference = np.abs(warp_to_crop(photo, transform) - slow_warp(photo, transform, k))
    assert difference.mean() < 0.6 and difference.max() <= 3


def test_huge_photos_agree_with_the_slow_warp_too(
    astronaut: PixelArray, astronaut_face: DetectedFace
) -> None:
    """Beyond 8 px per crop pixel whole blocks are averaged first; the twin knows no blocks."""
    photo = np.asarray(
        Image.fromarray(astronaut[:320, 80:400]).resize((4800, 4800), Image.Resampling.BICUBIC)
    )
    landmarks = (astronaut_face.landmarks - [80, 0] + 0.5) * 15 - 0.5
    transform = similarity_to_template(landmarks)
    assert photo_px_per_crop_px(transform) > 16
    difference = np.abs(warp_to_crop(photo, transform) - slow_warp(photo, transform, 9))
    assert difference.mean() < 0.6 and difference.max() <= 4


def test_a_large_photo_does_not_alias(astronaut_face: DetectedFace) -> None:
    """A fine checkerboard is flat grey in the crop; plain bilinear sampling would show moiré."""
    y, x = np.mgrid[0:1600, 0:1600]
    board = np.repeat((((x // 2 + y // 2) % 2) * 255).astype(np.uint8)[..., None], 3, axis=2)
    transform = similarity_to_template(astronaut_face.landmarks * 1600 / 512)
    inside = warp_to_crop(board, transform)[20:, 10:-10].astype(float)
    naive = slow_warp(board, transform, 1)[20:, 10:-10]
    assert naive.std() > 50
    assert inside.std() < 0.15 * naive.std()
    assert abs(inside.mean() - 127.5) < 2


def test_crops_of_one_face_at_different_resolutions_agree(
    astronaut: PixelArray, astronaut_1600: PixelArray, astronaut_face: DetectedFace
) -> None:
    """No half-pixel drift: enlarging the photo must not move the face within the crop."""
    small = align_face(astronaut, astronaut_face.landmarks).pixels.astype(float)
    landmarks = (astronaut_face.landmarks + 0.5) * 1600 / 512 - 0.5
    large = align_face(astronaut_1600, landmarks).pixels.astype(float)
    drifts = {
        (dx, dy): np.abs(np.roll(large, (dy, dx), (0, 1)) - small)[4:-4, 4:-4].mean()
        for dx in (-1, 0, 1)
        for dy in (-1, 0, 1)
    }
    assert min(drifts, key=lambda shift: drifts[shift]) == (0, 0)
    assert drifts[0, 0] < 2.5


def test_turned_photos_give_the_same_crop(astronaut: PixelArray, astronaut_face: DetectedFace) -> None:
    upside_down = np.ascontiguousarray(astronaut[::-1, ::-1])
    turned = align_face(upside_down, 511 - astronaut_face.landmarks).pixels.astype(float)
    upright = align_face(astronaut, astronaut_face.landmarks).pixels.astype(float)
    assert np.abs(turned - upright).max() <= 2


def test_beyond_the_picture_the_crop_is_black() -> None:
    """Crop px 1.2 times as large as photo px; the photo begins at crop column 20 and row 30."""
    white = np.full((200, 200, 3), 255, dtype=np.uint8)
    landmarks = similarity(TEMPLATE - [20, 30], 1.2, 0.0, (0.0, 0.0))
    crop = align_face(white, landmarks).pixels
    assert not crop[:29].any() and not crop[:, :19].any()
    assert (crop[31:, 21:] == 255).all()


def test_a_transform_that_misses_the_picture_gives_black(astronaut: PixelArray) -> None:
    assert not warp_to_crop(astronaut, np.array([[1.0, 0, 9000], [0, 1.0, 0]])).any()


def test_the_aligned_face_keeps_its_own_landmarks(
    astronaut: PixelArray, astronaut_face: DetectedFace
) -> None:
    landmarks = astronaut_face.landmarks.copy()
    aligned = align_face(astronaut, landmarks)
    landmarks[:] = 0
    assert np.array_equal(aligned.landmarks, astronaut_face.landmarks)


BY_HAND = similarity(TEMPLATE, 1.2, 0.0, (60.0, 40.0))
NOT_FINITE = BY_HAND.copy()
NOT_FINITE[2, 0] = np.nan
OUTSIDE = BY_HAND - [120, 0]


@pytest.mark.parametrize(
    ("landmarks", "code"),
    [
        (NOT_FINITE, "landmarks_unusable"),
        (OUTSIDE, "landmarks_outside"),
        (np.full((5, 2), 100.0), "landmarks_unusable"),
        (BY_HAND.mean(axis=0) + (BY_HAND - BY_HAND.mean(axis=0)) * [0, 1], "landmarks_unusable"),
        (BY_HAND.mean(axis=0) + (BY_HAND - BY_HAND.mean(axis=0)) * [1, 0], "landmarks_unusable"),
        (BY_HAND[[1, 0, 2, 4, 3]], "landmarks_unusable"),
        (BY_HAND[[1, 0, 2, 3, 4]], "landmarks_unusable"),
        (BY_HAND[[3, 4, 2, 0, 1]], "landmarks_unusable"),
    ],
    ids=[
        "nan",
        "outside",
        "coincident",
        "vertical",
        "horizontal",
        "mirrored",
        "eyes swapped",
        "eyes for mouth",
    ],
)
def test_landmarks_that_place_no_face_are_refused(
    astronaut: PixelArray, landmarks: np.ndarray, code: str
) -> None:
    with pytest.raises(PhotoRefused) as refused:
        align_face(astronaut, landmarks)
    assert refused.value.code == code
    assert refused.value.sentence.endswith(".") and refused.value.remedy.endswith(".")


def test_good_landmarks_pass_up_to_the_edge_of_the_picture() -> None:
    check_landmarks(BY_HAND, 256, 256)
    low, high = BY_HAND.min(axis=0), BY_HAND.max(axis=0)
    width, height = math.ceil(high[0] + 0.5), math.ceil(high[1] + 0.5)
    check_landmarks(BY_HAND, width, height)
    with pytest.raises(PhotoRefused):
        check_landmarks(BY_HAND - [low[0] + 0.6, 0], width, height)


def test_the_fit_limit_lies_between_lines_and_turned_faces() -> None:
    centred = TEMPLATE - TEMPLATE.mean(axis=0)
    on_lines = [
        landmark_fit((centred @ [math.cos(a), math.sin(a)])[:, None] * [[1.0, 0.0]])
        for a in np.linspace(0, math.pi, 180)
    ]
    assert max(on_lines) == pytest.approx(0.613, abs=0.01)
    assert landmark_fit(centred * [-1, 1]) == pytest.approx(0.051, abs=0.002)
    assert landmark_fit(TEMPLATE[[0, 1, 2, 4, 3]]) == pytest.approx(0.469, abs=0.002)
    assert landmark_fit(canonical_landmarks(60)) == pytest.approx(0.806, abs=0.01)
    assert max(on_lines) < MIN_LANDMARK_FIT < landmark_fit(canonical_landmarks(60))


def test_wrong_shapes_are_programming_errors(astronaut: PixelArray) -> None:
    with pytest.raises(ValueError, match=r"\(5, 2\)"):
        align_face(astronaut, np.zeros((4, 2)))
    with pytest.raises(ValueError, match="uint8 RGB"):
        align_face(astronaut[..., 0], BY_HAND)
    with pytest.raises(ValueError, match="coincident"):
        similarity_to_template(np.ones((5, 2)))

"""From five landmarks to the aligned 112×112 crop on the ArcFace template.

Points are in px with pixel centres at whole numbers, x to the right, y down. A transform is a (2, 3)
float64 matrix that takes photo points to crop points: crop = M[:, :2] @ photo + M[:, 2].
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from diagnosis.phenotype.errors import PhotoRefused
from diagnosis.phenotype.face.detect import check_photo
from diagnosis.phenotype.types import CROP_SIDE, AlignedFace, FloatArray, PixelArray

Matrix = npt.NDArray[np.float64]
Points = npt.NDArray[np.floating]

ARCFACE_TEMPLATE: FloatArray = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]],
    dtype=np.float32,
)
"""Where the five landmarks lie in the crop, (5, 2) px (Deng et al., "ArcFace", CVPR 2019, public code)."""

MIN_LANDMARK_FIT = 0.7
"""Least share of the template's variance that the aligned landmarks must explain.

Points on one line reach 0.62 at best, exchanged mouth corners 0.47, mirrored faces 0.06; the canonical
face of pose.py still has 0.80 when turned by 60° to a side. A test holds these numbers.
"""

_MIN_SPREAD = 1.0  # px, root mean square distance of the landmarks from their mean
_MAX_SUPERSAMPLING = 8
_MARGIN = 4  # photo px around the crop's footprint, more than bilinear sampling reaches


def align_face(photo: PixelArray, landmarks: Points) -> AlignedFace:
    """The crop (112, 112, 3) uint8 of photo (H, W, 3) uint8 RGB whose landmarks (5, 2) px are given.

    Raises PhotoRefused as `check_landmarks` does, ValueError for arrays of another shape or dtype.
    """
    check_photo(photo)
    check_landmarks(landmarks, photo.shape[1], photo.shape[0])
    pixels = warp_to_crop(photo, similarity_to_template(landmarks))
    return AlignedFace(pixels, np.array(landmarks, dtype=np.float32))


def check_landmarks(landmarks: Points, width: int, height: int) -> None:
    """Raises PhotoRefused where landmarks (5, 2) px cannot place a face in a photo of that size."""
    points = _five_points(landmarks)
    if not np.isfinite(points).all():
        raise PhotoRefused("landmarks_unusable", "A landmark has no position.", "Place all five landmarks.")
    if (points < -0.5).any() or (points > np.array([width, height]) - 0.5).any():
        raise PhotoRefused(
            "landmarks_outside",
            "A landmark lies outside the picture: part of the face is cut off.",
            "Use a photo that shows the whole face, or drag the landmarks onto the face.",
        )
    if _spread(points) < _MIN_SPREAD or landmark_fit(points) < MIN_LANDMARK_FIT:
        raise PhotoRefused(
            "landmarks_unusable",
            "The five landmarks do not form a face.",
            "Drag them onto the eyes, the tip of the nose and the corners of the mouth, each on its side.",
        )


def similarity_to_template(landmarks: Points) -> Matrix:
    """The least-squares similarity (2, 3) float64 that takes landmarks (5, 2) px to ARCFACE_TEMPLATE.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
    IEEE TPAMI 13(4), 1991, equations (40) to (42). In the plane, without reflection, its singular value
    decomposition has a closed form: with both sets centred and read as complex numbers p and q, rotation
    and scale are a = Σ conj(p) q / Σ |p|². Raises ValueError for coincident points.
    """
    points = _five_points(landmarks)
    template = ARCFACE_TEMPLATE.astype(np.float64)
    p, q = _centred_complex(points), _centred_complex(template)
    variance = np.vdot(p, p).real
    if variance == 0:
        raise ValueError("coincident landmarks have no similarity transform.")
    a = np.vdot(p, q) / variance
    linear = np.array([[a.real, -a.imag], [a.imag, a.real]])
    offset = template.mean(axis=0) - linear @ points.mean(axis=0)
    return np.column_stack([linear, offset])


def landmark_fit(landmarks: Points) -> float:
    """Share in [0, 1] of the template's variance that landmarks (5, 2) explain after alignment."""
    p, q = _centred_complex(_five_points(landmarks)), _centred_complex(ARCFACE_TEMPLATE.astype(np.float64))
    total = np.vdot(p, p).real * np.vdot(q, q).real
    return float(abs(np.vdot(p, q)) ** 2 / total) if total > 0 else 0.0


def map_points(transform: Matrix, points: Points) -> Matrix:
    """points (n, 2) through transform (2, 3): (n, 2) float64. Photo to crop with a crop's transform."""
    return np.asarray(points, dtype=np.float64) @ transform[:, :2].T + transform[:, 2]


def invert_transform(transform: Matrix) -> Matrix:
    """The (2, 3) float64 transform that undoes the given one: crop points back to photo points."""
    inverse = np.linalg.inv(transform[:, :2])
    return np.column_stack([inverse, -inverse @ transform[:, 2]])


def photo_px_per_crop_px(transform: Matrix) -> float:
    """Scale of the crop: photo px per crop px; above 1 the crop is a reduction, below 1 an enlargement."""
    return float(1 / math.sqrt(abs(np.linalg.det(transform[:, :2]))))


def warp_to_crop(photo: PixelArray, transform: Matrix) -> PixelArray:
    """The crop (112, 112, 3) uint8 of photo (H, W, 3) uint8 under transform; black beyond the picture.

    Each crop pixel is the mean of k × k bilinear samples spread over its own footprint in the photo, k
    the scale rounded up, so that a large photo does not alias. Footprints above 8 px are first averaged
    over whole blocks of photo pixels, which bounds the work by (8 · 112)² samples at any photo size.
    """
    to_photo = invert_transform(transform)
    region, to_region = _footprint(photo, to_photo)
    if region.size == 0:
        return np.zeros((CROP_SIDE, CROP_SIDE, 3), dtype=np.uint8)
    image, to_image = _block_average(region, to_region)
    k = max(1, math.ceil(_scale(to_image)))
    samples = _sample(image, to_image, k)
    return np.asarray(samples.reduce(k) if k > 1 else samples)


def _footprint(photo: PixelArray, to_photo: Matrix) -> tuple[PixelArray, Matrix]:
    """The part of photo under the crop, and the transform from crop px to px of that part."""
    edge = CROP_SIDE - 0.5
    corners = map_points(to_photo, np.array([[-0.5, -0.5], [edge, -0.5], [-0.5, edge], [edge, edge]]))
    size = np.array([photo.shape[1], photo.shape[0]])
    low = np.clip(np.floor(corners.min(axis=0)) - _MARGIN, 0, size).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)) + _MARGIN, 0, size).astype(int)
    region = photo[low[1] : high[1], low[0] : high[0]]
    return region, np.column_stack([to_photo[:, :2], to_photo[:, 2] - low])


def _block_average(region: PixelArray, to_region: Matrix) -> tuple[Image.Image, Matrix]:
    """Halves, thirds, … the region while a crop pixel covers more than 8 of its pixels per side."""
    image = Image.fromarray(np.ascontiguousarray(region))
    blocks = math.ceil(_scale(to_region) / _MAX_SUPERSAMPLING)
    if blocks <= 1:
        return image, to_region
    # Pixel centres: x of the region is (x + 0.5) / blocks − 0.5 of the reduced picture.
    offset = (to_region[:, 2] + 0.5) / blocks - 0.5
    return image.reduce(blocks), np.column_stack([to_region[:, :2] / blocks, offset])


def _sample(image: Image.Image, to_image: Matrix, k: int) -> Image.Image:
    """Bilinear samples of image on a grid k times as fine as the crop's: (112k, 112k)."""
    linear, offset = to_image[:, :2] / k, to_image[:, 2]
    # Pillow counts pixel corners from 0, so a centre u of the fine grid is crop px (u + 0.5) / k − 0.5.
    start = offset + 0.5 - to_image[:, :2] @ np.array([0.5, 0.5])
    coefficients = (linear[0, 0], linear[0, 1], start[0], linear[1, 0], linear[1, 1], start[1])
    side = CROP_SIDE * k
    return image.transform((side, side), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)


def _scale(to_image: Matrix) -> float:
    return math.sqrt(abs(float(np.linalg.det(to_image[:, :2]))))


def _five_points(landmarks: Points) -> Matrix:
    points = np.asarray(landmarks, dtype=np.float64)
    if points.shape != (5, 2):
        raise ValueError(f"landmarks must be (5, 2), not {points.shape}.")
    return points


def _spread(points: Matrix) -> float:
    return float(np.sqrt(((points - points.mean(axis=0)) ** 2).sum(axis=1).mean()))


def _centred_complex(points: Matrix) -> npt.NDArray[np.complex128]:
    centred = points - points.mean(axis=0)
    return np.asarray(centred[:, 0] + 1j * centred[:, 1])

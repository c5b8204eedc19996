"""Faces and five landmarks in one photo, with facenet-pytorch's MTCNN.

Source: Zhang, Zhang, Li, Qiao, "Joint Face Detection and Alignment Using Multitask Cascaded
Convolutional Networks", IEEE Signal Processing Letters 23(10), 2016. Weights come with the package.

Known, measured against mirrored copies (scikit-image's astronaut and LFW subset, 80 rendered heads): this
build of the networks puts all five points about 0.025 eye distances, 0.9 px of the crop, too far to the
right. It is left as it is, because whoever trains on such crops has it in training and use alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from diagnosis.phenotype.face.nms import ensure_torchvision
from diagnosis.phenotype.types import DetectedFace, FloatArray, PixelArray

DETECTION_SIDE = 1024
"""Longer side of the copy in which faces are searched, px."""

SMALLEST_FACE = 20
"""Smallest face that is searched for at all, px of that copy; MTCNN was trained down to 12 px."""

PORTRAIT_SHARE = 10
"""A portrait's face is taken to fill at least one tenth of the shorter side."""

MIN_PROBABILITY = 0.9
"""Below it a find is not called a face. Eighteen faceless pictures of scikit-image gave none above 0.7."""

SURE_PROBABILITY = 0.99
"""Below it the photo is also searched lying on its sides and upside down.

Measured on scikit-image's astronaut at its four quarter turns: upright 0.999995, wrong way up at most
0.914, with landmarks in wrong places.
"""

_THRESHOLDS = [0.6, 0.7, 0.7]  # of the three stages, as published
_PYRAMID_FACTOR = 0.709  # each step halves the area


class FaceDetector:
    """MTCNN on the CPU, one torch thread, no random numbers; safe to share between threads."""

    def __init__(self) -> None:
        ensure_torchvision()
        # Imported here because it takes a second, which only a process that detects should pay.
        from facenet_pytorch import MTCNN
        from facenet_pytorch.models.utils.detect_face import detect_face

        self._networks: Any = MTCNN(keep_all=True, device=torch.device("cpu")).eval()
        self._cascade: Any = detect_face

    def detect(self, photo: PixelArray) -> tuple[DetectedFace, ...]:
        """Faces in photo (H, W, 3) uint8 RGB, by falling area × probability; empty where there is none.

        Boxes and landmarks are in px of the photo as given, pixel centres at whole numbers. A photo that
        lies on its side or upside down is recognised: left and right then are those of the face once it
        stands upright. Raises ValueError for an array of another shape or dtype.
        """
        check_photo(photo)
        small = shrink(photo)
        with _one_torch_thread(), torch.inference_mode():
            found = self._search(small)
        scale = np.array([photo.shape[1] / small.shape[1], photo.shape[0] / small.shape[0]], dtype=np.float64)
        return tuple(_scaled(face, scale) for face in sorted(found, key=_prominence, reverse=True))

    def _search(self, small: PixelArray) -> list[DetectedFace]:
        """Portrait-sized faces upright, then turned, then small ones: the first search that finds some."""
        portrait_size = max(SMALLEST_FACE, min(small.shape[:2]) // PORTRAIT_SHARE)
        found = self._run(small, portrait_size)
        if _best(found) < SURE_PROBABILITY:
            turned = [self._run_turned(small, portrait_size, turns) for turns in (1, 2, 3)]
            found = max([found, *turned], key=_best)  # the first of equals, so upright wins
        if not found and portrait_size > SMALLEST_FACE:
            found = self._run(small, SMALLEST_FACE)
        return found

    def _run_turned(self, small: PixelArray, min_face_size: int, quarter_turns: int) -> list[DetectedFace]:
        turned = np.ascontiguousarray(np.rot90(small, quarter_turns))
        found = self._run(turned, min_face_size)
        return [_turned_back(face, turned.shape[:2], quarter_turns) for face in found]

    def _run(self, pixels: PixelArray, min_face_size: int) -> list[DetectedFace]:
        """One pass of the cascade over pixels (h, w, 3); faces of at least min_face_size px."""
        if min(pixels.shape[:2]) < SMALLEST_FACE:
            return []  # the cascade has no pyramid level to look at and would raise
        networks = self._networks
        boxes, landmarks = self._cascade(
            pixels,
            min_face_size,
            networks.pnet,
            networks.rnet,
            networks.onet,
            _THRESHOLDS,
            _PYRAMID_FACTOR,
            networks.device,
        )
        return [
            _face(box, points)
            for box, points in zip(boxes[0], landmarks[0], strict=True)
            if box[4] >= MIN_PROBABILITY
        ]


def check_photo(photo: PixelArray) -> None:
    """Raises ValueError unless photo is (H, W, 3) uint8 with at least one pixel."""
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8 or photo.size == 0:
        raise ValueError(f"a photo must be (H, W, 3) uint8 RGB, not {photo.shape} {photo.dtype}.")


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """More threads make these small convolutions slower, by far on busy cores.

    The calling thread's number is restored afterwards; torch keeps it per thread, and a new thread takes
    over what was set last.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def shrink(photo: PixelArray) -> PixelArray:
    """A copy of photo (H, W, 3) whose longer side is at most DETECTION_SIDE px, anti-aliased."""
    height, width = photo.shape[:2]
    scale = DETECTION_SIDE / max(height, width)
    if scale >= 1:
        return photo
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = Image.fromarray(photo).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(image)


def _face(box: npt.NDArray[np.floating], points: npt.NDArray[np.floating]) -> DetectedFace:
    return DetectedFace(box[:4].astype(np.float32), points.astype(np.float32), min(1.0, float(box[4])))


def _best(faces: list[DetectedFace]) -> float:
    return max((face.probability for face in faces), default=0.0)


def _prominence(face: DetectedFace) -> tuple[float, float, float]:
    x0, y0, x1, y1 = (float(value) for value in face.box)
    # Position breaks ties, so that equal faces side by side come from left to right.
    return (x1 - x0) * (y1 - y0) * face.probability, -x0, -y0


def _scaled(face: DetectedFace, scale: npt.NDArray[np.float64]) -> DetectedFace:
    """From px of the copy to px of the photo: pixel centres are whole numbers in both, hence the halves."""
    corners = _rescale(face.box.reshape(2, 2), scale)
    return DetectedFace(corners.reshape(4), _rescale(face.landmarks, scale), face.probability)


def _rescale(points: FloatArray, scale: npt.NDArray[np.float64]) -> FloatArray:
    return ((points + 0.5) * scale - 0.5).astype(np.float32)


def _turned_back(face: DetectedFace, shape: tuple[int, int], quarter_turns: int) -> DetectedFace:
    """From px of a picture of shape (h, w) made by np.rot90(·, quarter_turns) to the picture before."""
    corners, points = face.box.reshape(2, 2), face.landmarks
    height, width = shape
    for _ in range(quarter_turns):
        corners, points = _quarter_back(corners, height), _quarter_back(points, height)
        height, width = width, height
    box = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
    return DetectedFace(box, points, face.probability)


def _quarter_back(points: FloatArray, height: int) -> FloatArray:
    """Undoes one np.rot90 on points (n, 2): its pixel (x, y) was at (height − 1 − y, x), height its own."""
    return np.stack([height - 1 - points[:, 1], points[:, 0]], axis=1).astype(np.float32)

"""Where MTCNN puts the five landmarks of a synthetic face, compared with where they truly are.

So that training on true landmarks sees the crops that the pipeline makes. Axes are those of the face: right
along the line between the eyes, down across it; the unit is the distance from the middle of the eyes to the
middle of the mouth corners. Measured by measure_offsets() on population 2000 (syndromes 6000–6039).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

# Rows: eye left, eye right (in the picture), nose, mouth corner left, right. Columns: right, down.
# 800 photos at 256 px, half of them patients; 799 found. Wild finds are left out.
MEDIAN_OFFSET: Array = np.array(
    [[-0.0071, 0.0347], [0.0604, 0.0401], [0.0162, -0.0033], [-0.0106, 0.0468], [0.0613, 0.0413]]
)
SPREAD: Array = np.array(
    [[0.0195, 0.0171], [0.0202, 0.0163], [0.0246, 0.0575], [0.0388, 0.0388], [0.0511, 0.0460]]
)
WILD = 0.4  # offsets beyond this are a wrong find, not an offset


def face_axes(landmarks: Array) -> tuple[Array, Array, float]:
    """(5, 2) px → unit vectors right and down of the face (2,), and the eye–mouth distance in px."""
    right = landmarks[1] - landmarks[0]
    right = right / np.linalg.norm(right)
    down = np.array([-right[1], right[0]])
    unit = float(np.linalg.norm(landmarks[3:].mean(axis=0) - landmarks[:2].mean(axis=0)))
    return right, down, unit


def offset_between(true: Array, detected: Array) -> Array:
    """(5, 2) px each → (5, 2): right and down in eye–mouth distances."""
    right, down, unit = face_axes(true)
    difference = (detected - true) / unit
    return np.stack([difference @ right, difference @ down], axis=1)


def as_detected(
    landmarks: npt.NDArray[np.float32], rng: np.random.Generator | None = None
) -> npt.NDArray[np.float32]:
    """(5, 2) px true landmarks → what the detector would say; with rng also its scatter."""
    true = landmarks.astype(np.float64)
    right, down, unit = face_axes(true)
    offset = MEDIAN_OFFSET + (0.0 if rng is None else rng.normal(size=(5, 2)) * SPREAD)
    return (true + unit * (offset[:, :1] * right + offset[:, 1:] * down)).astype(np.float32)


def measure_offsets(pairs: Iterable[tuple[Array, Array]]) -> tuple[Array, Array, int]:
    """(true, detected) landmarks → median and spread (5, 2), number of wild finds left out."""
    offsets = np.array([offset_between(true, found) for true, found in pairs])
    wild = np.abs(offsets).max(axis=(1, 2)) > WILD
    kept = offsets[~wild]
    return np.median(kept, axis=0), kept.std(axis=0), int(wild.sum())

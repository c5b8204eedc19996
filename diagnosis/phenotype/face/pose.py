"""How far a face is turned away from the camera, estimated from five landmarks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_CANONICAL_FACE = np.array(
    [
        [-3.151, -2.625, -3.466],  # eye centres: the mean of inner and outer corner
        [3.151, -2.625, -3.466],
        [0.0, 1.127, -7.476],  # tip of the nose
        [-2.456, 4.343, -4.284],  # mouth corners
        [2.456, 4.343, -4.284],
    ]
)
"""The five points in cm, (5, 3): x to the right of the picture, y down, z away from the camera.

MediaPipe's canonical_face_model.obj (Apache-2.0), vertices 33, 133, 362, 263, 1, 61 and 291.
"""


class Pose(NamedTuple):
    """Angles in degrees; positive yaw: the nose points to the right of the picture; positive pitch: up;
    positive roll: the head leans clockwise in the picture."""

    yaw: float
    pitch: float
    roll: float


def estimate_pose(landmarks: npt.NDArray[np.floating]) -> Pose:
    """Pose of landmarks (5, 2) px under weak perspective, for an average skull.

    DeMenthon and Davis, "Model-based object pose in 25 lines of code", IJCV 15, 1995, the step called
    POS: the least-squares affine camera of the canonical points, whose two rows are made orthonormal
    (here by the nearest rotation). A long nose or a short philtrum moves the pitch by some degrees, an
    asymmetric face the yaw: fit for a warning and for gross turns, not for measurement.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    model = _CANONICAL_FACE - _CANONICAL_FACE.mean(axis=0)
    camera = (np.linalg.pinv(model) @ (points - points.mean(axis=0))).T  # (2, 3), px per cm
    left, _, right = np.linalg.svd(camera, full_matrices=False)
    first, second = left @ right  # the nearest pair of orthonormal rows
    rotation = np.stack([first, second, np.cross(first, second)])
    # Read off rotation = Rz(roll) · Rx(pitch) · Ry(yaw), as canonical_landmarks builds it.
    yaw = np.arctan2(rotation[2, 0], rotation[2, 2])
    pitch = np.arcsin(np.clip(-rotation[2, 1], -1, 1))
    roll = np.arctan2(-rotation[0, 1], rotation[1, 1])
    return Pose(*(float(np.degrees(angle)) for angle in (yaw, pitch, roll)))


def canonical_landmarks(yaw: float, pitch: float = 0.0, roll: float = 0.0) -> npt.NDArray[np.float64]:
    """The canonical face seen from afar at these degrees: (5, 2) float64, cm, to test and to explain."""
    y, p, r = np.radians([yaw, pitch, roll])
    about_y = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    turned: npt.NDArray[np.float64] = _CANONICAL_FACE @ (about_z @ about_x @ about_y).T
    return turned[:, :2]

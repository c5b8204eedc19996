"""Pose from five points: exact on the canonical face, sensible on photos."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from PIL import Image

from diagnosis.phenotype.face.detect import FaceDetector
from diagnosis.phenotype.face.pose import canonical_landmarks, estimate_pose
from diagnosis.phenotype.types import DetectedFace, PixelArray


@pytest.mark.parametrize(
    ("yaw", "pitch", "roll"), list(product((-70, -25, 0, 40), (-40, 0, 25), (-170, -30, 0, 90)))
)
def test_the_angles_of_the_canonical_face_are_recovered(yaw: float, pitch: float, roll: float) -> None:
    landmarks = 13.0 * canonical_landmarks(yaw, pitch, roll) + [400.0, 300.0]
    assert np.allclose(estimate_pose(landmarks), (yaw, pitch, roll), atol=1e-6)


def test_signs_are_those_of_the_picture() -> None:
    nose = 2
    assert canonical_landmarks(yaw=20)[nose, 0] > 0.5  # to the right
    assert canonical_landmarks(0, pitch=20)[nose, 1] < canonical_landmarks(0)[nose, 1] - 0.5  # up
    left_eye, right_eye = canonical_landmarks(0, 0, roll=20)[:2]
    assert right_eye[1] > left_eye[1]  # clockwise, y runs down


def test_a_pixel_of_jitter_moves_a_40_px_face_by_few_degrees(rng: np.random.Generator) -> None:
    scale = 40 / 6.302  # px per cm at 40 px between the eyes
    truth = scale * canonical_landmarks(15, 5)
    poses = np.array([estimate_pose(truth + rng.normal(0, 1, (5, 2))) for _ in range(200)])
    assert np.abs(poses.mean(axis=0) - (15, 5, 0)).max() < 1
    assert poses.std(axis=0).max() < 4


def test_a_mirrored_photo_has_the_opposite_yaw(detector: FaceDetector, astronaut: PixelArray) -> None:
    mirrored = detector.detect(np.ascontiguousarray(astronaut[:, ::-1]))[0]
    pose, twin = estimate_pose(detector.detect(astronaut)[0].landmarks), estimate_pose(mirrored.landmarks)
    assert twin.yaw == pytest.approx(-pose.yaw, abs=6)
    assert twin.roll == pytest.approx(-pose.roll, abs=4)
    assert twin.pitch == pytest.approx(pose.pitch, abs=8)


def test_a_leaning_photo_leans(
    detector: FaceDetector, astronaut: PixelArray, astronaut_face: DetectedFace
) -> None:
    leaning = Image.fromarray(astronaut).rotate(-20, Image.Resampling.BICUBIC)  # clockwise
    pose = estimate_pose(detector.detect(np.asarray(leaning))[0].landmarks)
    assert pose.roll - estimate_pose(astronaut_face.landmarks).roll == pytest.approx(20, abs=6)

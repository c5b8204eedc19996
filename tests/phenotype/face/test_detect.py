"""Detection on real pixels: where the landmarks are, on copies turned, scaled, doubled, and on none."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from diagnosis.phenotype.face.detect import DETECTION_SIDE, MIN_PROBABILITY, FaceDetector, shrink
from diagnosis.phenotype.types import DetectedFace, PixelArray

# Read off the photo by eye, px: pupils, tip of the nose, corners of the mouth.
ASTRONAUT_BY_EYE = np.array([[205, 101], [246, 102], [225, 127], [205, 142], [246, 142]])
EYE_DISTANCE = 41.0


def test_one_face_with_five_landmarks_where_they_are(astronaut_face: DetectedFace) -> None:
    assert astronaut_face.probability > 0.999
    assert astronaut_face.landmarks.shape == (5, 2) and astronaut_face.landmarks.dtype == np.float32
    assert astronaut_face.box.shape == (4,) and astronaut_face.box.dtype == np.float32
    assert np.abs(astronaut_face.landmarks - ASTRONAUT_BY_EYE).max() < 0.15 * EYE_DISTANCE
    x0, y0, x1, y1 = astronaut_face.box
    assert ((astronaut_face.landmarks > (x0, y0)) & (astronaut_face.landmarks < (x1, y1))).all()


def test_a_large_photo_is_searched_in_a_copy_and_answered_in_its_own_pixels(
    detector: FaceDetector, astronaut_1600: PixelArray, astronaut_face: DetectedFace
) -> None:
    (face,) = detector.detect(astronaut_1600)
    expected = (astronaut_face.landmarks + 0.5) * 1600 / 512 - 0.5
    assert np.abs(face.landmarks - expected).max() < 0.1 * EYE_DISTANCE * 1600 / 512


def test_landmarks_of_a_scaled_face_are_mapped_pixel_centre_to_pixel_centre(
    detector: FaceDetector, astronaut_1600: PixelArray
) -> None:
    """Detecting in the copy by hand and in the photo must agree to rounding: no half pixel is lost."""
    small = shrink(astronaut_1600)
    assert max(small.shape) == DETECTION_SIDE
    (in_copy,), (in_photo,) = detector.detect(small), detector.detect(astronaut_1600)
    scale = 1600 / DETECTION_SIDE
    assert np.allclose(in_photo.landmarks, (in_copy.landmarks + 0.5) * scale - 0.5, atol=1e-3)
    assert np.allclose(in_photo.box, (in_copy.box + 0.5) * scale - 0.5, atol=1e-3)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_photos_on_their_side_or_upside_down_give_the_same_points(
    detector: FaceDetector, astronaut: PixelArray, astronaut_face: DetectedFace, turns: int
) -> None:
    (face,) = detector.detect(np.ascontiguousarray(np.rot90(astronaut, turns)))
    points = astronaut_face.landmarks
    for _ in range(turns):  # np.rot90 sends pixel (x, y) of a 512 px square to (y, 511 − x)
        points = np.stack([points[:, 1], 511 - points[:, 0]], axis=1)
    assert np.allclose(face.landmarks, points, atol=1e-3)
    x0, y0, x1, y1 = face.box
    assert x0 < x1 and y0 < y1 and ((points > (x0, y0)) & (points < (x1, y1))).all()


def test_an_oblong_photo_on_its_side_gives_the_same_points(
    detector: FaceDetector, astronaut: PixelArray
) -> None:
    portrait = np.ascontiguousarray(astronaut[:, 60:400])
    (upright,), (sideways,) = detector.detect(portrait), detector.detect(np.rot90(portrait).copy())
    width = portrait.shape[1]
    turned = np.stack([upright.landmarks[:, 1], width - 1 - upright.landmarks[:, 0]], axis=1)
    assert np.allclose(sideways.landmarks, turned, atol=1e-3)


@pytest.mark.parametrize("degrees", [-40, -20, 20, 40])
def test_leaning_heads_are_found(
    detector: FaceDetector, astronaut: PixelArray, astronaut_face: DetectedFace, degrees: int
) -> None:
    leaning = np.asarray(Image.fromarray(astronaut).rotate(degrees, Image.Resampling.BICUBIC))
    (face,) = detector.detect(leaning)
    angle = np.radians(degrees)
    rotate = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])  # y runs down
    expected = (astronaut_face.landmarks - 255.5) @ rotate.T + 255.5
    # MTCNN follows a lean only in part, so the points are near, not exact.
    assert np.linalg.norm(face.landmarks - expected, axis=1).max() < 0.35 * EYE_DISTANCE


def test_two_faces_side_by_side_come_from_left_to_right(
    detector: FaceDetector, astronaut: PixelArray, astronaut_face: DetectedFace
) -> None:
    faces = detector.detect(np.concatenate([astronaut, astronaut], axis=1))
    assert len(faces) == 2
    distance = faces[1].landmarks.mean(axis=0) - faces[0].landmarks.mean(axis=0)
    assert abs(abs(distance[0]) - 512) < 5 and abs(distance[1]) < 5


def test_the_larger_face_comes_first(detector: FaceDetector, astronaut: PixelArray) -> None:
    small = np.asarray(Image.fromarray(astronaut).resize((300, 300), Image.Resampling.BICUBIC))
    canvas = np.full((512, 812, 3), 128, dtype=np.uint8)
    canvas[:300, :300], canvas[:, 300:] = small, astronaut
    first, second = detector.detect(canvas)
    assert first.box[0] > 300 > second.box[2]


def test_a_face_below_a_tenth_of_the_photo_is_still_found(
    detector: FaceDetector, astronaut: PixelArray
) -> None:
    canvas = np.full((1000, 1000, 3), 128, dtype=np.uint8)
    canvas[600:800, 100:300] = np.asarray(Image.fromarray(astronaut).resize((200, 200)))
    (face,) = detector.detect(canvas)
    assert face.box[2] - face.box[0] < 60
    assert (face.landmarks > (100, 600)).all() and (face.landmarks < (300, 800)).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (19, 300), (20, 20), (25, 3000), (64, 64)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_blank_tiny_and_extreme_photos_hold_no_face(
    detector: FaceDetector, shape: tuple[int, int], level: int
) -> None:
    assert detector.detect(np.full((*shape, 3), level, dtype=np.uint8)) == ()


@pytest.mark.parametrize("name", ["coffee", "chelsea", "rocket", "brick", "coins", "text"])
def test_pictures_without_people_hold_no_face(detector: FaceDetector, name: str) -> None:
    picture = getattr(skimage.data, name)()
    rgb = np.stack([picture] * 3, axis=2) if picture.ndim == 2 else picture[..., :3]
    assert detector.detect(np.ascontiguousarray(rgb)) == ()


def test_a_grey_photo_is_as_good(
    detector: FaceDetector, astronaut: PixelArray, astronaut_face: DetectedFace
) -> None:
    grey = np.repeat(np.asarray(Image.fromarray(astronaut).convert("L"))[..., None], 3, axis=2)
    (face,) = detector.detect(grey)
    assert np.abs(face.landmarks - astronaut_face.landmarks).max() < 0.1 * EYE_DISTANCE


def test_noise_and_scraps_of_faces_never_raise(
    detector: FaceDetector, astronaut: PixelArray, rng: np.random.Generator
) -> None:
    for number in range(60):
        height, width = (int(v) for v in np.exp(rng.uniform(np.log(20), np.log(250), 2)))
        if number % 2:
            y, x = rng.integers(0, 300, 2)
            pixels = np.ascontiguousarray(astronaut[y : y + height, x : x + width])
        else:
            pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        for face in detector.detect(pixels):
            assert face.probability >= MIN_PROBABILITY and np.isfinite(face.landmarks).all()


@pytest.mark.parametrize(
    "photo",
    [
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((10, 10, 3), np.float32),
        np.zeros((0, 10, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(detector: FaceDetector, photo: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8 RGB"):
        detector.detect(photo)


def test_the_answer_is_the_same_every_time_and_from_every_thread(
    detector: FaceDetector, astronaut: PixelArray, astronaut_face: DetectedFace
) -> None:
    answers: list[tuple[DetectedFace, ...]] = []
    threads = [threading.Thread(target=lambda: answers.append(detector.detect(astronaut))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers.append(FaceDetector().detect(astronaut))  # freshly loaded
    assert len(answers) == 4
    for (face,) in answers:
        assert np.array_equal(face.landmarks, astronaut_face.landmarks)
        assert face.probability == astronaut_face.probability


def test_one_thread_while_detecting_and_the_callers_number_after(
    detector: FaceDetector, astronaut: PixelArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    cascade = detector._cascade
    monkeypatch.setattr(
        detector, "_cascade", lambda *args: (seen.append(torch.get_num_threads()), cascade(*args))[1]
    )
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        detector.detect(astronaut)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen and set(seen) == {1}


def test_importing_the_room_does_not_load_the_detector() -> None:
    program = "import sys, diagnosis.phenotype.face.find; print('facenet_pytorch' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert run.stdout.strip() == "False"

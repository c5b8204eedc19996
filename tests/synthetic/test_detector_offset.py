"""The measured offset between true landmarks and MTCNN's, and its use."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from diagnosis.synthetic import detector_offset, manifest

TRUE = np.array([[40.0, 50.0], [80.0, 54.0], [60.0, 75.0], [45.0, 95.0], [72.0, 97.0]], dtype=np.float32)


def test_offsets_are_measured_in_the_face_s_own_axes() -> None:
    right, down, unit = detector_offset.face_axes(TRUE.astype(float))
    moved = TRUE + unit * (0.1 * right + 0.2 * down)
    np.testing.assert_allclose(
        detector_offset.offset_between(TRUE.astype(float), moved), np.tile([0.1, 0.2], (5, 1)), atol=1e-12
    )
    angle = np.radians(30)
    turn = 1.7 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = detector_offset.offset_between(TRUE.astype(float) @ turn.T, moved @ turn.T)
    np.testing.assert_allclose(turned, np.tile([0.1, 0.2], (5, 1)), atol=1e-12)


def test_as_detected_adds_the_table_and_with_a_generator_its_spread() -> None:
    shifted = detector_offset.as_detected(TRUE)
    offset = detector_offset.offset_between(TRUE.astype(float), shifted.astype(float))
    np.testing.assert_allclose(offset, detector_offset.MEDIAN_OFFSET, atol=1e-5)
    rng = np.random.default_rng(1)
    many = [(TRUE.astype(float), detector_offset.as_detected(TRUE, rng).astype(float)) for _ in range(4000)]
    median, spread, wild = detector_offset.measure_offsets(many)
    np.testing.assert_allclose(median, detector_offset.MEDIAN_OFFSET, atol=0.005)
    np.testing.assert_allclose(spread, detector_offset.SPREAD, rtol=0.06)
    assert wild == 0


def test_wild_finds_are_counted_and_left_out() -> None:
    good = detector_offset.as_detected(TRUE).astype(float)
    pairs = [(TRUE.astype(float), good)] * 5 + [(TRUE.astype(float), good + 60.0)]
    median, _, wild = detector_offset.measure_offsets(pairs)
    assert wild == 1
    np.testing.assert_allclose(median, detector_offset.MEDIAN_OFFSET, atol=1e-5)


def test_the_detector_finds_shipped_faces_where_the_table_says() -> None:
    """Every sixth person. Photos have 320 px, the table is from 256 px: part of the offset is in px."""
    from diagnosis.phenotype.face.detect import FaceDetector

    detector = FaceDetector()
    shipped = manifest.load_shipped()
    photos = [person.photos[0] for person in shipped.people[::6]]
    pairs = []
    for photo in photos:
        pixels = np.asarray(Image.open(io.BytesIO(shipped.read_photo(photo))).convert("RGB"))
        faces = detector.detect(pixels)
        if faces:
            pairs.append((np.array(photo.landmarks), faces[0].landmarks.astype(float)))
    assert len(pairs) / len(photos) >= 0.97
    median, _, wild = detector_offset.measure_offsets(pairs)
    assert wild <= 2
    assert np.abs(median - detector_offset.MEDIAN_OFFSET).max() < 0.03
    errors = [np.abs(found - detector_offset.as_detected(true)).mean() for true, found in pairs]
    assert np.median(errors) < 2.5  # px

"""The astronaut of scikit-image and one loaded detector for all tests of the room."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import skimage.data
from PIL import Image

from diagnosis.phenotype.face.detect import FaceDetector
from diagnosis.phenotype.types import DetectedFace, PixelArray


@pytest.fixture(scope="session")
def detector() -> FaceDetector:
    return FaceDetector()


@pytest.fixture(scope="session")
def astronaut() -> PixelArray:
    """(512, 512, 3) uint8 RGB, one face, eyes 42 px apart."""
    photo: PixelArray = skimage.data.astronaut()
    photo.flags.writeable = False  # a test that paints must copy
    return photo


@pytest.fixture(scope="session")
def astronaut_face(detector: FaceDetector, astronaut: PixelArray) -> DetectedFace:
    faces = detector.detect(astronaut)
    assert len(faces) == 1
    return faces[0]


@pytest.fixture(scope="session")
def astronaut_1600(astronaut: PixelArray) -> PixelArray:
    return np.asarray(Image.fromarray(astronaut).resize((1600, 1600), Image.Resampling.BICUBIC))


@pytest.fixture
def rng() -> Iterator[np.random.Generator]:
    yield np.random.default_rng(20261120)

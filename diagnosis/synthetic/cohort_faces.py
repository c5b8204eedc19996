"""A cohort through the real pipeline: every photo detected, aligned and judged as at a hospital."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from diagnosis.phenotype.face.detect import FaceDetector
from diagnosis.phenotype.face.find import Detector, find_face
from diagnosis.phenotype.types import PixelArray
from diagnosis.synthetic.manifest import Cohort, CohortPhoto

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CohortFaces:
    """pixels (n, 112, 112, 3) uint8 of the photos that were found and passed; image_ids (n,) int64.

    photos counts all photos of the cohort; refusals counts those left out, by code.
    """

    pixels: PixelArray
    image_ids: Indices
    photos: int
    refusals: dict[str, int]

    def places(self) -> dict[int, int]:
        """image_id → row of pixels."""
        return {int(image_id): row for row, image_id in enumerate(self.image_ids)}

    def summary(self) -> dict[str, Any]:
        """For JSON."""
        return {"photos": self.photos, "aligned": len(self.image_ids), "refusals": self.refusals}


def find_cohort_faces(cohort: Cohort, detector: Detector | None = None) -> CohortFaces:
    """Reads, detects, aligns and judges every photo of the cohort, in the manifest's order."""
    detector = detector or FaceDetector()
    pixels: list[PixelArray] = []
    image_ids: list[int] = []
    refusals: dict[str, int] = {}
    photos = [photo for person in cohort.people for photo in person.photos]
    for photo in photos:
        found = find_face(read_pixels(cohort, photo), detector=detector)
        if found.aligned is None or found.refusal is not None:
            code = found.refusal.code if found.refusal else "not aligned"
            refusals[code] = refusals.get(code, 0) + 1
            continue
        pixels.append(found.aligned.pixels)
        image_ids.append(photo.image_id)
    return CohortFaces(np.stack(pixels), np.array(image_ids, dtype=np.int64), len(photos), refusals)


def read_pixels(cohort: Cohort, photo: CohortPhoto) -> PixelArray:
    """(H, W, 3) uint8 RGB, checked against the manifest."""
    return np.asarray(Image.open(io.BytesIO(cohort.read_photo(photo))).convert("RGB"))


def cached_cohort_faces(cohort: Cohort, path: Path) -> CohortFaces:
    """As find_cohort_faces, kept in a file for the next extractor: faces do not depend on one."""
    if not path.exists():
        faces = find_cohort_faces(cohort)
        codes = np.array([f"{code}={count}" for code, count in sorted(faces.refusals.items())], dtype=np.str_)
        np.savez(path, pixels=faces.pixels, image_ids=faces.image_ids, photos=faces.photos, codes=codes)
    with np.load(path, allow_pickle=False) as stored:
        refusals = dict(entry.rsplit("=", 1) for entry in stored["codes"].tolist())
        counts = {code: int(count) for code, count in refusals.items()}
        return CohortFaces(stored["pixels"], stored["image_ids"], int(stored["photos"]), counts)

"""Rows of a small clinic as the pages need them: faces that are painted, an extractor, a gallery, a list."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw


def _estimate(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high, "n": 150}


BANDS = [
    {"band": "High", "cutoff": 0.31, "sensitivity": _estimate(0.52, 0.44, 0.6),
     "precision": _estimate(0.93, 0.86, 0.97), "within": _estimate(0.93, 0.86, 0.97)},
    {"band": "Medium", "cutoff": 0.42, "sensitivity": _estimate(0.78, 0.71, 0.84),
     "precision": _estimate(0.71, 0.63, 0.78), "within": _estimate(0.4, 0.3, 0.5)},
    {"band": "Low", "cutoff": 2.0, "sensitivity": _estimate(0.95, 0.9, 0.98),
     "precision": _estimate(0.03, 0.02, 0.05), "within": _estimate(0.02, 0.01, 0.03)},
]  # fmt: skip
CALIBRATION = {
    "bands": BANDS, "area": _estimate(0.91, 0.88, 0.94), "sensitivity": _estimate(0.8, 0.72, 0.86),
    "specificity": _estimate(0.88, 0.81, 0.93),
}  # fmt: skip
LANDMARKS = [[38.3, 51.7], [73.5, 51.5], [56.0, 71.7], [41.5, 92.4], [70.7, 92.2]]
_numbers = itertools.count(1)


def paint_face(seed: int, side: int = 112) -> np.ndarray:
    """(side, side, 3) uint8: a plainly painted face, another one for each seed, on the template's points."""
    random = np.random.default_rng(seed)
    tone = np.array([236, 196, 170]) * random.uniform(0.45, 1.0)
    skin = tuple(int(value) for value in tone)
    ground = tuple(int(value) for value in random.integers(90, 210, 3))
    picture = Image.new("RGB", (112, 112), ground)
    draw = ImageDraw.Draw(picture)
    wide, shift = float(random.uniform(38, 46)), float(random.uniform(-2, 2))
    draw.ellipse((56 - wide, 4, 56 + wide, 112), fill=skin)
    hair = tuple(int(value) for value in random.integers(20, 90, 3))
    draw.pieslice((56 - wide, -6, 56 + wide, 60), 180, 360, fill=hair)
    draw.ellipse((56 - wide + 4, 18, 56 + wide - 4, 100), fill=skin)
    for x in (38.3 - shift, 73.5 + shift):
        draw.ellipse((x - 7, 47, x + 7, 56), fill=(250, 250, 250))
        draw.ellipse((x - 3, 48, x + 3, 55), fill=tuple(int(v) for v in random.integers(20, 110, 3)))
        draw.line((x - 8, 42, x + 8, 41), fill=(60, 40, 30), width=2)
    draw.line((56, 54, 53, 72, 59, 72), fill=tuple(int(v * 0.75) for v in skin), width=2)
    draw.arc((42, 82 - shift, 70, 98), 10, 170, fill=(150, 60, 60), width=3)
    return np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC), dtype=np.uint8)


def encode(pixels: np.ndarray, kind: str) -> bytes:
    """A picture file of pixels."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def photo_of_painting(seed: int, width: int = 320, height: int = 400) -> np.ndarray:
    """(height, width, 3) uint8: a painted face of 224 px somewhere in a larger photo."""
    photo = np.full((height, width, 3), 205, dtype=np.uint8)
    photo[120:344, 48:272] = paint_face(seed, 224)
    return photo


@pytest.fixture
def make_photo(db: None) -> Callable[..., Any]:
    """make_photo(case, seed=1, state="ready", **fields) → Photo with a sealed original and crop."""
    from diagnosis import vault
    from diagnosis.models import Photo

    def make(case: Any, *, seed: int = 0, state: str = "ready", **fields: Any) -> Any:
        seed = seed or next(_numbers)
        pixels = photo_of_painting(seed)
        landmarks = [[48 + 2 * x, 120 + 2 * y] for x, y in LANDMARKS]
        face = {"box": [60, 130, 260, 340], "landmarks": landmarks, "probability": 0.99}
        known = {"faces": [face], "landmarks": landmarks, "face_choice": 0, "quality": 0.91,
                 "measures": {"eye_distance_px": 70.5, "blur": 0.3}}  # fmt: skip
        values = (known if state == "ready" else {}) | fields
        photo = Photo(case=case, patient=case.patient, state=state, width=320, height=400,
                      fingerprint=f"{next(_numbers):064d}", **values)  # fmt: skip
        vault.create_key(photo.key)
        photo.original = vault.blob_write(photo.key, encode(pixels, "JPEG"), purpose="original")
        if state == "ready":
            crop = encode(paint_face(seed), "PNG")
            photo.crop = vault.blob_write(photo.key, crop, purpose="crop")
        photo.save()
        return photo

    return make


@pytest.fixture
def extractor(db: None) -> Any:
    from django.utils import timezone

    from diagnosis.models import Extractor

    return Extractor.objects.create(
        name="gw-test 1", sha256="ab" * 32, state="adopted", synthetic=True, origin="made for tests",
        licence="none", facts={"calibration": CALIBRATION}, adopted_at=timezone.now(),
    )  # fmt: skip


@pytest.fixture
def catalogue(db: None) -> list[Any]:
    """34 synthetic disorders with a gene each."""
    from diagnosis.models import Gene, Syndrome

    made = []
    for number in range(1, 35):
        syndrome = Syndrome.objects.create(
            identifier=f"SYN:{number:04d}", name=f"Synthetic syndrome {number:02d}", synthetic=True
        )
        syndrome.genes.add(Gene.objects.create(symbol=f"SYN{number}A", synthetic=True))
        made.append(syndrome)
    return made


@pytest.fixture
def make_gallery_patient(make_patient: Any, make_case: Any, make_photo: Any) -> Callable[..., Any]:
    """make_gallery_patient(syndrome, team=…, tiers=…, photos=1) → a patient who stands in the gallery."""
    from diagnosis.models import Diagnosis

    def make(syndrome: Any, *, photos: int = 1, tiers: Any = ("analysis", "gallery"), **fields: Any) -> Any:
        ages = fields.pop("age_months", 50)
        patient = make_patient(tiers=tiers, **fields)
        case = make_case(patient, state="solved")
        for _ in range(photos):
            make_photo(case, age_months=ages)
        Diagnosis.objects.create(patient=patient, case=case, syndrome=syndrome)
        return patient

    return make


@pytest.fixture
def make_ranking(extractor: Any, catalogue: Any, sign: Any) -> Callable[..., Any]:
    """make_ranking(case, photos_of={identifier: [photo, …]}) → RankingRecord of 34 rows."""
    from diagnosis.models import Case, GalleryVersion, RankingRecord
    from diagnosis.selectors import consent_now

    def make(case: Any, *, photos_of: Any = None, match: str = "confident", **fields: Any) -> Any:
        number = next(_numbers)
        gallery = GalleryVersion.objects.create(
            number=number, extractor=extractor, sha256=f"{number:064x}", photos=60, patients=51, syndromes=34
        )
        known = photos_of or {}
        rows, people = [], {}
        for rank, syndrome in enumerate(catalogue, start=1):
            photos = known.get(syndrome.identifier, [])
            distance = 0.22 + 0.012 * rank
            band = next(b["band"] for b in BANDS if distance <= b["cutoff"])
            rows.append({"rank": rank, "id": syndrome.identifier, "name": syndrome.name,
                         "distance": round(distance, 6), "band": band, "photos": [p.pk for p in photos],
                         "patients": max(len({p.patient_id for p in photos}), 1),
                         "genes": [f"SYN{rank}A"]})  # fmt: skip
            for photo in photos:
                people.setdefault(photo.patient_id, (distance, []))[1].append(photo.pk)
        patients = [
            {"rank": rank, "id": pk, "distance": distance, "photos": keys}
            for rank, (pk, (distance, keys)) in enumerate(people.items(), start=1)
        ]
        genes = [{"rank": row["rank"], "id": row["genes"][0], "distance": row["distance"],
                  "photos": row["photos"], "patients": row["patients"]} for row in rows]  # fmt: skip
        record = RankingRecord.objects.create(
            case=case, photos=[photo.pk for photo in case.photos.all()], extractor=extractor, gallery=gallery,
            consent=consent_now(case.patient), match=match, score=0.4, seconds=0.31,
            result={"syndromes": rows, "genes": genes, "patients": patients}, **fields,
        )  # fmt: skip
        Case.objects.filter(pk=case.pk).update(state="ranked")
        case.refresh_from_db()
        return record

    return make

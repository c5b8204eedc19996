"""What tests of the clinic share: an installed model with seeded weights, photos, a gallery, and a worker."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


@functools.cache
def _compact_weights() -> bytes:
    """The default network's layout with random weights from a fixed seed: good for nothing but tests."""
    import torch

    from diagnosis.phenotype.embed.backbone import build_backbone
    from diagnosis.phenotype.embed.weights import serialize_weights

    torch.manual_seed(20261120)
    return serialize_weights(build_backbone("compact"))


@pytest.fixture
def compact_file(tmp_path: Path) -> Path:
    """A safetensors file of the compact network with seeded random weights."""
    path = tmp_path / "compact.safetensors"
    path.write_bytes(_compact_weights())
    return path


@pytest.fixture
def install(db: None, compact_file: Path) -> Callable[..., Any]:
    """install(name=…, flip=…) → Extractor of one compact member, installed but not adopted."""
    from diagnosis.services.model import MemberFile, extractor_install

    def make(**changes: Any) -> Any:
        values: dict[str, Any] = {
            "user": None, "name": "compact test", "members": [MemberFile("compact", compact_file)],
            "flip": True, "grey": True, "origin": "random numbers", "licence": "none", "synthetic": True,
        }  # fmt: skip
        return extractor_install(**(values | changes))

    return make


@pytest.fixture
def extractor(install: Callable[..., Any]) -> Any:
    """The adopted extractor."""
    from diagnosis import engine
    from diagnosis.services.model import extractor_adopt

    engine.forget_galleries()
    return extractor_adopt(user=None, extractor=install())


@functools.cache
def _astronaut() -> np.ndarray:
    from skimage.data import astronaut

    return astronaut()


@pytest.fixture
def astronaut() -> np.ndarray:
    """(512, 512, 3) uint8: one clear face, public domain (NASA)."""
    return _astronaut().copy()


@pytest.fixture
def photo_bytes() -> Callable[..., bytes]:
    """photo_bytes(seed, kind="JPEG") → a photo of the astronaut, a little different for each seed."""

    def make(seed: int = 0, kind: str = "JPEG", **options: Any) -> bytes:
        random = np.random.default_rng(seed)
        shift = random.integers(-6, 7, 3) if seed else np.zeros(3, dtype=np.int64)
        pixels = np.clip(_astronaut()[:300, 80:380].astype(np.int16) + shift, 0, 255).astype(np.uint8)
        if seed:
            pixels[:6, :6] = random.integers(0, 256, (6, 6, 3))
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, kind, **options)
        return stream.getvalue()

    return make


@pytest.fixture
def run_jobs(django_capture_on_commit_callbacks: Any) -> Callable[[], int]:
    """run_jobs() → works in this thread on every job that is due, as a worker would; returns how many."""
    from diagnosis import jobs, tasks

    work = {
        "analyse_photo": tasks.analyse_photo, "rank_case": tasks.rank_case,
        "reembed_photo": tasks.reembed_photo,
    }  # fmt: skip

    def run() -> int:
        done = 0
        with django_capture_on_commit_callbacks(execute=True):
            while (job := jobs.due().first()) is not None:
                work[job.kind](job.pk)
                done += 1
                assert done < 1000, "a job comes back again and again"
        return done

    return run


@pytest.fixture
def make_gallery(make_patient: Any, make_case: Any, extractor: Any) -> Callable[..., Any]:
    """make_gallery(syndromes=40) → diagnosed, consenting patients, one photo each with random unit rows."""
    from diagnosis import engine, vault
    from diagnosis.models import Diagnosis, Embedding, Gene, Photo, Syndrome

    def make(*, syndromes: int = 40, seed: int = 1, rows: int = 4) -> list[Any]:
        random = np.random.default_rng(seed)
        photos = []
        for number in range(syndromes):
            patient = make_patient(tiers={"analysis", "gallery"})
            syndrome, _ = Syndrome.objects.get_or_create(
                identifier=f"SYN:{number:04d}", defaults={"name": f"Syndrome {number}", "synthetic": True}
            )
            gene, _ = Gene.objects.get_or_create(symbol=f"GEN{number}", defaults={"synthetic": True})
            syndrome.genes.add(gene)
            photo = Photo.objects.create(
                case=make_case(patient), patient=patient, state="ready", fingerprint=f"{number:064d}"
            )
            vault.create_key(photo.key)
            vectors = random.normal(size=(rows, 512))
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            Embedding.objects.create(
                photo=photo, extractor=extractor, rows=rows,
                sealed=engine.seal_rows(photo, extractor, vectors.astype(np.float32)),
            )  # fmt: skip
            Diagnosis.objects.create(patient=patient, syndrome=syndrome)
            photos.append(photo)
        return photos

    return make


@pytest.fixture
def make_calibration() -> Callable[..., Any]:
    """make_calibration(sha256, confident=…, high=…, medium=…) → Calibration with cut-offs as given; its score
    is far above or far below its threshold for every photo of four rows."""
    from diagnosis.phenotype.ranking.bands import BandFigures, Bands
    from diagnosis.phenotype.ranking.calibration import Calibration
    from diagnosis.phenotype.ranking.intervals import wilson
    from diagnosis.phenotype.ranking.logistic import Logistic
    from diagnosis.phenotype.ranking.match import Contrast, Matcher
    from diagnosis.phenotype.ranking.metrics import ThresholdFigures

    def make(sha256: str, *, confident: bool, high: float = 0.9, medium: float = 1.0) -> Calibration:
        some, zeros = wilson(3, 10), np.zeros((4, 512), dtype=np.float32)
        cuts = (("High", high), ("Medium", medium), ("Low", 2.0))
        bands = tuple(BandFigures(band, cut, some, some, some) for band, cut in cuts)
        contrast = Contrast(zeros, np.zeros(4, np.float32), zeros, np.zeros((4, 512, 512), np.float32))
        logistic = Logistic(np.zeros(5), 9.0 if confident else -9.0, np.zeros(5), np.ones(5))
        matcher = Matcher(contrast, logistic, 0.5, some, ThresholdFigures(0.5, some, some, some))
        return Calibration(sha256, Bands(bands), matcher, {"cohort": "made up for a test"})

    return make

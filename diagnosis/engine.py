"""The clinic's door to the science: networks loaded once per process, rows sealed and opened, the gallery.

The gallery in memory is only a cache of what the database says. At each use its list of embeddings is
compared with the consent-filtered selector: what may no longer stand there is dropped from memory first,
what is new is opened, and nothing else is read again. So a withdrawal in any process counts at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from django.conf import settings
from django.db import transaction
from django.db.models import Max, OuterRef, Subquery

from diagnosis import outbox, selectors, vault
from diagnosis.errors import NotReady, Unreadable
from diagnosis.models import Diagnosis, Embedding, Extractor, ExtractorMember, GalleryVersion, Photo, Syndrome
from diagnosis.phenotype.errors import WeightsRefused
from diagnosis.phenotype.ranking.calibration import Calibration
from diagnosis.phenotype.ranking.gallery import Gallery, GalleryImage
from diagnosis.phenotype.types import EMBEDDING_SIZE, AlignedFace, EmbeddingSet, FloatArray, PixelArray

if TYPE_CHECKING:
    from diagnosis.phenotype.embed.ensemble import Ensemble
    from diagnosis.phenotype.embed.spec import EnsembleSpec
    from diagnosis.phenotype.face.detect import FaceDetector
    from diagnosis.phenotype.face.find import FoundFace


# What a gallery is made of: (embedding, photo, patient, syndrome, gene or "") of each row, and the genes
# of each syndrome.
_Labelled = tuple[int, int, int, str, str]
_Facts = tuple[tuple[_Labelled, ...], tuple[tuple[str, tuple[str, ...]], ...]]


@dataclass
class _Loaded:
    """What this process holds. Guarded by `_lock`."""

    detector: FaceDetector | None = None
    ensembles: dict[str, Ensemble] = field(default_factory=dict)
    calibrations: dict[str, Calibration] = field(default_factory=dict)
    galleries: dict[int, _CachedGallery] = field(default_factory=dict)


@dataclass(frozen=True)
class _CachedGallery:
    """facts name what the gallery was built from; rows holds each embedding's (m, 512) by primary key.

    heard is the newest outbox event when that was read.
    """

    heard: int
    facts: _Facts
    rows: dict[int, FloatArray]
    gallery: Gallery


_loaded = _Loaded()
_lock = threading.RLock()


def forget() -> None:
    """Drop networks and galleries from memory."""
    with _lock:
        _loaded.detector = None
        for cache in (_loaded.ensembles, _loaded.calibrations, _loaded.galleries):
            cache.clear()


def forget_galleries() -> None:
    """Drop the galleries from memory: after a withdrawal nothing of the patient stays in this process."""
    with _lock:
        _loaded.galleries.clear()


# --- networks -----------------------------------------------------------------


def models_folder() -> Path:
    """Where weights lie, one file per sha256."""
    return Path(settings.GESTALTWEB_HOME) / "models"


def weights_path(sha256: str) -> Path:
    """The safetensors file of one network."""
    return models_folder() / f"{sha256}.safetensors"


def spec_of(extractor: Extractor, rows: Iterable[ExtractorMember] | None = None) -> EnsembleSpec:
    """The ensemble as data: members in order (`rows` while unsaved), each on every view in use."""
    from diagnosis.phenotype.embed.spec import Member, full_ensemble
    from diagnosis.phenotype.embed.views import ALL_VIEWS

    found = extractor.members.all() if rows is None else rows
    members = [Member(m.name, m.architecture, m.sha256, extractor.synthetic) for m in found]
    views = [v for v in ALL_VIEWS if (extractor.flip or not v.flip) and (extractor.grey or not v.grey)]
    return full_ensemble(members, views)


def extractor_now() -> Extractor:
    """The adopted extractor; NotReady on a site without one."""
    extractor = selectors.extractor_adopted()
    if extractor is None:
        raise NotReady("No model is installed. A site admin installs one with `manage.py install_weights`.")
    return extractor


def ensemble(extractor: Extractor) -> Ensemble:
    """The extractor's networks, loaded and checked on first use, then kept. NotReady if a file is missing."""
    with _lock:
        if extractor.sha256 not in _loaded.ensembles:
            _loaded.ensembles[extractor.sha256] = _load(extractor)
        return _loaded.ensembles[extractor.sha256]


def _load(extractor: Extractor) -> Ensemble:
    _one_thread()
    from diagnosis.phenotype.embed.ensemble import load_ensemble

    spec = spec_of(extractor)
    paths = {m.sha256: weights_path(m.sha256) for m in spec.members if weights_path(m.sha256).exists()}
    try:
        return load_ensemble(spec, paths)
    except WeightsRefused as refused:
        raise NotReady(str(refused)) from None


def calibration_path(name: str) -> Path:
    """The arrays of one calibration, named by the sha256 of their file."""
    return models_folder() / f"{name}.calibration.safetensors"


def calibration(extractor: Extractor) -> Calibration | None:
    """Bands and match score measured for this extractor, or None while it has none."""
    name = extractor.calibration
    if not name:
        return None
    with _lock:
        if name not in _loaded.calibrations:
            _loaded.calibrations[name] = _load_calibration(extractor)
        return _loaded.calibrations[name]


def _load_calibration(extractor: Extractor) -> Calibration:
    from safetensors.numpy import load

    path = calibration_path(extractor.calibration)
    data = path.read_bytes() if path.exists() else b""
    if hashlib.sha256(data).hexdigest() != extractor.calibration:
        raise NotReady("The model's calibration file is missing or damaged. Install the model again.")
    facts = extractor.facts.get("calibration", {})
    return Calibration.from_arrays(load(data), facts, model_sha256=extractor.sha256)


def detector() -> FaceDetector:
    """MTCNN, loaded on first use."""
    with _lock:
        if _loaded.detector is None:
            _one_thread()
            from diagnosis.phenotype.face.detect import FaceDetector

            _loaded.detector = FaceDetector()
        return _loaded.detector


def _one_thread() -> None:
    """Small convolutions on busy cores are slower with two threads than with one."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    torch.set_num_threads(1)


def find(pixels: PixelArray, *, choice: int | None, landmarks: Any | None) -> FoundFace:
    """The face of (H, W, 3) uint8 pixels to be ranked: found, chosen among several, or placed by hand."""
    from diagnosis.phenotype.face.find import find_face, find_face_at

    if landmarks is not None:
        return find_face_at(pixels, np.asarray(landmarks, dtype=np.float32))
    return find_face(pixels, choice=choice, detector=detector())


def embed(extractor: Extractor, face: AlignedFace) -> EmbeddingSet:
    """One aligned face → (m, 512) float32 unit rows."""
    return ensemble(extractor).embed([face])[0]


# --- rows at rest -----------------------------------------------------------------


def _purpose(extractor: Extractor) -> str:
    return f"embedding/{extractor.sha256}"


def seal_rows(photo: Photo, extractor: Extractor, rows: FloatArray) -> bytes:
    """(m, 512) float32 → sealed bytes that open only as this photo's embedding under this extractor."""
    data = np.ascontiguousarray(rows, dtype="<f4").tobytes()
    return vault.seal(photo.key, data, purpose=_purpose(extractor))


def open_rows(embedding: Embedding) -> FloatArray:
    """The (m, 512) float32 rows of an Embedding (photo and extractor at hand). Unreadable after erasure."""
    data = vault.unseal(embedding.photo.key, bytes(embedding.sealed), purpose=_purpose(embedding.extractor))
    return np.frombuffer(data, dtype="<f4").reshape(embedding.rows, EMBEDDING_SIZE).astype(np.float32)


def embedding_set(embedding: Embedding) -> EmbeddingSet:
    """An Embedding row as the science's value."""
    return EmbeddingSet(open_rows(embedding), embedding.extractor.sha256)


# --- the gallery -----------------------------------------------------------------


def gallery(extractor: Extractor) -> Gallery:
    """The gallery as consent allows it at this moment. Keys: photo and patient primary keys as text."""
    heard = outbox.newest()
    facts = _facts(extractor)
    with _lock:
        cached = _loaded.galleries.pop(extractor.pk, None)
        if cached is None or cached.facts != facts:
            cached = _rebuild(extractor, cached, facts)
        _loaded.galleries[extractor.pk] = cached = replace(cached, heard=heard)
        return cached.gallery


def gallery_stands(extractor: Extractor, content: Gallery) -> bool:
    """Whether `content`, as `gallery` gave it, is still what consent and diagnoses allow at this moment."""
    facts = _facts(extractor)
    with _lock:
        cached = _loaded.galleries.get(extractor.pk)
        return cached is not None and cached.gallery is content and cached.facts == facts


def _facts(extractor: Extractor) -> _Facts:
    return (tuple(_labelled(extractor)), tuple(sorted(_syndrome_genes().items())))


def galleries_refresh() -> None:
    """Where consent or the gallery changed since, bring this process's galleries up to date.

    Each use does that by itself; this makes sure that a process which ranks nothing forgets, too.
    """
    newest = outbox.newest()
    with _lock:
        behind = [pk for pk, cached in _loaded.galleries.items() if cached.heard < newest]
    for extractor in Extractor.objects.filter(pk__in=behind):
        gallery(extractor)


def _labelled(extractor: Extractor) -> list[_Labelled]:
    """(embedding, photo, patient, syndrome identifier, gene or "") of all that may stand in the gallery."""
    standing = Diagnosis.objects.filter(patient=OuterRef("photo__patient"), retracted_at__isnull=True)
    found = selectors.gallery_embeddings(extractor).annotate(
        syndrome=Subquery(standing.values("syndrome__identifier")[:1]),
        gene=Subquery(standing.values("gene__symbol")[:1]),
    )
    columns = ("pk", "photo_id", "photo__patient_id", "syndrome", "gene")
    return [(pk, photo, patient, s, g or "") for pk, photo, patient, s, g in found.values_list(*columns)]


def _syndrome_genes() -> dict[str, tuple[str, ...]]:
    pairs = Syndrome.objects.filter(genes__isnull=False).values_list("identifier", "genes__symbol")
    genes: dict[str, tuple[str, ...]] = {}
    for identifier, symbol in pairs.order_by("identifier", "genes__symbol"):
        genes[identifier] = (*genes.get(identifier, ()), symbol)
    return genes


def _rebuild(extractor: Extractor, before: _CachedGallery | None, facts: _Facts) -> _CachedGallery:
    """Rows that still may stand are kept, new ones opened, all others go with `before`."""
    labelled, genes = facts[0], dict(facts[1])
    known = before.rows if before else {}
    new = [pk for pk, *_ in labelled if pk not in known]
    rows = {pk: known[pk] for pk, *_ in labelled if pk in known}
    for start in range(0, len(new), 500):  # SQLite admits a bounded number of parameters
        chosen = Embedding.objects.filter(pk__in=new[start : start + 500])
        for embedding in chosen.select_related("photo", "extractor"):
            with contextlib.suppress(Unreadable):  # its key is destroyed: the patient has just withdrawn
                rows[embedding.pk] = open_rows(embedding)
    readable = [entry for entry in labelled if entry[0] in rows]
    images = [
        GalleryImage(str(photo), str(patient), syndrome, rows[pk], (gene,) if gene else ())
        for pk, photo, patient, syndrome, gene in readable
    ]
    views = (1 + extractor.flip) * (1 + extractor.grey)
    built = Gallery.from_images(
        images, model_sha256=extractor.sha256, rows=views * extractor.members.count(), syndrome_genes=genes
    )
    # The rows now live in the gallery's one array; keep views of it, not a second copy.
    kept = {pk: built.embeddings[index] for index, (pk, *_) in enumerate(readable)}
    return _CachedGallery(0, facts, kept, built)


def gallery_version(extractor: Extractor, content: Gallery) -> GalleryVersion:
    """The row that names this content, made when the content is new. Call inside a transaction."""
    found = GalleryVersion.objects.filter(extractor=extractor, sha256=content.version).first()
    if found is not None:
        return found
    Extractor.objects.select_for_update().get(pk=extractor.pk)  # one process numbers versions at a time
    with transaction.atomic():
        number = (GalleryVersion.objects.aggregate(Max("number"))["number__max"] or 0) + 1
        facts = {
            "number": number,
            "photos": len(content),
            "patients": len(content.by_patient),
            "syndromes": len(content.by_syndrome),
        }
        return GalleryVersion.objects.get_or_create(
            extractor=extractor, sha256=content.version, defaults=facts
        )[0]

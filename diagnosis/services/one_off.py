"""One list for photos that are not stored: what `manage.py analyze` prints.

There is no patient record, so whoever runs it answers for the legal basis of using the photos. Gallery
patients take part as their consent to the gallery allows now; of the photos only their number is audited.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from diagnosis import engine, pictures
from diagnosis.errors import InvalidInput
from diagnosis.models import Extractor
from diagnosis.phenotype.face.find import FoundFace
from diagnosis.phenotype.ranking.gallery import Gallery
from diagnosis.phenotype.types import EmbeddingSet
from diagnosis.services.analysis import face_json, refusal_json
from diagnosis.services.audit import audit
from diagnosis.services.ranking import Ranked, rank_sets

SHOWN = ("rank", "id", "name", "distance", "band", "patients", "genes")


@dataclass(frozen=True)
class NamedPhoto:
    """A photo's bytes under the name it is reported by."""

    name: str
    data: bytes


def photos_rank_once(*, photos: Sequence[NamedPhoto]) -> dict[str, Any]:
    """Rank the photos of one person, fused, against this site's gallery; nothing of them is kept.

    The answer is {photos, model, gallery, match, calibrated, syndromes}; a photo that cannot be used says
    why in its `refusal`. Raises NotReady on a site without a model.
    """
    extractor = engine.extractor_now()
    read = [_read(extractor, photo) for photo in photos]
    sets = [embedded for _, embedded in read if embedded is not None]
    gallery = engine.gallery(extractor)
    measured = engine.calibration(extractor)
    ranked = rank_sets(sets, gallery, measured, exclude_patient=None) if sets else None
    audit(
        actor=None, action="photos.ranked_once", subject="command", photos=len(sets), model=extractor.sha256
    )
    return {
        "photos": [line for line, _ in read],
        "model": {"name": extractor.name, "sha256": extractor.sha256, "synthetic": extractor.synthetic},
        "gallery": _gallery_facts(gallery),
        "match": "confident" if ranked is not None and ranked.match == "confident" else "none",
        "calibrated": measured is not None,
        "syndromes": _rows(ranked),
    }


def _read(extractor: Extractor, photo: NamedPhoto) -> tuple[dict[str, Any], EmbeddingSet | None]:
    line: dict[str, Any] = {
        "file": photo.name, "faces": 0, "refusal": None, "quality": None, "landmarks": None
    }  # fmt: skip
    try:
        pixels = pictures.read_picture(photo.data).pixels
    except InvalidInput as refused:
        return line | {"refusal": {"code": "unreadable", "sentence": str(refused), "remedy": ""}}, None
    found = engine.find(pixels, choice=None, landmarks=None)
    line |= _face_facts(found)
    if found.refusal is not None or found.aligned is None:
        return line, None
    return line, engine.embed(extractor, found.aligned)


def _face_facts(found: FoundFace) -> dict[str, Any]:
    chosen = found.faces[found.chosen] if found.chosen is not None else None
    return {
        "faces": len(found.faces),
        "refusal": refusal_json(found.refusal),
        "quality": round(found.quality.score, 4) if found.quality else None,
        "landmarks": face_json(chosen)["landmarks"] if chosen else None,
    }


def _gallery_facts(gallery: Gallery) -> dict[str, Any]:
    return {
        "version": gallery.version,
        "patients": len(gallery.by_patient),
        "syndromes": len(gallery.by_syndrome),
    }


def _rows(ranked: Ranked | None) -> list[dict[str, Any]]:
    if ranked is None:
        return []
    return [{name: row[name] for name in SHOWN} for row in ranked.result["syndromes"]]

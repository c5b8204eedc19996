"""The service that GestaltMatcher-Arc's clients know: one photo in, an answer out, nothing kept of the photo.

There is no patient record behind such a call, so the caller attests a legal basis each time. The call is
audited with counts and keyed hashes; gallery patients appear under pseudonyms that say nothing elsewhere.
Consent to the gallery is read anew at each call (engine.gallery, and once more before rows are named).

Field names and types are those of Arc's service since v1.1.5: gestalt_score = 1.3 - distance, omim_id a
number or "", the other ids text. Arc v1.1.5 also drops matches at distance <= 0.3 as duplicates. That number
belongs to its own three networks; no same-person threshold is measured for ours, so nothing is dropped here.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.db import transaction

from diagnosis import api_selectors, engine, pictures, vault
from diagnosis.errors import ClinicError, InvalidInput, NotAllowed
from diagnosis.models import Extractor, GalleryVersion, Gene, User
from diagnosis.permissions import require
from diagnosis.phenotype.errors import PhotoRefused
from diagnosis.phenotype.types import AlignedFace, EmbeddingSet
from diagnosis.services.audit import audit
from diagnosis.services.ranking import Ranked, rank_sets

LEGAL_BASES: Final = ("treatment", "consent", "research-approval")
SCORE_AT_ZERO: Final = 1.3


class TooLarge(ClinicError):
    """More bytes than this site reads."""

    status = 413


@dataclass(frozen=True)
class ArcAnswer:
    """One list for one photo, with what it was made by."""

    extractor: Extractor
    gallery: GalleryVersion
    ranked: Ranked
    syndromes: list[dict[str, Any]]
    genes: list[dict[str, Any]]
    patients: list[dict[str, Any]]


def arc_predict(*, user: User, legal_basis: str, data: bytes) -> ArcAnswer:
    """Rank the face in `data` (an image file) against this hospital's gallery.

    Raises NotAllowed, InvalidInput (legal basis), TooLarge, PhotoRefused with code and sentence, NotReady.
    """
    with _audited(user, "predict", legal_basis, data) as facts:
        face = _face(data)
        extractor = engine.extractor_now()
        gallery = engine.gallery(extractor)
        query = engine.embed(extractor, face)
        ranked = rank_sets([query], gallery, engine.calibration(extractor), exclude_patient=None)
        with transaction.atomic():
            version = engine.gallery_version(extractor, gallery)
        answer = ArcAnswer(extractor, version, ranked, *_named(ranked))
        facts |= {
            "model": extractor.sha256, "gallery": version.sha256, "match": ranked.match,
            "syndromes": len(answer.syndromes), "genes": len(answer.genes), "patients": len(answer.patients),
        }  # fmt: skip
    return answer


def arc_crop(*, user: User, legal_basis: str, data: bytes) -> bytes:
    """The aligned face (112, 112) of the photo as PNG bytes. Raises as arc_predict."""
    with _audited(user, "crop", legal_basis, data):
        return pictures.encode_png(_face(data).pixels)


def arc_encode(*, user: User, legal_basis: str, data: bytes) -> tuple[Extractor, EmbeddingSet]:
    """The photo's embedding (m, 512). NotAllowed unless this site's admin has turned it on."""
    encode_allowed(user=user)
    with _audited(user, "encode", legal_basis, data) as facts:
        extractor = engine.extractor_now()
        found = engine.embed(extractor, _face(data))
        facts |= {"model": extractor.sha256, "rows": len(found.rows)}
        return extractor, found


def encode_allowed(*, user: User) -> None:
    """Raises NotAllowed unless the account may call and this site hands out embeddings at all."""
    require(user, "arc.call")
    if not settings.ARC_ENCODE_ENABLED:
        raise NotAllowed(
            "This site does not hand out embeddings, because faces can be rebuilt from them. "
            "A site admin can turn it on with ARC_ENCODE_ENABLED=1."
        )


def call_allowed(*, user: User, legal_basis: str) -> None:
    """Whether the account may call at all and has said on what legal basis, before its photo is read."""
    require(user, "arc.call")
    if legal_basis not in LEGAL_BASES:
        raise InvalidInput(
            "State the legal basis of this call in the header X-Legal-Basis: one of "
            f"{', '.join(LEGAL_BASES)}."
        )


@contextmanager
def _audited(user: User, kind: str, legal_basis: str, data: bytes) -> Iterator[dict[str, Any]]:
    """Check the caller, then leave one audit event however the call ends. The block adds facts to it."""
    call_allowed(user=user, legal_basis=legal_basis)
    facts: dict[str, Any] = {
        "legal_basis": legal_basis, "bytes": len(data), "image": vault.keyed_hash("arc-image", data),
        "outcome": "failed",
    }  # fmt: skip
    try:
        yield facts
        facts["outcome"] = "answered"
    except PhotoRefused as refused:
        facts["outcome"] = refused.code
        raise
    except ClinicError as error:
        facts["outcome"] = type(error).__name__
        raise
    finally:
        audit(actor=user, action=f"arc.{kind}", subject=f"user:{user.pk}", **facts)


def _face(data: bytes) -> AlignedFace:
    """The one face of an image file, aligned. PhotoRefused says why there is none."""
    if len(data) > settings.UPLOAD_MAX_BYTES:
        raise TooLarge(f"A photo may have at most {settings.UPLOAD_MAX_BYTES >> 20} MB. Send a smaller one.")
    try:
        pixels = pictures.read_picture(data, max_bytes=settings.UPLOAD_MAX_BYTES).pixels
    except InvalidInput as unread:
        raise PhotoRefused("not_a_photo", str(unread)) from None
    found = engine.find(pixels, choice=None, landmarks=None)
    if found.refusal is not None or found.aligned is None:
        reason = found.refusal
        if reason is None:
            raise PhotoRefused("no_face", "No face could be aligned.", "Use a frontal photo of one face.")
        raise PhotoRefused(reason.code, reason.sentence, reason.remedy)
    return found.aligned


# --- rows under pseudonyms -------------------------------------------------------------------------


def _named(ranked: Ranked) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """The three lists in Arc's fields. A row whose photo left the gallery in the meantime is left out."""
    found = [ranked.result[kind] for kind in ("syndromes", "genes", "patients")]
    nearest = {row["photos"][0] for rows in found for row in rows}
    shown = api_selectors.gallery_facts(nearest)
    alias = _Pseudonyms(shown)
    syndromes, genes, patients = ([row for row in rows if row["photos"][0] in shown] for rows in found)
    entrez = dict(Gene.objects.values_list("symbol", "entrez_id"))
    return (
        [_syndrome_fields(row["id"], row["name"]) | alias.fields(row) for row in syndromes],
        [_gene_fields(row["id"], entrez) | alias.fields(row) for row in genes],
        [_patient_fields(shown[row["photos"][0]], entrez) | alias.fields(row) for row in patients],
    )


class _Pseudonyms:
    """Stable names of gallery photos and patients for callers: a keyed hash of this site."""

    def __init__(self, shown: dict[int, api_selectors.GalleryFacts]) -> None:
        self._shown = shown
        self._key = vault.derive_key("arc-pseudonym")

    def fields(self, row: dict[str, Any]) -> dict[str, Any]:
        """distance, gestalt_score, image_id, subject_id of one row."""
        photo = row["photos"][0]
        return {
            "distance": row["distance"],
            "gestalt_score": round(SCORE_AT_ZERO - row["distance"], 6),
            "image_id": self._name("image", photo),
            "subject_id": self._name("subject", self._shown[photo].patient),
        }

    def _name(self, kind: str, number: int) -> str:
        return hmac.new(self._key, f"{kind}/{number}".encode(), hashlib.sha256).hexdigest()[:16]


def _syndrome_fields(identifier: str, name: str) -> dict[str, Any]:
    kind, _, number = identifier.partition(":")
    omim = int(number) if kind == "OMIM" and number.isdigit() else ""
    return {"syndrome_name": name, "omim_id": omim, "syndrome_id": identifier}


def _gene_fields(symbol: str, entrez: dict[str, int | None]) -> dict[str, Any]:
    number = entrez.get(symbol)
    return {"gene_name": symbol, "gene_entrez_id": None if number is None else str(number)}


def _patient_fields(facts: api_selectors.GalleryFacts, entrez: dict[str, int | None]) -> dict[str, Any]:
    gene = _gene_fields(facts.gene, entrez) if facts.gene else {"gene_name": "", "gene_entrez_id": None}
    return _syndrome_fields(facts.syndrome, facts.name) | gene

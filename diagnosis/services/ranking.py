"""Rankings as evidence: a case's photos, fused, against the gallery as consent allows it at this moment."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Final

from django.db import transaction
from django.db.models import QuerySet

from diagnosis import engine, jobs, outbox, progress, selectors
from diagnosis.errors import ConsentMissing, NotReady, Unreadable
from diagnosis.jobs import Lease
from diagnosis.models import Case, Embedding, Extractor, Patient, RankingRecord, Syndrome, User
from diagnosis.phenotype.ranking.calibration import Calibration
from diagnosis.phenotype.ranking.gallery import Gallery
from diagnosis.phenotype.ranking.rank import rank
from diagnosis.phenotype.types import EmbeddingSet, RankedItem, Ranking
from diagnosis.services.audit import audit
from diagnosis.services.photo import patient_hold
from diagnosis.services.ranking_request import photos_in_work
from diagnosis.services.transitions import move

ROWS: Final = 100
TRIES: Final = 3
UNCALIBRATED: Final = "uncalibrated"


class _Outdated(Exception):
    """What a list was made from changed before it was stored; the transaction is undone."""


@dataclass(frozen=True)
class Ranked:
    """One list before it is stored: result as RankingRecord keeps it, match, score in [0, 1] or None."""

    result: dict[str, list[dict[str, Any]]]
    match: str
    score: float | None


def case_rank(
    *, case: Case, requested_by: User | None = None, lease: Lease | None = None
) -> RankingRecord | None:
    """Rank the case by all of its analysed photos and store the list; None when none is analysed.

    The patient's own photos never count. With a `lease` the record and the end of the job are one
    transaction, and while a photo of the case is in work the job ends without a list: the end of that
    work asks again. Photos, gallery and model are read again under the patient's lock; when one of them
    changed meanwhile the list is made anew. Raises ConsentMissing, or NotReady while no photo is embedded
    by the model in use.
    """
    for _ in range(TRIES):
        with suppress(_Outdated):
            return _rank_and_store(case, requested_by, lease)
    raise NotReady("Photos or gallery change faster than the list can be made. It is tried again.")


def _rank_and_store(case: Case, requested_by: User | None, lease: Lease | None) -> RankingRecord | None:
    started = time.perf_counter()
    extractor = engine.extractor_now()
    embeddings = list(_embeddings(case, extractor))
    if not embeddings or (lease is not None and photos_in_work(case=case.pk).exists()):
        _end_without_list(case, extractor, lease)
        return None
    gallery = engine.gallery(extractor)
    sets = _opened(case, extractor, embeddings)
    ranked = rank_sets(sets, gallery, engine.calibration(extractor), exclude_patient=str(case.patient_id))
    seconds = time.perf_counter() - started
    with transaction.atomic():
        patient_hold(case.patient_id)
        with _end_of(lease):
            _require_unchanged(case, extractor, embeddings, gallery)
            numbers = [embedding.photo_id for embedding in embeddings]
            record = _store(case, extractor, gallery, numbers, ranked, seconds, requested_by)
    progress.say(case=case.pk, photo=None, step="ranked", percent=100)
    return record


def _embeddings(case: Case, extractor: Extractor) -> QuerySet[Embedding]:
    photos = selectors.for_analysis().filter(case=case, state="ready")
    found = Embedding.objects.filter(extractor=extractor, photo__in=photos.values("pk"))
    return found.select_related("photo", "extractor").order_by("photo_id")


def _opened(case: Case, extractor: Extractor, embeddings: list[Embedding]) -> list[EmbeddingSet]:
    try:
        return [engine.embedding_set(embedding) for embedding in embeddings]
    except Unreadable:  # its key is destroyed: perhaps the photo was removed since its row was read
        if _same_photos(case, extractor, embeddings):
            raise
        raise _Outdated from None


def _same_photos(case: Case, extractor: Extractor, embeddings: list[Embedding]) -> bool:
    now = _embeddings(case, extractor).values_list("pk", flat=True)
    return list(now) == [embedding.pk for embedding in embeddings]


def _require_unchanged(
    case: Case, extractor: Extractor, embeddings: list[Embedding], gallery: Gallery
) -> None:
    """Two workers may rank one case, and a gallery patient may withdraw: the newest list must be true."""
    adopted = engine.extractor_now().pk == extractor.pk
    if not adopted or not _same_photos(case, extractor, embeddings):
        raise _Outdated
    if not engine.gallery_stands(extractor, gallery):
        raise _Outdated


def rank_sets(
    sets: list[EmbeddingSet], gallery: Gallery, measured: Calibration | None, *, exclude_patient: str | None
) -> Ranked:
    """Photos of one person against a gallery: rows with names, bands and genes, and whether it is a match."""
    ranking = rank(sets, gallery, exclude_patient=exclude_patient, limit=ROWS)
    match, score = UNCALIBRATED, None
    if measured is not None:
        found = measured.match(sets, ranking)
        match, score = "confident" if found.confident else "none", found.score
    return Ranked(_result(ranking, gallery, measured), match, score)


def _end_without_list(case: Case, extractor: Extractor, lease: Lease | None) -> None:
    """The job is done where there is nothing to rank, or where photos in work will ask again."""
    with transaction.atomic():
        Patient.objects.select_for_update().filter(pk=case.patient_id).first()
        with _end_of(lease):
            if lease is not None and photos_in_work(case=case.pk).exists():
                return
            if _embeddings(case, extractor).exists():
                raise _Outdated
            if selectors.for_analysis().filter(case=case, state="ready").exists():
                raise NotReady("The photos of this case are being analysed again with the new model.")


def _end_of(lease: Lease | None) -> AbstractContextManager[None]:
    return jobs.finish(lease) if lease is not None else nullcontext()


def _store(
    case: Case,
    extractor: Extractor,
    gallery: Gallery,
    photos: list[int],
    ranked: Ranked,
    seconds: float,
    requested_by: User | None,
) -> RankingRecord:
    """In the caller's transaction, under the patient's lock."""
    consent = selectors.consent_now(case.patient)
    if consent is None:  # cannot be: the lock was given upon it
        raise ConsentMissing("This patient has not agreed to the analysis of photos here.")
    record = RankingRecord.objects.create(
        case=case, photos=photos, extractor=extractor, consent=consent, result=ranked.result,
        gallery=engine.gallery_version(extractor, gallery), match=ranked.match, score=ranked.score,
        seconds=round(seconds, 4), requested_by=requested_by,
    )  # fmt: skip
    move(case, "ranked", actor=requested_by)
    audit(actor=requested_by, action="case.list", subject=f"case:{case.pk}", ranking=record.pk,
          model=extractor.sha256, gallery=record.gallery.sha256)  # fmt: skip
    outbox.publish("case.ranked", f"case:{case.pk}", ranking=record.pk, model=extractor.sha256)
    return record


def _result(
    ranking: Ranking, gallery: Gallery, measured: Calibration | None
) -> dict[str, list[dict[str, Any]]]:
    names = dict(Syndrome.objects.values_list("identifier", "name"))
    syndromes = [
        _row(item) | {
            "name": names.get(item.key, item.key),
            "band": measured.band(item.distance) if measured else "",
            "patients": item.patients,
            "genes": list(gallery.syndrome_genes.get(item.key, ())),
        }
        for item in ranking.syndromes
    ]  # fmt: skip
    genes = [_row(item) | {"patients": item.patients} for item in ranking.genes]
    patients = [_row(item) | {"id": int(item.key)} for item in ranking.patients]
    return {"syndromes": syndromes, "genes": genes, "patients": patients}


def _row(item: RankedItem) -> dict[str, Any]:
    return {
        "rank": item.rank,
        "id": item.key,
        "distance": round(item.distance, 6),
        "photos": [int(image) for image in item.images],
    }

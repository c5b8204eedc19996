"""The analysis of one photo: detect, align, quality, embed. Refusals are data; errors know about retry."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from diagnosis import engine, jobs, outbox, pictures, progress, selectors, vault
from diagnosis.errors import ConsentMissing
from diagnosis.jobs import Lease
from diagnosis.models import Embedding, Extractor, Photo
from diagnosis.phenotype.face.find import FoundFace
from diagnosis.phenotype.types import DetectedFace, EmbeddingSet, Refusal
from diagnosis.services.ledger import ledger_note
from diagnosis.services.photo import patient_hold, photo_original
from diagnosis.services.ranking_request import ranking_request, ranking_request_rest
from diagnosis.services.transitions import move

# step → per cent when it begins, as the page shows it
STEPS = {"reading": 5, "finding the face": 15, "comparing features": 60, "storing": 90}


def photo_analyse(*, lease: Lease) -> None:
    """Do the job `analyse_photo`: afterwards the photo is ready with one embedding, or refused.

    Consent is read before the photo is opened and again, under the patient's lock, when results are
    written. Raises NotReady (try again) without a model, ConsentMissing or Unreadable (do not).
    """
    photo = selectors.for_analysis().select_related("case").filter(pk=lease.subject).first()
    if photo is None:
        raise ConsentMissing("This photo may not be analysed: it was removed, or consent was withdrawn.")
    extractor = engine.extractor_now()
    photo = _begin(photo)
    _step(lease, photo, "reading")
    pixels = pictures.read_stored(photo_original(photo))
    _step(lease, photo, "finding the face")
    by_hand = photo.landmarks if photo.landmarks_by_id else None
    found = engine.find(pixels, choice=photo.face_choice, landmarks=by_hand)
    embedded = None
    if found.refusal is None and found.aligned is not None:
        _step(lease, photo, "comparing features")
        embedded = engine.embed(extractor, found.aligned)
    _step(lease, photo, "storing")
    _store(lease, photo, found, extractor, embedded)


def photo_fail(*, subject: int, error: str) -> None:
    """The last attempt failed: the photo says so and can be run again. In the job's transaction."""
    photo = Photo.objects.filter(pk=subject, state__in=["received", "analysing"]).first()
    if photo is None:
        return
    if photo.state == "received":
        move(photo, "analysis_started")
    refusal = {"code": "failed", "sentence": error, "remedy": "Try again, or ask a site admin."}
    move(photo, "failed", refusal=refusal)
    ranking_request_rest(case=photo.case_id, without=photo.pk)
    progress.say(case=photo.case_id, photo=photo.pk, step="failed", percent=100)


def _begin(photo: Photo) -> Photo:
    """The crop's file name stands in the row before the file is written, so that erasure finds it."""
    return move(photo, "analysis_started", crop=photo.crop or vault.blob_name("crop"))


def _step(lease: Lease, photo: Photo, step: str) -> None:
    jobs.renew(lease, step=step, progress=STEPS[step])
    progress.say(case=photo.case_id, photo=photo.pk, step=step, percent=STEPS[step])


def _store(
    lease: Lease, photo: Photo, found: FoundFace, extractor: Extractor, embedded: EmbeddingSet | None
) -> None:
    """The effect, in one transaction with the end of the job."""
    if found.aligned is not None:
        crop = pictures.encode_png(found.aligned.pixels)
        vault.blob_write(photo.key, crop, purpose="crop", name=photo.crop)
    else:
        vault.blob_delete(photo.crop)  # of an earlier analysis
    with transaction.atomic():
        patient_hold(photo.patient_id)
        with jobs.finish(lease):
            photo.embeddings.all().delete()
            fields = _facts(photo, found)
            if embedded is None:
                move(photo, "refused", **fields)
                ranking_request_rest(case=photo.case_id, without=photo.pk)
            else:
                _store_embedding(photo, extractor, embedded, fields)
            ledger_note(patient=photo.patient, kind="photo.analysed", photo=photo.pk,
                        model=extractor.sha256, outcome=photo.state)  # fmt: skip
    progress.say(case=photo.case_id, photo=photo.pk, step=photo.state, percent=100)


def _store_embedding(
    photo: Photo, extractor: Extractor, embedded: EmbeddingSet, fields: dict[str, Any]
) -> None:
    sealed = engine.seal_rows(photo, extractor, embedded.rows)
    Embedding.objects.create(photo=photo, extractor=extractor, rows=len(embedded.rows), sealed=sealed)
    move(photo, "embedded", **fields)
    ranking_request(case=photo.case_id)
    if selectors.for_gallery().filter(pk=photo.pk).exists():
        ledger_note(patient=photo.patient, kind="gallery.entered", photo=photo.pk)
        outbox.publish("gallery.changed", f"patient:{photo.patient_id}", reason="photo.analysed")


def _facts(photo: Photo, found: FoundFace) -> dict[str, Any]:
    """The photo's fields after an analysis. Without a crop there is no crop file to name."""
    quality = found.quality
    fields: dict[str, Any] = {
        "refusal": refusal_json(found.refusal),
        "warnings": [refusal_json(warning) for warning in quality.warnings] if quality else [],
        "quality": quality.score if quality else None,
        "measures": {name: round(float(value), 4) for name, value in quality.measures.items()}
        if quality
        else {},
        "crop": photo.crop if found.aligned is not None else "",
    }
    if not photo.landmarks_by_id:
        chosen = found.faces[found.chosen] if found.chosen is not None else None
        fields["faces"] = [face_json(face) for face in found.faces]
        fields["landmarks"] = face_json(chosen)["landmarks"] if chosen else None
        fields["face_choice"] = found.chosen
    return fields


def face_json(face: DetectedFace) -> dict[str, Any]:
    """{box, landmarks, probability} in px of the stored photo, as Photo.faces keeps it."""
    return {
        "box": [round(float(value), 2) for value in face.box],
        "landmarks": [[round(float(x), 2), round(float(y), 2)] for x, y in face.landmarks],
        "probability": round(face.probability, 4),
    }


def refusal_json(refusal: Refusal | None) -> dict[str, str] | None:
    """{code, sentence, remedy} or None."""
    if refusal is None:
        return None
    return {"code": refusal.code, "sentence": refusal.sentence, "remedy": refusal.remedy}

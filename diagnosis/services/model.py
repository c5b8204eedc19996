"""The model registry: install, adopt, roll back. One extractor is in use; old rankings name theirs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import transaction
from django.utils import timezone

from diagnosis import engine, jobs, outbox, pictures, selectors, vault
from diagnosis.errors import ConsentMissing, Duplicate, InvalidInput, NotReady
from diagnosis.jobs import Lease
from diagnosis.models import Embedding, Extractor, ExtractorMember, Photo, User
from diagnosis.permissions import require
from diagnosis.phenotype.errors import PhenotypeError
from diagnosis.phenotype.ranking.calibration import Calibration
from diagnosis.phenotype.types import AlignedFace, FloatArray
from diagnosis.services.audit import audit
from diagnosis.services.photo import patient_hold
from diagnosis.services.ranking_request import rankings_request_due, reembedding
from diagnosis.services.transitions import move

SHIPPED_NAME = "GestaltWeb compact"


@dataclass(frozen=True)
class MemberFile:
    """One network to install. architecture None: what the file's layout says; sha256: of the source file."""

    name: str
    path: Path
    architecture: str | None = None
    sha256: str | None = None


# --- install ---------------------------------------------------------------------------------------


def extractor_install(
    *,
    user: User | None,
    name: str,
    members: Sequence[MemberFile],
    flip: bool,
    grey: bool,
    origin: str,
    licence: str,
    synthetic: bool,
    facts: dict[str, Any] | None = None,
    calibration: Calibration | None = None,
) -> Extractor:
    """Check and copy the members' weights to this site and register the ensemble, not yet in use.

    `user` is None only for the site's own set-up and commands. Raises InvalidInput with what to do for a
    file that is refused, Duplicate for an ensemble that is installed already. The calibration must be that
    of exactly this ensemble.
    """
    if user is not None:
        require(user, "model.manage")
    if not members:
        raise InvalidInput("A model needs at least one network. Give a weights file.")
    rows, about = _members_stored(members)
    extractor = Extractor(
        name=name.strip()[:80], flip=flip, grey=grey, synthetic=synthetic, origin=origin.strip()[:200],
        licence=licence.strip()[:120], installed_by=user, facts=dict(facts or {}) | {"members": about},
    )  # fmt: skip
    with transaction.atomic():
        extractor.sha256 = _ensemble_sha256(extractor, rows)
        if Extractor.objects.filter(sha256=extractor.sha256).exists():
            raise Duplicate("These weights are installed already, with the same views. Adopt that model.")
        if calibration is not None:
            _calibration_stored(extractor, calibration)
        extractor.save()
        for row in rows:
            row.extractor = extractor
            row.save()
        audit(actor=user, action="model.installed", subject=f"extractor:{extractor.pk}",
              sha256=extractor.sha256, members=[row.sha256 for row in rows])  # fmt: skip
    return extractor


def extractor_install_shipped() -> Extractor:
    """Install the extractor that comes with the project, calibrated; adopt it where there is none yet.

    Run again it changes nothing, except that a newer calibration of the same weights is taken over. Raises
    NotReady where the project's files hold none.
    """
    from diagnosis.phenotype.embed.default import shipped_extractor

    try:
        shipped = shipped_extractor()
        measured = shipped.calibration()
    except (PhenotypeError, OSError) as refused:
        raise NotReady(f"The shipped model cannot be used: {refused}") from None
    found = Extractor.objects.filter(sha256=shipped.spec.sha256).first()
    if found is None:
        found = extractor_install(
            user=None, name=SHIPPED_NAME, flip=True, grey=True, synthetic=bool(shipped.card["synthetic"]),
            members=[MemberFile("compact", shipped.weights, sha256=str(shipped.card["sha256"]))],
            origin=str(shipped.card["origin"]), licence=str(shipped.card["licence"]),
            facts={"card": shipped.card}, calibration=measured,
        )  # fmt: skip
    elif _calibration_file(measured)[0] != found.calibration:
        extractor_calibrate(user=None, extractor=found, calibration=measured)
    if not Extractor.objects.filter(state="adopted").exists():
        extractor_adopt(user=None, extractor=found)
    return found


def _members_stored(members: Sequence[MemberFile]) -> tuple[list[ExtractorMember], list[dict[str, Any]]]:
    """Member rows (without their extractor) and the facts of their files, which now lie in models/."""
    from diagnosis.phenotype.embed.install import convert_weights

    rows, about = [], []
    for position, member in enumerate(members):
        try:
            converted = convert_weights(
                member.path, architecture=member.architecture, expected_sha256=member.sha256
            )
        except PhenotypeError as refused:
            raise InvalidInput(str(refused)) from None
        vault.write_private(engine.weights_path(converted.sha256), converted.data)
        rows.append(
            ExtractorMember(
                position=position,
                name=member.name[:40],
                architecture=converted.architecture,
                sha256=converted.sha256,
            )  # fmt: skip
        )
        about.append({"name": member.name} | converted.facts())
    return rows, about


def _ensemble_sha256(extractor: Extractor, rows: list[ExtractorMember]) -> str:
    try:
        return engine.spec_of(extractor, rows).sha256
    except PhenotypeError as refused:
        raise InvalidInput(str(refused)) from None


def _calibration_stored(extractor: Extractor, calibration: Calibration) -> None:
    """Write the arrays beside the weights and name them in the (unsaved) extractor."""
    if calibration.model_sha256 != extractor.sha256:
        raise InvalidInput("The calibration belongs to another model. Calibrate this one.")
    name, data, facts = _calibration_file(calibration)
    extractor.calibration = name
    extractor.facts = extractor.facts | {"calibration": facts}
    vault.write_private(engine.calibration_path(name), data)


def _calibration_file(calibration: Calibration) -> tuple[str, bytes, dict[str, Any]]:
    """(sha256, bytes of the file, facts as JSON). The facts stand in the file, too: the hash covers them."""
    from safetensors.numpy import save

    arrays, facts = calibration.to_arrays()
    data = save(dict(arrays), metadata={"facts": json.dumps(facts, sort_keys=True)})
    return hashlib.sha256(data).hexdigest(), data, facts


def extractor_calibrate(*, user: User | None, extractor: Extractor, calibration: Calibration) -> Extractor:
    """Give an installed extractor its measured bands and match score. Old rankings keep what they said."""
    if user is not None:
        require(user, "model.manage")
    with transaction.atomic():
        _calibration_stored(extractor, calibration)
        extractor.save(update_fields=["calibration", "facts"])
        audit(actor=user, action="model.calibrated", subject=f"extractor:{extractor.pk}",
              calibration=extractor.calibration)  # fmt: skip
    return extractor


# --- adopt, roll back ------------------------------------------------------------------------------


def extractor_adopt(*, user: User | None, extractor: Extractor) -> Extractor:
    """Use this extractor from now on. Photos are embedded again in the background; old rankings stay.

    Its networks are loaded first, so that a damaged file is noticed before the old one is put away.
    """
    if user is not None:
        require(user, "model.manage")
    if extractor.state == "adopted":
        return extractor
    engine.ensemble(extractor)
    with transaction.atomic():
        current = Extractor.objects.select_for_update().filter(state="adopted").first()
        if current is not None:
            move(current, "replaced", actor=user)
        move(extractor, "adopted", actor=user, adopted_at=timezone.now())
        outbox.publish("model.adopted", f"extractor:{extractor.pk}", sha256=extractor.sha256)
        adoption_follow()
    return extractor


def adoption_follow() -> int:
    """Embed what the model in use has not seen; where nothing is left, ask for the lists that are behind.

    Returns how many lists. Called with an adoption, after the last photo embedded again and by the sweep,
    so that no single message, worker or failed photo holds the lists back, and a photo whose analysis by
    the old model ended after the adoption is found. A photo that fails is not asked for again before the
    next adoption.
    """
    extractor = selectors.extractor_adopted()
    if extractor is None or extractor.adopted_at is None:
        return 0
    mark = f"{extractor.pk}:{extractor.adopted_at:%Y%m%dT%H%M%S.%f}"
    waiting = photos_to_embed(extractor).values_list("pk", flat=True)
    keys = {f"reembed_photo:{pk}:{mark}": pk for pk in waiting.iterator()}
    if keys:
        jobs.enqueue_many(kind="reembed_photo", keys=keys)
    return rankings_request_due()


def extractor_roll_back(*, user: User | None) -> Extractor:
    """Return to the extractor that was in use before this one. NotReady when there was none."""
    if user is not None:
        require(user, "model.manage")
    before = Extractor.objects.filter(state="retired").order_by("-adopted_at").first()
    if before is None:
        raise NotReady("No model was in use before this one.")
    return extractor_adopt(user=user, extractor=before)


def photos_to_embed(extractor: Extractor) -> Any:
    """Analysed photos that may be used and that this extractor has not seen."""
    seen = Embedding.objects.filter(extractor=extractor).values("photo")
    return selectors.for_analysis().filter(state="ready").exclude(pk__in=seen).order_by("pk")


def embedding_progress(extractor: Extractor) -> tuple[int, int]:
    """(photos embedded by this extractor, photos in all), for the model page."""
    total = selectors.for_analysis().filter(state="ready").count()
    return total - photos_to_embed(extractor).count(), total


def photo_reembed(*, lease: Lease) -> None:
    """Do the job `reembed_photo`: embed the stored aligned face by the extractor in use now."""
    photo = selectors.for_analysis().filter(pk=lease.subject, state="ready").first()
    if photo is None:
        raise ConsentMissing("This photo may not be used any more, or is being analysed anew.")
    extractor = engine.extractor_now()
    rows = _embedded_crop(photo, extractor)
    with transaction.atomic():
        patient_hold(photo.patient_id)
        with jobs.finish(lease):
            if not Photo.objects.filter(pk=photo.pk, state="ready").exists():
                raise ConsentMissing("This photo is being analysed anew.")
            Embedding.objects.filter(photo=photo, extractor=extractor).delete()
            sealed = engine.seal_rows(photo, extractor, rows)
            Embedding.objects.create(photo=photo, extractor=extractor, rows=len(rows), sealed=sealed)
    if not reembedding().exists():  # the sweep does the same; this only saves its seconds
        adoption_follow()


def _embedded_crop(photo: Photo, extractor: Extractor) -> FloatArray:
    import numpy as np

    pixels = pictures.read_stored(vault.blob_read(photo.key, photo.crop, purpose="crop"))
    face = AlignedFace(pixels, np.asarray(photo.landmarks, dtype=np.float32))
    return engine.embed(extractor, face).rows

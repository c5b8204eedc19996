"""Trunk features of consented photos: computed once per trunk, sealed under each photo's own data key.

A round changes necks only, so the rows survive rounds; they do not survive their photo's key. Consent is
read when features are used and again, under the patient's lock, when a row is written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from django.db import transaction

from diagnosis import pictures, selectors, vault
from diagnosis.errors import ConsentMissing, Unreadable
from diagnosis.models import Photo
from diagnosis.services.photo import patient_hold
from federation.models import PhotoFeatures
from federation.services.population import labelled

if TYPE_CHECKING:
    from diagnosis.phenotype.embed.backbone import Backbone
    from federation.learning.features import FeatureSet

#: From so many features per view on, they are kept as float16: a face recogniser's are normalised and small.
HALF_FROM: Final = 4096
VIEW_SEED: Final = 0  # of the jittered and the down-scaled view; the photo's name makes them differ
BATCH: Final = 500  # SQLite admits a bounded number of parameters


def features_of(photos: Iterable[int], backbone: Backbone) -> FeatureSet:
    """Features (n, 5, F) of those of these photos (primary keys) that may be trained with at this moment.

    Labels, patients and keys as text, ordered by primary key. Missing rows are computed and stored; photos
    that were erased, or whose consent ended, meanwhile are left out.
    """
    from diagnosis.phenotype.embed.weights import trunk_sha256

    wanted, trunk = sorted(set(photos)), trunk_sha256(backbone)
    found = []
    for photo in photos_allowed(wanted):
        one = _features(photo, trunk, backbone)
        if one is not None:
            found.append((photo, one))
    return _joined(found, trunk, backbone)


def photos_allowed(wanted: Sequence[int], *, at_once: int = BATCH) -> Iterator[Any]:
    """Those of these photos (primary keys) that may be trained with, with their `syndrome`.

    Consent is read for so many at once: one by one where each takes long.
    """
    for start in range(0, len(wanted), at_once):
        part = selectors.for_training().filter(pk__in=wanted[start : start + at_once])
        yield from labelled(part)


def _features(photo: Photo, trunk: str, backbone: Backbone) -> FeatureSet | None:
    """One photo's features from its row, else from its crop; None where neither may or can be read."""
    try:
        return _stored(photo, trunk) or _computed(photo, trunk, backbone)
    except (Unreadable, ConsentMissing):
        return None


def _purpose(trunk: str) -> str:
    return f"features/{trunk}"


def _name(photo: Photo) -> str:
    """Which crop: a photo that is analysed again with other landmarks has another one."""
    return f"{photo.pk}/{hashlib.sha256(json.dumps(photo.landmarks).encode()).hexdigest()[:16]}"


def _stored(photo: Photo, trunk: str) -> FeatureSet | None:
    from federation.learning.errors import FeaturesRefused
    from federation.learning.features import load_features

    row = PhotoFeatures.objects.filter(photo=photo, trunk_sha256=trunk).first()
    if row is None:
        return None
    data = vault.unseal(photo.key, bytes(row.sealed), purpose=_purpose(trunk))
    try:
        found = load_features(data, trunk_sha256=trunk)
    except FeaturesRefused:  # of an older version: computed again
        return None
    return found if found.keys == (_name(photo),) else None


def _computed(photo: Photo, trunk: str, backbone: Backbone) -> FeatureSet:
    if not selectors.for_training().filter(pk=photo.pk).exists():  # those before it may have taken long
        raise ConsentMissing("This photo may not be used for training any more.")
    stored = pictures.read_stored(vault.blob_read(photo.key, photo.crop, purpose="crop"))
    pixels = np.array(stored)  # of our own, so that torch may take it without a copy
    found = _through_trunk(backbone, pixels, _name(photo))
    _store(photo, trunk, found)
    return found


def _through_trunk(backbone: Backbone, pixels: Any, name: str) -> FeatureSet:
    from federation.learning.errors import FeaturesRefused
    from federation.learning.features import compute_features

    def compute(dtype: Any) -> FeatureSet:
        return compute_features(
            backbone, pixels[None], keys=[name], labels=[""], patients=[""], seed=VIEW_SEED, dtype=dtype
        )

    if backbone.feature_size < HALF_FROM:
        return compute(np.float32)
    try:
        return compute(np.float16)
    except FeaturesRefused:  # beyond 65,504
        return compute(np.float32)


def _store(photo: Photo, trunk: str, found: FeatureSet) -> None:
    """ConsentMissing where the photo may no longer be trained with, or is being analysed anew."""
    from federation.learning.features import save_features

    sealed = vault.seal(photo.key, save_features(found), purpose=_purpose(trunk))
    with transaction.atomic():
        patient_hold(photo.patient_id)
        now = selectors.for_training().filter(pk=photo.pk).values_list("landmarks", flat=True)
        if list(now) != [photo.landmarks]:
            raise ConsentMissing("This photo may not be used for training any more.")
        PhotoFeatures.objects.update_or_create(photo=photo, trunk_sha256=trunk, defaults={"sealed": sealed})


def _joined(found: list[tuple[Any, FeatureSet]], trunk: str, backbone: Backbone) -> FeatureSet:
    from federation.learning.features import ALL_VIEWS, FeatureSet

    half = bool(found) and all(one.features.dtype == np.float16 for _, one in found)
    kind = np.float16 if half else np.float32
    array = np.empty((len(found), len(ALL_VIEWS), backbone.feature_size), dtype=kind)
    for index, (_, one) in enumerate(found):
        array[index] = one.features[0]
    keys, patients = (tuple(str(getattr(p, name)) for p, _ in found) for name in ("pk", "patient_id"))
    labels = tuple(str(photo.syndrome) for photo, _ in found)
    return FeatureSet(array, keys, labels, patients, ALL_VIEWS, trunk, VIEW_SEED)


def features_missing(photos: Iterable[int], trunk: str) -> int:
    """How many of these photos (primary keys) have no row for this trunk yet."""
    wanted, kept = sorted(set(photos)), 0
    for start in range(0, len(wanted), BATCH):
        part = wanted[start : start + BATCH]
        kept += PhotoFeatures.objects.filter(photo__in=part, trunk_sha256=trunk).count()
    return len(wanted) - kept


def features_discard() -> int:
    """Delete the rows of photos that may not be trained with any more; returns how many.

    An erased photo's rows went with it; these are of patients who only took back this one consent.
    """
    allowed = selectors.for_training().values("pk")
    return int(PhotoFeatures.objects.exclude(photo__in=allowed).delete()[0])

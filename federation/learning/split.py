"""A site's own held-out patients: by patient, never by photo, and never below the k rule."""

from __future__ import annotations

import hashlib

import numpy as np

from federation.learning.features import FeatureSet

HOLDOUT_SHARE = 0.2


def split_by_patient(
    found: FeatureSet, *, k: int, share: float = HOLDOUT_SHARE, salt: str = "holdout"
) -> tuple[FeatureSet, FeatureSet]:
    """(training, held out). About `share` of each syndrome's patients are held out, but a syndrome with at
    least k patients keeps at least k for training.

    Who is held out follows from a hash of the patient's own key, so it stays the same in every round and
    no model is ever judged on patients that it, or a model before it, was trained on at this site. Counting,
    class sums and training all use the training part.
    """
    held: set[str] = set()
    for label in sorted(set(found.labels) - {""}):
        people = {patient for patient, own in zip(found.patients, found.labels, strict=True) if own == label}
        ordered = sorted(people, key=lambda patient: hashlib.sha256(f"{salt}\0{patient}".encode()).digest())
        spare = len(people) - k if len(people) >= k else len(people)
        held.update(ordered[: min(int(share * len(people)), spare)])
    mask = np.array([patient in held for patient in found.patients], dtype=np.bool_)
    return found.select(~mask), found.select(mask)

"""A site's own held-out patients: by patient, never by photo, and never below the k rule."""

from __future__ import annotations

import hashlib

import numpy as np

from federation.learning.features import FeatureSet

HOLDOUT_SHARE = 0.2


def _place(patient: str, salt: str) -> float:
    """A number in [0, 1) that is the patient's for good."""
    digest = hashlib.sha256(f"{salt}\0{patient}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / float(1 << 48)


def split_by_patient(
    found: FeatureSet, *, k: int, share: float = HOLDOUT_SHARE, salt: str = "holdout"
) -> tuple[FeatureSet, FeatureSet]:
    """(training, held out). About `share` of the patients are held out, but a syndrome with at least k
    patients keeps at least k for training. Counting, class sums and training all use the training part.

    A patient is held out when a hash of the patient's own key falls below `share`, so the split is the same
    in every round and does not shift when others join. Whoever was trained on once because a syndrome had
    few patients may be held out later: only then is a model judged on a patient that it has seen.
    """
    held: set[str] = set()
    for label in sorted(set(found.labels) - {""}):
        people = {patient for patient, own in zip(found.patients, found.labels, strict=True) if own == label}
        places = {patient: _place(patient, salt) for patient in people}
        low = sorted((patient for patient in people if places[patient] < share), key=places.__getitem__)
        held.update(low[: len(people) - k] if len(people) >= k else low)
    mask = np.array([patient in held for patient in found.patients], dtype=np.bool_)
    return found.select(~mask), found.select(mask)

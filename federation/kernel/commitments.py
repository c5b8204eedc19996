"""Opaque names of classes, patients and photos, and what ties a question to one consented photo.

Nothing here can be read without a secret: class tags hang on the session's secret, so that only its hospitals
read them; names of patients and photos hang on the hospital's own `site_secret` and never change, so that a
patient who leaves and comes back keeps their counters (`budgets`), and a photo keeps its answers, whatever
the model. All names are HMAC-SHA256, 64 hex digits.

A question carries a commitment to (photo, model). One photo and model has one commitment, and the coordinator
takes one vector for it. Later the hospital can open it to an auditor, who embeds and masks the photo again:
a vector that is nobody's photo can be asked, but not explained.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from federation.kernel.errors import AuditFailed
from federation.secagg.keys import derive

Float32 = npt.NDArray[np.float32]


def class_tag(secret: bytes, identifier: str) -> str:
    """Tag of a syndrome identifier under the session's secret. "" stays "": an unsolved patient has none."""
    return _name(derive(secret, "kernel-class-tag"), identifier.encode()) if identifier else ""


def read_tags(secret: bytes, catalogue: Iterable[str]) -> dict[str, str]:
    """{tag: identifier} of the whole catalogue, for a hospital to read an answer."""
    key = derive(secret, "kernel-class-tag")
    return {_name(key, identifier.encode()): identifier for identifier in catalogue}


def patient_name(site_secret: bytes, patient: str) -> str:
    """The name of a patient's row, for life. patient: the hospital's own stable identifier."""
    return _name(derive(site_secret, "kernel-patient"), patient.encode())


@dataclass(frozen=True)
class Opening:
    """What opens one photo's commitments: shown to an auditor, never to the coordinator."""

    photo_key: bytes = field(repr=False)
    photo_sha256: str

    @classmethod
    def of(cls, site_secret: bytes, photo_sha256: str) -> Opening:
        """photo_sha256: of the photo's pixels as they are embedded."""
        return cls(derive(site_secret, "kernel-photo", bytes.fromhex(photo_sha256)), photo_sha256)

    @property
    def photo(self) -> str:
        """The photo's name, the same under every model."""
        return _name(self.photo_key, b"photo/" + bytes.fromhex(self.photo_sha256))

    def commitment(self, model_sha256: str) -> str:
        """Of this photo under this model."""
        message = b"model/" + bytes.fromhex(model_sha256) + bytes.fromhex(self.photo_sha256)
        return _name(self.photo_key, message)

    def check(self, photo: str, commitment: str, model_sha256: str) -> None:
        """AuditFailed unless name and commitment are of exactly this photo and model."""
        fits = hmac.compare_digest(self.photo, photo)
        if not (hmac.compare_digest(self.commitment(model_sha256), commitment) and fits):
            raise AuditFailed("The question was not about the photo that was shown for it.")


def vector_sha256(rows: Float32) -> str:
    """Hex hash of masked rows (m, k') float32 as they are sent."""
    return hashlib.sha256(np.ascontiguousarray(rows, dtype="<f4").data).hexdigest()


def _name(key: bytes, message: bytes) -> str:
    return hmac.new(key, message, hashlib.sha256).hexdigest()

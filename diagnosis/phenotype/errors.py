"""The exceptions of the phenotype science, one tree.

Every message is a sentence that may be shown to a user: it names no file outside the one the user
gave, no pixel values and no identity.
"""

from __future__ import annotations


class PhenotypeError(Exception):
    """Anything the science of one photo refuses or cannot do."""


class PhotoRefused(PhenotypeError):
    """A photo that cannot be ranked; `code` is stable, the message is for the clinician."""

    def __init__(self, code: str, sentence: str, remedy: str = "") -> None:
        super().__init__(f"{sentence} {remedy}".strip())
        self.code = code
        self.sentence = sentence
        self.remedy = remedy


class WeightsRefused(PhenotypeError):
    """A weights file whose hash, layout, dtype, range or self-test is not what was promised."""


class GalleryError(PhenotypeError):
    """A gallery whose arrays do not fit each other, or a query that does not fit the gallery."""


class FormatError(PhenotypeError):
    """A file in an exchange format (encodings CSV, split CSV) that does not follow that format."""


class CalibrationError(PhenotypeError):
    """Held-out patients that cannot carry a calibration, or a calibration that is not this model's."""

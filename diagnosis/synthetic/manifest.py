"""A cohort on disk: manifest.json and photos. Read without anny, warp or torch.

load_shipped() reads the demo cohort that comes with the project. Nobody in it exists; syndromes and genes are
invented. Everything about a photo is checked against the manifest when it is read.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHIPPED_FOLDER = Path(__file__).parent / "shipped"
MANIFEST_NAME = "manifest.json"
FORMAT = "gestaltweb-synthetic-cohort-1"


class CohortDamaged(ValueError):
    """A cohort's files are not those of its manifest. The sentence says which and what to do."""


@dataclass(frozen=True)
class CatalogueFeature:
    """One facial HPO term of a syndrome: frequency in [0, 1], severity in [0.5, 1]."""

    term: str
    name: str
    frequency: float
    severity: float


@dataclass(frozen=True)
class CatalogueSyndrome:
    """An invented syndrome with its invented gene; synthetic is always true."""

    identifier: str
    name: str
    gene: str
    features: tuple[CatalogueFeature, ...]
    synthetic: bool = True


@dataclass(frozen=True)
class CohortPhoto:
    """file is relative to the cohort's folder; landmarks are five true (x, y) px, pixel centres whole."""

    image_id: int
    file: str
    number: int
    age_years: float
    landmarks: tuple[tuple[float, float], ...]
    sha256: str


@dataclass(frozen=True)
class CohortPerson:
    """status is "solved", "unsolved" or "unaffected". syndrome is what the hospital knows (None if unsolved).

    true_syndrome is what was rendered. present and absent are HPO terms; all others were not assessed.
    sex is "female" or "male"; skin_tone on the Monk scale 1–10.
    """

    key: str
    number: int
    hospital: str
    status: str
    syndrome: str | None
    true_syndrome: str | None
    sex: str
    skin_tone: float
    ancestry: tuple[float, float, float]
    present: tuple[str, ...]
    absent: tuple[str, ...]
    photos: tuple[CohortPhoto, ...]


@dataclass(frozen=True)
class Cohort:
    """A cohort with its folder, origin and licence. hpo maps every assessable term to its name."""

    folder: Path
    name: str
    seed: int
    origin: str
    licence: str
    made_with: dict[str, str]
    hpo: dict[str, str]
    syndromes: tuple[CatalogueSyndrome, ...]
    people: tuple[CohortPerson, ...]

    def hospital(self, name: str) -> tuple[CohortPerson, ...]:
        """People of one hospital, in the manifest's order."""
        return tuple(person for person in self.people if person.hospital == name)

    def read_photo(self, photo: CohortPhoto) -> bytes:
        """The JPEG's bytes. Raises CohortDamaged if they are not those of the manifest."""
        data = (self.folder / photo.file).read_bytes()
        if hashlib.sha256(data).hexdigest() != photo.sha256:
            raise CohortDamaged(
                f"{photo.file} is not the photo of the manifest. Write the cohort again with "
                f"'manage.py synthesize --recipe {self.name}'."
            )
        return data


def load_shipped() -> Cohort:
    """The demo cohort of four hospitals that ships with the project."""
    return load_cohort(SHIPPED_FOLDER)


def load_cohort(folder: Path) -> Cohort:
    """A cohort written by cohort.write_cohort. Raises CohortDamaged without a manifest of this format."""
    path = folder / MANIFEST_NAME
    if not path.exists():
        raise CohortDamaged(
            f"{folder} holds no {MANIFEST_NAME}. Write one there with 'manage.py synthesize'."
        )
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if found.get("format") != FORMAT:
        raise CohortDamaged(f"{path} has the format {found.get('format')!r}; this version reads {FORMAT!r}.")
    return Cohort(
        folder=folder,
        **{name: found[name] for name in ("name", "seed", "origin", "licence", "made_with", "hpo")},
        syndromes=tuple(_syndrome(row) for row in found["syndromes"]),
        people=tuple(_person(row) for row in found["people"]),
    )


def _syndrome(row: dict[str, Any]) -> CatalogueSyndrome:
    features = tuple(CatalogueFeature(**feature) for feature in row["features"])
    return CatalogueSyndrome(**(row | {"features": features}))


def _person(row: dict[str, Any]) -> CohortPerson:
    photos = tuple(_photo(photo) for photo in row["photos"])
    tuples = {name: tuple(row[name]) for name in ("ancestry", "present", "absent")}
    return CohortPerson(**(row | tuples | {"photos": photos}))


def _photo(row: dict[str, Any]) -> CohortPhoto:
    if Path(row["file"]).name != row["file"].removeprefix("photos/"):
        raise CohortDamaged(f"The manifest names {row['file']!r}, which is outside the cohort's photos.")
    return CohortPhoto(**(row | {"landmarks": tuple((x, y) for x, y in row["landmarks"])}))

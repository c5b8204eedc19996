"""Gallery and test splits by patient, in GestaltMatcher's CSV files, and the metadata beside them.

Columns: image_id (photos/<image_id>.jpg), label (the number in SYN:0007), subject (the person's number), and
for rare syndromes split (0–9). A patient is never in gallery and test of one split, and all photos of a
patient go together. Unaffected people are in no split; unaffected_images_v<version>.csv lists them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from diagnosis.synthetic.manifest import Cohort, CohortPerson
from diagnosis.synthetic.people import Draw, stream
from diagnosis.synthetic.recipes import FREQUENT_FROM, RARE_SPLITS

TEST_SHARE = 0.25  # of a frequent syndrome's patients

Row = tuple[int, ...]


def write_splits(cohort: Cohort, folder: Path) -> None:
    """The four gmdb_*_images files and the list of unaffected people; the version is the cohort's name."""
    version = cohort.name
    gallery, test = frequent_split(cohort)
    _write(folder / f"gmdb_frequent_gallery_images_v{version}.csv", _HEADER, _rows(gallery))
    _write(folder / f"gmdb_frequent_test_images_v{version}.csv", _HEADER, _rows(test))
    galleries, tests = zip(*(rare_split(cohort, split) for split in range(RARE_SPLITS)), strict=True)
    header = (*_HEADER, "split")
    _write(folder / f"gmdb_rare_gallery_images_v{version}.csv", header, _split_rows(galleries))
    _write(folder / f"gmdb_rare_test_images_v{version}.csv", header, _split_rows(tests))
    unaffected = [person for person in cohort.people if person.status == "unaffected"]
    rows = ((photo.image_id, person.number) for person in unaffected for photo in person.photos)
    _write(folder / f"unaffected_images_v{version}.csv", ("image_id", "subject"), rows)


_HEADER = ("image_id", "label", "subject")


def patients_by_syndrome(cohort: Cohort) -> dict[str, list[CohortPerson]]:
    """Solved patients of each syndrome, in the manifest's order."""
    groups: dict[str, list[CohortPerson]] = {}
    for person in cohort.people:
        if person.syndrome is not None:
            groups.setdefault(person.syndrome, []).append(person)
    return groups


def frequent_split(cohort: Cohort) -> tuple[list[CohortPerson], list[CohortPerson]]:
    """(gallery, test) patients of the frequent syndromes: a quarter is tested, at least one."""
    gallery: list[CohortPerson] = []
    test: list[CohortPerson] = []
    for syndrome, patients in sorted(patients_by_syndrome(cohort).items()):
        if len(patients) >= FREQUENT_FROM:
            mixed = _shuffled(cohort, syndrome, patients, RARE_SPLITS)
            held_out = max(1, round(TEST_SHARE * len(patients)))
            test += mixed[:held_out]
            gallery += mixed[held_out:]
    return gallery, test


def rare_split(cohort: Cohort, split: int) -> tuple[list[CohortPerson], list[CohortPerson]]:
    """(gallery, test) of the rare syndromes in one of ten splits: one of 2–3, two of 4–6 are tested."""
    gallery: list[CohortPerson] = []
    test: list[CohortPerson] = []
    for syndrome, patients in sorted(patients_by_syndrome(cohort).items()):
        if 2 <= len(patients) < FREQUENT_FROM:
            mixed = _shuffled(cohort, syndrome, patients, split)
            held_out = 1 if len(patients) < 4 else 2
            test += mixed[:held_out]
            gallery += mixed[held_out:]
    return gallery, test


def _shuffled(
    cohort: Cohort, syndrome: str, patients: Sequence[CohortPerson], split: int
) -> list[CohortPerson]:
    rng = stream(Draw.SPLIT, cohort.seed, int(syndrome.removeprefix("SYN:")), split)
    return [patients[int(index)] for index in rng.permutation(len(patients))]


def _rows(people: Iterable[CohortPerson]) -> list[Row]:
    rows = [
        (photo.image_id, int(str(person.syndrome).removeprefix("SYN:")), person.number)
        for person in people
        for photo in person.photos
    ]
    return sorted(rows)


def _split_rows(splits: Sequence[Sequence[CohortPerson]]) -> list[Row]:
    return [(*row, split) for split, people in enumerate(splits) for row in _rows(people)]


def _write(path: Path, header: Sequence[str], rows: Iterable[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)

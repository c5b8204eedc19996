"""Accuracy on GestaltMatcher's splits: what `manage.py evaluate` prints.

Four settings, test set / gallery: frequent/frequent, rare/rare, frequent/(frequent + rare) and
rare/(frequent + rare). The rare splits (ten in GMDB) are evaluated one by one and averaged. Accuracy is
macro, per syndrome and then averaged (Hustinx et al., WACV 2023, table 2); micro stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diagnosis.phenotype.errors import FormatError
from diagnosis.phenotype.ranking.distance import Float32, batch_distances, first_identical, unit_rows
from diagnosis.phenotype.ranking.gmdb_files import Encodings, SplitRow, read_encodings, read_split
from diagnosis.phenotype.ranking.grouping import Grouping, Indices
from diagnosis.phenotype.ranking.metrics import TOP_K, Accuracy, Ranks, accuracy, true_ranks

SETTINGS = ("F/F", "R/R", "F/(F+R)", "R/(F+R)")
Rows = tuple[SplitRow, ...]


@dataclass(frozen=True)
class Splits:
    """The four lists of one GMDB version."""

    frequent_gallery: Rows
    frequent_test: Rows
    rare_gallery: Rows
    rare_test: Rows

    @property
    def rare_names(self) -> tuple[str, ...]:
        """Names of the rare splits; one nameless split where the files have no such column."""
        return tuple(dict.fromkeys(row.split for row in self.rare_gallery))

    @property
    def image_ids(self) -> frozenset[str]:
        everything = (*self.frequent_gallery, *self.frequent_test, *self.rare_gallery, *self.rare_test)
        return frozenset(row.image_id for row in everything)


@dataclass(frozen=True)
class Scenario:
    """One test list against one gallery list, as positions in the encodings."""

    setting: str
    queries: Indices
    truth: tuple[str, ...]
    gallery: Indices
    syndromes: Grouping


def evaluate(
    encodings: Path, metadata: Path, version: str, *, fuse_photos: bool = False, skip_missing: bool = False
) -> dict[str, dict[str, Any]]:
    """Files of one GMDB version → {"F/F": {"top1": …, …, "micro": {…}, "queries", "gallery", "overlap"}, …}.

    Per cent. version "1.0.3" or "v1.0.3". fuse_photos: photos of one subject are averaged, in test set and
    gallery, and brought back to unit length, as the figures with several photos were made. skip_missing:
    leave out listed images without encodings instead of refusing. overlap counts queries whose image is
    also in their gallery, which a clean split has none of. Raises FormatError for files that do not hold up.
    """
    splits = read_splits(metadata, version)
    read = read_encodings(encodings, splits.image_ids)
    splits = _present(splits, frozenset(read.image_ids), encodings.name, skip_missing)
    return evaluate_splits(*fuse_subjects(read, splits)) if fuse_photos else evaluate_splits(read, splits)


def read_splits(metadata: Path, version: str) -> Splits:
    """gmdb_{frequent,rare}_{gallery,test}_images_v{version}.csv of one folder."""
    number = version.removeprefix("v")
    splits = Splits(
        *(
            read_split(metadata / f"gmdb_{kind}_{role}_images_v{number}.csv")
            for kind in ("frequent", "rare")
            for role in ("gallery", "test")
        )
    )
    if set(splits.rare_names) != {row.split for row in splits.rare_test}:
        raise FormatError(f"The rare lists of v{number} name different splits. Export both files again.")
    return splits


def evaluate_splits(encodings: Encodings, splits: Splits) -> dict[str, dict[str, Any]]:
    """The four settings on encodings that hold every listed image; see `evaluate`."""
    scenarios = list(_scenarios(encodings, splits))
    ranks = _ranks(encodings.rows, scenarios)
    results: dict[str, dict[str, Any]] = {}
    for setting in SETTINGS:
        chosen = [index for index, scenario in enumerate(scenarios) if scenario.setting == setting]
        measured = [accuracy(ranks[index], scenarios[index].truth) for index in chosen]
        results[setting] = _summary(measured, [scenarios[index] for index in chosen])
    return results


def fuse_subjects(encodings: Encodings, splits: Splits) -> tuple[Encodings, Splits]:
    """One entry per (list, split, subject, label): the unit mean of its photos, row by row."""
    place = {image: index for index, image in enumerate(encodings.image_ids)}
    names: list[str] = []
    means: list[Float32] = []

    def fused(rows: Rows, role: str) -> Iterator[SplitRow]:
        photos: dict[SplitRow, list[int]] = {}
        for row in rows:
            if not row.subject:
                raise FormatError(f"Image {row.image_id} names no subject. Fusing photos needs that column.")
            name = f"{role}|{row.split}|{row.subject}|{row.label}"
            entry = SplitRow(name, row.label, row.subject, row.split)
            photos.setdefault(entry, []).append(place[row.image_id])
        for entry, members in photos.items():
            names.append(entry.image_id)
            means.append(unit_rows(encodings.rows[members].mean(axis=0, dtype=np.float64)))
            yield entry

    lists = Splits(
        tuple(fused(splits.frequent_gallery, "FG")),
        tuple(fused(splits.frequent_test, "FT")),
        tuple(fused(splits.rare_gallery, "RG")),
        tuple(fused(splits.rare_test, "RT")),
    )
    return Encodings(tuple(names), encodings.variants, np.stack(means)), lists


def _present(splits: Splits, known: frozenset[str], name: str, skip: bool) -> Splits:
    missing = sorted(splits.image_ids - known)
    if not missing:
        return splits
    if not skip:
        some = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        advice = "Encode them, or ask to leave missing images out"
        raise FormatError(f"{name} lacks {len(missing)} listed images ({some}). {advice}.")
    lists = (splits.frequent_gallery, splits.frequent_test, splits.rare_gallery, splits.rare_test)
    kept = [tuple(row for row in rows if row.image_id in known) for rows in lists]
    if not all(kept):
        raise FormatError(f"{name} leaves one of the four lists without images. Encode the missing ones.")
    return Splits(*kept)


def _scenarios(encodings: Encodings, splits: Splits) -> Iterator[Scenario]:
    place = {image: index for index, image in enumerate(encodings.image_ids)}

    def scenario(setting: str, test: Sequence[SplitRow], gallery: Sequence[SplitRow]) -> Scenario:
        return Scenario(
            setting=setting,
            queries=np.array([place[row.image_id] for row in test], dtype=np.intp),
            truth=tuple(row.label for row in test),
            gallery=np.array([place[row.image_id] for row in gallery], dtype=np.intp),
            syndromes=Grouping.from_keys([(row.label,) for row in gallery]),
        )

    yield scenario("F/F", splits.frequent_test, splits.frequent_gallery)
    for name in splits.rare_names:
        if not any(row.split == name for row in splits.rare_test):
            raise FormatError(f"Rare split {name!r} has no test image. Encode the missing ones.")
        rare_gallery = [row for row in splits.rare_gallery if row.split == name]
        rare_test = [row for row in splits.rare_test if row.split == name]
        both = [*splits.frequent_gallery, *rare_gallery]
        yield scenario("R/R", rare_test, rare_gallery)
        yield scenario("F/(F+R)", splits.frequent_test, both)
        yield scenario("R/(F+R)", rare_test, both)


def _ranks(rows: Float32, scenarios: Sequence[Scenario]) -> list[Ranks]:
    """Rank of the true syndrome for each scenario's queries. Each image is compared once, block by block."""
    count, m, size = rows.shape
    flat = rows.reshape(count, m * size)
    queried = np.unique(np.concatenate([scenario.queries for scenario in scenarios]))
    searched = np.unique(np.concatenate([scenario.gallery for scenario in scenarios]))
    gallery = flat[searched]
    same = first_identical(gallery)
    ranks = [np.zeros(len(scenario.queries), dtype=np.int64) for scenario in scenarios]
    start = 0
    for block in batch_distances(flat[queried], gallery, m):
        images = queried[start : start + len(block)]
        start += len(block)
        distances = block if same is None else block[:, same]
        for scenario, found in zip(scenarios, ranks, strict=True):
            inside = np.flatnonzero(np.isin(scenario.queries, images))
            own = distances[np.searchsorted(images, scenario.queries[inside])]
            own = own[:, np.searchsorted(searched, scenario.gallery)]
            found[inside] = true_ranks(own, scenario.syndromes, [scenario.truth[query] for query in inside])
    return ranks


def _summary(measured: Sequence[Accuracy], scenarios: Sequence[Scenario]) -> dict[str, Any]:
    """Means over splits, in per cent."""
    overlaps = [int(np.isin(scenario.queries, scenario.gallery).sum()) for scenario in scenarios]
    return {
        **_mean_per_cent([one.macro for one in measured]),
        "micro": _mean_per_cent([one.micro for one in measured]),
        "queries": float(np.mean([one.queries for one in measured])),
        "syndromes": float(np.mean([one.syndromes for one in measured])),
        "gallery": float(np.mean([len(scenario.gallery) for scenario in scenarios])),
        "overlap": max(overlaps),
    }


def _mean_per_cent(shares: Sequence[Mapping[int, float]]) -> dict[str, float]:
    return {f"top{k}": 100.0 * float(np.mean([share[k] for share in shares])) for k in TOP_K}

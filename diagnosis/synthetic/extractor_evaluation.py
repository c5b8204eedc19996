"""The default extractor against a generic recogniser, on the recipe that was committed before training.

Both see the same aligned crops and the same four views; both are compared by the same methods on the same
splits. No syndrome, person or seed of the cohort occurs in training, validation or calibration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from diagnosis.phenotype.embed.ensemble import Ensemble
from diagnosis.phenotype.embed.views import ALL_VIEWS, view_batch
from diagnosis.phenotype.ranking.metrics import TOP_K, macro_interval
from diagnosis.phenotype.types import PixelArray
from diagnosis.synthetic.cohort_faces import CohortFaces
from diagnosis.synthetic.evaluation import (
    Float64,
    Floats,
    Photos,
    compare_all,
    macro_top_k,
    query_ranks,
    unit,
)
from diagnosis.synthetic.manifest import Cohort, CohortPerson
from diagnosis.synthetic.recipes import RARE_SPLITS
from diagnosis.synthetic.splits import frequent_split, rare_split

Embed = Callable[[PixelArray], Floats]  # (n, 112, 112, 3) uint8 → (n, m, d) unit rows
Indices = npt.NDArray[np.int64]
DRAWS = 200
EVERYBODY = "(F+R)/(F+R)"
SHOWN_WITH_INTERVALS = ("F/F", EVERYBODY)


@dataclass(frozen=True)
class Split:
    """A gallery and who is looked for in it, by setting: rows of photos among a cohort's faces."""

    gallery: Indices
    tests: dict[str, Indices]

    def everybody(self) -> Indices:
        """All tested photos, each once, ascending."""
        return np.unique(np.concatenate(list(self.tests.values())))


def embed_with(ensemble: Ensemble) -> Embed:
    """The pipeline's own embedding: (n, 112, 112, 3) uint8 → (n, m, 512) float32 unit rows."""

    def embed(pixels: PixelArray) -> Floats:
        return np.stack([found.rows for found in ensemble.embed(pixels)])

    return embed


def embed_with_network(network: nn.Module) -> Embed:
    """Any network on the same four views: (n, 112, 112, 3) uint8 → (n, 4, d) unit rows."""

    def embed(pixels: PixelArray) -> Floats:
        rows = []
        with torch.inference_mode():
            for start in range(0, len(pixels), 16):
                faces = pixels[start : start + 16]
                answers = network(view_batch(faces, ALL_VIEWS)).numpy()  # (b·4, d), views of a face adjacent
                rows.append(answers.reshape(len(faces), len(ALL_VIEWS), -1))
        return unit(np.concatenate(rows))

    return embed


class CohortPhotos:
    """A cohort's found faces with their people: turns lists of people into rows."""

    def __init__(self, cohort: Cohort, faces: CohortFaces) -> None:
        places = faces.places()
        self.rows_of = {
            person.number: [places[photo.image_id] for photo in person.photos if photo.image_id in places]
            for person in cohort.people
        }
        self.syndromes = np.full(len(faces.pixels), -1, dtype=np.int64)
        self.patients = np.zeros(len(faces.pixels), dtype=np.int64)
        for person in cohort.people:
            rows = self.rows_of[person.number]
            self.patients[rows] = person.number
            if person.syndrome is not None:
                self.syndromes[rows] = int(person.syndrome.removeprefix("SYN:"))

    def rows(self, people: Sequence[CohortPerson]) -> Indices:
        """Rows of all found photos of these people."""
        return np.array([row for person in people for row in self.rows_of[person.number]], dtype=np.int64)

    def with_embeddings(self, embeddings: Floats) -> Photos:
        """All photos, embedded."""
        return Photos(embeddings, self.syndromes, self.patients)


def cohort_splits(cohort: Cohort, photos: CohortPhotos) -> list[Split]:
    """GestaltMatcher's four settings, and everybody in everything; with rare syndromes ten splits each."""
    gallery, test = (photos.rows(people) for people in frequent_split(cohort))
    splits = [Split(gallery, {"F/F": test})]
    for number in range(RARE_SPLITS):
        rare_gallery, rare_test = (photos.rows(people) for people in rare_split(cohort, number))
        splits.append(Split(rare_gallery, {"R/R": rare_test}))
        settings = {"F/(F+R)": test, "R/(F+R)": rare_test, EVERYBODY: np.concatenate([test, rare_test])}
        splits.append(Split(np.concatenate([gallery, rare_gallery]), settings))
    return splits


def settings_of(splits: Sequence[Split]) -> dict[str, Split]:
    """setting → the first split that has it, in order of appearance."""
    found: dict[str, Split] = {}
    for split in splits:
        for setting in split.tests:
            found.setdefault(setting, split)
    return found


def compare_split(photos: Photos, split: Split) -> Iterator[tuple[str, str, Photos, Photos, Float64]]:
    """(setting, method, gallery, queries, distances) of one split; the gallery is prepared once."""
    rows = split.everybody()
    gallery = photos.part(split.gallery)
    compared = compare_all(gallery, photos.part(rows))
    for setting, test in split.tests.items():
        queries, places = photos.part(test), np.searchsorted(rows, test)
        for method, distances in compared.items():
            yield setting, method, gallery, queries, distances[places]


def accuracy_table(photos: Photos, splits: Sequence[Split]) -> dict[str, dict[str, dict[str, float]]]:
    """setting → method → macro per cent at each k, averaged over the setting's splits."""
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for split in splits:
        for setting, method, gallery, queries, distances in compare_split(photos, split):
            figures = macro_top_k(distances, gallery, queries)
            found.setdefault(setting, {}).setdefault(method, []).append(figures)
    return {
        setting: {method: _mean(tables) for method, tables in methods.items()}
        for setting, methods in found.items()
    }


def _mean(tables: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([table[key] for table in tables])) for key in tables[0]}


def intervals_table(photos: Photos, splits: Sequence[Split]) -> dict[str, dict[str, dict[str, Any]]]:
    """setting → method → k → macro share with its 95 % bootstrap interval over patients; first split."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for setting in SHOWN_WITH_INTERVALS:
        split = settings_of(splits)[setting]
        only = Split(split.gallery, {setting: split.tests[setting]})
        for _, method, gallery, queries, distances in compare_split(photos, only):
            ranks, truth = query_ranks(distances, gallery, queries)
            patients = [str(patient) for patient in queries.patients]
            found.setdefault(setting, {})[method] = {
                f"top{k}": macro_interval(ranks, truth, patients, k, draws=DRAWS).as_dict() for k in TOP_K
            }
    return found


def judge_targets(
    default: dict[str, dict[str, float]], generic: dict[str, dict[str, float]]
) -> list[dict[str, Any]]:
    """The targets set before training, for one setting: what was wanted, what was measured, whether met."""
    nearest = default["nearest image"]["top1"], generic["nearest image"]["top1"]
    targets = [_target("nearest image, top-1, ratio to generic", nearest[0] / nearest[1], at_least=2.0)]
    ours, theirs = best_method(default), best_method(generic)
    for reading, method in (("nearest image", "nearest image"), ("best method", theirs)):
        for k in (1, 5, 10):
            error = 100 - default[ours][f"top{k}"], 100 - generic[method][f"top{k}"]
            name = f"error of {ours}, top-{k}, share of generic's {reading} ({method})"
            targets.append(_target(name, error[0] / error[1] if error[1] else float("inf"), at_most=2 / 3))
    return targets


def best_method(table: dict[str, dict[str, float]]) -> str:
    """The method with the highest macro top-1."""
    return max(table, key=lambda name: table[name]["top1"])


def _target(
    name: str, value: float, *, at_least: float | None = None, at_most: float | None = None
) -> dict[str, Any]:
    met = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
    wanted = f"at least {at_least:.3g}" if at_least is not None else f"at most {at_most:.3g}"
    return {"target": name, "wanted": wanted, "measured": value, "met": met}


def evaluate_extractors(
    cohort: Cohort, faces: CohortFaces, embedders: dict[str, Embed]
) -> tuple[dict[str, Any], dict[str, Photos]]:
    """All tables for "default" and, where given, "generic"; and the embedded photos by extractor."""
    people = CohortPhotos(cohort, faces)
    splits = cohort_splits(cohort, people)
    embedded = {name: people.with_embeddings(embed(faces.pixels)) for name, embed in embedders.items()}
    tables = {name: accuracy_table(photos, splits) for name, photos in embedded.items()}
    settings = settings_of(splits)
    result: dict[str, Any] = {
        "cohort": {"name": cohort.name, "seed": cohort.seed, "made_with": cohort.made_with} | faces.summary(),
        "splits": {name: _split_sizes(people, split, name) for name, split in settings.items()},
        "accuracy": tables,
        "intervals": {name: intervals_table(photos, splits) for name, photos in embedded.items()},
    }
    if "generic" in tables:
        pairs = {name: (tables["default"][name], tables["generic"][name]) for name in settings}
        result["targets"] = {name: judge_targets(*pair) for name, pair in pairs.items()}
    return result, embedded


def _split_sizes(people: CohortPhotos, split: Split, setting: str) -> dict[str, int]:
    test = split.tests[setting]
    return {
        "gallery_photos": len(split.gallery),
        "test_photos": len(test),
        "syndromes": len(np.unique(people.syndromes[split.gallery])),
        "tested_syndromes": len(np.unique(people.syndromes[test])),
    }

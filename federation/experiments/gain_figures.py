"""Means and intervals of the gain experiment, from the ranks of its parts.

An interval answers for both seeds and patients: a draw takes as many seeds as there are, with replacement,
and in each drawn seed, at each site, as many patients of each syndrome as there are, with replacement (a
two-stage bootstrap, Davison & Hinkley 1997, section 3.8; patients vary in both stages, which errs on the
wide side). All models of a draw see the same seeds and patients. Beside it stand Student's interval over the
seeds, whose cohorts are independent, and the bootstrap that draws patients whatever their syndrome.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from diagnosis.phenotype.embed.backbone import Backbone
from diagnosis.phenotype.ranking.intervals import Estimate
from federation.experiments.gain import FORMAT, GALLERIES, TOP_K, GainOptions, seeds_of, versions
from federation.experiments.plans import weights_sha256
from federation.experiments.ranking import Groups, draw_weights, macro, weighted_macro
from federation.experiments.student import student_interval

Float64 = npt.NDArray[np.float64]
Json = dict[str, Any]
Key = tuple[str, int]  # model, k
LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Drawn:
    """For one gallery. exact: (model, k) → (seeds,) macro top-k, mean over sites; drawn: → (seeds, draws).

    seeds, places (draws, seeds): which seed stands at each place of a draw, and which of its own draws.
    """

    exact: Mapping[Key, Float64]
    drawn: Mapping[Key, Float64]
    seeds: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]

    def mean(self, model: str, k: int) -> float:
        """Macro top-k in [0, 1], over sites and seeds."""
        return float(self.exact[model, k].mean())

    def gain(self, model: str, other: str, k: int) -> Estimate:
        """model − other with its interval; n is the number of seeds."""
        difference = self.drawn[model, k] - self.drawn[other, k]
        values = difference[self.seeds, self.places].mean(axis=1)  # (draws,)
        low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        exact = self.by_seed(model, other, k)
        return Estimate(float(np.mean(exact)), float(low), float(high), len(exact))

    def by_seed(self, model: str, other: str, k: int) -> list[float]:
        """The gain in each seed."""
        return [float(gain) for gain in self.exact[model, k] - self.exact[other, k]]


def draw_gallery(
    parts: Sequence[Json], gallery: str, draws: int, *, by_syndrome: bool = True, seed: int = 0
) -> Drawn:
    """All models of all parts, in one gallery."""
    generator = np.random.default_rng(seed)
    found = [_draw_part(part, gallery, draws, generator, by_syndrome) for part in parts]
    keys = list(found[0][0])
    shape = (draws, len(parts))
    return Drawn(
        {key: np.array([exact[key] for exact, _ in found]) for key in keys},
        {key: np.stack([drawn[key] for _, drawn in found]) for key in keys},
        generator.integers(0, len(parts), shape),
        generator.integers(0, draws, shape),
    )


def _draw_part(
    part: Json, gallery: str, draws: int, generator: np.random.Generator, by_syndrome: bool
) -> tuple[dict[Key, float], dict[Key, Float64]]:
    """One seed: exact values and draws (draws,) by model and k, averaged over its sites."""
    exact: dict[Key, list[float]] = {}
    drawn: dict[Key, list[Float64]] = {}
    for site in part["sites"].values():
        stored = StoredRanks(site["galleries"][gallery])
        weights = draw_weights(stored.groups, generator, draws, by_syndrome=by_syndrome)
        for model, ranks in stored.ranks.items():
            for k in TOP_K:
                exact.setdefault((model, k), []).append(macro(ranks, stored.groups, k))
                values = weighted_macro(ranks, stored.groups, k, weights)
                drawn.setdefault((model, k), []).append(values)
    return (
        {key: float(np.mean(values)) for key, values in exact.items()},
        {key: np.mean(values, axis=0) for key, values in drawn.items()},
    )


class StoredRanks:
    """Ranks of one site in one gallery, as a part stores them."""

    def __init__(self, stored: Json) -> None:
        self._stored = stored
        self.ranks = {name: np.array(ranks, dtype=np.int64) for name, ranks in stored["ranks"].items()}

    @cached_property
    def groups(self) -> Groups:
        """Who is behind the photos."""
        patients = np.array(self._stored["patients"], dtype=np.int64)
        syndromes = np.array(self._stored["syndromes"], dtype=np.int64)
        return Groups(syndromes, patients, int(patients.max()) + 1)


def summarise(options: GainOptions, base: Backbone, parts: Sequence[Json]) -> Json:
    """The whole result, as it is stored: figures, sizes, options, seeds, versions."""
    return {
        "format": FORMAT,
        "made_with": versions(),
        "base_sha256": weights_sha256(base),
        "options": asdict(options),
        "seeds": list(seeds_of(options)),
        "level": LEVEL,
        "figures": [figure for gallery in GALLERIES for figure in _figures(options, parts, gallery)],
        "curves": _mean_curves(parts, "curves"),
        "losses": _mean_curves(parts, "losses"),
        "cohorts": [_sizes(part) for part in parts],
        "gate": [part["gate"] | {"cohort": part["cohort"]} for part in parts],
    }


def _figures(options: GainOptions, parts: Sequence[Json], gallery: str) -> list[Json]:
    drawn = draw_gallery(parts, gallery, options.draws)
    loose = draw_gallery(parts, gallery, options.draws, by_syndrome=False)
    rivals = [name for name, _ in options.rivals]
    return [
        _figure(strategy.strategy, rivals, drawn, gallery, k) | _other_intervals(strategy.strategy, loose, k)
        for strategy in options.strategies
        for k in TOP_K
    ]


def _other_intervals(name: str, loose: Drawn, k: int) -> Json:
    """Of the gain over the twin: other ways to an interval, so that nobody has to trust one."""
    ours, twin = f"global/{name}", f"alone/{name}"
    return {
        "gain_student": student_interval(loose.by_seed(ours, twin, k)).as_dict(),
        "gain_any_syndrome": loose.gain(ours, twin, k).as_dict(),
    }


def _figure(name: str, rivals: Sequence[str], drawn: Drawn, gallery: str, k: int) -> Json:
    """One strategy, gallery and k: macro top-k of the models, and what the global one gains over others."""
    ours = f"global/{name}"
    others = {"alone": f"alone/{name}", "base": "base", "pooled": f"pooled/{name}"}
    others |= {rival: f"rival/{rival}" for rival in rivals}
    return {
        "strategy": name, "gallery": gallery, "k": k,
        "global": drawn.mean(ours, k),
        "accuracy": {short: drawn.mean(model, k) for short, model in others.items()},
        "gain": {short: drawn.gain(ours, model, k).as_dict() for short, model in others.items()},
        "gain_by_seed": drawn.by_seed(ours, others["alone"], k),
    }  # fmt: skip


def _mean_curves(parts: Sequence[Json], name: str) -> dict[str, list[float]]:
    """Over the seeds, round by round."""
    return {key: np.mean([part[name][key] for part in parts], axis=0).tolist() for key in parts[0][name]}


def _sizes(part: Json) -> Json:
    """What a reader wants to know about one seed's silos."""
    sites = {
        name: {key: site[key] for key in ("training_patients", "training_photos", "training_syndromes")}
        | {
            f"held_out_patients_{gallery}": len(set(site["galleries"][gallery]["patients"]))
            for gallery in GALLERIES
        }
        for name, site in part["sites"].items()
    }
    return {name: part[name] for name in ("cohort", "seconds", "secure_sums", "secure_words")} | {
        "sites": sites
    }

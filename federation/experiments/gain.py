"""What the global model gives over the model that a site would have trained alone, seed by seed.

For each seed: a cohort of its own is spread over sites, each site holds patients out, and every strategy is
run once with real secure sums. The global network and the site's twin then rank the same held-out photos of
the site against the same gallery: "own", the site's training patients, or "joint", those of all sites.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from diagnosis.phenotype.embed.backbone import Backbone
from federation.experiments.alone import solve_alone, train_alone, twin_options
from federation.experiments.cohort_features import write_whole
from federation.experiments.partition import Spread, spread_features
from federation.experiments.plans import RoundOptions, derived_seed, next_plan, weights_sha256
from federation.experiments.ranking import Groups, known_queries, macro, rank_queries
from federation.experiments.rounds import Trained, run_rounds
from federation.experiments.secure import MemoryFederation
from federation.learning.config import AnalyticOptions
from federation.learning.errors import StatisticsRefused
from federation.learning.features import FeatureSet, join_features
from federation.learning.moments import choose_moments, patients_left
from federation.learning.split import split_by_patient

Source = Callable[[int], FeatureSet]  # number of a cohort → all its photos
Say = Callable[[str], None]
Json = dict[str, Any]
SiteModels = dict[str, Backbone]  # site → the network that it ranks with

FORMAT = "gestaltweb-experiment-gain/1"
TOP_K = (1, 5)
GALLERIES = ("own", "joint")
PACKAGES = ("numpy", "torch", "safetensors", "cryptography", "pycryptodome")


@dataclass(frozen=True)
class GainOptions:
    """cohorts: one per seed. rivals: further ways for a site to train alone, by name.

    minimum_held_out: patients that each site must have held out, or the experiment stops.
    """

    cohorts: tuple[int, ...]
    strategies: tuple[RoundOptions, ...]
    rivals: tuple[tuple[str, RoundOptions], ...] = ()
    sites: tuple[str, ...] = ("A", "B", "C", "D")
    spread: Spread = Spread("dirichlet", 0.5)
    holdout_share: float = 0.65
    minimum_held_out: int = 100
    draws: int = 2000


@dataclass(frozen=True, eq=False)
class Silos:
    """Site → training photos, and site → held-out photos of other patients."""

    training: dict[str, FeatureSet]
    held_out: dict[str, FeatureSet]

    @property
    def joint(self) -> FeatureSet:
        """Everybody's training photos in one place."""
        return join_features(list(self.training.values()))


def measure_gain(options: GainOptions, base: Backbone, source: Source, folder: Path, say: Say) -> list[Json]:
    """One part per seed, from `folder` where it was measured before with the same options and base."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for cohort in options.cohorts:
        path = folder / f"{part_name(options, base, cohort)}.json"
        if not path.exists():
            started = time.monotonic()
            part = measure_cohort(options, base, source(cohort), cohort, say)
            part["seconds"] = round(time.monotonic() - started, 1)
            write_whole(path, json.dumps(part).encode())
        parts.append(json.loads(path.read_text(encoding="utf-8")))
        say(f"cohort {cohort}: measured")
    return parts


def part_name(options: GainOptions, base: Backbone, cohort: int) -> str:
    """Says what a part depends on: everything but which other cohorts are measured, and the draws."""
    facts = asdict(replace(options, cohorts=(), draws=0)) | {"base": weights_sha256(base)}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    return f"gain-{digest}-{cohort:02d}"


def measure_cohort(options: GainOptions, base: Backbone, found: FeatureSet, cohort: int, say: Say) -> Json:
    """Spread, train everything, rank: the ranks of every held-out photo under every model."""
    silos = divide(options, found, cohort)
    federation = MemoryFederation.of(options.sites)
    trainer = Trainer(options, base, silos, federation, derived_seed("gain", cohort), say)
    models = trainer.all_models()
    return {
        "cohort": cohort,
        "sites": {site: rank_site(site, silos, models) for site in options.sites},
        "curves": trainer.curves,
        "losses": trainer.losses,
        "gate": ask_gate(options, base, silos, cohort),
        "secure_sums": federation.sums,
        "secure_words": federation.words,
    }


def divide(options: GainOptions, found: FeatureSet, cohort: int) -> Silos:
    """Patients over sites, then each site's own split. ValueError where too few are held out."""
    spread = spread_features(found, options.sites, options.spread, derived_seed("spread", cohort))
    halves = {
        site: split_by_patient(own, k=options.strategies[0].k, share=options.holdout_share)
        for site, own in spread.items()
    }
    silos = Silos({s: half[0] for s, half in halves.items()}, {s: half[1] for s, half in halves.items()})
    for site in options.sites:
        people = len(set(known_queries(silos.held_out[site], silos.training[site]).patients))
        if people < options.minimum_held_out:
            raise ValueError(
                f"Site {site} of cohort {cohort} holds out {people} patients only. Make it larger."
            )
    return silos


class Trainer:
    """Trains every model of one seed. curves: strategy → macro top-1 by round; losses: likewise."""

    def __init__(
        self,
        options: GainOptions,
        base: Backbone,
        silos: Silos,
        federation: MemoryFederation,
        seed: int,
        say: Say,
    ) -> None:
        self._options, self._base, self._silos, self._federation = options, base, silos, federation
        self._seed, self._say = seed, say
        self._twins: dict[RoundOptions, tuple[SiteModels, list[list[float]]]] = {}
        self._pools: dict[RoundOptions, Backbone] = {}
        self.curves: dict[str, list[float]] = {}
        self.losses: dict[str, list[float]] = {}

    def all_models(self) -> dict[str, SiteModels]:
        """base, then for each strategy global/…, alone/…, pooled/…, then rival/…."""
        models = {"base": self._everywhere(self._base)}
        for strategy in self._options.strategies:
            name = strategy.strategy
            self._say(f"{name}: rounds")
            trained = self._global(strategy)
            models[f"global/{name}"] = self._everywhere(trained.model.backbone)
            self._say(f"{name}: twins")
            models[f"alone/{name}"], by_round = self._alone(strategy)
            models[f"pooled/{name}"] = self._everywhere(self._pooled(strategy, trained.plan.identifiers))
            if by_round:
                self.curves[f"alone/{name}"] = np.mean(by_round, axis=0).tolist()
        for title, rival in self._options.rivals:
            models[f"rival/{title}"], _ = self._alone(rival)
        return models

    def _everywhere(self, backbone: Backbone) -> SiteModels:
        return dict.fromkeys(self._options.sites, backbone)

    def _global(self, strategy: RoundOptions) -> Trained:
        curve: list[float] = []

        def watch(_: int, network: Backbone) -> None:
            curve.append(float(np.mean([self._top_1(site, network) for site in self._options.sites])))

        trained = run_rounds(
            strategy, self._base, self._silos.training, self._federation, seed=self._seed, watch=watch
        )
        if curve:
            self.curves[f"global/{strategy.strategy}"] = curve
            self.losses[f"global/{strategy.strategy}"] = [entry.loss for entry in trained.curves]
        return trained

    def _top_1(self, site: str, network: Backbone) -> float:
        """Of one site's held-out photos against its own gallery."""
        gallery = self._silos.training[site]
        queries = known_queries(self._silos.held_out[site], gallery)
        return macro(rank_queries(network.neck, queries, gallery), Groups.of(queries), 1)

    def _alone(self, strategy: RoundOptions) -> tuple[SiteModels, list[list[float]]]:
        """Each site's own network, and its top-1 by round; trained once for strategies with equal twins."""
        key = twin_key(strategy)
        if key not in self._twins:
            made = {site: self._alone_at(site, key) for site in self._options.sites}
            self._twins[key] = (
                {site: network for site, (network, _) in made.items()},
                [curve for _, curve in made.values() if curve],
            )
        return self._twins[key]

    def _alone_at(self, site: str, options: RoundOptions) -> tuple[Backbone, list[float]]:
        training, curve = self._silos.training[site], []
        if options.strategy == "analytic":
            return solve_alone(options, self._base, training), []
        trained = train_alone(
            options, self._base, training, seed=derived_seed(self._seed, site),
            watch=lambda _, network: curve.append(self._top_1(site, network)),
        )  # fmt: skip
        return trained.model.backbone, curve

    def _pooled(self, strategy: RoundOptions, classes: Sequence[str]) -> Backbone:
        """The centralised twin: all sites' photos of the open classes in one place."""
        key = twin_key(strategy)
        if key not in self._pools:
            self._pools[key] = self._pool(key, classes)
        return self._pools[key]

    def _pool(self, options: RoundOptions, classes: Sequence[str]) -> Backbone:
        joint = self._silos.joint
        if options.strategy == "analytic":
            return solve_alone(options, self._base, joint, classes)
        seed = derived_seed(self._seed, "pooled")
        return train_alone(options, self._base, joint, seed=seed, classes=classes).model.backbone


def twin_key(strategy: RoundOptions) -> RoundOptions:
    """What decides a twin: for trained ones the local training, for closed forms the options of the solve."""
    if strategy.strategy == "analytic":
        return strategy
    default = RoundOptions("fedavg")
    return replace(twin_options(strategy), server=default.server, analytic=default.analytic)


def rank_site(site: str, silos: Silos, models: Mapping[str, SiteModels]) -> Json:
    """Sizes, and for each gallery each photo's syndrome and patient (numbers) and rank under each model."""
    training, held_out = silos.training[site], silos.held_out[site]
    galleries = {"own": training, "joint": silos.joint}
    return {
        "training_patients": len(set(training.patients)),
        "training_photos": len(training),
        "training_syndromes": len(set(training.labels)),
        "galleries": {name: _rank_in(galleries[name], site, held_out, models) for name in GALLERIES},
    }


def _rank_in(gallery: FeatureSet, site: str, held_out: FeatureSet, models: Mapping[str, SiteModels]) -> Json:
    queries = known_queries(held_out, gallery)
    groups = Groups.of(queries)
    ranks = {
        name: rank_queries(by_site[site].neck, queries, gallery).tolist() for name, by_site in models.items()
    }
    return {
        "syndromes": groups.syndromes.tolist(),
        "patients": groups.patients.tolist(),
        "ranks": ranks,
    }


def ask_gate(options: GainOptions, base: Backbone, silos: Silos, cohort: int) -> Json:
    """What a plan with the shipped minima says to second moments of a federation of this size."""
    strategy = replace(options.strategies[0], analytic=AnalyticOptions())
    federation = MemoryFederation.of(options.sites)
    plan = next_plan(strategy, base, silos.training, federation, derived_seed("gate", cohort))
    try:
        answer = f"opened: {choose_moments(plan)}"
    except StatisticsRefused as refused:
        answer = str(refused)
    return {
        "open_classes": len(plan.classes),
        "patients": sum(entry.patients for entry in plan.classes),
        "patients_left": patients_left(plan, options.sites),
        "minimum_patients": plan.analytic.minimum_patients,
        "answer": answer,
    }


def versions() -> dict[str, str]:
    """What the figures were computed with."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **found}


def seeds_of(options: GainOptions) -> Sequence[int]:
    """The seed from which a cohort's trainings follow."""
    return [derived_seed("gain", cohort) for cohort in options.cohorts]

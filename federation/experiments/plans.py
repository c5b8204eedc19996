"""From what an experiment chooses to the plan of a round: counting under the k rule, ranges, hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from diagnosis.phenotype.embed.backbone import Backbone
from diagnosis.phenotype.embed.weights import serialize_weights
from federation.experiments.secure import MemoryFederation
from federation.learning import heads
from federation.learning.config import (
    DEFAULT_VIEWS,
    PLAN_VERSION,
    AnalyticOptions,
    LocalTraining,
    MemberPlan,
    OpenClass,
    Participant,
    ServerStep,
    Strategy,
    TensorLimit,
    TrainingPlan,
    ViewShare,
    round_up_samples,
    suggest_limit,
)
from federation.learning.features import FeatureSet
from federation.learning.statistics import (
    count_words,
    open_classes,
    patients_per_class,
    presence_words,
    read_counts,
)

MEMBER = "default"
Sites = Mapping[str, FeatureSet]
Words64 = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class RoundOptions:
    """What an experiment may choose; `analytic` takes one round whatever `rounds` says."""

    strategy: Strategy
    rounds: int = 10
    k: int = 5
    local: LocalTraining = field(default_factory=LocalTraining)
    server: ServerStep = field(default_factory=ServerStep)
    analytic: AnalyticOptions = field(default_factory=AnalyticOptions)
    views: tuple[ViewShare, ...] = DEFAULT_VIEWS
    row_weighting: Literal["class", "site"] = "class"


def weights_sha256(backbone: Backbone) -> str:
    """Hex sha256 that names a network as the base model of a plan."""
    return hashlib.sha256(serialize_weights(backbone)).hexdigest()


def count_classes(
    sites: Sites, federation: MemoryFederation, *, k: int, base_sha256: str
) -> tuple[OpenClass, ...]:
    """Presence, then counts of the open classes, each by one secure sum under the k rule."""
    counts = {name: patients_per_class(own.labels, own.patients) for name, own in sites.items()}
    vocabulary = sorted({label for own in counts.values() for label in own})
    question = hashlib.sha256("\0".join([str(k), *vocabulary]).encode()).hexdigest()

    def opened(purpose: str, words: Mapping[str, Words64]) -> Words64:
        total = federation.secure_sum(words, purpose=purpose, base_model=base_sha256, plan=question)
        return np.asarray(total, dtype=np.uint64)

    present = opened("presence", {name: presence_words(own, vocabulary, k) for name, own in counts.items()})
    classes = open_classes(present, vocabulary)
    total = opened("counts", {name: count_words(own, classes, k) for name, own in counts.items()})
    return tuple(OpenClass(name, count) for name, count in read_counts(total, classes, k).items())


def next_plan(
    options: RoundOptions, base: Backbone, sites: Sites, federation: MemoryFederation, seed: int
) -> TrainingPlan:
    """Counting comes first, then the plan."""
    classes = count_classes(sites, federation, k=options.k, base_sha256=weights_sha256(base))
    return make_plan(options, base, classes, sites, seed)


def make_plan(
    options: RoundOptions, base: Backbone, classes: tuple[OpenClass, ...], sites: Sites, seed: int
) -> TrainingPlan:
    """The plan of one round for these open classes; ranges that no honest update leaves."""
    samples = {name: round_up_samples(len(own)) for name, own in sites.items()}
    limits = tensor_limits(options.local, base, len(classes), max(samples.values()))
    member = MemberPlan(MEMBER, base.architecture, weights_sha256(base), options.local, limits)
    return TrainingPlan(
        version=PLAN_VERSION, strategy=options.strategy, seed=seed, k=options.k, classes=classes,
        participants=tuple(Participant(name, samples[name]) for name in sorted(samples)),
        views=options.views, members=(member,), server=options.server, analytic=options.analytic,
        row_weighting=options.row_weighting,
    )  # fmt: skip


def tensor_limits(
    local: LocalTraining, base: Backbone, classes: int, samples: int
) -> tuple[TensorLimit, ...]:
    """A range for each tensor that is sent: Adam's largest steps at the site with most photos."""

    def rate(name: str) -> float:
        of_classifier = name in (heads.WEIGHT, heads.BIAS)
        return local.classifier_learning_rate if of_classifier else local.neck_learning_rate

    layout = heads.layout_of(heads.build_head(base, classes))
    return tuple(TensorLimit(part.name, suggest_limit(local, rate(part.name), samples)) for part in layout)


def derived_seed(*parts: object) -> int:
    """A seed below 2^53 that depends on all parts and on nothing else."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:6], "big")

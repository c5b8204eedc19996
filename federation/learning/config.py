"""The training plan: everything that decides a round's result, in one value whose hash every admin signs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from federation.learning.errors import PlanRefused
from federation.learning.strict import canonical_json, parse_canonical, sha256_of

Strategy = Literal["fedavg", "fedprox", "fedadam", "fedavgm", "analytic"]
ViewName = Literal["original", "flipped", "grey", "jittered", "downscaled"]

PLAN_VERSION = 1
SAMPLE_STEP = 10
MINIMUM_K = 5
MINIMUM_SITES = 3
#: |step| of Adam is at most this times the learning rate: (1−β₁) / √((1−β₂)(1−β₁²/β₂)) with β = 0.9, 0.999,
#: from Cauchy–Schwarz on first and second moment; the bias corrections only lower it.
ADAM_STEP_BOUND = 7.28


def round_up_samples(samples: int) -> int:
    """Samples as a plan may say them: up to the next ten, so that one more or less patient does not show."""
    return -(-samples // SAMPLE_STEP) * SAMPLE_STEP


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise PlanRefused(sentence)


@dataclass(frozen=True)
class ViewShare:
    """How often (in [0, 1]) a photo enters a batch as this view."""

    name: ViewName
    share: float


#: Shares that come nearest to GestaltMatcher's augmentation: flip 0.5, grey, jitter and down-scale 0.1 each.
DEFAULT_VIEWS = (
    ViewShare("original", 0.35), ViewShare("flipped", 0.35), ViewShare("grey", 0.1),
    ViewShare("jittered", 0.1), ViewShare("downscaled", 0.1),
)  # fmt: skip


@dataclass(frozen=True)
class LocalTraining:
    """What a site runs. Learning rates per Adam step, weight decays as L2; mu is FedProx's (0 elsewhere)."""

    epochs: int = 5
    batch_photos: int = 64
    neck_learning_rate: float = 5e-4
    classifier_learning_rate: float = 1e-3
    neck_weight_decay: float = 5e-5
    classifier_weight_decay: float = 5e-4
    dropout: float = 0.0
    proximal_mu: float = 0.0

    def __post_init__(self) -> None:
        _require(1 <= self.epochs <= 1000, "A plan trains 1 to 1,000 local epochs.")
        _require(1 <= self.batch_photos <= 65_536, "A batch holds 1 to 65,536 photos.")
        rates = (self.neck_learning_rate, self.classifier_learning_rate)
        _require(all(0.0 < rate <= 1.0 for rate in rates), "Learning rates lie above 0 and at most at 1.")
        decays = (self.neck_weight_decay, self.classifier_weight_decay)
        _require(all(0.0 <= decay <= 1.0 for decay in decays), "Weight decays lie between 0 and 1.")
        _require(0.0 <= self.dropout < 1.0, "Dropout is a share from 0 to below 1.")
        _require(0.0 <= self.proximal_mu <= 1e3, "The proximal term's mu lies between 0 and 1,000.")


@dataclass(frozen=True)
class ServerStep:
    """What is done with the mean update. momentum: fedavgm's β; beta_1, beta_2, tau: fedadam's."""

    learning_rate: float = 1.0
    momentum: float = 0.9
    beta_1: float = 0.9
    beta_2: float = 0.99
    tau: float = 1e-3

    def __post_init__(self) -> None:
        _require(0.0 < self.learning_rate <= 10.0, "The server's learning rate lies above 0, at most at 10.")
        betas = (self.momentum, self.beta_1, self.beta_2)
        _require(all(0.0 <= beta < 1.0 for beta in betas), "Momentum and betas lie from 0 to below 1.")
        _require(0.0 < self.tau <= 1.0, "The server's tau lies above 0 and at most at 1.")


@dataclass(frozen=True)
class AnalyticOptions:
    """Closed-form heads: shrinkage in (0, 1], ridge per patient, who must remain for second moments.

    between_exponent 0 whitens only; up to 1 weighs directions by what the open classes explain of them, for
    plans with so many open classes that a syndrome outside of them is served too.
    The minima are where to start, not safe by themselves. Simulated, 512 Gaussian dimensions, same photo, an
    attacker who whitens with the covariance of R faces of the same population: full moments of 5,000
    patients tell members at AUC 0.77 (R = 2,000) and 0.99 (R = 10,000), of 10,000 at 0.65 and 0.93;
    diagonal ones, covariance known exactly, 0.63 at 2,500 and 0.57 at 5,000.
    """

    shrinkage: float = 0.1
    between_exponent: float = 0.0
    classifier: Literal["centroids", "ridge"] = "centroids"
    ridge: float = 0.1
    minimum_patients: int = 5000
    below_minimum: Literal["diagonal", "refuse"] = "refuse"
    diagonal_minimum_patients: int = 2500

    def __post_init__(self) -> None:
        _require(0.0 < self.shrinkage <= 1.0, "Shrinkage lies above 0 and at most at 1.")
        _require(0.0 <= self.between_exponent <= 1.0, "The between exponent lies between 0 and 1.")
        _require(0.0 < self.ridge <= 1e3, "The ridge lies above 0 and at most at 1,000.")
        _require(
            self.minimum_patients >= self.diagonal_minimum_patients >= 1,
            "Full second moments need at least as many patients as diagonal ones.",
        )


@dataclass(frozen=True)
class TensorLimit:
    """Public range of one tensor's update: every element lies in [−limit, limit]."""

    name: str
    limit: float

    def __post_init__(self) -> None:
        _require(0.0 < self.limit <= 1e6, "The range of a tensor lies above 0 and at most at 1,000,000.")


@dataclass(frozen=True)
class MemberPlan:
    """One ensemble member: its base weights by sha256, its training, the ranges of what it sends."""

    name: str
    architecture: str
    base_sha256: str
    local: LocalTraining
    limits: tuple[TensorLimit, ...]

    def __post_init__(self) -> None:
        _require(bool(self.name and self.architecture), "A member needs a name and an architecture.")
        known = re.fullmatch("[0-9a-f]{64}", self.base_sha256)
        _require(known is not None, "A base model is named by the 64 hexadecimal digits of its sha256.")
        names = [limit.name for limit in self.limits]
        _require(names == sorted(set(names)), "Ranges stand once each, in the order of their tensors' names.")

    def limit_of(self, tensor: str) -> float:
        """The range of a tensor; PlanRefused if the plan states none."""
        for entry in self.limits:
            if entry.name == tensor:
                return entry.limit
        raise PlanRefused(f"The plan states no range for {tensor}. Ask its proposer for a complete plan.")


@dataclass(frozen=True)
class OpenClass:
    """A syndrome of the shared vocabulary and the sum of its patients at sites with at least k of them."""

    identifier: str
    patients: int


@dataclass(frozen=True)
class Participant:
    """A site and its training photos, rounded up to tens."""

    site: str
    samples: int

    def __post_init__(self) -> None:
        rounded = 0 < self.samples <= 10**9 and self.samples % SAMPLE_STEP == 0
        _require(rounded, "Sample counts are positive and rounded up to tens.")


@dataclass(frozen=True)
class TrainingPlan:
    """One round. Members are trained in turn, each on a sum of its own.

    row_weighting "class": a class's classifier row is the mean over the sites that contribute it, weighted
    by their patients of it; "site": weighted by p_i like everything else, so that a row that one of four
    sites contributes moves a quarter of the way.
    """

    version: int
    strategy: Strategy
    seed: int
    k: int
    classes: tuple[OpenClass, ...]
    participants: tuple[Participant, ...]
    views: tuple[ViewShare, ...]
    members: tuple[MemberPlan, ...]
    server: ServerStep
    analytic: AnalyticOptions
    row_weighting: Literal["class", "site"]

    def __post_init__(self) -> None:
        _require(self.version == PLAN_VERSION, "This plan has another version. Update the older site.")
        _require(0 <= self.seed < 1 << 53, "The seed is a whole number from 0 to below 2^53.")
        _require(self.k >= MINIMUM_K, f"k is at least {MINIMUM_K}: fewer patients would show in a class sum.")
        self._check_classes()
        sites = [participant.site for participant in self.participants]
        _require(sites == sorted(set(sites)) and "" not in sites, "Sites stand once each, in order of name.")
        _require(len(sites) >= MINIMUM_SITES, "A round needs at least three participating sites.")
        self._check_views()
        self._check_members()

    def _check_classes(self) -> None:
        names = [entry.identifier for entry in self.classes]
        _require(names == sorted(set(names)) and "" not in names, "Classes stand once each and ascend.")
        _require(len(names) >= 2, "Training needs two open classes. Wait until sites hold k patients.")
        enough = all(self.k <= entry.patients < 1 << 32 for entry in self.classes)
        _require(enough, "An open class has at least k patients.")

    def _check_views(self) -> None:
        names = [view.name for view in self.views]
        _require(
            len(set(names)) == len(names) and "original" in names, "Views stand once, the original with them."
        )
        shares = [view.share for view in self.views]
        fits = all(0.0 <= share <= 1.0 for share in shares) and abs(sum(shares) - 1.0) < 1e-9
        _require(fits, "The shares of the views add up to 1.")

    def _check_members(self) -> None:
        names = [member.name for member in self.members]
        _require(bool(names) and len(set(names)) == len(names), "A plan names its members, each once.")
        proximal = [member.local.proximal_mu > 0.0 for member in self.members]
        fits = all(proximal) if self.strategy == "fedprox" else not any(proximal)
        _require(fits, "A proximal mu above 0 belongs to fedprox, and fedprox needs one for every member.")

    @property
    def sha256(self) -> str:
        """The plan hash (64 hex digits) that each admin signs."""
        return sha256_of(self)

    @property
    def identifiers(self) -> tuple[str, ...]:
        """The open classes, ascending: row c of the classifier is class c."""
        return tuple(entry.identifier for entry in self.classes)

    def weight_of(self, site: str) -> float:
        """p_i = n_i / N. PlanRefused for a site that does not take part."""
        total = sum(participant.samples for participant in self.participants)
        for participant in self.participants:
            if participant.site == site:
                return participant.samples / total
        raise PlanRefused("This site is not among the plan's participants.")

    def member(self, name: str) -> MemberPlan:
        """A member by its name."""
        for member in self.members:
            if member.name == name:
                return member
        raise PlanRefused("The plan has no member of that name.")


def encode_plan(plan: TrainingPlan) -> bytes:
    """Canonical JSON; its sha256 is the plan hash."""
    return canonical_json(plan)


def parse_plan(data: bytes) -> TrainingPlan:
    """The plan in these bytes. PlanRefused, in a sentence, for anything but a valid plan's canonical form."""
    return parse_canonical(TrainingPlan, data)


def suggest_limit(local: LocalTraining, learning_rate: float, samples: int) -> float:
    """A range that no honest update leaves: Adam's largest step × the steps of the largest site."""
    steps = local.epochs * -(-samples // local.batch_photos)
    return min(ADAM_STEP_BOUND * learning_rate * steps, 1e6)

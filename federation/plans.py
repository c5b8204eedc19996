"""A round's plan: what is asked of each hospital, in one value whose hash each admin signs.

Which syndromes are open and how many patients they have is known only once the round has counted, so the
training plan (`learning.config.TrainingPlan`) is computed from the plan and the opened counts, by every site
for itself. Its hash stands in the context of every mask, so sites that computed another one cannot take part.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from federation.learning.config import (
    DEFAULT_VIEWS,
    MINIMUM_K,
    MINIMUM_SITES,
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
    suggest_limit,
)
from federation.learning.errors import PlanRefused
from federation.learning.strict import canonical_json, parse_canonical, sha256_of

VERSION: Final = 1
EMBEDDING_SIZE: Final = 512
CLASSIFIER: Final = (("classifier.bias", 1), ("classifier.weight", EMBEDDING_SIZE))
DATA_USE: Final = (
    "Photos of patients who agreed to training (form item 3) are used inside each hospital to improve the "
    "shared model for recognising rare syndromes. Research use only."
)


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise PlanRefused(sentence)


@dataclass(frozen=True)
class Invited:
    """A site that is asked, by name and Ed25519 key (hex)."""

    site: str
    public_key: str


@dataclass(frozen=True)
class TrainedTensor:
    """A tensor of the neck that is trained, and how many numbers it has."""

    name: str
    size: int


@dataclass(frozen=True)
class MemberAsked:
    """One network of the ensemble: what it starts from, how it is trained, what of it is sent."""

    name: str
    architecture: str
    base_sha256: str
    neck: tuple[TrainedTensor, ...]
    local: LocalTraining


@dataclass(frozen=True)
class Schedule:
    """answer_by: milliseconds since 1970. The others are seconds each step may take at most."""

    answer_by: int
    step_seconds: int
    training_seconds: int
    vote_seconds: int

    def __post_init__(self) -> None:
        _require(0 < self.answer_by < 1 << 53, "A plan says until when hospitals may answer.")
        seconds = (self.step_seconds, self.training_seconds, self.vote_seconds)
        _require(all(1 <= entry <= 30 * 86_400 for entry in seconds), "A step takes 1 second to 30 days.")


@dataclass(frozen=True)
class VoteTerms:
    """What makes a site's own vote: see learning.validate.VoteRule. quorum: accepting sites needed."""

    largest_loss: float
    minimum_patients: int
    quorum: int


@dataclass(frozen=True)
class RoundPlan:
    """What a hospital's admin says yes or no to. number counts the federation's rounds from 1."""

    version: int
    federation: str
    number: int
    proposer: str
    strategy: Strategy
    seed: int
    k: int
    row_weighting: Literal["class", "site"]
    views: tuple[ViewShare, ...]
    members: tuple[MemberAsked, ...]
    server: ServerStep
    analytic: AnalyticOptions
    invited: tuple[Invited, ...]
    minimum_participants: int
    vocabulary_sha256: str
    vocabulary_size: int
    previous_round: str
    schedule: Schedule
    vote: VoteTerms
    data_use: str
    rows_per_member: int = 4  # embedding rows of one photo: original and flipped, colour and grey

    def __post_init__(self) -> None:
        _require(self.version == VERSION, "This plan has another version. Update the older site.")
        _require(self.number >= 1, "Rounds are numbered from 1.")
        _require(0 <= self.seed < 1 << 53, "The seed is a whole number from 0 to below 2^53.")
        _require(self.k >= MINIMUM_K, f"k is at least {MINIMUM_K}: fewer patients would show in a sum.")
        sites = [entry.site for entry in self.invited]
        _require(sites == sorted(set(sites)), "Hospitals stand once each, in order of name.")
        _require(self.proposer in sites, "The proposer takes part in its own round.")
        fits = MINIMUM_SITES <= self.minimum_participants <= len(sites)
        _require(fits, f"At least {MINIMUM_SITES} hospitals take part, and no more than are invited.")
        _require(1 <= self.vote.quorum <= len(sites), "The quorum lies between 1 and the number of sites.")
        _require(1 <= self.vocabulary_size <= 1 << 20, "The catalogue has 1 to 2^20 syndromes.")
        _require(0 < len(self.data_use) <= 2000, "A plan says in words what the data is used for.")
        _require(1 <= self.rows_per_member <= 4, "A member gives one to four rows per photo.")
        names = [member.name for member in self.members]
        _require(bool(names) and len(set(names)) == len(names), "A plan names its members, each once.")
        for member in self.members:
            tensors = [tensor.name for tensor in member.neck]
            _require(tensors == sorted(set(tensors)) and bool(tensors), "Tensors ascend, each once.")
            _require(all(0 < tensor.size < 1 << 32 for tensor in member.neck), "Tensors have a size.")

    @property
    def sha256(self) -> str:
        """The plan hash (64 hex digits) that each admin signs; it also names the round."""
        return sha256_of(self)

    @property
    def base_sha256(self) -> str:
        """One hash over the base weights of all members."""
        return base_of([(member.name, member.base_sha256) for member in self.members])

    @property
    def keys(self) -> dict[str, str]:
        """Invited site → its key (hex)."""
        return {entry.site: entry.public_key for entry in self.invited}

    def member(self, name: str) -> MemberAsked:
        """A member by its name."""
        return next(member for member in self.members if member.name == name)


def base_of(members: Sequence[tuple[str, str]]) -> str:
    """Hex sha256 that names an ensemble of (member name, sha256 of its weights)."""
    text = "\n".join(f"{name} {sha256}" for name, sha256 in sorted(members))
    return hashlib.sha256(text.encode()).hexdigest()


def vocabulary_of(identifiers: Sequence[str]) -> str:
    """Hex sha256 of the catalogue's identifiers in ascending order: the label space of every sum."""
    return hashlib.sha256("\n".join(sorted(identifiers)).encode()).hexdigest()


def encode_plan(plan: RoundPlan) -> str:
    """Canonical JSON; its sha256 is the plan hash."""
    return canonical_json(plan).decode("utf-8")


@functools.lru_cache(maxsize=32)  # every step of a round reads its plan, which never changes
def parse_plan(text: str) -> RoundPlan:
    """The plan in this text. PlanRefused, in a sentence, for anything but a valid plan's canonical form."""
    return parse_canonical(RoundPlan, text.encode("utf-8"))


def default_views() -> tuple[ViewShare, ...]:
    """The shares of views that come nearest to GestaltMatcher's augmentation."""
    return DEFAULT_VIEWS


def training_plan(plan: RoundPlan, *, samples: Mapping[str, int], counts: Mapping[str, int]) -> TrainingPlan:
    """The training plan that follows from a plan, the participants' sample counts and the opened counts.

    samples: participating site → photos, rounded up to tens; counts: open class → patients. PlanRefused
    with fewer than two open classes or three sites.
    """
    classes = tuple(OpenClass(name, counts[name]) for name in sorted(counts))
    largest = max(samples.values(), default=10)
    return TrainingPlan(
        version=PLAN_VERSION, strategy=plan.strategy, seed=plan.seed, k=plan.k, classes=classes,
        participants=tuple(Participant(site, samples[site]) for site in sorted(samples)), views=plan.views,
        members=tuple(_member_plan(member, largest) for member in plan.members), server=plan.server,
        analytic=plan.analytic, row_weighting=plan.row_weighting,
    )  # fmt: skip


def _member_plan(member: MemberAsked, samples: int) -> MemberPlan:
    """The ranges follow from the learning rates and the largest site: no honest update leaves them."""
    neck = suggest_limit(member.local, member.local.neck_learning_rate, samples)
    classifier = suggest_limit(member.local, member.local.classifier_learning_rate, samples)
    limits = [TensorLimit(tensor.name, neck) for tensor in member.neck]
    limits += [TensorLimit(name, classifier) for name, _ in CLASSIFIER]
    return MemberPlan(
        name=member.name, architecture=member.architecture, base_sha256=member.base_sha256,
        local=member.local, limits=tuple(sorted(limits, key=lambda limit: limit.name)),
    )  # fmt: skip


def update_words(member: MemberAsked, classes: int) -> int:
    """Numbers in one member's update: its neck and one classifier row and bias per open class."""
    return sum(tensor.size for tensor in member.neck) + classes * (EMBEDDING_SIZE + 1)

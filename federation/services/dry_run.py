"""What a plan would mean for this hospital, before anybody says yes: counted and measured, nothing sent."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from diagnosis.models import Diagnosis
from diagnosis.phenotype.types import EMBEDDING_SIZE
from diagnosis.selectors import for_analysis
from federation.plans import MemberAsked, RoundPlan, update_words
from federation.services import results
from federation.services.features import VIEW_SEED, features_missing
from federation.services.networks import base_network, base_trunk, model_before
from federation.services.population import Split, chosen_now, split_now
from federation.services.starting import start_rows

if TYPE_CHECKING:
    from diagnosis.phenotype.embed.backbone import Backbone

WORD_BYTES = 4
STATISTIC_BYTES = 8


@dataclass(frozen=True)
class MemberDryRun:
    """One network: photos whose features are kept already, bytes of its masked update, seconds estimated."""

    name: str
    cached: int
    update_bytes: int
    seconds: float


@dataclass(frozen=True)
class DryRun:
    """photos and patients would take part, held_out patients only judge the result; without_consent: photos
    with a diagnosis whose patients did not agree to training; syndromes: with at least k patients here.

    Which syndromes will be open is known only after counting. Bytes are for open_classes of them: those of
    the model before, or this hospital's own. seconds: rates measured on this machine just now.
    """

    photos: int
    patients: int
    held_out: int
    without_consent: int
    syndromes: int
    open_classes: int
    members: tuple[MemberDryRun, ...]
    total_bytes: int
    seconds: float


def samples_now(k: int) -> int:
    """Photos that this site could train with now, rounded up to tens; 0 when there is none."""
    from federation.learning.config import round_up_samples

    return round_up_samples(len(split_now(k).training))


def dry_run(plan: RoundPlan) -> DryRun:
    """The figures of the approval page. NotReady where a base model is missing on this site."""
    split = split_now(plan.k)
    ours = chosen_now(split, plan.k)
    before = start_rows(plan, plan.members[0].name) if model_before(plan) else {}
    classes = len(before) or len(ours)
    members = tuple(_member(plan, member, split, classes) for member in plan.members)
    return DryRun(
        photos=len(split.training),
        patients=len({entrant.patient for entrant in split.training}),
        held_out=len({entrant.patient for entrant in split.held_out}),
        without_consent=_without_consent(split),
        syndromes=len(ours),
        open_classes=classes,
        members=members,
        total_bytes=sum(member.update_bytes for member in members) + _statistics_bytes(plan, classes),
        seconds=sum(member.seconds for member in members),
    )


def _without_consent(split: Split) -> int:
    """Analysed, diagnosed photos that stay out because training was not agreed to."""
    diagnosed = Diagnosis.objects.filter(retracted_at__isnull=True).values("patient")
    ready = for_analysis().filter(state="ready", patient__in=diagnosed)
    return ready.count() - len(split.training) - len(split.held_out)


def _statistics_bytes(plan: RoundPlan, classes: int) -> int:
    """Presence, counts and centroids."""
    centroids = classes * (1 + results.ensemble_rows(plan) * EMBEDDING_SIZE)
    return STATISTIC_BYTES * (plan.vocabulary_size + classes + centroids)


def _member(plan: RoundPlan, member: MemberAsked, split: Split, classes: int) -> MemberDryRun:
    photos = [entrant.photo for entrant in (*split.training, *split.held_out)]
    missing = features_missing(photos, base_trunk(member))
    rates = rates_of(member)
    steps = member.local.epochs * -(-len(split.training) // member.local.batch_photos)
    return MemberDryRun(
        name=member.name,
        cached=len(photos) - missing,
        update_bytes=WORD_BYTES * update_words(member, classes),
        seconds=missing * rates.photo_seconds + steps * rates.step_seconds,
    )


@dataclass(frozen=True)
class Rates:
    """Measured here: all views of one photo through the trunk; one training step of a batch."""

    photo_seconds: float
    step_seconds: float


def rates_of(member: MemberAsked) -> Rates:
    """Time both on noise, once per process and network."""
    return _rates(member.base_sha256, member.local.batch_photos, member)


@functools.lru_cache(maxsize=16)
def _rates(base_sha256: str, batch: int, member: MemberAsked) -> Rates:
    from federation.learning.features import compute_features

    base = base_network(member)
    crop = np.random.default_rng(0).integers(0, 256, (1, 112, 112, 3), dtype=np.uint8)

    def photo() -> None:
        compute_features(base, crop, keys=["noise"], labels=[""], patients=[""], seed=VIEW_SEED)

    return Rates(_seconds(photo), _seconds(_step_of(member, base, batch)))


def _step_of(member: MemberAsked, base: Backbone, batch: int) -> Callable[[], object]:
    """One Adam step on noise, as local training makes it."""
    import torch

    from federation.learning.heads import build_head, class_weights
    from federation.learning.loop import Stepper

    classes = 2
    step = Stepper(
        build_head(base, classes),
        member.local,
        class_weights([1] * classes),
        torch.zeros(classes, dtype=torch.bool),
    )
    noise = torch.from_numpy(
        np.random.default_rng(0).normal(size=(batch, base.feature_size)).astype(np.float32)
    )
    labels = torch.arange(batch) % classes
    return lambda: step(noise, labels, None)


def _seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """The quickest of some runs on one thread, after one that warms up."""
    from federation.learning.threads import one_thread

    taken = []
    with one_thread():
        for _ in range(repeats + 1):
            start = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start)
    return min(taken[1:])

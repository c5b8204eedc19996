"""A tiny network, hospitals of made-up features, and a plan for them."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from diagnosis.phenotype.embed.backbone import Backbone
from diagnosis.phenotype.embed.weights import serialize_weights, trunk_sha256
from federation.learning import heads
from federation.learning.config import (
    AnalyticOptions,
    LocalTraining,
    MemberPlan,
    OpenClass,
    Participant,
    ServerStep,
    TensorLimit,
    TrainingPlan,
    ViewShare,
    round_up_samples,
    suggest_limit,
)
from federation.learning.features import ALL_VIEWS, FeatureSet
from federation.learning.statistics import contributed, patients_per_class

SIZE = 12


class TinyNet(Backbone):
    """(b, 3, 112, 112) → 12 features → 512."""

    architecture: ClassVar[str] = "tiny"
    feature_size: ClassVar[int] = SIZE

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.AvgPool2d(56), nn.Flatten())  # 3 channels × 2 × 2
        self.neck = nn.Sequential(nn.Linear(SIZE, 512), nn.BatchNorm1d(512))

    def forward(self, faces: Tensor) -> Tensor:
        return super().forward(faces)


def tiny_net(seed: int = 0) -> TinyNet:
    """Weights and BatchNorm statistics all random: nothing is the identity."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        net = TinyNet().eval()
    linear, norm = net.neck
    with torch.no_grad():
        linear.weight.normal_(0, 0.3, generator=generator)
        linear.bias.normal_(0, 0.1, generator=generator)
        norm.weight.uniform_(0.5, 1.5, generator=generator)
        norm.bias.normal_(0, 0.2, generator=generator)
        norm.running_mean.normal_(0, 0.2, generator=generator)
        norm.running_var.uniform_(0.5, 1.5, generator=generator)
    return net


def random_head(net: Backbone, classes: int, seed: int = 0) -> heads.TrainableHead:
    """A head on the net's neck whose classifier is not zero."""
    head = heads.build_head(net, classes)
    with torch.no_grad():
        head.classifier.weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(seed))
        head.classifier.bias.normal_(0, 0.1, generator=torch.Generator().manual_seed(seed + 1))
    return head


def base_sha256(net: Backbone) -> str:
    return sha256(serialize_weights(net)).hexdigest()


def hospital(
    mix: dict[str, int], *, name: str, seed: int = 0, photos: int = 2, noise: float = 0.5,
    net: Backbone | None = None, size: int = SIZE,
) -> FeatureSet:  # fmt: skip
    """mix: syndrome → patients. A syndrome is a point, a patient one near it, a photo near that."""
    digest = lambda text: int.from_bytes(sha256(text.encode()).digest()[:8], "big")  # noqa: E731
    features, keys, labels, patients = [], [], [], []
    for label, number in mix.items():
        centre = np.random.default_rng(digest(label)).normal(0, 1, size)
        for index in range(number):
            patient = f"{name}-{label}-{index}"
            generator = np.random.default_rng([digest(patient), seed])
            person = centre + noise * generator.normal(0, 1, size)
            for photo in range(photos):
                views = person + 0.2 * generator.normal(0, 1, (len(ALL_VIEWS), size))
                features.append(views)
                keys.append(f"{patient}/{photo}")
                labels.append(label)
                patients.append(patient)
    array = np.array(features, dtype=np.float32).reshape(len(keys), len(ALL_VIEWS), size)
    trunk = trunk_sha256(net or tiny_net())
    return FeatureSet(array, tuple(keys), tuple(labels), tuple(patients), tuple(ALL_VIEWS), trunk, 7)


def counted(sites: dict[str, FeatureSet], k: int = 5) -> tuple[OpenClass, ...]:
    """Open classes and their public counts, computed in the plain."""
    names = sorted({label for found in sites.values() for label in found.labels} - {""})
    totals = dict.fromkeys(names, 0)
    for found in sites.values():
        own = patients_per_class(found.labels, found.patients)
        for name, yes in zip(names, contributed(own, names, k), strict=True):
            totals[name] += own[name] if yes else 0
    return tuple(OpenClass(name, count) for name, count in totals.items() if count)


def plan_for(sites: dict[str, FeatureSet], net: Backbone, **changes: Any) -> TrainingPlan:
    """fedavg over these hospitals, ranges that no honest update leaves; `local` replaces options."""
    local = LocalTraining(epochs=3, batch_photos=8, **changes.pop("local", {}))
    classes = counted(sites)
    samples = {name: round_up_samples(len(found)) for name, found in sites.items()}
    most = max(samples.values())
    layout = heads.layout_of(heads.build_head(net, len(classes)))
    rate = {heads.WEIGHT: local.classifier_learning_rate, heads.BIAS: local.classifier_learning_rate}
    limits = tuple(
        TensorLimit(p.name, suggest_limit(local, rate.get(p.name, local.neck_learning_rate), most))
        for p in layout
    )
    plan = TrainingPlan(
        version=1, strategy="fedavg", seed=11, k=5, classes=classes,
        participants=tuple(Participant(name, samples[name]) for name in sorted(samples)),
        views=(ViewShare("original", 0.5), ViewShare("flipped", 0.3), ViewShare("jittered", 0.2)),
        members=(MemberPlan("a", net.architecture, base_sha256(net), local, limits),),
        server=ServerStep(), analytic=AnalyticOptions(minimum_patients=1, diagonal_minimum_patients=1),
        row_weighting="class",
    )  # fmt: skip
    return replace(plan, **changes)


def three_hospitals(net: Backbone | None = None) -> dict[str, FeatureSet]:
    """Classes a and b everywhere; c at two; d only at the third; e has 3 patients at each: never open."""
    mixes = (
        {"a": 8, "b": 6, "c": 5, "e": 3},
        {"a": 5, "b": 9, "c": 4, "e": 3},
        {"a": 6, "b": 5, "c": 7, "d": 6, "e": 3},
    )
    return {f"site{index:02d}": hospital(mix, name=f"h{index}", net=net) for index, mix in enumerate(mixes)}

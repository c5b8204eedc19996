"""Local training on cached trunk features against the whole network: `python -m benchmarks.local_training`.

iResNet-50 with random weights and the BatchNorm statistics of one pass over the photos; 128 made-up photos of
16 classes, batches of 64, the un-augmented view alone, one thread, a neck's learning rate at which the loss
falls. The twin is the straightforward loop: each epoch sends each photo's pixels through the whole network,
trunk frozen, and steps neck and classifier with torch's Adam over the same batches. Both give one loss per
epoch, which must agree to 1e-4.

Seconds are process CPU time: each epoch's least over the repetitions, which take turns. Filling the cache is
paid once per trunk, before the first epoch, and stands beside; the goal is for the second epoch and later.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402

from diagnosis.phenotype.embed.backbone import Backbone, build_backbone, scale_pixels  # noqa: E402
from diagnosis.phenotype.embed.self_test import synthetic_faces  # noqa: E402
from federation.learning import heads  # noqa: E402
from federation.learning.config import (  # noqa: E402
    AnalyticOptions,
    LocalTraining,
    MemberPlan,
    OpenClass,
    Participant,
    ServerStep,
    TrainingPlan,
    ViewShare,
)
from federation.learning.features import compute_features  # noqa: E402
from federation.learning.loop import train_local  # noqa: E402

ARCHITECTURE = "iresnet50"
PHOTOS, CLASSES, EPOCHS, SITE_SEED = 128, 16, 3, 5
NECK_RATE = 1e-5  # at the default 5e-4 this network's first steps overshoot: 25,088 inputs move at once
Epochs = list[tuple[float, float]]  # (loss, CPU seconds) of each


def random_network() -> Backbone:
    """Random weights; statistics that keep every layer's output near mean 0 and variance 1."""
    torch.manual_seed(0)
    net = build_backbone(ARCHITECTURE)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None  # the plain mean over what is shown
    with torch.no_grad():
        net.train()(scale_pixels(torch.from_numpy(synthetic_faces(32))))
    return net.eval()


def make_plan(names: list[str]) -> TrainingPlan:
    """fedavg's local part, un-augmented, with the default batch size."""
    local = LocalTraining(epochs=EPOCHS, neck_learning_rate=NECK_RATE)
    member = MemberPlan("a", ARCHITECTURE, "0" * 64, local, ())
    return TrainingPlan(
        version=1, strategy="fedavg", seed=11, k=5, members=(member,), row_weighting="class",
        classes=tuple(OpenClass(name, 3 * names.count(name)) for name in sorted(set(names))),
        participants=tuple(Participant(f"site{index}", -(-len(names) // 10) * 10) for index in range(3)),
        views=(ViewShare("original", 1.0),), server=ServerStep(), analytic=AnalyticOptions(),
    )  # fmt: skip


def cached(net: Backbone, plan: TrainingPlan, found: Any) -> Epochs:
    """Ours: `train_local` as a site runs it."""
    start = heads.initial_vector(net, plan.identifiers, plan.seed)
    ends = [time.process_time()]
    result = train_local(
        plan, plan.members[0], net, start, found, site_seed=SITE_SEED,
        progress=lambda _: ends.append(time.process_time()),
    )  # fmt: skip
    seconds = np.diff(ends).tolist()
    return [(curve.loss, spent) for curve, spent in zip(result.curves, seconds, strict=True)]


def whole_network(net: Backbone, plan: TrainingPlan, pixels: Any, labels: list[str]) -> Epochs:
    """The twin: pixels in, through trunk, neck and classifier, for every photo of every epoch."""
    neck, classifier = copy.deepcopy(net.neck), nn.Linear(512, len(plan.classes))
    rows = torch.from_numpy(np.stack([heads.fresh_row(name, plan.seed) for name in plan.identifiers]))
    with torch.no_grad():
        classifier.weight.copy_(rows[:, :-1])
        classifier.bias.copy_(rows[:, -1])
    step = adam_step(net, neck, classifier, plan)
    truth = torch.tensor([plan.identifiers.index(label) for label in labels])
    generator, size = np.random.default_rng([plan.seed, SITE_SEED]), plan.members[0].local.batch_photos
    epochs: Epochs = []
    for _ in range(plan.members[0].local.epochs):
        start, total = time.process_time(), 0.0
        order = generator.permutation(len(labels))
        generator.choice(1, size=len(order), p=[1.0])  # ours draws the views here
        for first in range(0, len(order), size):
            batch = order[first : first + size]
            total += step(torch.from_numpy(pixels[batch]), truth[batch]) * len(batch)
        epochs.append((total / len(order), time.process_time() - start))
    return epochs


def adam_step(
    net: Backbone, neck: nn.Module, classifier: nn.Module, plan: TrainingPlan
) -> Callable[[torch.Tensor, torch.Tensor], float]:
    """One step on pixels (b, 112, 112, 3) uint8 and classes (b,) → the loss before it."""
    local = plan.members[0].local
    moving = [parameter for parameter in neck.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(
        [
            {"params": moving, "lr": local.neck_learning_rate, "weight_decay": local.neck_weight_decay},
            {"params": [*classifier.parameters()], "lr": local.classifier_learning_rate,
             "weight_decay": local.classifier_weight_decay},
        ]
    )  # fmt: skip
    fewest = min(entry.patients for entry in plan.classes)
    weight = torch.tensor([0.5 + 0.5 * fewest / entry.patients for entry in plan.classes])

    def step(pixels: torch.Tensor, truth: torch.Tensor) -> float:
        with torch.no_grad():  # the trunk is frozen: not even its gradients are paid for
            features = net.trunk(scale_pixels(pixels))
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(classifier(neck(features)), truth, weight=weight)
        loss.backward()
        optimiser.step()
        return float(loss.detach())

    return step


def run(repetitions: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    net, pixels = random_network(), synthetic_faces(PHOTOS)
    labels = [f"class{index % CLASSES:02d}" for index in range(PHOTOS)]
    keys = [f"photo{index:03d}" for index in range(PHOTOS)]
    plan, start = make_plan(labels), time.process_time()
    found = compute_features(
        net, pixels, keys=keys, labels=labels, patients=keys, seed=plan.seed, views=("original",)
    )
    cache_s = time.process_time() - start
    ours, twins = [], []
    for _ in range(repetitions):
        ours.append(cached(net, plan, found))
        twins.append(whole_network(net, plan, pixels, labels))
    return {
        "photos": PHOTOS, "batch": plan.members[0].local.batch_photos, "torch": torch.__version__,
        "repetitions, least taken": repetitions, "filling the cache, once, s": cache_s,
        **{f"epoch {epoch + 1}": compare(epoch, ours, twins) for epoch in range(EPOCHS)},
    }  # fmt: skip


def compare(epoch: int, ours: list[Epochs], twins: list[Epochs]) -> dict[str, float]:
    """Least seconds of one epoch on both sides, and how far its loss may be from the twin's at worst."""
    own, whole = (min(one[epoch][1] for one in side) for side in (ours, twins))
    worst = max(abs(one[epoch][0] - twin[epoch][0]) for one, twin in zip(ours, twins, strict=True))
    return {
        "cached, CPU s": own, "whole network, CPU s": whole,
        "whole / cached" + (" (goal >= 50)" if epoch else ""): whole / own,
        "cached, loss": ours[0][epoch][0], "whole network, loss": twins[0][epoch][0],
        "difference of the losses (goal <= 1e-4)": worst,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repetitions", type=int, default=2)
    options = parser.parse_args()
    result = run(options.repetitions)
    print(json.dumps(result) if options.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

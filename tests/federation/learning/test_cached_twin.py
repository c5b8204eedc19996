"""Training on the cache equals training through the whole network: the same loss, epoch by epoch.

The twin knows nothing of features, heads or the loop: pixels go through a whole network of its own in every
batch of every epoch, and torch's Adam steps its neck and classifier. Un-augmented views only, because a
cached view is one fixed picture where the twin would draw a new one.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import learning_cases as cases
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from diagnosis.phenotype.embed.backbone import Backbone, build_backbone, scale_pixels
from diagnosis.phenotype.embed.self_test import synthetic_faces
from federation.learning import heads
from federation.learning.config import TrainingPlan, ViewShare
from federation.learning.features import FeatureSet, compute_features
from federation.learning.loop import train_local

PHOTOS, EPOCHS, SITE_SEED = 25, 3, 9
LABELS = ["a", "b", "c", "a", "b"] * (PHOTOS // 5)
KEYS = [f"p{index:02d}" for index in range(PHOTOS)]


def network() -> Backbone:
    """The default extractor with random weights; statistics of its BatchNorm layers from the photos."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = build_backbone("compact")
    with torch.no_grad():
        net.train()(scale_pixels(torch.from_numpy(synthetic_faces(PHOTOS))))
    return net.eval()


def plan_of(net: Backbone, found: FeatureSet, view: str) -> TrainingPlan:
    sites = {f"site{index}": found for index in range(3)}
    rates = {"neck_learning_rate": 1e-3, "classifier_learning_rate": 1e-2, "neck_weight_decay": 1e-3}
    plan = cases.plan_for(sites, net, local=rates, views=(ViewShare("original", 1.0),))
    member = replace(plan.members[0], local=replace(plan.members[0].local, epochs=EPOCHS))
    shares = tuple(ViewShare(name, float(name == view)) for name in ("original", "flipped"))
    return replace(plan, members=(member,), views=shares)


def cached_losses(net: Backbone, plan: TrainingPlan, found: FeatureSet) -> list[float]:
    start = heads.initial_vector(net, plan.identifiers, plan.seed)
    result = train_local(plan, plan.members[0], net, start, found, site_seed=SITE_SEED)
    return [curve.loss for curve in result.curves]


def whole_network_losses(net: Backbone, plan: TrainingPlan, pixels: np.ndarray) -> list[float]:
    local, own = plan.members[0].local, copy.deepcopy(net)
    classifier = nn.Linear(512, len(plan.classes))
    for index, name in enumerate(plan.identifiers):
        row = torch.from_numpy(heads.fresh_row(name, plan.seed))
        with torch.no_grad():
            classifier.weight[index], classifier.bias[index] = row[:-1], row[-1]
    for parameter in own.trunk.parameters():
        parameter.requires_grad_(False)
    trained = [parameter for parameter in own.parameters() if parameter.requires_grad]
    groups = [
        {"params": trained, "lr": local.neck_learning_rate, "weight_decay": local.neck_weight_decay},
        {"params": [*classifier.parameters()], "lr": local.classifier_learning_rate,
         "weight_decay": local.classifier_weight_decay},
    ]  # fmt: skip
    optimiser = torch.optim.Adam(groups)
    counts = [entry.patients for entry in plan.classes]
    weight = torch.tensor([0.5 + 0.5 * min(counts) / count for count in counts])
    truth = torch.tensor([plan.identifiers.index(label) for label in LABELS])
    generator, losses = np.random.default_rng([plan.seed, SITE_SEED]), []
    for _ in range(local.epochs):
        order, total = generator.permutation(PHOTOS), 0.0
        generator.choice(2, size=PHOTOS, p=[1.0, 0.0])  # the loop draws its views here
        for first in range(0, PHOTOS, local.batch_photos):
            batch = order[first : first + local.batch_photos]
            optimiser.zero_grad()
            logits = classifier(own(scale_pixels(torch.from_numpy(pixels[batch]))))
            loss = functional.cross_entropy(logits, truth[batch], weight=weight)
            loss.backward()
            optimiser.step()
            total += float(loss.detach()) * len(batch)
        losses.append(total / PHOTOS)
    return losses


@pytest.fixture(scope="module")
def trained() -> tuple[Backbone, FeatureSet, list[float]]:
    net, pixels = network(), synthetic_faces(PHOTOS)
    found = compute_features(
        net, pixels, keys=KEYS, labels=LABELS, patients=KEYS, seed=11, views=("original", "flipped")
    )
    return net, found, whole_network_losses(net, plan_of(net, found, "original"), pixels)


def test_each_epochs_loss_is_the_whole_networks(trained: tuple) -> None:
    net, found, twin = trained
    cached = cached_losses(net, plan_of(net, found, "original"), found)
    print([f"{ours:.6f} / {whole:.6f}" for ours, whole in zip(cached, twin, strict=True)])
    assert len(cached) == EPOCHS
    assert np.max(np.abs(np.subtract(cached, twin))) <= 1e-4
    assert cached[-1] < 0.9 * cached[0], "it learns: equal losses of a standstill would say nothing"


@pytest.mark.parametrize("change", ["another view", "another order", "half precision of 8 bits"])
def test_the_comparison_notices_other_training(change: str, trained: tuple) -> None:
    net, found, twin = trained
    plan = plan_of(net, found, "flipped" if change == "another view" else "original")
    if change == "another order":
        plan = replace(plan, seed=plan.seed + 1)
    if change == "half precision of 8 bits":
        found = replace(found, features=np.round(found.features * 8) / np.float32(8))
    assert np.max(np.abs(np.subtract(cached_losses(net, plan, found), twin))) > 1e-4

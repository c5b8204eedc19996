"""The parts of the training loss against slow twins written from their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from diagnosis.synthetic.training_losses import (
    NO_SYNDROME,
    LossWeights,
    MarginSoftmax,
    Targets,
    TrainingHeads,
)


def slow_margin_softmax(module: MarginSoftmax, embeddings: Tensor, labels: list[int]) -> float:
    """ArcFace, equation 3, one face and one class at a time."""
    total = 0.0
    for embedding, label in zip(embeddings.double(), labels, strict=True):
        logits = []
        for index, weight in enumerate(module.weight.detach().double()):
            angle = math.acos(float(embedding @ weight / embedding.norm() / weight.norm()))
            if index == label:
                angle += module.margin_rad
            logits.append(module.scale * math.cos(angle))
        total += math.log(sum(math.exp(logit - logits[label]) for logit in logits))
    return total / len(labels)


def random_embeddings(count: int) -> Tensor:
    return torch.randn(count, 512, generator=torch.Generator().manual_seed(3))


def test_margin_softmax_follows_the_paper() -> None:
    torch.manual_seed(0)
    module = MarginSoftmax(classes=7, scale=20.0, margin_rad=0.3)
    embeddings, labels = random_embeddings(9), [0, 1, 2, 3, 4, 5, 6, 0, 3]
    fast = module(embeddings, torch.tensor(labels)).item()
    assert fast == pytest.approx(slow_margin_softmax(module, embeddings, labels), abs=1e-4)


def test_margin_makes_the_task_harder() -> None:
    torch.manual_seed(0)
    plain = MarginSoftmax(classes=5, scale=20.0, margin_rad=0.0)
    strict = MarginSoftmax(classes=5, scale=20.0, margin_rad=0.4)
    strict.load_state_dict(plain.state_dict())
    embeddings, labels = random_embeddings(6), torch.tensor([0, 1, 2, 3, 4, 0])
    assert strict(embeddings, labels) > plain(embeddings, labels) + 1.0


def test_margin_stays_monotone_beyond_a_half_turn() -> None:
    """A face opposite its class must still lose more the further it turns away."""
    module = MarginSoftmax(classes=2, scale=1.0, margin_rad=0.5)
    cosines = torch.linspace(-1, 1, 2001)[:, None]
    widened = module._with_margin(cosines).flatten()
    assert torch.all(widened.diff() > 0)


def test_total_is_the_weighted_sum_and_unaffected_faces_have_no_class() -> None:
    torch.manual_seed(0)
    weights = LossWeights(regression=0.7, margin=0.2, affected=0.3)
    heads = TrainingHeads(parameters=4, syndromes=3, weights=weights)
    embeddings, truth = random_embeddings(5), torch.randn(5, 4)
    syndromes = torch.tensor([0, NO_SYNDROME, 2, NO_SYNDROME, 1])
    parts = heads(embeddings, Targets(truth, syndromes))

    squares = (heads.regression(embeddings) - truth).square()
    logits = heads.affected(embeddings).flatten()
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0])
    assert parts.regression.item() == pytest.approx(squares.mean().item(), rel=1e-5)
    entropy = functional.softplus(-signs * logits).mean()
    assert parts.affected.item() == pytest.approx(entropy.item(), rel=1e-5)
    own = slow_margin_softmax(heads.margin, embeddings[[0, 2, 4]], [0, 2, 1])
    assert parts.margin.item() == pytest.approx(own, abs=1e-4)
    expected = 0.7 * parts.regression + 0.2 * parts.margin + 0.3 * parts.affected
    assert parts.total.item() == pytest.approx(expected.item(), rel=1e-5)


def test_batch_of_unaffected_faces_has_a_finite_loss_and_gradient() -> None:
    heads = TrainingHeads(parameters=2, syndromes=3, weights=LossWeights())
    embeddings = random_embeddings(3).requires_grad_()
    parts = heads(embeddings, Targets(torch.zeros(3, 2), torch.full((3,), NO_SYNDROME)))
    parts.total.backward()
    assert parts.margin.item() == 0.0
    assert embeddings.grad is not None and bool(torch.isfinite(embeddings.grad).all())

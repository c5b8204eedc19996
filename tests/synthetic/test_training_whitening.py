"""Whitening against its definition, and the fold against whitening done outside the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from diagnosis.synthetic.training_whitening import (
    add_constant_coordinate,
    between_class_covariance,
    discriminant_matrix,
    fold_into_neck,
    whitening_matrix,
    within_class_covariance,
)


def grouped_points(seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 12, size=400)
    centres = random.normal(size=(12, 6)) * 3
    mixing = random.normal(size=(6, 6))
    return centres[labels] + random.normal(size=(400, 6)) @ mixing, labels


def test_within_class_covariance_is_the_definition() -> None:
    points, labels = grouped_points()
    scatter = np.zeros((6, 6))
    for label in np.unique(labels):
        centred = points[labels == label] - points[labels == label].mean(axis=0)
        for row in centred:
            scatter += np.outer(row, row)
    expected = scatter / (len(points) - len(np.unique(labels)))
    np.testing.assert_allclose(within_class_covariance(points, labels), expected, rtol=1e-10)


def test_whitened_points_have_unit_within_class_covariance() -> None:
    points, labels = grouped_points()
    matrix = whitening_matrix(within_class_covariance(points, labels), shrinkage=0.0)
    after = within_class_covariance(points @ matrix.T, labels)
    np.testing.assert_allclose(after, np.eye(6), atol=1e-9)


def test_full_shrinkage_only_scales() -> None:
    points, labels = grouped_points()
    matrix = whitening_matrix(within_class_covariance(points, labels), shrinkage=1.0)
    np.testing.assert_allclose(matrix, np.eye(6) * matrix[0, 0], atol=1e-9)


def test_discriminant_without_weights_is_whitening() -> None:
    """Up to a rotation: all distances are those of whitened points."""
    points, labels = grouped_points()
    plain = whitening_matrix(within_class_covariance(points, labels), shrinkage=0.2)
    turned = discriminant_matrix(points, labels, shrinkage=0.2, exponent=0.0)
    np.testing.assert_allclose(turned.T @ turned, plain.T @ plain, atol=1e-9)


def test_discriminant_silences_directions_that_no_syndrome_explains() -> None:
    random = np.random.default_rng(3)
    labels = np.repeat(np.arange(40), 25)
    signal = random.normal(size=(40, 1))[labels] * 2 + random.normal(size=(1000, 1))
    points = np.concatenate([signal, random.normal(size=(1000, 3)) * 5], axis=1)
    matrix = discriminant_matrix(points, labels, shrinkage=0.0, exponent=1.0)
    heard = np.linalg.norm(matrix, axis=0) * points.std(axis=0)
    assert heard[0] > 10 * heard[1:].max()


def test_between_class_covariance_is_free_of_chance() -> None:
    """Classes that differ by chance alone have none, on average over many draws."""
    random = np.random.default_rng(4)
    labels = np.repeat(np.arange(20), 4)
    found = [between_class_covariance(random.normal(size=(80, 2)), labels) for _ in range(400)]
    np.testing.assert_allclose(np.mean(found, axis=0), 0, atol=0.02)


def trained_looking_neck() -> nn.Sequential:
    torch.manual_seed(2)
    neck = nn.Sequential(nn.Linear(40, 512), nn.BatchNorm1d(512))
    norm = neck[1]
    assert isinstance(norm, nn.BatchNorm1d)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    neck(torch.randn(64, 40) * 3 + 1)  # moves the running statistics
    return neck.eval()


def test_folded_neck_equals_explicit_whitening() -> None:
    random = np.random.default_rng(1)
    neck = trained_looking_neck()
    features = torch.randn(32, 40)
    before = neck(features).detach().double().numpy()
    matrix, origin = random.normal(size=(512, 512)) / 20, random.normal(size=512)
    fold_into_neck(neck, matrix, origin)
    after = neck(features).detach().numpy()
    np.testing.assert_allclose(after, (before - origin) @ matrix.T, atol=2e-4)


def test_constant_coordinate_changes_nothing_else_and_keeps_length_visible() -> None:
    neck, features = trained_looking_neck(), torch.randn(32, 40)
    fold_into_neck(neck, np.eye(512), np.zeros(512))
    before = neck(features).detach()
    add_constant_coordinate(neck, 3.0)
    after = neck(features).detach()
    torch.testing.assert_close(after[:, 1:], before[:, 1:])
    torch.testing.assert_close(after[:, 0], torch.full((32,), 3.0), atol=1e-5, rtol=0)
    first = torch.nn.functional.normalize(after)[:, 0]
    lengths = before[:, 1:].norm(dim=1)
    torch.testing.assert_close(first, 3.0 / (lengths.square() + 9.0).sqrt(), atol=1e-5, rtol=0)


def test_other_necks_are_refused() -> None:
    with pytest.raises(TypeError, match="Linear followed by BatchNorm1d"):
        fold_into_neck(nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4)), np.eye(4), np.zeros(4))

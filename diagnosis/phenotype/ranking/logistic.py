"""Logistic regression in numpy: few features, ridge, balanced classes, Newton's method (IRLS)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from diagnosis.phenotype.errors import CalibrationError

Float64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

TOLERANCE = 1e-10
MAX_STEPS = 100


@dataclass(frozen=True)
class Logistic:
    """P(positive) = σ(intercept + weights · (x − centre) / scale), at equal shares of both classes.

    weights, centre, scale (F,) float64. Features are standardised so that one ridge suits them all.
    """

    weights: Float64
    intercept: float
    centre: Float64
    scale: Float64

    def score(self, features: Float64) -> Float64:
        """(n, F) → (n,) in [0, 1]."""
        standard = (features - self.centre) / self.scale
        return sigmoid(standard @ self.weights + self.intercept)


def fit_logistic(features: Float64, positive: Bools, *, ridge: float = 1.0) -> Logistic:
    """Minimises Σ c_i · log-loss_i + ridge/2 · |weights|², c_i = n / (2 · size of i's class).

    features (n, F) float64, positive (n,) bool. The intercept is not penalised. Newton steps are halved
    until the loss falls, so separable classes end at the ridge and not in an overflow
    (Hastie, Tibshirani & Friedman, The Elements of Statistical Learning, 4.4.1).
    Raises CalibrationError if a class is empty or a feature is not finite.
    """
    if not np.all(np.isfinite(features)):
        raise CalibrationError("A calibration feature is not finite. Embed the reference photos again.")
    sizes = np.array([np.sum(~positive), np.sum(positive)])
    if not np.all(sizes):
        raise CalibrationError("Calibration needs both affected and unaffected people. Add the missing ones.")
    centre, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 0.0, scale, 1.0)
    design = np.column_stack([(features - centre) / scale, np.ones(len(features))])
    balance = len(features) / (2.0 * sizes[positive.astype(np.intp)])
    penalty = np.append(np.full(features.shape[1], ridge), 0.0)
    beta = _newton(design, positive.astype(np.float64), balance, penalty)
    return Logistic(beta[:-1], float(beta[-1]), centre, scale)


def sigmoid(values: Float64) -> Float64:
    """1 / (1 + e^−x) without overflow."""
    small = np.exp(-np.abs(values))
    return np.asarray(np.where(values >= 0, 1.0, small) / (1.0 + small), dtype=np.float64)


def _newton(design: Float64, target: Float64, balance: Float64, penalty: Float64) -> Float64:
    beta = np.zeros(design.shape[1])
    loss = _loss(design, target, balance, penalty, beta)
    for _ in range(MAX_STEPS):
        chance = sigmoid(design @ beta)
        gradient = design.T @ (balance * (chance - target)) + penalty * beta
        curvature = (design.T * (balance * chance * (1.0 - chance))) @ design + np.diag(penalty)
        step = np.linalg.lstsq(curvature, gradient, rcond=None)[0]
        size = 1.0
        while size > TOLERANCE and _loss(design, target, balance, penalty, beta - size * step) > loss:
            size /= 2.0
        beta = beta - size * step
        loss = _loss(design, target, balance, penalty, beta)
        if np.max(np.abs(size * step)) < TOLERANCE:
            break
    return beta


def _loss(design: Float64, target: Float64, balance: Float64, penalty: Float64, beta: Float64) -> float:
    logits = design @ beta
    per_case = np.logaddexp(0.0, logits) - target * logits
    return float(balance @ per_case + 0.5 * penalty @ (beta * beta))

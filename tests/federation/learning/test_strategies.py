"""Server steps against a scalar twin, element by element in Python floats."""

from __future__ import annotations

import math

import numpy as np
import pytest

from federation.learning.config import ServerStep
from federation.learning.errors import AggregateRefused
from federation.learning.strategies import ServerState, aggregate, initial_state, load_state, save_state

OPTIONS = ServerStep(learning_rate=0.5, momentum=0.8, beta_1=0.7, beta_2=0.9, tau=0.01)
UPDATES = np.random.default_rng(2).normal(0, 0.1, (4, 9))
START = np.random.default_rng(3).normal(0, 1, 9).astype(np.float32)


def slow(strategy: str) -> list[float]:
    """Each number on its own, as the papers write it."""
    out = []
    for index in range(9):
        w, m, v = float(START[index]), 0.0, 0.01**2 if strategy == "fedadam" else 0.0
        for row in UPDATES:
            d = float(row[index])
            if strategy == "fedavgm":
                m = 0.8 * m + d
                step = m
            elif strategy == "fedadam":
                m, v = 0.7 * m + (1 - 0.7) * d, 0.9 * v + (1 - 0.9) * d * d
                step = m / (math.sqrt(v) + 0.01)
            else:
                step = d
            w = float(np.float32(w + 0.5 * step))
        out.append(w)
    return out


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox", "fedavgm", "fedadam"])
def test_four_rounds_equal_the_scalar_twin(strategy: str) -> None:
    weights, state = START, initial_state(9, strategy, OPTIONS)
    for row in UPDATES:
        state = load_state(save_state(state), size=9)  # over a restart in every round
        weights, state = aggregate(state, weights, row, strategy=strategy, options=OPTIONS)
    assert weights.dtype == np.float32
    assert weights.tolist() == slow(strategy)


def test_closed_forms() -> None:
    """Constant Δ: fedavgm's velocity is Δ (1 − βⁿ) / (1 − β); fedadam's first step (1−β₁)Δ/(√v+τ)."""
    delta = np.full(1, 0.25)
    state = initial_state(1, "fedavgm", OPTIONS)
    weights = np.zeros(1, np.float32)
    for _ in range(5):
        weights, state = aggregate(state, weights, delta, strategy="fedavgm", options=OPTIONS)
    assert state.first[0] == pytest.approx(0.25 * (1 - 0.8**5) / (1 - 0.8), rel=1e-12)
    state = initial_state(1, "fedadam", OPTIONS)
    weights, _ = aggregate(state, np.zeros(1, np.float32), delta, strategy="fedadam", options=OPTIONS)
    second = 0.9 * 1e-4 + 0.1 * 0.0625
    assert weights[0] == pytest.approx(0.5 * 0.3 * 0.25 / (math.sqrt(second) + 0.01), rel=1e-6)


def test_refusals() -> None:
    state = initial_state(9, "fedavg", OPTIONS)
    with pytest.raises(AggregateRefused):
        aggregate(state, START[:-1], UPDATES[0], strategy="fedavg", options=OPTIONS)
    with pytest.raises(AggregateRefused):
        aggregate(state, START, np.full(9, np.nan), strategy="fedavg", options=OPTIONS)
    with pytest.raises(AggregateRefused, match="Closed-form"):
        aggregate(state, START, UPDATES[0], strategy="analytic", options=OPTIONS)
    data = save_state(state)
    for bad, size in ((data, 8), (data[:-1], 9), (b"", 9)):
        with pytest.raises(AggregateRefused):
            load_state(bad, size=size)
    with pytest.raises(AggregateRefused, match="impossible"):
        ServerState(np.zeros(2), np.array([0.0, -1.0]))

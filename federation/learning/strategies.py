"""What the mean update does to the global weights: the field's strategies as pure functions.

Every site computes the same step from the opened sum, so the state is public and serialised with the model.
All arithmetic is elementwise float64, hence the same bits everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError

from federation.learning.config import ServerStep, Strategy
from federation.learning.errors import AggregateRefused

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ServerState:
    """Moments of earlier rounds, each (k,) float64: zeros before the first. Belongs to one layout."""

    first: Float64
    second: Float64

    def __post_init__(self) -> None:
        if self.first.ndim != 1 or self.first.shape != self.second.shape:
            raise AggregateRefused("The strategy's state is not two vectors of one length. Fetch it again.")
        finite = np.isfinite(self.first).all() and np.isfinite(self.second).all()
        if not (finite and (self.second >= 0).all()):
            raise AggregateRefused("The strategy's state holds impossible numbers. Fetch it again.")


def initial_state(size: int, strategy: Strategy, options: ServerStep) -> ServerState:
    """Before round 1. fedadam's second moment starts at tau² (Reddi et al., ICLR 2021, algorithm 2)."""
    second = options.tau**2 if strategy == "fedadam" else 0.0
    return ServerState(np.zeros(size), np.full(size, second))


def aggregate(
    state: ServerState, weights: npt.NDArray[np.float32], mean_update: Float64, *,
    strategy: Strategy, options: ServerStep,
) -> tuple[npt.NDArray[np.float32], ServerState]:  # fmt: skip
    """weights (k,) float32, mean_update (k,) float64 → new weights (k,) float32 and the next state.

    fedavg, fedprox (McMahan et al. 2017; Li et al. 2020): w + η Δ. fedavgm (Hsu et al. 2019): v = β v + Δ,
    w + η v. fedadam (Reddi et al. 2021, algorithm 2): m = β₁ m + (1 − β₁) Δ, v = β₂ v + (1 − β₂) Δ²,
    w + η m / (√v + τ).
    """
    if not (len(state.first) == len(weights) == len(mean_update)) or not np.isfinite(mean_update).all():
        raise AggregateRefused("The mean update does not fit the weights. Abort the round.")
    step, after = _step(state, mean_update, strategy, options)
    return (weights.astype(np.float64) + options.learning_rate * step).astype(np.float32), after


def _step(
    state: ServerState, update: Float64, strategy: Strategy, options: ServerStep
) -> tuple[Float64, ServerState]:
    if strategy in ("fedavg", "fedprox"):
        return update, state
    if strategy == "fedavgm":
        velocity = options.momentum * state.first + update
        return velocity, ServerState(velocity, state.second)
    if strategy == "fedadam":
        first = options.beta_1 * state.first + (1.0 - options.beta_1) * update
        second = options.beta_2 * state.second + (1.0 - options.beta_2) * update * update
        return first / (np.sqrt(second) + options.tau), ServerState(first, second)
    raise AggregateRefused("Closed-form heads have no server step. Use the analytic statistics instead.")


def save_state(state: ServerState) -> bytes:
    """safetensors bytes, equal for equal states."""
    return safetensors.numpy.save({"first": state.first, "second": state.second})


def load_state(data: bytes, *, size: int) -> ServerState:
    """The state that `save_state` wrote, for k = size. AggregateRefused for anything else."""
    try:
        arrays = safetensors.numpy.load(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise AggregateRefused("The strategy's state is damaged. Fetch it again.") from error
    fits = all(array.shape == (size,) and array.dtype == np.float64 for array in arrays.values())
    if sorted(arrays) != ["first", "second"] or not fits:
        raise AggregateRefused("The strategy's state belongs to another layout. Fetch it again.")
    return ServerState(arrays["first"], arrays["second"])

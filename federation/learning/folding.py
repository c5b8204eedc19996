"""A linear map of the embedding, folded into the neck's last Linear: nothing else of the network changes."""

from __future__ import annotations

import copy

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from diagnosis.phenotype.embed.backbone import Backbone
from federation.learning.analytic import AnalyticHead
from federation.learning.errors import AggregateRefused

Float64 = npt.NDArray[np.float64]

#: A BatchNorm that scales a direction below this hides it; dividing by it would blow up rounding errors.
SMALLEST_GAIN = 1e-6


def fold_head(base: Backbone, head: AnalyticHead) -> Backbone:
    """A new network that answers matrix @ (old answer − mean), to float32. AggregateRefused if it cannot.

    The neck ends in Linear (A, c) and BatchNorm y = g (z − m) / s + b with frozen statistics. For
    y' = W (y − μ) the Linear becomes A' = (s/g) W (g/s) A and c' = m + (s/g) (W ((g/s) (c − m) + b − μ) − b).
    """
    made = copy.deepcopy(base).eval()
    linear, norm = last_layers(made.neck)
    weight, bias = folded_linear(linear, norm, head.matrix, head.mean)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(weight))
        linear.bias.copy_(torch.from_numpy(bias))
    return made


def folded_linear(
    linear: nn.Linear, norm: nn.BatchNorm1d, matrix: Float64, mean: Float64
) -> tuple[Float64, Float64]:
    """The new weight (512, F) and bias (512,) of the Linear, float64."""
    gain = _double(norm.weight) / np.sqrt(_double(norm.running_var) + norm.eps)  # g / s
    if np.abs(gain).min() < SMALLEST_GAIN:
        raise AggregateRefused("The neck's BatchNorm hides a direction, so no map can be folded behind it.")
    centre, shift = _double(norm.running_mean), _double(norm.bias)
    old_bias = gain * (_double(linear.bias) - centre) + shift
    weight = (matrix @ (gain[:, None] * _double(linear.weight))) / gain[:, None]
    bias = centre + (matrix @ (old_bias - mean) - shift) / gain
    return weight, bias


def last_layers(neck: nn.Module) -> tuple[nn.Linear, nn.BatchNorm1d]:
    """The Linear and the BatchNorm that a neck ends with; AggregateRefused for any other neck."""
    leaves = [module for module in neck.modules() if not list(module.children())]
    if len(leaves) >= 2 and isinstance(leaves[-2], nn.Linear) and isinstance(leaves[-1], nn.BatchNorm1d):
        return leaves[-2], leaves[-1]
    raise AggregateRefused("Closed-form heads fold into necks that end in Linear and BatchNorm only.")


def _double(values: Tensor | None) -> Float64:
    if values is None:
        raise AggregateRefused("The neck has no stored statistics, bias or scale to fold into.")
    return np.asarray(values.detach().numpy(), dtype=np.float64)

"""BatchNorm folded into the convolution before it: the same network with fewer passes over memory.

In evaluation BN(W * x) = (s·W) * x + t with s = weight / sqrt(var + eps) and t = bias - s·mean (Ioffe and
Szegedy 2015, section 3.1, as a linear transform).
"""

from __future__ import annotations

import copy

import torch.fx
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norms(network: nn.Module) -> tuple[nn.Module, int]:
    """(a copy with every foldable BatchNorm2d folded, how many were). The network itself stays as it is.

    A BatchNorm is foldable where the convolution before it feeds nothing else. A network that torch.fx
    cannot trace is copied without folding: slower, not different.
    """
    try:
        traced = torch.fx.symbolic_trace(copy.deepcopy(network).eval())
    except (torch.fx.proxy.TraceError, TypeError, RuntimeError):
        return copy.deepcopy(network).eval(), 0
    folded = sum(_fold(traced, node) for node in list(traced.graph.nodes))
    traced.graph.lint()
    traced.recompile()
    traced.delete_all_unused_submodules()
    return traced, folded


def _fold(traced: torch.fx.GraphModule, node: torch.fx.Node) -> bool:
    """Fold this node if it is a BatchNorm right behind a convolution that only it reads."""
    if node.op != "call_module":
        return False
    before = node.args[0]
    if not isinstance(before, torch.fx.Node) or before.op != "call_module" or len(before.users) != 1:
        return False
    batch_norm = traced.get_submodule(str(node.target))
    convolution = traced.get_submodule(str(before.target))
    if not isinstance(batch_norm, nn.BatchNorm2d) or not isinstance(convolution, nn.Conv2d):
        return False
    if batch_norm.running_var is None or _calls(traced, before.target) > 1:
        return False  # without stored statistics, or shared: folding would change other calls too
    traced.set_submodule(str(before.target), fuse_conv_bn_eval(convolution, batch_norm))
    node.replace_all_uses_with(before)
    traced.graph.erase_node(node)
    return True


def _calls(traced: torch.fx.GraphModule, target: object) -> int:
    return sum(node.op == "call_module" and node.target == target for node in traced.graph.nodes)

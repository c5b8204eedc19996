"""State dicts that GestaltMatcher-Arc's training saves (its .pt files, or its .pth after conversion).

Its networks are InsightFace's ONNX files read by onnx2torch, so the tensors have the names of ONNX nodes:
`base.<node>.…` in the order of the graph with every BatchNorm behind a convolution folded, the slopes of
the PReLUs as `base.initializers.onnx_initializer_<k>`, `features.<node>.…` for the fine-tuned Linear and
BatchNorm, and `classifier.…`, which an extractor does not need. Node names depend on the versions of the
tools, so tensors are recognised by their kind and order; shapes are checked like those of any file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from diagnosis.phenotype.embed.iresnet import IRESNETS, adding_batch_norm
from diagnosis.phenotype.errors import WeightsRefused

BASE, FEATURES = "base.", "features."
SLOPES = "base.initializers.onnx_initializer_"

Module = dict[str, Tensor]  # the tensors of one module by their last name: weight, bias, running_mean, …


@dataclass(frozen=True)
class GestaltMatcherNetwork:
    """state has our names (trunk.…, neck.…); folded is the number of BatchNorms that were folded."""

    architecture: str
    state: dict[str, Tensor]
    folded: int


def is_gestaltmatcher(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of GestaltMatcher-Arc's own networks."""
    return any(name.startswith(SLOPES) for name in tensors) and any(n.startswith(FEATURES) for n in tensors)


def read_gestaltmatcher(tensors: Mapping[str, Tensor], *, file_name: str) -> GestaltMatcherNetwork:
    """The iResNet-50 or -100 in a GestaltMatcher-Arc state dict. Raises WeightsRefused for any other."""
    slopes = [name for name in tensors if name.startswith(SLOPES)]
    for architecture, network in IRESNETS.items():
        if sum(network.blocks) + 1 == len(slopes):
            try:
                return _walk(tensors, architecture)
            except (StopIteration, KeyError, ValueError) as error:
                raise _refusal(file_name) from error
    raise _refusal(file_name)


def _refusal(file_name: str) -> WeightsRefused:
    return WeightsRefused(
        f"{file_name} looks like GestaltMatcher's but is not its iResNet-50 or -100 with folded BatchNorms; "
        "install the .pt or converted .pth of its models a or b."
    )


class _Parts:
    """Convolutions, BatchNorms and slopes of the base, each in the order of the graph."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        slopes = sorted((n for n in tensors if n.startswith(SLOPES)), key=lambda n: int(n[len(SLOPES) :]))
        modules = _modules({n: t for n, t in tensors.items() if n.startswith(BASE) and n not in slopes})
        self._slopes = iter([tensors[name].reshape(-1) for name in slopes])
        self._batch_norms = iter([module for module in modules if "running_var" in module])
        self._convolutions = iter([module for module in modules if "running_var" not in module])
        self.state: dict[str, Tensor] = {}
        self.folded = 0

    def batch_norm(self, name: str) -> None:
        """The next BatchNorm of the base becomes the named one."""
        self.state |= _named(name, next(self._batch_norms))

    def convolution(self, name: str, batch_norm: str) -> None:
        """The next convolution becomes the named one, and its bias a BatchNorm that only adds."""
        module = next(self._convolutions)
        self.state[f"{name}.weight"] = module["weight"]
        self.state |= adding_batch_norm(batch_norm, module["bias"])
        self.folded += 1

    def prelu(self, name: str) -> None:
        """The next slopes become those of the named PReLU."""
        self.state[f"{name}.weight"] = next(self._slopes)

    def check_used_up(self) -> None:
        """ValueError if anything of the base is left over."""
        if any(True for rest in (self._slopes, self._batch_norms, self._convolutions) for _ in rest):
            raise ValueError("the base has more layers than an iResNet")


def _walk(tensors: Mapping[str, Tensor], architecture: str) -> GestaltMatcherNetwork:
    parts = _Parts(tensors)
    parts.convolution("trunk.conv1", "trunk.bn1")
    parts.prelu("trunk.prelu")
    for stage, count in enumerate(IRESNETS[architecture].blocks, start=1):
        for block in range(count):
            _take_block(parts, f"trunk.layer{stage}.{block}", first=block == 0)
    parts.batch_norm("trunk.bn2")
    parts.check_used_up()
    linear, last = _modules({n: t for n, t in tensors.items() if n.startswith(FEATURES)})
    state = parts.state | _named("neck.fc", linear) | _named("neck.features", last)
    return GestaltMatcherNetwork(architecture, state, parts.folded)


def _take_block(parts: _Parts, name: str, *, first: bool) -> None:
    parts.batch_norm(f"{name}.bn1")
    parts.convolution(f"{name}.conv1", f"{name}.bn2")
    parts.prelu(f"{name}.prelu")
    parts.convolution(f"{name}.conv2", f"{name}.bn3")
    if first:
        parts.convolution(f"{name}.downsample.0", f"{name}.downsample.1")


def _modules(tensors: Mapping[str, Tensor]) -> list[Module]:
    """The tensors by their module, in the order of the file."""
    modules: dict[str, Module] = {}
    for name, tensor in tensors.items():
        module, _, last = name.rpartition(".")
        modules.setdefault(module, {})[last] = tensor
    return list(modules.values())


def _named(name: str, module: Module) -> dict[str, Tensor]:
    return {f"{name}.{last}": tensor for last, tensor in module.items()}

"""Networks with random weights whose BatchNorm statistics are random too: nothing is the identity."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diagnosis.phenotype.embed.backbone import Backbone, build_backbone

BackboneFactory = Callable[[str, int], Backbone]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _randomise(backbone: Backbone, generator: torch.Generator) -> None:
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            module.bias.normal_(0, 0.1, generator=generator)
            if module.weight.requires_grad:
                module.weight.uniform_(0.6, 1.1, generator=generator)
        elif isinstance(module, nn.PReLU):
            module.weight.uniform_(-0.1, 0.4, generator=generator)


@pytest.fixture(scope="session")
def make_backbone() -> BackboneFactory:
    def make(architecture: str, seed: int) -> Backbone:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            backbone = build_backbone(architecture)
            _randomise(backbone, torch.Generator().manual_seed(seed + 1000))
        return backbone

    return make


@pytest.fixture(scope="session")
def iresnets(make_backbone: BackboneFactory) -> dict[str, Backbone]:
    """Shared by tests that do not change them."""
    return {name: make_backbone(name, seed) for seed, name in enumerate(("iresnet50", "iresnet100"))}


@pytest.fixture(scope="session")
def faces() -> np.ndarray:
    """(3, 112, 112, 3) uint8 noise over gradients: nothing symmetric, nothing grey."""
    generator = np.random.default_rng(7)
    ramp = np.linspace(0, 120, 112)[None, :, None, None] + np.linspace(0, 60, 112)[None, None, :, None]
    return (ramp + generator.integers(0, 75, (3, 112, 112, 3))).astype(np.uint8)


@pytest.fixture(scope="session")
def arcface_state() -> Callable[[Backbone], dict[str, Tensor]]:
    """A network's state dict under arcface_torch's names, batch counters included, as torch.save gets it."""

    def state(backbone: Backbone) -> dict[str, Tensor]:
        return {name.split(".", 1)[1]: tensor for name, tensor in backbone.state_dict().items()}

    return state

"""What every embedding network is: trunk → features → neck → 512, and the table of known networks.

The trunk is the expensive part and stays frozen; the neck is what hospitals fine-tune and what a
federation sends. Members of an ensemble that have the same trunk therefore share its pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from diagnosis.phenotype.errors import WeightsRefused


class Backbone(nn.Module):
    """A face network. faces (b, 3, 112, 112) float32 RGB in [-1, 1] → (b, 512) float32, not normalised.

    Grey levels x in 0..255 enter as (x / 255 - 0.5) / 0.5. Subclasses set `trunk` and `neck` in their
    constructor, `architecture` to their name in `BACKBONES`, and `feature_size` to the number of
    features per face that pass from one to the other. Nothing may happen outside of the two parts, so
    that neck(cached features) is always the whole network's answer.
    """

    architecture: ClassVar[str]
    feature_size: ClassVar[int]
    trunk: nn.Module  # (b, 3, 112, 112) → (b, F...), F... holding feature_size numbers per face
    neck: nn.Module  # (b, F...) → (b, 512)

    def forward(self, faces: Tensor) -> Tensor:
        """faces (b, 3, 112, 112) float32 in [-1, 1] → (b, 512) float32, not normalised."""
        return cast(Tensor, self.neck(self.trunk(faces)))


def scale_pixels(pixels: Tensor) -> Tensor:
    """pixels (b, 112, 112, 3) uint8 RGB → (b, 3, 112, 112) float32 in [-1, 1], the input of a trunk."""
    planes = pixels.permute(0, 3, 1, 2).contiguous()
    return planes.to(torch.float32).div(255).sub(0.5).div(0.5)


def _iresnet50() -> Backbone:
    from diagnosis.phenotype.embed.iresnet import IResNet50

    return IResNet50()


def _iresnet100() -> Backbone:
    from diagnosis.phenotype.embed.iresnet import IResNet100

    return IResNet100()


def _compact() -> Backbone:
    from diagnosis.phenotype.embed.compact import CompactNet

    return CompactNet()


# Imported on first use: a site that runs one network does not pay for the others.
BACKBONES: dict[str, Callable[[], Backbone]] = {
    "iresnet50": _iresnet50,
    "iresnet100": _iresnet100,
    "compact": _compact,
}


def build_backbone(architecture: str) -> Backbone:
    """The named network with fresh random weights, in evaluation mode. WeightsRefused if unknown."""
    if architecture not in BACKBONES:
        known = ", ".join(sorted(BACKBONES))
        raise WeightsRefused(f"There is no network named {architecture!r}; choose one of: {known}.")
    return BACKBONES[architecture]().eval()

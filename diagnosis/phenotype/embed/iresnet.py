"""iResNet-50 and iResNet-100 of ArcFace in the parameter layout of InsightFace's arcface_torch.

Architecture: Duta et al., "Improved Residual Networks" (2020) and Deng et al., "ArcFace" (CVPR 2019),
section 3.1 (the E setting: BatchNorm, fully connected, BatchNorm after the last convolution). Each block
is BN, 3×3 conv, BN, PReLU, 3×3 conv with the stride, BN, plus the shortcut. Below the prefixes `trunk.`
and `neck.` the names are those of arcface_torch.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from diagnosis.phenotype.embed.backbone import Backbone
from diagnosis.phenotype.types import EMBEDDING_SIZE

STAGE_WIDTHS = (64, 128, 256, 512)
BATCH_NORM_EPS = 1e-5
FEATURE_SIZE = STAGE_WIDTHS[-1] * 7 * 7  # 25088: four stages halve 112 to 7


def _convolution(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    padding = kernel // 2
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, bias=False)


class IResNetBlock(nn.Module):
    """(b, inputs, h, h) → (b, outputs, h / stride, h / stride)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs, eps=BATCH_NORM_EPS)
        self.conv1 = _convolution(inputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs, eps=BATCH_NORM_EPS)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = _convolution(outputs, outputs, stride=stride)
        self.bn3 = nn.BatchNorm2d(outputs, eps=BATCH_NORM_EPS)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                _convolution(inputs, outputs, kernel=1, stride=stride),
                nn.BatchNorm2d(outputs, eps=BATCH_NORM_EPS),
            )

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        branch = self.bn3(self.conv2(branch))
        shortcut: Tensor = x if self.downsample is None else self.downsample(x)
        return branch + shortcut


def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    """The first block halves the side and widens; the others keep both."""
    first = IResNetBlock(inputs, outputs, stride=2)
    return nn.Sequential(first, *(IResNetBlock(outputs, outputs, stride=1) for _ in range(blocks - 1)))


class IResNetTrunk(nn.Module):
    """(b, 3, 112, 112) → (b, 25088) float32: the flattened (512, 7, 7) map behind the last 2-D BatchNorm."""

    def __init__(self, blocks: tuple[int, int, int, int]) -> None:
        super().__init__()
        first = STAGE_WIDTHS[0]
        self.conv1 = _convolution(3, first)
        self.bn1 = nn.BatchNorm2d(first, eps=BATCH_NORM_EPS)
        self.prelu = nn.PReLU(first)
        self.layer1 = _stage(first, STAGE_WIDTHS[0], blocks[0])  # side 112 → 56
        self.layer2 = _stage(STAGE_WIDTHS[0], STAGE_WIDTHS[1], blocks[1])  # 56 → 28
        self.layer3 = _stage(STAGE_WIDTHS[1], STAGE_WIDTHS[2], blocks[2])  # 28 → 14
        self.layer4 = _stage(STAGE_WIDTHS[2], STAGE_WIDTHS[3], blocks[3])  # 14 → 7
        self.bn2 = nn.BatchNorm2d(STAGE_WIDTHS[3], eps=BATCH_NORM_EPS)

    def forward(self, faces: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(faces)))  # (b, 64, 112, 112)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # (b, 512, 7, 7)
        return torch.flatten(self.bn2(x), 1)  # (b, 25088), channel-major whatever the memory format


class IResNetNeck(nn.Module):
    """(b, 25088) → (b, 512). Dropout of the original is left out: it is the identity in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(FEATURE_SIZE, EMBEDDING_SIZE)
        self.features = nn.BatchNorm1d(EMBEDDING_SIZE, eps=BATCH_NORM_EPS)
        self.features.weight.requires_grad_(False)  # stays at 1, where BatchNorm starts

    def forward(self, features: Tensor) -> Tensor:
        embedding: Tensor = self.features(self.fc(features))
        return embedding


class IResNet(Backbone):
    """An iResNet; subclasses set the number of blocks per stage."""

    feature_size: ClassVar[int] = FEATURE_SIZE
    blocks: ClassVar[tuple[int, int, int, int]]

    def __init__(self) -> None:
        super().__init__()
        self.trunk = IResNetTrunk(self.blocks)
        self.neck = IResNetNeck()


class IResNet50(IResNet):
    """43,590,848 parameters."""

    architecture: ClassVar[str] = "iresnet50"
    blocks: ClassVar[tuple[int, int, int, int]] = (3, 4, 14, 3)


class IResNet100(IResNet):
    """65,156,160 parameters."""

    architecture: ClassVar[str] = "iresnet100"
    blocks: ClassVar[tuple[int, int, int, int]] = (3, 13, 30, 3)


def adding_batch_norm(name: str, bias: Tensor) -> dict[str, Tensor]:
    """State of the named BatchNorm that only adds bias (c,): what stays of one folded into its convolution.

    Weight 1, mean 0 and variance 1 - eps, whose root with eps is 1.
    """
    return {
        f"{name}.weight": torch.ones_like(bias),
        f"{name}.bias": bias,
        f"{name}.running_mean": torch.zeros_like(bias),
        f"{name}.running_var": torch.full_like(bias, 1.0 - BATCH_NORM_EPS),
    }


IRESNETS: dict[str, type[IResNet]] = {net.architecture: net for net in (IResNet50, IResNet100)}
